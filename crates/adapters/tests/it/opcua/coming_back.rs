//! Cuts, restarts, and a stream that is away.

use std::time::Duration;

use serde_json::json;

use super::process::{Process, settings};
use super::server::{Server, available, free_port, not_run};
use crate::support::{Kept, Seen};
use crate::wire::Wire;

pub(crate) fn values(seen: &[Seen]) -> Vec<f64> {
    let number = |text: &str| text.trim_start_matches("Float(").trim_end_matches(')').parse().unwrap_or(f64::NAN);
    seen.iter().map(|seen| number(&seen.value)).collect()
}

// UA-11, AC-037: the session is kept by the server, and what it queued is delivered
#[tokio::test]
async fn a_cut_loses_nothing_and_leaves_one_subscription() {
    if let Err(why) = available() {
        return not_run("OPC UA: a cut", &why);
    }
    let state = tempfile::tempdir().unwrap();
    let mut server = Server::start().await;
    server.add("Temp", 0.0).await;
    let wire = Wire::start(server.port).await;
    let more = json!({"points": [{"node": "nsu=urn:test:line;s=Temp", "parameter": "temp", "queue_size": 1000}]});
    let process = Process::start(&settings(wire.address.port(), &[], &more), state.path());
    process.kept.until("the first value", |seen| !seen.is_empty()).await;
    server.tell(&json!({"do": "series", "name": "Temp", "from": 1, "to": 20, "pause": 0.02})).await;
    process.kept.until("those before the cut", |seen| seen.len() >= 20).await;
    wire.set_open(false);
    server.tell(&json!({"do": "series", "name": "Temp", "from": 20, "to": 60, "pause": 0.02})).await;
    wire.set_open(true);
    let seen = process.kept.until("those of the cut", |seen| seen.len() >= 60).await;
    assert_eq!(values(&seen), (0..60).map(f64::from).collect::<Vec<_>>(), "all, once, in order");
    assert!(seen.iter().all(|seen| !seen.gap_before), "nothing was missed");
    assert_eq!(server.subscriptions().await, "subscriptions 1");
    process.end().await;
}

// UA-11, UA-12, UA-20, AC-034: the server is another one with the same nodes elsewhere
#[tokio::test]
async fn after_a_restart_with_namespaces_swapped_the_same_points_have_their_own_values() {
    if let Err(why) = available() {
        return not_run("OPC UA: namespaces swapped", &why);
    }
    let state = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut server = Server::start_on(port, &["none"]).await;
    let other = |value: f64| json!({"do": "add", "name": "Temp", "uri": "urn:test:other", "value": value});
    server.add("Temp", 1.0).await;
    server.tell(&other(-1.0)).await;
    let process = Process::start(&settings(port, &["Temp"], &json!({})), state.path());
    process.kept.until("the first value", |seen| !seen.is_empty()).await;
    server.kill();
    let mut server = Server::start_on(port, &["none", "swap"]).await;
    server.tell(&other(-2.0)).await;
    server.add("Temp", 2.0).await;
    let seen =
        process.kept.until("the value after it", |seen| seen.iter().any(|seen| seen.value == "Float(2.0)")).await;
    assert!(!values(&seen).iter().any(|value| *value < 0.0), "none of the wrong node: {seen:#?}");
    let back = seen.iter().find(|seen| seen.value == "Float(2.0)").unwrap();
    assert!(back.gap_before && back.flags.iter().any(|flag| flag == "initial"));
    assert_eq!(server.subscriptions().await, "subscriptions 1");
    process.end().await;
}

// UA-09, AC-038
#[tokio::test]
async fn while_the_stream_is_away_nothing_is_lost() {
    if let Err(why) = available() {
        return not_run("OPC UA: a silent stream", &why);
    }
    let state = tempfile::tempdir().unwrap();
    let mut server = Server::start().await;
    server.add("Temp", 0.0).await;
    let kept = Kept::default();
    kept.silent(true);
    let more = json!({"points": [{"node": "nsu=urn:test:line;s=Temp", "parameter": "temp", "queue_size": 1000}]});
    let process = Process::start_with(&settings(server.port, &[], &more), state.path(), kept.clone(), None);
    process.until("/health", "\"connected\":true").await;
    server.tell(&json!({"do": "series", "name": "Temp", "from": 1, "to": 100, "pause": 0.02})).await;
    tokio::time::sleep(Duration::from_secs(3)).await; // longer than the silence that would end the connection
    assert!(kept.seen().is_empty());
    kept.silent(false);
    let seen = kept.until("all of them", |seen| seen.last().is_some_and(|seen| seen.value == "Float(99.0)")).await;
    let told = values(&seen);
    assert!(told.windows(2).all(|pair| pair[1] == pair[0] + 1.0), "{told:?}");
    process.end().await;
}

// UA-10, UA-11: the server takes the session back and has thrown its subscriptions away without a word
#[tokio::test]
async fn what_was_missed_is_fetched_from_history() {
    if let Err(why) = available() {
        return not_run("OPC UA: history", &why);
    }
    let state = tempfile::tempdir().unwrap();
    let mut server = Server::start_on(free_port(), &["none", "history"]).await;
    server.add("Temp", 0.0).await;
    let wire = Wire::start(server.port).await;
    let more = json!({"back_fill": {"reach": "1h", "values_per_second": 1000}});
    let process = Process::start(&settings(wire.address.port(), &["Temp"], &more), state.path());
    process.kept.until("the first value", |seen| !seen.is_empty()).await;
    wire.set_open(false);
    server.tell(&json!({"do": "series", "name": "Temp", "from": 1, "to": 30, "pause": 0.02})).await;
    server.tell(&json!({"do": "forget"})).await;
    wire.set_open(true);
    let is_filled = |seen: &&Seen| seen.flags.iter().any(|flag| flag == "backfill");
    let is_there = |seen: &[Seen]| {
        seen.iter().filter(is_filled).count() >= 28 && seen.iter().skip(1).any(|seen| !is_filled(&seen))
    };
    let seen = process.kept.until("what was missed, and what is now", is_there).await;
    let filled: Vec<Seen> = seen.iter().filter(is_filled).cloned().collect();
    assert!(filled.iter().all(|seen| seen.flags.iter().any(|flag| flag == "historical")), "{filled:#?}");
    assert!(filled.windows(2).all(|pair| pair[0].device_time < pair[1].device_time), "in order, once");
    assert_eq!(values(&filled)[..28], (1..29).map(f64::from).collect::<Vec<_>>());
    let next = seen.iter().skip(1).find(|seen| !is_filled(seen)).unwrap();
    assert!(next.gap_before && next.value == "Float(29.0)", "{next:#?}");
    process.end().await;
}
