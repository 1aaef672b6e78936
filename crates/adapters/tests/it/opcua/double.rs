//! The adapter against a server in this process that is as wrong as its script says (UA-32).

use std::time::Duration;

use serde_json::{Value, json};
use testkit::plant::points::LINE_URI;
use testkit::sim::opcua::fault::{Fault, Rule};
use testkit::sim::opcua::opcua_types::StatusCode;
use testkit::sim::opcua::{Limits, Server};
use tokio::time::Instant;

use super::process::{Process, settings};
use crate::support::{DEADLINE, Seen};

fn points(names: &[String], more: &Value) -> Value {
    let point = |name: &String| {
        let mut point = json!({"node": format!("nsu={LINE_URI};s={name}"), "parameter": name.to_lowercase()});
        for (key, value) in more.as_object().unwrap() {
            point[key] = value.clone();
        }
        point
    };
    json!({"points": names.iter().map(point).collect::<Vec<_>>()})
}

/// A server with one node `Count`, and an adapter that has heard its first value, 0.
async fn counting(more: &Value) -> (Server, Process, tempfile::TempDir) {
    let server = Server::local().await.unwrap();
    server.set("Count", 0.0_f64, StatusCode::Good);
    let state = tempfile::tempdir().unwrap();
    let settings = settings(server.address().port(), &[], &points(&["Count".to_owned()], more));
    let process = Process::start(&settings, state.path());
    process.kept.until("the first value", |seen| !seen.is_empty()).await;
    (server, process, state)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "never {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn values(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(|seen| seen.value.as_str()).collect()
}

/// Sets the next value and waits until it has struck a fault on its way.
async fn set_and_strike(server: &Server, value: f64) {
    let before = server.counters().faults;
    server.set("Count", value, StatusCode::Good);
    until("the fault strikes", || server.counters().faults > before).await;
}

// AC-035, UA-10, G-01
#[tokio::test]
async fn notifications_that_were_dropped_are_fetched_once_and_in_order() {
    let (server, process, _state) = counting(&json!({})).await;
    server.script(Rule::every(Fault::Drop).times(3));
    for value in [1.0, 2.0, 3.0] {
        set_and_strike(&server, value).await;
    }
    server.set("Count", 4.0, StatusCode::Good);
    let seen = process.kept.until("all of them", |seen| seen.len() >= 5).await;
    assert_eq!(values(&seen), ["Float(0.0)", "Float(1.0)", "Float(2.0)", "Float(3.0)", "Float(4.0)"]);
    assert!(seen.iter().all(|seen| !seen.gap_before), "{seen:#?}");
    let counters = server.counters();
    assert_eq!((counters.republished, counters.sessions, counters.changes_refused), (3, 1, 0));
    process.end().await;
    assert_eq!((server.session_count(), server.subscription_count()), (0, 0), "nothing is left behind");
}

// AC-036, UA-10
#[tokio::test]
async fn a_notification_the_server_forgot_is_a_row_of_the_ledger_and_a_gap() {
    let (server, process, _state) = counting(&json!({})).await;
    server.script(Rule::every(Fault::Lose).times(1));
    set_and_strike(&server, 1.0).await;
    server.set("Count", 2.0, StatusCode::Good);
    let seen = process.kept.until("what came after", |seen| seen.len() >= 2).await;
    assert_eq!((seen[1].value.as_str(), seen[1].gap_before), ("Float(2.0)", true));
    process.kept.until_told("data_loss", 1).await;
    process.end().await;
}

