//! Events, conditions and refreshes, against asyncua with its event generator, its conditions and its `ConditionRefresh`.

use serde_json::{Value, json};

use super::process::{Process, settings};
use super::server::{Server, available, free_port, not_run};
use crate::support::{Kept, Told};
use crate::wire::Wire;
use model::Timestamp;

async fn start(options: &[&str]) -> Server {
    Server::start_on(free_port(), &[&["none"], options].concat()).await
}

fn of(port: u16, events: &Value) -> Value {
    settings(port, &[], &json!({"points": [], "events": [events]}))
}

/// Connected, and the event source watched: nothing that happens now is missed.
async fn listening(server: &mut Server, process: &Process) {
    let mut probe = 0;
    while process.kept.told("source.event").iter().all(|told| told.message != "probe") {
        probe += 1;
        assert!(probe < 1000, "never an event");
        server.tell(&json!({"do": "event", "fields": {"Message": "probe", "Severity": 1000}})).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn messages(told: &[Told]) -> Vec<&str> {
    let own = told.iter().filter(|told| told.message != "probe");
    own.map(|told| told.message.as_str()).collect()
}

fn states(told: &[Told]) -> Vec<(String, String, Option<String>)> {
    let detail = |told: &Told, key: &str| told.detail(key).unwrap_or_default().to_owned();
    told.iter().map(|told| (detail(told, "condition_name"), told.to.clone().unwrap(), told.from.clone())).collect()
}

// UA-26, UA-30, UA-24
#[tokio::test]
async fn an_event_of_the_server_arrives_with_what_it_says() {
    if let Err(why) = available() {
        return not_run("OPC UA: events", &why);
    }
    let state = tempfile::tempdir().unwrap();
    let mut server = start(&["norefresh"]).await;
    let process = Process::start(&of(server.port, &json!({})), state.path());
    listening(&mut server, &process).await;
    let at = "2026-11-27T08:00:00Z";
    let fields = json!({"Message": "door\nopened", "Severity": 600, "SourceName": "Press 1", "SourceNode": "Press1", "Time": at});
    server.tell(&json!({"do": "event", "fields": fields})).await;
    let is_it = |told: &&Told| told.message == "dooropened";
    let door = loop {
        let told = process.kept.told("source.event");
        if let Some(door) = told.iter().find(is_it) {
            break door.clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    assert_eq!((door.asset.as_str(), door.severity.as_deref(), door.quality), ("press", Some("HIGH"), "GOOD"));
    assert_eq!((door.device_time, door.time_source.as_str()), (Timestamp::parse_rfc3339(at).unwrap(), "DEVICE"));
    for (key, value) in [
        ("source_severity", "600"),
        ("source_name", "Press 1"),
        ("source_node", "nsu=urn:test:line;s=Press1"),
        ("source_event_type", "i=2041"),
        ("server_uri", "urn:test:server"),
        ("origin", "i=2253"),
    ] {
        assert_eq!(door.detail(key), Some(value), "{key} of {door:#?}");
    }
    let id = door.detail("source_event_id").unwrap();
    assert_eq!(door.id, format!("gw-1/adapter_1/source/{id}"), "the same whenever it is told (UA-27)");
    let health = process.until("/health", "does not tell its conditions again").await;
    assert!(health.contains("does not tell its conditions again (BadNothingToDo)"), "{health}");
    process.end().await;
    assert_eq!(server.subscriptions().await, "subscriptions 0");
}

// UA-26: where clause and floor, by a server that filters
#[tokio::test]
async fn what_is_not_severe_enough_is_left_out_and_a_held_condition_is_not() {
    if let Err(why) = available() {
        return not_run("OPC UA: filters", &why);
    }
    let state = tempfile::tempdir().unwrap();
    let mut server = start(&[]).await;
    let process = Process::start(&of(server.port, &json!({"min_severity": 500})), state.path());
    listening(&mut server, &process).await;
    for (message, severity) in [("low", 499), ("high", 500), ("last", 900)] {
        server.tell(&json!({"do": "event", "fields": {"Message": message, "Severity": severity}})).await;
    }
    let told = loop {
        let told = process.kept.told("source.event");
        if told.iter().any(|told| told.message == "last") {
            break told;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    assert_eq!(messages(&told), ["high", "last"]);
    process.end().await;
}

// UA-29, AC-030: the life of a condition; nothing is called but the refresh
#[tokio::test]
async fn a_condition_is_told_with_each_of_its_states() {
    if let Err(why) = available() {
        return not_run("OPC UA: conditions", &why);
    }
    let state = tempfile::tempdir().unwrap();
    let mut server = start(&[]).await;
    let process = Process::start(&of(server.port, &json!({"asset_id": "press_01"})), state.path());
    process.kept.until_told("condition.refresh", 1).await;
    let word = |fields: Value| json!({"do": "condition", "name": "Hot", "fields": fields});
    for fields in [
        json!({}),
        json!({"AckedState/Id": true, "ClientUserId": "ada"}),
        json!({"ActiveState/Id": false, "AckedState/Id": true, "Retain": false}),
        json!({"SuppressedState/Id": true}),
    ] {
        server.tell(&word(fields)).await;
    }
    let told = process.kept.until_told("condition.state", 4).await;
    let expected =
        [("ACTIVE", None), ("ACKNOWLEDGED", Some("ACTIVE")), ("CLEARED", Some("ACKNOWLEDGED")), ("SUPPRESSED", None)];
    let expected = expected.map(|(to, from)| ("Hot".to_owned(), to.to_owned(), from.map(str::to_owned)));
    assert_eq!(states(&told), expected);
    assert_eq!(told[0].detail("condition"), Some("nsu=urn:test:line;s=Hot@urn:test:server"));
    assert_eq!((told[0].asset.as_str(), told[0].severity.as_deref()), ("press_01", Some("HIGH")));
    assert_eq!((told[0].detail("active"), told[2].detail("active")), (Some("true"), Some("false")));
    assert_eq!((told[1].detail("client_user"), told[3].detail("suppression_kind")), (Some("ada"), Some("by_design")));
    assert!(told.iter().all(|told| told.detail("quiet").is_none()), "these are news");
    assert_eq!(server.ask("calls").await, "calls 1");
    process.end().await;
}

// UA-28, AC-044
#[tokio::test]
async fn a_condition_that_ended_while_nobody_listened_is_cleared_by_the_refresh() {
    if let Err(why) = available() {
        return not_run("OPC UA: refresh", &why);
    }
    let state = tempfile::tempdir().unwrap();
    let mut server = start(&[]).await;
    for name in ["Hot", "Slow"] {
        server.tell(&json!({"do": "condition", "name": name})).await;
    }
    let wire = Wire::start(server.port).await;
    let process = Process::start(&of(wire.address.port(), &json!({})), state.path());
    let first = process.kept.until_told("condition.refresh", 1).await;
    let at_start = process.kept.told("condition.state");
    assert_eq!(at_start.len(), 2);
    assert!(at_start.iter().all(|told| told.detail("quiet") == Some("true")), "they were there before");
    assert_eq!((first[0].detail("whole"), first[0].detail("conditions")), (Some("true"), Some("2")));
    wire.set_open(false);
    process.until("/health", "\"connected\":false").await;
    server.tell(&json!({"do": "omit", "name": "Hot"})).await;
    wire.set_open(true);
    let second = process.kept.until_told("condition.refresh", 2).await;
    let told = process.kept.told("condition.state");
    assert_eq!(told.len(), 3, "the other one is not repeated: {told:#?}");
    assert_eq!(states(&told)[2], ("Hot".to_owned(), "CLEARED".to_owned(), Some("ACTIVE".to_owned())));
    assert_eq!(told[2].detail("cleared_by"), Some("refresh"));
    assert_eq!((second[1].detail("whole"), second[1].detail("ended")), (Some("false"), Some("1")));
    process.end().await;
}

// UA-28, UA-17: the server threw events away, and says so
#[tokio::test]
async fn after_an_overflow_the_conditions_are_asked_for_again() {
    if let Err(why) = available() {
        return not_run("OPC UA: overflow", &why);
    }
    let state = tempfile::tempdir().unwrap();
    let mut server = start(&[]).await;
    let process = Process::start(&of(server.port, &json!({})), state.path());
    process.kept.until_told("condition.refresh", 1).await;
    server.tell(&json!({"do": "event", "kind": "EventQueueOverflowEventType", "fields": {"Message": "full"}})).await;
    let lost = process.kept.until_told("data_loss", 1).await;
    assert_eq!((lost[0].detail("cause"), lost[0].detail("node")), (Some("queue_overflow"), Some("i=2253")));
    process.kept.until_told("condition.refresh", 2).await;
    assert_eq!(server.ask("calls").await, "calls 2");
    assert!(process.kept.told("source.event").is_empty(), "it is no event of the plant");
    process.end().await;
}

// UA-09, AC-038
#[tokio::test]
async fn events_are_acknowledged_when_the_stream_has_them() {
    if let Err(why) = available() {
        return not_run("OPC UA: events of a silent stream", &why);
    }
    let state = tempfile::tempdir().unwrap();
    let mut server = start(&[]).await;
    let kept = Kept::default();
    kept.silent(true);
    let process = Process::start_with(&of(server.port, &json!({})), state.path(), kept.clone(), None);
    while server.ask("calls").await == "calls 0" {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    for number in 0..50 {
        server.tell(&json!({"do": "event", "fields": {"Message": format!("event {number}"), "Severity": 10}})).await;
    }
    while server.ask("unacknowledged").await == "unacknowledged 0" {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(kept.told("source.event").is_empty());
    kept.silent(false);
    let told = kept.until_told("source.event", 50).await;
    assert_eq!(messages(&told), (0..50).map(|number| format!("event {number}")).collect::<Vec<_>>(), "all, in order");
    while server.ask("unacknowledged").await != "unacknowledged 0" {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    process.end().await;
}

// UA-32: a flood is taken in order, with nothing lost while the queue is long enough
#[tokio::test]
async fn a_flood_of_events_is_taken_in_order() {
    if let Err(why) = available() {
        return not_run("OPC UA: a flood", &why);
    }
    let state = tempfile::tempdir().unwrap();
    let mut server = start(&[]).await;
    let process = Process::start(&of(server.port, &json!({})), state.path());
    process.kept.until_told("condition.refresh", 1).await;
    server.tell(&json!({"do": "flood", "count": 5000})).await;
    let told = process.kept.until_told("source.event", 5000).await;
    let expected: Vec<String> = (0..5000).map(|number| format!("event {number}")).collect();
    assert_eq!(messages(&told), expected);
    process.end().await;
}
