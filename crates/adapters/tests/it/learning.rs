//! What the Modbus adapter learns of a device, over real sockets: splits that outlive the process, short requests, fast
//! groups before slow ones, gateways without transaction ids.

use std::time::Duration;

use adapters::adapter::Adapter;
use adapters::sample::{Cycle, Value};
use config::Catalog;
use modbus::{Exception, Table};
use model::reason;
use serde_json::json;
use testkit::sim::modbus::fault::{Fault, Rule};

use crate::support::{build, device, poll, reasons, settings};

// AC-013, MB-17
#[tokio::test]
async fn a_split_is_remembered_over_a_restart() {
    let (simulator, _memory) = device().await;
    let refused = Rule::every(Fault::Exception(Exception::ILLEGAL_ADDRESS));
    simulator.script(refused.touching(Table::HoldingRegister, 60, 10));
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&simulator, 100, &json!({}));
    let good = |cycle: &Cycle| cycle.samples.iter().filter(|sample| sample.value != Value::Null).count();
    let mut first = build(&settings).remembering(folder.path());
    first.connect().await.unwrap();
    for _ in 0..3 {
        poll(&mut first).await;
    }
    let learned = simulator.request_count();
    assert!(learned > 20, "{learned}");
    drop(first);

    let mut again = build(&settings).remembering(folder.path());
    again.connect().await.unwrap();
    let (cycle, _) = poll(&mut again).await;
    assert_eq!(good(&cycle), 90);
    let requests = simulator.requests()[learned..].to_vec();
    let touching =
        requests.iter().filter_map(testkit::sim::modbus::Seen::read).filter(|read| (60..70).contains(&read.offset()));
    // Each refused address is asked for once more by itself: nothing is cut again.
    assert_eq!(touching.map(|read| read.count()).collect::<Vec<_>>(), [1; 10]);
    let before = simulator.request_count();
    assert_eq!(good(&poll(&mut again).await.0), 90);
    assert_eq!(simulator.request_count() - before, requests.len() - 10);

    // Other settings learn anew.
    let other = crate::support::settings(&simulator, 99, &json!({}));
    let mut other = build(&other).remembering(folder.path());
    other.connect().await.unwrap();
    let before = simulator.request_count();
    poll(&mut other).await;
    assert_eq!(simulator.requests()[before].read().unwrap().count(), 99);
}

// MB-18
#[tokio::test]
async fn a_device_that_is_silent_on_long_requests_is_asked_for_less() {
    let (simulator, _memory) = device().await;
    simulator.script(Rule::every(Fault::Mute(30)));
    let mut adapter = build(&settings(&simulator, 100, &json!({"response_timeout_ms": 60, "retries": 0})));
    adapter.connect().await.unwrap();
    let mut polls = 0;
    loop {
        let (cycle, well) = poll(&mut adapter).await;
        assert!(well, "one register was answered: the connection is good");
        if reasons(&cycle) == ["-"; 100] {
            break;
        }
        polls += 1;
        assert!(polls < 6);
    }
    let last = simulator.requests().last().unwrap().read().unwrap();
    assert!(last.count() <= 30, "{last:?}");
    assert_eq!(simulator.connection_count(), 1);
}

// AC-017, MB-23, option on
#[tokio::test]
async fn a_gateway_without_transaction_ids() {
    const POLLS: u16 = 30;
    let (simulator, memory) = device().await;
    let more = json!({"ignore_transaction_id": true, "response_timeout_ms": 50, "retries": 0});
    let mut adapter = build(&settings(&simulator, 1, &more));
    adapter.connect().await.unwrap();
    let mut good = 0;
    for n in 0..POLLS {
        memory.holding(1, 0, &[n]);
        simulator.behave();
        if n % 5 == 1 {
            simulator.script(Rule::every(Fault::Delay(Duration::from_millis(70))));
        }
        simulator.script(Rule::every(Fault::Transaction(1)));
        let (cycle, _) = poll(&mut adapter).await;
        match &cycle.samples[..] {
            [sample] if sample.value == Value::Null => assert_eq!(sample.verdict.reason(), Some(reason::TIMEOUT)),
            [sample] => {
                assert_eq!(sample.value, Value::Int(n.into()), "a late answer was taken for this one's");
                good += 1;
            }
            _ => {}
        }
    }
    assert!(good >= POLLS / 2, "{good} of {POLLS}");
}

// MB-37: after each request of a slow group the fast one has its turn, if it is due.
#[tokio::test]
async fn a_slow_poll_pauses_for_a_fast_one() {
    let (simulator, _memory) = device().await;
    let groups = json!({"groups": {"fast": {"period_ms": 20}, "slow": {"period_ms": 60_000}}, "max_read": 8});
    let mut value = settings(&simulator, 81, &groups);
    for point in value["points"].as_array_mut().unwrap() {
        point["group"] = json!("slow");
    }
    value["points"][80]["group"] = json!("fast");
    // Longer than the period of the fast group: it is due again after each.
    simulator.script(Rule::every(Fault::Delay(Duration::from_millis(30))).touching(Table::HoldingRegister, 0, 80));
    let kept = crate::support::Kept::default();
    let running = crate::reporting::Process::start(build(&value), &kept);
    let seen = kept.until("the slow group", |seen| seen.iter().any(|seen| seen.parameter == "p0")).await;
    running.end().await;
    assert!(seen.iter().all(|seen| seen.quality == "GOOD"));
    let offsets: Vec<u16> = simulator.requests().iter().map(|seen| seen.read().unwrap().offset()).collect();
    let slow: Vec<usize> = (0..offsets.len()).filter(|place| offsets[*place] < 80).collect();
    assert_eq!(slow.len(), 10, "{offsets:?}");
    assert!(slow.windows(2).all(|pair| pair[1] - pair[0] > 1), "the fast one in between: {offsets:?}");
}

// AC-026, MB-28, MB-35
#[test]
fn what_two_adapters_may_not_share() {
    let catalog = Catalog::new(adapters::catalog::specs());
    let document = |first: serde_json::Value, second: serde_json::Value| {
        let mut adapters = [first, second];
        for (adapter, id) in adapters.iter_mut().zip(["a", "b"]) {
            adapter["adapter_id"] = json!(id);
            adapter["asset_id"] = json!(id);
            adapter["points"] = json!([{"parameter": "p", "address": "40001", "type": "int16"}]);
        }
        let document = json!({"version": 1, "gateway_id": "gw", "adapters": adapters});
        let problems = config::parse(&document.to_string(), &catalog).err().unwrap_or_default();
        problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let line = || json!({"adapter_type": "modbus_rtu", "serial": {"port": "/dev/ttyS0"}});
    let tcp = |more: serde_json::Value| {
        let mut value = json!({"adapter_type": "modbus_tcp", "host": "gw1"});
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        value
    };
    let found = document(line(), line());
    assert!(found.len() == 1 && found[0].contains("the serial port /dev/ttyS0, which a uses already"), "{found:?}");
    let found = document(tcp(json!({"serialise": true})), tcp(json!({"host": "GW1", "port": 502})));
    assert!(found.len() == 1 && found[0].starts_with("/adapters/1: uses the Modbus endpoint gw1:502"), "{found:?}");
    let found = document(tcp(json!({})), tcp(json!({"framing": "rtu_over_tcp"})));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(document(tcp(json!({})), tcp(json!({}))), Vec::<String>::new());
}