// UA-10, UA-11: twice, and in another order
#[tokio::test]
async fn notifications_that_come_twice_or_too_late_are_taken_once_and_in_order() {
    let (server, process, _state) = counting(&json!({})).await;
    server.script(Rule::every(Fault::Duplicate).times(1));
    set_and_strike(&server, 1.0).await;
    process.kept.until("it", |seen| seen.len() >= 2).await;
    server.script(Rule::every(Fault::Reorder).times(1));
    set_and_strike(&server, 2.0).await;
    server.set("Count", 3.0, StatusCode::Good);
    server.behave();
    process.kept.until("all of them", |seen| seen.len() >= 4).await;
    server.set("Count", 4.0, StatusCode::Good);
    let seen = process.kept.until("one more", |seen| seen.iter().any(|seen| seen.value == "Float(4.0)")).await;
    assert_eq!(values(&seen), ["Float(0.0)", "Float(1.0)", "Float(2.0)", "Float(3.0)", "Float(4.0)"]);
    process.end().await;
}

// AC-034, UA-12, UA-20: the number of our namespace is another one's after the restart, and has nodes of the same names
#[tokio::test]
async fn a_restart_with_other_namespace_numbers_shows_no_wrong_node() {
    let server = Server::local().await.unwrap();
    let state = tempfile::tempdir().unwrap();
    let name = ["Filler.fill_volume".to_owned()];
    let process = Process::start(&settings(server.address().port(), &[], &points(&name, &json!({}))), state.path());
    process.kept.until("values", |seen| seen.len() >= 3).await;
    for (round, swapped) in [true, false].into_iter().enumerate() {
        server.restart(swapped);
        until("it is back", || server.item_count() > 0).await;
        let before = process.kept.seen().len();
        process.kept.until("values after the restart", |seen| seen.len() >= before + 3).await;
        assert!(server.counters().sessions >= 2 + round as u64);
    }
    for seen in process.kept.seen().iter().filter(|seen| seen.quality == "GOOD") {
        let number: f64 = seen.value.trim_start_matches("Float(").trim_end_matches(')').parse().unwrap();
        assert!((490.0..510.0).contains(&number), "a value of the wrong node: {seen:?}");
    }
    process.end().await;
}

// AC-037, UA-11: the session and its subscription are found again, and what was queued is delivered
#[tokio::test]
async fn after_a_cut_the_old_session_goes_on() {
    let (server, process, _state) = counting(&json!({"queue_size": 100})).await;
    server.set_offline(true);
    process.until("/health", "\"connected\":false").await;
    for value in 1..=20 {
        server.set("Count", f64::from(value), StatusCode::Good);
    }
    server.set_offline(false);
    let seen = process.kept.until("all of them", |seen| seen.len() >= 21).await;
    let expected: Vec<String> = (0..=20).map(|value| format!("Float({value}.0)")).collect();
    assert_eq!(values(&seen), expected);
    assert_eq!((server.counters().sessions, server.subscription_count()), (1, 1));
    process.end().await;
}

// UA-11: the session is gone, its subscription is taken over
#[tokio::test]
async fn a_lost_session_leaves_its_subscription_to_the_next_one() {
    let (server, process, _state) = counting(&json!({})).await;
    server.set_offline(true);
    process.until("/health", "\"connected\":false").await;
    server.lose_sessions();
    server.set("Count", 1.0, StatusCode::Good);
    server.set_offline(false);
    let seen = process.kept.until("what was missed", |seen| seen.len() >= 2).await;
    assert_eq!((seen[1].value.as_str(), seen[1].gap_before), ("Float(1.0)", false));
    assert_eq!((server.counters().sessions, server.subscription_count()), (2, 1));
    process.end().await;
}

// UA-13
#[tokio::test]
async fn subscriptions_that_end_are_made_anew() {
    let (server, process, _state) = counting(&json!({})).await;
    for (round, value) in [1.0, 2.0].into_iter().enumerate() {
        if round == 0 {
            server.expire_subscriptions();
        } else {
            server.lose_subscriptions();
        }
        // whatever it is told while nobody watches is a gap, and is said to be one
        server.set("Count", value, StatusCode::Good);
        until("there is one again", || server.subscription_count() == 1 && server.item_count() > 0).await;
        let text = format!("Float({value:.1})");
        let seen = process.kept.until("the value", |seen| seen.iter().any(|seen| seen.value == text)).await;
        let found = seen.iter().find(|seen| seen.value == text).unwrap();
        assert!(found.gap_before, "{found:?}");
    }
    process.end().await;
}

