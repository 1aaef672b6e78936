//! What messages become.

use std::time::Duration;

use serde_json::json;

use super::broker::{Broker, available, not_run};
use super::process::{Process, json_of, settings};
use crate::support::Seen;

/// Parameter, value, reason of each.
fn told(seen: &[Seen]) -> Vec<(&str, &str, Option<&str>)> {
    seen.iter().map(|seen| (seen.parameter.as_str(), seen.value.as_str(), seen.reason.as_deref())).collect()
}

// MQ-01, MQ-12, AC-049, AC-050
#[tokio::test]
async fn json_of_both_versions_and_one_bad_field_harms_no_other() {
    if let Err(why) = available() {
        return not_run("MQTT: JSON", &why);
    }
    let broker = Broker::start("");
    for version in ["5", "3.1.1"] {
        let fields = json!([
            {"path": "/t", "parameter": "t", "unit": "celsius"}, {"path": "$.p", "parameter": "p"},
            {"path": "/n", "parameter": "n", "type": "int"}, {"path": "/text", "parameter": "coerced", "coerce": true},
            {"path": "/text", "parameter": "strict"},
        ]);
        let more = json_of("plant/press", &json!({"fields": fields, "time": {"path": "/ts", "format": "epoch_ms"}}));
        let mut more = more;
        more["version"] = json!(version);
        more["client_id"] = json!(format!("json-{version}"));
        let process = Process::start(&settings(broker.port, &more));
        process.until_connected().await;
        let payload = br#"{"ts":1769680800123,"t":21.5,"p":NaN,"n":9007199254740993,"text":"21.5","other":1}"#;
        broker.publish("plant/press", payload);
        let seen = process.kept.until("five readings", |seen| seen.len() >= 5).await;
        assert_eq!(
            told(&seen),
            [
                ("t", "Float(21.5)", None),
                ("p", "Null", Some("NAN_INF")),
                ("n", "Int(9007199254740993)", None),
                ("coerced", "Float(21.5)", None),
                ("strict", "Null", Some("TYPE_MISMATCH")),
            ]
        );
        assert!(seen.iter().all(|seen| seen.device_time.to_string() == "2026-01-29T10:00:00.123Z"));
        assert_eq!((seen[0].time_source.as_str(), seen[0].unit.as_deref()), ("DEVICE", Some("celsius")));
        let welcome = if version == "5" { "as json-5 (p5" } else { "as json-3.1.1 (p2" };
        assert!(broker.log().contains(welcome), "{}", broker.log());
        process.end().await;
    }
}

// MQ-15, AC-054
#[tokio::test]
async fn topics_name_assets_and_their_path() {
    if let Err(why) = available() {
        return not_run("MQTT: topics", &why);
    }
    let broker = Broker::start("");
    let more = json!({"subscriptions": [
        {"filter": "plant/#", "topic": "plant/{area}/{line}/{asset#}", "payload": "number",
         "fields": [{"parameter": "flow"}], "deny": ["secret_*"]},
        {"filter": "tele/+/+", "topic": "tele/{asset}/{param}", "payload": "boolean"},
    ]});
    let process = Process::start(&settings(broker.port, &more));
    process.until_connected().await;
    broker.publish("plant/Hall 2/L1/Pump 7/ä", b" 23.5\n");
    broker.publish("tele/valve/open", b"ON");
    broker.publish("plant/Hall 2/L1/Secret 1", b"1");
    broker.publish("plant/short", b"1");
    broker.publish("tele/Valve/open", b"off");
    let seen = process.kept.until("two readings", |seen| seen.len() >= 2).await;
    assert_eq!((seen[0].asset.as_str(), seen[0].asset_path.as_deref()), ("pump_7__", Some("hall_2/l1")));
    assert_eq!(
        (seen[1].asset.as_str(), seen[1].parameter.as_str(), seen[1].value.as_str()),
        ("valve", "open", "Bool(true)")
    );
    process.until("/metrics", "ASSET_NOT_ALLOWED\"} 1").await;
    process.until("/metrics", "UNMATCHED_TOPIC\"} 1").await;
    process.until("/metrics", "DECODE_ERROR\"} 1").await;
    let buried = process.kept.buried();
    assert_eq!((buried[0].reason.as_str(), &buried[0].payload[..]), ("CONFIG_ERROR", &b"off"[..]), "another spelling");
    process.end().await;
}

