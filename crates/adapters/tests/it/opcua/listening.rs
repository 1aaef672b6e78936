//! Values, their quality and their time.

use model::Timestamp;
use serde_json::json;

use super::process::{Process, settings};
use super::server::{Server, available, not_run};

// UA-08, UA-22, UA-24, AC-045
#[tokio::test]
async fn what_changes_at_the_server_arrives_with_its_time() {
    if let Err(why) = available() {
        return not_run("OPC UA: values", &why);
    }
    let state = tempfile::tempdir().unwrap();
    let mut server = Server::start().await;
    server.add("Temp", 1.0).await;
    server.tell(&json!({"do": "add", "name": "Count", "value": 7, "type": "UInt32"})).await;
    let old = "2026-01-01T00:00:00Z";
    server.tell(&json!({"do": "set", "name": "Temp", "value": 1.5, "at": old})).await;
    let process = Process::start(&settings(server.port, &["Temp", "Count"], &json!({})), state.path());
    let seen = process.kept.until("the first values", |seen| seen.len() >= 2).await;
    let temp = seen.iter().find(|seen| seen.parameter == "temp").unwrap();
    assert_eq!((temp.value.as_str(), temp.quality, temp.time_source.as_str()), ("Float(1.5)", "GOOD", "DEVICE"));
    assert_eq!(temp.device_time, Timestamp::parse_rfc3339(old).unwrap());
    assert_eq!(temp.flags, ["initial"]);
    let source = temp.metadata.iter().find(|(key, _)| key == "source_ref").unwrap();
    assert_eq!(source.1, "nsu=urn:test:line;s=Temp");
    server.set("Temp", 2.5).await;
    let seen = process.kept.until("a change", |seen| seen.len() >= 3).await;
    assert_eq!((seen[2].value.as_str(), seen[2].flags.len(), seen[2].gap_before), ("Float(2.5)", 0, false));
    let health = process.until("/health", "not secure").await;
    assert!(health.contains("\"status\":\"healthy\""), "a warning is no fault: {health}");
    process.end().await;
    assert_eq!(server.subscriptions().await, "subscriptions 0", "none is left behind");
}

// UA-18, UA-25, AC-039, AC-040
#[tokio::test]
async fn a_status_becomes_quality_and_is_kept() {
    if let Err(why) = available() {
        return not_run("OPC UA: status", &why);
    }
    let state = tempfile::tempdir().unwrap();
    let mut server = Server::start().await;
    server.add("Temp", 1.0).await;
    let process = Process::start(&settings(server.port, &["Temp"], &json!({})), state.path());
    process.kept.until("the first value", |seen| !seen.is_empty()).await;
    for (status, value) in [(0x0000_0480_u32, 2.0), (0x4090_0000, 5.0), (0x8031_0000, 6.0), (0, 7.0)] {
        let before = process.kept.seen().len();
        server.tell(&json!({"do": "set", "name": "Temp", "value": value, "status": status})).await;
        process.kept.until("it", |seen| seen.len() > before).await;
    }
    let seen = process.kept.seen();
    let told: Vec<(&str, &str, Option<&str>)> =
        seen.iter().skip(1).map(|seen| (seen.value.as_str(), seen.quality, seen.reason.as_deref())).collect();
    assert_eq!(
        told,
        [
            ("Float(2.0)", "GOOD", None),
            ("Float(5.0)", "UNCERTAIN", Some("LAST_KNOWN")),
            ("Null", "BAD", Some("COMM_FAIL")),
            ("Float(7.0)", "GOOD", None),
        ]
    );
    assert_eq!(seen[1].flags, ["overflow", "gap_before"]);
    assert!(seen[4].gap_before, "after it was bad");
    let status =
        |at: usize| seen[at].metadata.iter().find(|(key, _)| key == "source_status").map(|(_, text)| text.clone());
    assert_eq!([status(2).as_deref(), status(4).as_deref()], [Some("0x40900000"), None]);
    let lost = process.kept.told("data_loss");
    assert_eq!(
        (lost.len(), lost[0].detail("cause"), lost[0].detail("count_kind")),
        (1, Some("queue_overflow"), Some("at_least"))
    );
    process.end().await;
}

// UA-15, UA-20, AC-043
#[tokio::test]
async fn a_node_that_is_not_there_affects_only_its_point() {
    if let Err(why) = available() {
        return not_run("OPC UA: unknown nodes", &why);
    }
    let state = tempfile::tempdir().unwrap();
    let mut server = Server::start().await;
    let mut points = vec![
        json!({"node": "nsu=urn:test:line;s=Nowhere", "parameter": "nowhere"}),
        json!({"node": "nsu=urn:gone;s=N0", "parameter": "homeless"}),
    ];
    for number in 0..98 {
        server.add(&format!("N{number}"), f64::from(number)).await;
        points.push(json!({"node": format!("nsu=urn:test:line;s=N{number}"), "parameter": format!("n{number}")}));
    }
    let process = Process::start(&settings(server.port, &[], &json!({"points": points})), state.path());
    let seen = process.kept.until("all", |seen| seen.len() >= 100).await;
    let reason = |name: &str| seen.iter().find(|seen| seen.parameter == name).and_then(|seen| seen.reason.clone());
    assert_eq!(reason("nowhere").as_deref(), Some("ADDRESS_INVALID"));
    assert_eq!(reason("homeless").as_deref(), Some("NAMESPACE_UNKNOWN"));
    assert_eq!(seen.iter().filter(|seen| seen.quality == "GOOD").count(), 98);
    let health = process.until("/health", "2 of 100 points that cannot be read").await;
    assert!(health.contains("DEGRADED"), "{health}");
    process.end().await;
}

// UA-23
#[tokio::test]
async fn arrays_and_reading_again_and_again() {
    if let Err(why) = available() {
        return not_run("OPC UA: arrays", &why);
    }
    let state = tempfile::tempdir().unwrap();
    let mut server = Server::start().await;
    server.tell(&json!({"do": "add", "name": "List", "value": [1.5, 2.5]})).await;
    let point = |parameter: &str, array: serde_json::Value| {
        let type_name = if parameter == "text" { "string" } else { "float" };
        json!({"node": "nsu=urn:test:line;s=List", "parameter": parameter, "array": array, "type": type_name, "mode": "read"})
    };
    let points = [
        point("each", json!({"type": "explode"})),
        point("one", json!({"type": "index", "index": 1})),
        point("text", json!({"type": "json"})),
    ];
    let process = Process::start(&settings(server.port, &[], &json!({"points": points})), state.path());
    let seen = process.kept.until("all", |seen| seen.len() >= 4).await;
    let mut told: Vec<(String, String)> =
        seen.iter().map(|seen| (seen.parameter.clone(), seen.value.clone())).collect();
    told.sort();
    let expected =
        [("each.0", "Float(1.5)"), ("each.1", "Float(2.5)"), ("one", "Float(2.5)"), ("text", "Text(\"[1.5,2.5]\")")];
    assert_eq!(told, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(server.subscriptions().await, "subscriptions 0", "it is read");
    server.tell(&json!({"do": "set", "name": "List", "value": [3.5]})).await;
    process.kept.until("the change", |seen| seen.iter().any(|seen| seen.value == "Float(3.5)")).await;
    process.end().await;
}