// AC-041, UA-14: announced limits are kept; unannounced ones are found by halving, here from 100 to 25
#[tokio::test]
async fn many_items_are_asked_for_in_as_many_calls_as_the_server_wants() {
    let names: Vec<String> = (0..2500).map(|number| format!("N{number}")).collect();
    for (limits, calls) in [
        (Limits { items_per_call: Some(1000), ..Limits::default() }, 3..=4),
        (Limits { refuses_items_above: Some(40), ..Limits::default() }, 100..=150),
    ] {
        let server = Server::start("127.0.0.1:0".parse().unwrap(), limits).await.unwrap();
        for name in &names {
            server.set(name, 1.0, StatusCode::Good);
        }
        let state = tempfile::tempdir().unwrap();
        let settings = settings(server.address().port(), &[], &points(&names, &json!({})));
        let process = Process::start(&settings, state.path());
        let seen = process.kept.until("all of them", |seen| seen.len() >= names.len()).await;
        assert!(seen.iter().all(|seen| seen.quality == "GOOD"));
        let made = server.counters().item_calls;
        assert!(calls.contains(&made), "{made} calls with {limits:?}");
        process.end().await;
    }
}

// AC-042, AC-043, UA-15, UA-19
#[tokio::test]
async fn what_the_server_refuses_affects_only_its_point() {
    let server = Server::local().await.unwrap();
    server.set("Count", 1.0, StatusCode::Good);
    let node = |name: &str| format!("nsu={LINE_URI};s={name}");
    let percent = json!({"type": "percent", "value": 10});
    let more = json!({"points": [
        {"node": node("Count"), "parameter": "no_range", "deadband": percent},
        {"node": node("Filler.tank_level"), "parameter": "range", "deadband": percent},
        {"node": node("Nowhere"), "parameter": "nowhere"},
    ]});
    let state = tempfile::tempdir().unwrap();
    let process = Process::start(&settings(server.address().port(), &[], &more), state.path());
    let seen = process.kept.until("all of them", |seen| {
        ["no_range", "range", "nowhere"].iter().all(|name| seen.iter().any(|seen| seen.parameter == *name))
    });
    let seen = seen.await;
    let of = |name: &str| seen.iter().find(|seen| seen.parameter == name).unwrap();
    assert_eq!((of("no_range").quality, of("range").quality), ("GOOD", "GOOD"));
    assert_eq!(of("nowhere").reason.as_deref(), Some("ADDRESS_INVALID"));
    let health = process.until("/health", "no deadband in percent for 1 points").await;
    assert!(health.contains("1 of 3 points that cannot be read"), "{health}");
    process.end().await;
}

// UA-11: a server that refuses, hesitates and hangs up is asked again, and then all is well
#[tokio::test]
async fn refusals_delays_and_hang_ups_end_in_a_session() {
    let server = Server::local().await.unwrap();
    server.set("Count", 1.0, StatusCode::Good);
    server.script(Rule::every(Fault::Refuse(StatusCode::BadInternalError)).service("CreateSession").times(1));
    server.script(Rule::every(Fault::Close).service("CreateSubscription").times(1));
    server.script(Rule::every(Fault::Delay(Duration::from_millis(30))).service("Read").times(2));
    let state = tempfile::tempdir().unwrap();
    let more = points(&["Count".to_owned()], &json!({}));
    let process = Process::start(&settings(server.address().port(), &[], &more), state.path());
    let seen = process.kept.until("a value", |seen| seen.iter().any(|seen| seen.quality == "GOOD")).await;
    assert_eq!(seen.last().unwrap().value, "Float(1.0)");
    assert!(server.counters().faults >= 3, "{:?}", server.counters());
    process.end().await;
}