// AC-051, MQ-07
#[tokio::test]
async fn what_a_broker_keeps_is_marked_and_taken_once() {
    if let Err(why) = available() {
        return not_run("MQTT: retained", &why);
    }
    let mut broker = Broker::start("");
    broker.publish_with("plant/press", br#"{"v":7}"#, &["-q", "1", "-r"]);
    broker.clear("plant/cleared");
    let process = Process::start(&settings(broker.port, &json_of("plant/+", &json!({}))));
    let seen = process.kept.until("the kept one", |seen| !seen.is_empty()).await;
    let first = &seen[0];
    assert_eq!((first.quality, first.reason.as_deref()), ("UNCERTAIN", Some("RETAINED_NO_TIME")));
    assert_eq!(first.flags, ["initial", "retained"]);
    broker.kill();
    process.until("/health", "\"connected\":false").await;
    broker.run();
    process.until("/metrics", "REPEATED_MESSAGE\"} 1").await;
    broker.publish_with("plant/press", br#"{"v":8}"#, &["-q", "1", "-r"]);
    let seen = process.kept.until("the next one", |seen| seen.len() >= 2).await;
    assert_eq!((seen.len(), seen[1].value.as_str(), seen[1].quality), (2, "Float(8.0)", "GOOD"), "heard live");
    process.end().await;
    let ignoring = json_of("plant/press", &json!({"retained": "ignore"}));
    for version in ["5", "3.1.1"] {
        let mut more = ignoring.clone();
        more["version"] = json!(version);
        more["client_id"] = json!(format!("ignores-{version}"));
        let process = Process::start(&settings(broker.port, &more));
        process.until_connected().await;
        broker.publish("plant/press", br#"{"v":9}"#);
        let seen = process.kept.until("a live one", |seen| !seen.is_empty()).await;
        assert_eq!((seen.len(), seen[0].value.as_str()), (1, "Float(9.0)"));
        process.end().await;
    }
}

// MQ-03
#[tokio::test]
async fn overlapping_filters_take_a_message_once_per_mapping() {
    if let Err(why) = available() {
        return not_run("MQTT: overlaps", &why);
    }
    let broker = Broker::start("allow_duplicate_messages true\n");
    for version in ["5", "3.1.1"] {
        let field = |name: &str| json!([{"path": "/v", "parameter": name}]);
        let more = json!({"version": version, "client_id": format!("overlap-{version}"), "subscriptions": [
            {"filter": "a/#", "fields": field("wide")}, {"filter": "a/b", "fields": field("narrow")},
        ]});
        let process = Process::start(&settings(broker.port, &more));
        process.until_connected().await;
        for value in 0..3 {
            broker.publish("a/b", format!("{{\"v\":{value}}}").as_bytes());
        }
        broker.publish("a/c", br#"{"v":9}"#);
        process.kept.until("the last one", |seen| seen.iter().any(|seen| seen.value == "Float(9.0)")).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let seen = process.kept.seen();
        let count = |name: &str| seen.iter().filter(|seen| seen.parameter == name).count();
        assert_eq!((count("wide"), count("narrow")), (4, 3), "version {version}: {seen:#?}");
        process.end().await;
    }
}

// MQ-12, MQ-14: lists, tables, bytes, packed
#[tokio::test]
async fn lists_tables_bytes_and_packed_payloads() {
    if let Err(why) = available() {
        return not_run("MQTT: payloads", &why);
    }
    let broker = Broker::start("");
    let more = json!({"subscriptions": [
        {"filter": "senml", "fields": [
            {"path": "/e/*/v", "name": "/n", "unit_path": "/u", "quality_path": "/q", "time": {"path": "/t", "format": "epoch_s"}}]},
        {"filter": "csv", "payload": "csv", "delimiter": ";", "time": {"path": "/time", "format": "pattern",
         "pattern": "%d.%m.%Y %H:%M:%S", "zone": "Europe/Berlin"}, "fields": [{"column": "temp", "parameter": "temp", "decimal_comma": true}]},
        {"filter": "bytes", "payload": "binary", "fields": [{"at": 0, "data": "int16", "parameter": "b", "scale": 0.1}]},
        {"filter": "gzip", "gzip": true, "fields": [{"path": "/v", "parameter": "packed"}]},
    ]});
    let process = Process::start(&settings(broker.port, &more));
    process.until_connected().await;
    broker.publish("senml", br#"{"e":[{"n":"Temp","v":21.5,"u":"Cel","t":1769680800},{"n":"Hum","v":40,"q":"bad","t":1769680801.5},{"n":"x"}]}"#);
    broker.publish("csv", b"time;temp\n25.10.2026 02:30:00;1,5\n25.10.2026 04:00:00;2,5\n");
    broker.publish("bytes", &[0xFF, 0xA9]);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, br#"{"v":3}"#).unwrap();
    broker.publish("gzip", &packed.finish().unwrap());
    let seen = process.kept.until("six readings", |seen| seen.len() >= 6).await;
    assert_eq!(
        told(&seen),
        [
            ("temp", "Float(21.5)", None),
            ("hum", "Null", Some("SERVER_BAD")),
            ("temp", "Float(1.5)", Some("TIME_AMBIGUOUS")), // AC-053
            ("temp", "Float(2.5)", None),
            ("b", "Float(-8.700000000000001)", None),
            ("packed", "Float(3.0)", None),
        ]
    );
    assert_eq!(seen[0].unit.as_deref(), Some("Cel"));
    assert_eq!(seen[1].device_time.to_string(), "2026-01-29T10:00:01.500Z");
    assert_eq!(seen[2].device_time.to_string(), "2026-10-25T00:30:00.000Z");
    process.until("/metrics", "MISSING_FIELD\"} 1").await;
    process.end().await;
}

// MQ-08: user properties become tags; a message that is too large is passed over
#[tokio::test]
async fn properties_are_tags_and_the_limit_holds_in_both_versions() {
    if let Err(why) = available() {
        return not_run("MQTT: properties", &why);
    }
    let broker = Broker::start("");
    for version in ["5", "3.1.1"] {
        let mut more = json_of("plant/press", &json!({}));
        more["version"] = json!(version);
        more["client_id"] = json!(format!("large-{version}"));
        more["max_packet_bytes"] = json!(2048);
        let process = Process::start(&settings(broker.port, &more));
        process.until_connected().await;
        let large = format!("{{\"v\":1,\"pad\":\"{}\"}}", "x".repeat(100_000));
        broker.publish("plant/press", large.as_bytes());
        let properties = ["-q", "1", "-V", "5", "-D", "publish", "user-property", "site", "north"];
        broker.publish_with("plant/press", br#"{"v":2}"#, &properties);
        let seen = process.kept.until("the small one", |seen| !seen.is_empty()).await;
        assert_eq!((seen.len(), seen[0].value.as_str()), (1, "Float(2.0)"), "version {version}");
        if version == "5" {
            assert_eq!(seen[0].tags, [("site".to_owned(), "north".to_owned())]);
        } else {
            process.until("/metrics", "MESSAGE_TOO_LARGE\"} 1").await;
            assert_eq!(process.kept.told("data_loss").len(), 1);
        }
        process.end().await;
    }
}

// MQ-11: nothing is published unless it is asked for
#[tokio::test]
async fn the_own_status_is_published_when_it_is_asked_for() {
    if let Err(why) = available() {
        return not_run("MQTT: status", &why);
    }
    let broker = Broker::start("");
    let watcher = Process::start(&settings(
        broker.port,
        &json!({"client_id": "watcher", "subscriptions": [
        {"filter": "status/gw", "payload": "text", "fields": [{"parameter": "status"}]}]}),
    ));
    watcher.until_connected().await;
    let mut more = json_of("plant/press", &json!({}));
    more["status_topic"] = json!("status/gw");
    let process = Process::start(&settings(broker.port, &more));
    watcher.kept.until("online", |seen| seen.iter().any(|seen| seen.value == "Text(\"online\")")).await;
    process.crash().await;
    watcher.kept.until("offline", |seen| seen.iter().any(|seen| seen.value == "Text(\"offline\")")).await;
    watcher.end().await;
}
