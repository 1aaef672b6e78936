//! When messages are acknowledged, and what comes again when they were not.

use std::time::Duration;

use serde_json::json;

use super::broker::{Broker, available, not_run};
use super::process::{Process, json_of, settings};
use super::proxy::Proxy;
use crate::support::{Kept, Seen};

fn values(seen: &[Seen]) -> Vec<f64> {
    let number = |text: &str| text.trim_start_matches("Float(").trim_end_matches(')').parse().unwrap();
    seen.iter().map(|seen| number(&seen.value)).collect()
}

fn numbered(range: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    range.map(|number| format!("{{\"v\":{number}}}"))
}

fn expected(range: std::ops::Range<u32>) -> Vec<f64> {
    range.map(f64::from).collect()
}

// MQ-02, MQ-04: a crash of the adapter loses nothing that the stream had not confirmed
#[tokio::test]
async fn a_crash_before_the_stream_has_it_loses_nothing() {
    if let Err(why) = available() {
        return not_run("MQTT: a crash", &why);
    }
    let broker = Broker::start("");
    for version in ["5", "3.1.1"] {
        let mut more = json_of("plant/press", &json!({}));
        more["version"] = json!(version);
        more["client_id"] = json!(format!("crash-{version}"));
        let kept = Kept::default();
        kept.silent(true);
        let process = Process::start_with(&settings(broker.port, &more), kept.clone(), None);
        process.until_connected().await;
        broker.publish_lines("plant/press", numbered(0..30));
        process.until("/metrics", "quality=\"GOOD\"").await;
        process.crash().await;
        assert!(kept.seen().is_empty(), "the stream has confirmed nothing");
        broker.publish_lines("plant/press", numbered(30..40));
        let process = Process::start(&settings(broker.port, &more));
        let seen = process.kept.until("all of them", |seen| seen.len() >= 40).await;
        assert_eq!(values(&seen), expected(0..40), "version {version}");
        process.end().await;
        let process = Process::start(&settings(broker.port, &more));
        process.until_connected().await;
        broker.publish("plant/press", br#"{"v":40}"#);
        let seen = process.kept.until("the next", |seen| !seen.is_empty()).await;
        assert_eq!(values(&seen), [40.0], "what was confirmed was acknowledged");
        process.end().await;
    }
}

// AC-047, MQ-05, MQ-04
#[tokio::test]
async fn while_the_stream_is_down_nothing_is_acknowledged_and_the_connection_is_kept() {
    if let Err(why) = available() {
        return not_run("MQTT: a silent stream", &why);
    }
    let broker = Broker::start("max_inflight_messages 0\n");
    for version in ["5", "3.1.1"] {
        let proxy = Proxy::start(broker.port).await;
        let mut more = json_of("plant/press", &json!({}));
        more["version"] = json!(version);
        more["client_id"] = json!(format!("down-{version}"));
        more["keep_alive_s"] = json!(5);
        let kept = Kept::default();
        kept.silent(true);
        let process = Process::start_with(&settings(proxy.address.port(), &more), kept.clone(), None);
        process.until_connected().await;
        broker.publish_lines("plant/press", numbered(0..500));
        // longer than the broker waits for a client that says nothing
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert!(proxy.acknowledged().is_empty());
        assert_eq!(proxy.connections(), 1, "kept");
        assert!(proxy.sent().iter().any(|packet| packet[..] == [0xC0, 0]), "pings go on");
        kept.silent(false);
        let seen = process.kept.until("all of them", |seen| seen.len() >= 500).await;
        assert_eq!(values(&seen), expected(0..500), "version {version}");
        let waiting = async {
            while proxy.acknowledged().len() < 500 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("all are acknowledged");
        let order = proxy.acknowledged();
        assert!(order.windows(2).all(|pair| pair[1] == pair[0] + 1), "in order of receipt: {order:?}");
        assert_eq!((order.len(), proxy.connections()), (500, 1));
        process.end().await;
    }
}

// AC-046 within one process, MQ-04: acknowledgements that the broker never saw
#[tokio::test]
async fn a_repeated_message_is_one_reading() {
    if let Err(why) = available() {
        return not_run("MQTT: repeated messages", &why);
    }
    let broker = Broker::start("");
    for (version, qos) in [("5", 1), ("3.1.1", 1), ("5", 2), ("3.1.1", 2)] {
        let proxy = Proxy::start(broker.port).await;
        proxy.swallow_acks(true);
        let mut more = json_of("plant/press", &json!({"qos": qos}));
        more["version"] = json!(version);
        more["client_id"] = json!(format!("repeat-{version}-{qos}"));
        let process = Process::start(&settings(proxy.address.port(), &more));
        process.until_connected().await;
        let qos_text = qos.to_string();
        for number in 0..5 {
            broker.publish_with("plant/press", format!("{{\"v\":{number}}}").as_bytes(), &["-q", &qos_text]);
        }
        process.kept.until("five", |seen| seen.len() >= 5).await;
        proxy.swallow_acks(false);
        proxy.cut();
        process.until("/metrics", "REPEATED_MESSAGE\"} 5").await;
        broker.publish_with("plant/press", br#"{"v":5}"#, &["-q", &qos_text]);
        let seen = process.kept.until("the next", |seen| seen.len() >= 6).await;
        assert_eq!(values(&seen), expected(0..6), "version {version}, quality of service {qos}");
        process.end().await;
    }
}

// MQ-04: by asset, parameter and the payload's own time
#[tokio::test]
async fn a_crash_between_stream_and_acknowledgement_repeats_the_same_time() {
    if let Err(why) = available() {
        return not_run("MQTT: a crash before the acknowledgement", &why);
    }
    let broker = Broker::start("");
    let proxy = Proxy::start(broker.port).await;
    proxy.swallow_acks(true);
    let more = json_of("plant/press", &json!({"time": {"path": "/ts", "format": "epoch_ms"}}));
    let process = Process::start(&settings(proxy.address.port(), &more));
    process.until_connected().await;
    broker.publish("plant/press", br#"{"v":1,"ts":1769680800123}"#);
    let first = process.kept.until("it", |seen| !seen.is_empty()).await;
    process.crash().await;
    proxy.swallow_acks(false);
    let process = Process::start(&settings(proxy.address.port(), &more));
    let again = process.kept.until("it again", |seen| !seen.is_empty()).await;
    // what the validator needs to tell that it is the same (REC-16)
    assert_eq!((first[0].device_time, &first[0].value), (again[0].device_time, &again[0].value));
    process.end().await;
}

// AC-048, MQ-06
#[tokio::test]
async fn poison_goes_to_the_dead_letters_with_its_exact_bytes_and_blocks_nothing() {
    if let Err(why) = available() {
        return not_run("MQTT: poison", &why);
    }
    let broker = Broker::start("");
    let proxy = Proxy::start(broker.port).await;
    let more = json_of("plant/+", &json!({}));
    let process = Process::start(&settings(proxy.address.port(), &more));
    process.until_connected().await;
    let poison = b"{\"v\":21.5,\xFF\x00";
    broker.publish("plant/press", poison);
    broker.publish("plant/press", br#"{"v":2}"#);
    let seen = process.kept.until("the next one", |seen| !seen.is_empty()).await;
    assert_eq!(values(&seen), [2.0]);
    let buried = process.kept.buried();
    assert_eq!(buried.len(), 1);
    assert_eq!((buried[0].reason.as_str(), &buried[0].payload[..]), ("DECODE_ERROR", &poison[..]));
    assert!(buried[0].id.starts_with("gw-1/adapter_1/7/mqtt:plant/press/0/"), "{}", buried[0].id);
    let waiting = async {
        while proxy.acknowledged().len() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("both are acknowledged");
    process.end().await;
    // AC-030, G-01: whatever was said, it was no message
    assert!(proxy.sent().iter().all(|packet| packet[0] >> 4 != 3), "nothing was published");
}

// MQ-02: the broker has forgotten the session
#[tokio::test]
async fn a_forgotten_session_is_subscribed_anew_and_told() {
    if let Err(why) = available() {
        return not_run("MQTT: a forgotten session", &why);
    }
    let mut broker = Broker::start("");
    let process = Process::start(&settings(broker.port, &json_of("plant/press", &json!({}))));
    process.until_connected().await;
    broker.publish("plant/press", br#"{"v":1}"#);
    process.kept.until("the first", |seen| !seen.is_empty()).await;
    broker.kill();
    broker.forget();
    process.until("/health", "\"connected\":false").await;
    broker.run();
    process.until_connected().await;
    broker.publish("plant/press", br#"{"v":2}"#);
    let seen = process.kept.until("the second", |seen| seen.len() >= 2).await;
    assert!(seen[1].gap_before && !seen[0].gap_before);
    let told = process.kept.told("source.gap");
    assert_eq!((told.len(), told[0].detail("cause")), (1, Some("session_lost")));
    process.end().await;
}

// MQ-02, MQ-10: a broker that is restarted and remembers loses nothing, and the process does not mind
#[tokio::test]
async fn a_restarted_broker_that_remembers_loses_nothing() {
    if let Err(why) = available() {
        return not_run("MQTT: a restarted broker", &why);
    }
    let mut broker = Broker::start("");
    let process = Process::start(&settings(broker.port, &json_of("plant/press", &json!({}))));
    process.until_connected().await;
    broker.publish_lines("plant/press", numbered(0..5));
    process.kept.until("five", |seen| seen.len() >= 5).await;
    for round in 1..3 {
        tokio::time::sleep(Duration::from_millis(1500)).await; // the broker writes its sessions down each second
        broker.kill();
        process.until("/health", "\"connected\":false").await;
        assert!(process.get("/health/live").await.contains("200 OK"));
        broker.run();
        process.until_connected().await;
        broker.publish_lines("plant/press", numbered(round * 5..round * 5 + 5));
    }
    let seen = process.kept.until("fifteen", |seen| seen.len() >= 15).await;
    assert_eq!(values(&seen), expected(0..15));
    assert!(process.kept.told("source.gap").is_empty());
    process.end().await;
}
