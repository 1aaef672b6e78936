//! From a reading to a telephone: the alert router in a whole gateway, killed on the way.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Setup, free_address, kill_9, run, wait_for};

const SINK: &str = "alerts";
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes every message until it is told to be away.
#[derive(Clone)]
struct Receiver {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let receiver = Self { address, got: Arc::default() };
        let got = Arc::clone(&receiver.got);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let (mut text, mut part) = (String::new(), [0; 4096]);
                while let Ok(count @ 1..) = stream.read(&mut part) {
                    text.push_str(&String::from_utf8_lossy(&part[..count]));
                    let Some((_, body)) = text.split_once("\r\n\r\n") else { continue };
                    if let Ok(message) = serde_json::from_str(body) {
                        got.lock().expect("no panic").push(message);
                        break;
                    }
                }
                drop(stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"));
            }
        });
        receiver
    }

    /// Delivery ids of messages of one kind.
    fn of(&self, event: &str) -> Vec<String> {
        let got = self.got.lock().expect("no panic");
        let ids = got.iter().filter(|message| message["event"] == event);
        ids.filter_map(|message| Some(message["delivery_id"].as_str()?.to_owned())).collect()
    }

    fn wait(&self, event: &str, count: usize) -> Vec<String> {
        wait_for(&format!("{count} of {event}"), PATIENCE, || {
            let ids = self.of(event);
            if ids.len() >= count { Ok(ids) } else { Err(format!("{:?}", self.got.lock().expect("no panic"))) }
        })
    }
}

// RTE-02, RTE-03, RTE-11, AC-092
#[test]
fn an_alarm_is_told_once_whatever_is_killed() {
    let receiver = Receiver::start();
    let adapter = json!({ "adapter_id": "load", "adapter_type": "simulated", "asset_id": "load", "points": 1, "poll_interval_ms": 200 });
    let rule = json!({ "id": "hot", "asset": "load", "parameter": "value_00000", "type": "hi", "limit": -1e9,
        "severity": "HIGH", "area": "hall 2", "message": "it is hot" });
    let router = json!({
        "sink_id": SINK, "sink_type": "alert_router", "site": "Plant 7", "allow_networks": ["127.0.0.0/8"],
        "destinations": {
            "hook": { "type": "webhook", "url": format!("http://{}/hook", receiver.address) },
            "away": { "type": "webhook", "url": format!("http://{}/hook", free_address()) },
        },
        "routes": [{ "name": "all", "destinations": ["hook", "away"], "transitions": ["activated", "acked"] }],
    });
    let setup = Setup::new("gw-alerts")
        .with("aggregation", json!({ "resolutions": [] }))
        .with("adapters", vec![adapter])
        .with("alarms", json!({ "rules": [rule] }))
        .with("sinks", vec![router]);
    let gateway = setup.start();
    let told = receiver.wait("alarm.activated", 1);

    // a destination that is away is named, and holds up nobody
    let sink = gateway.wait("the sink says who is away", |status| {
        let part = crate::harness::component(status, SINK)?;
        let pid = part["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        let named = part["reason"].as_str().is_some_and(|reason| reason.contains("away since"));
        pid.filter(|_| named).ok_or_else(|| part.to_string())
    });
    kill_9(sink);
    gateway.wait("the sink runs again", |status| {
        let part = crate::harness::component(status, SINK)?;
        let pid = part["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        if pid.is_some_and(|pid| pid != sink) { Ok(()) } else { Err(part.to_string()) }
    });

    let data = setup.data().display().to_string();
    let acked = run(&["ctl", "alarms", "--data-dir", &data, "ack", "gw-alerts/load/hot/1"]);
    assert_eq!(acked.code, Some(0), "{}{}", acked.out, acked.error);
    receiver.wait("alarm.acked", 1);
    assert_eq!(receiver.of("alarm.activated"), told, "told once");

    // what a person tries before the first alarm
    let file = setup.document_file().display().to_string();
    let route = ["ctl", "alerts", "route", "--config", &file, "--severity", "critical", "--json"];
    let printed = run(&route);
    let steps: Value = serde_json::from_str(&printed.out).expect("JSON");
    assert_eq!(steps["steps"][0]["destination"], "hook", "{}", printed.out);
    assert_eq!(steps["steps"][0]["when"], "at once");
    let test = run(&["ctl", "alerts", "test", "--config", &file, "--data-dir", &data, "hook"]);
    assert_eq!(test.code, Some(0), "{}{}", test.out, test.error);
    receiver.wait("test", 1);
    let test = run(&["ctl", "alerts", "test", "--config", &file, "--data-dir", &data, "away"]);
    assert!(test.code != Some(0) && test.error.contains("not delivered"), "{}", test.error);
}
