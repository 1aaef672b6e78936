//! A broker that somebody else wrote, an adapter that is killed again and again: nothing is lost, and what the payload
//! stamps is there once.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use stream::message::{dead_letter, telemetry};
use stream::{Topic, avro};
use testkit::mosquitto::{self, Mosquitto};

use crate::harness::{Gateway, Setup, each_record, kill_9, not_run, wait_for};

const ADAPTER: &str = "adapter_mqtt";
/// Kills, and messages before each of them.
const ROUNDS: u32 = 5;
const MESSAGES: u32 = 200;

fn value_of(record: &kafka::client::Record<'_>) -> (i64, i64) {
    let (_, body) = avro::unframe(record.payload().expect("a value")).expect("framed");
    let reading = telemetry::decode(body).expect("a reading");
    let model::Value::Int(value) = reading.value else { panic!("{reading:?}") };
    (value, reading.device_time.as_millis())
}

/// How often each value is in a topic.
fn counts(setup: &Setup, topic: Topic) -> BTreeMap<i64, usize> {
    let mut counts = BTreeMap::new();
    each_record(setup.kafka, topic, |record| *counts.entry(value_of(record).0).or_default() += 1);
    counts
}

fn adapter_of(gateway: &Gateway, not: Option<u32>) -> u32 {
    gateway.wait_for_child(ADAPTER, not)
}

// MQ-02, MQ-04, MQ-06, AC-046, AC-048
#[test]
fn an_adapter_killed_at_any_time_loses_no_message_and_doubles_no_reading() {
    if let Err(why) = mosquitto::available() {
        return not_run("kill -9 of an MQTT adapter", &why.to_string());
    }
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(folder.path(), "max_inflight_messages 50\n").expect("a broker");
    let adapter = json!({
        "adapter_id": ADAPTER, "adapter_type": "mqtt", "url": format!("mqtt://127.0.0.1:{}", broker.port()),
        "allow_insecure": true, "asset_id": "press",
        // what may come again after a kill is within what the validator remembers of a point (VAL-22)
        "receive_maximum": 60,
        "subscriptions": [{ "filter": "plant/press", "time": { "path": "/ts", "format": "epoch_ms" },
            "fields": [{ "path": "/v", "parameter": "v", "type": "int" }] }],
    });
    let setup = Setup::new("gw-mqtt").with("adapters", vec![adapter]);
    let gateway = setup.start();
    let mut pid = adapter_of(&gateway, None);
    wait_for("the session is there", Duration::from_secs(30), || {
        if broker.log().contains("Sending SUBACK to sf-gw-mqtt-adapter_mqtt") { Ok(()) } else { Err(broker.log()) }
    });
    let poison: &[u8] = b"{\"v\":\xFF}";
    let begin = 1_769_680_800_000_i64;
    for round in 0..ROUNDS {
        let line = |number: u32| format!("{{\"v\":{number},\"ts\":{}}}\n", begin + i64::from(number));
        let lines: String = (round * MESSAGES..(round + 1) * MESSAGES).map(line).collect();
        broker.publish("plant/press", lines.as_bytes(), &["-q", "1", "-l"]).expect("published");
        // in the middle of it, now a little earlier and now a little later
        std::thread::sleep(Duration::from_millis(u64::from(round) * 7));
        kill_9(pid);
        broker.publish("plant/press", poison, &["-q", "1", "-s"]).expect("published");
        pid = adapter_of(&gateway, Some(pid));
    }
    let all = i64::from(ROUNDS * MESSAGES);
    wait_for("every message is stored", Duration::from_secs(60), || {
        let raw = counts(&setup, Topic::TelemetryRaw);
        let missing = (0..all).filter(|number| !raw.contains_key(number)).count();
        if missing == 0 { Ok(()) } else { Err(format!("{missing} of {all} are missing")) }
    });
    gateway.wait_until_drained(Duration::from_secs(60));
    let clean = counts(&setup, Topic::TelemetryClean);
    let doubled: Vec<_> = clean.iter().filter(|(_, count)| **count != 1).collect();
    assert!(doubled.is_empty(), "AC-046: {doubled:?}");
    assert_eq!(clean.len(), usize::try_from(all).expect("a count"));
    let mut letters = 0;
    each_record(setup.kafka, Topic::DlqTelemetry, |record| {
        let (_, body) = avro::unframe(record.payload().expect("a letter")).expect("framed");
        let letter = dead_letter::decode(body).expect("a letter");
        assert_eq!((letter.payload, letter.reason), (poison, "DECODE_ERROR"));
        letters += 1;
    });
    assert!(letters >= ROUNDS, "each poisonous message is kept: {letters}");
}
