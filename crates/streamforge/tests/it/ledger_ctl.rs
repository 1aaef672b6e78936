//! `streamforge ctl ledger` against a gateway that runs: it adds up, until a reading is missing that nobody told.

use std::net::SocketAddr;
use std::time::Duration;

use kafka::client::Settings;
use model::{Classification, Clock, Quality, Reading, SystemClock, TextList, TextMap, Timestamp, Value, ValueType};
use serde_json::{Value as Json, json};
use stream::message::Event;
use stream::{Publisher, Schemas, Topic};

use crate::harness::{Gateway, Printed, Setup, run, wait_for, written};

const PATIENCE: Duration = Duration::from_secs(60);
/// The adapter that is not one.
const PRESS: &str = "press";

fn setup() -> Setup {
    let adapter = json!({
        "adapter_id": "load", "adapter_type": "simulated", "asset_id": "load", "points": 50, "assets": 7,
        "poll_interval_ms": 200,
    });
    let setup = Setup::new("gw-ledger");
    let archive = setup.root().join("archive");
    let sink = json!({ "sink_id": "archive", "sink_type": "archive", "url": archive, "max_age_s": 1 });
    setup.with("adapters", vec![adapter]).with("sinks", vec![sink])
}

fn ledger(setup: &Setup, more: &[&str]) -> Printed {
    let (kafka, registry) = (setup.kafka.to_string(), format!("http://{}", setup.registry));
    run(&[&["ctl", "ledger", "--bootstrap", &kafka, "--registry", &registry], more].concat())
}

fn object(printed: &Printed) -> Json {
    serde_json::from_str(&printed.out).unwrap_or_else(|error| panic!("{error}: {printed:?}"))
}

fn schema_id(registry: SocketAddr, topic: Topic) -> i32 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let schemas = Schemas::new(&format!("http://{registry}"), None);
    runtime.block_on(schemas.id_for(topic)).expect("a schema id")
}

/// Readings of an adapter that restarted once and whose numbers 4 and 5 of epoch 2 never arrived, ten minutes ago.
fn publish_with_a_hole(setup: &Setup) {
    let now = SystemClock.now().plus_micros(-600_000_000);
    let metadata = [("gateway_id", "gw-ledger"), ("adapter_id", PRESS)];
    let readings = (0..3).map(|seq| (1, seq)).chain((0..10).filter(|seq| ![4, 5].contains(seq)).map(|seq| (2, seq)));
    let readings: Vec<Reading<'_>> = readings
        .map(|(epoch, seq)| reading(now.plus_micros(epoch * 1_000_000 + seq * 1_000), epoch, seq, &metadata))
        .collect();
    let mut publisher = Publisher::open(&Settings::new(&setup.kafka.to_string(), "sf-e2e")).expect("a publisher");
    let id = schema_id(setup.registry, Topic::TelemetryRaw);
    let (pending, taken) = publisher.publish(Topic::TelemetryRaw, id, readings).expect("readings are sent");
    assert_eq!(taken, 11);
    assert!(pending.wait(PATIENCE).expect("readings are acknowledged"), "in time");
}

fn reading<'a>(time: Timestamp, epoch: i64, seq: i64, metadata: &'a [(&'a str, &'a str)]) -> Reading<'a> {
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let value = Value::Float(seq as f64);
    Reading {
        asset_id: PRESS,
        asset_path: None,
        parameter: "force",
        value,
        value_type: ValueType::Float,
        value_label: None,
        unit: None,
        quality: Quality::Good,
        quality_reason: None,
        reasons: TextList::default(),
        classification: Classification::Telemetry,
        device_time: time,
        gateway_time: time,
        time_source: model::time_source::ACQUISITION,
        clock_state: "SYNCED",
        clock_skew_ms: None,
        epoch,
        seq,
        flags: TextList::default(),
        metadata: TextMap::Slice(metadata),
        tags: TextMap::default(),
    }
}

/// The row, as an adapter tells it.
fn tell_the_loss(setup: &Setup) {
    let now = SystemClock.now();
    let event = Event {
        event_id: "gw-ledger/press/2/4-6",
        event_type: "data_loss",
        asset_id: PRESS,
        parameter: None,
        from_state: None,
        to_state: None,
        severity: None,
        time_source: model::time_source::GATEWAY,
        occurred_after: None,
        edge: None,
        initial: false,
        missed_window: false,
        message: "2 readings of press were dropped: the buffer was full",
        value: Value::Int(2),
        unit: None,
        quality: Quality::Good,
        quality_reason: None,
        device_time: now,
        gateway_time: now,
        epoch: 0,
        seq: 0,
        flags: TextList::default(),
        metadata: TextMap::Slice(&[("gateway_id", "gw-ledger")]),
        details: TextMap::Slice(&[
            ("cause", "buffer_full"),
            ("adapter", PRESS),
            ("epoch", "2"),
            ("from_seq", "4"),
            ("to_seq", "6"),
            ("count", "2"),
            ("count_kind", "exact"),
        ]),
    };
    // as an adapter does, which may not write the ledger itself: the runtime does
    let mut publisher = Publisher::open(&Settings::new(&setup.kafka.to_string(), "sf-e2e")).expect("a publisher");
    let id = schema_id(setup.registry, Topic::EventsRaw);
    let told = publisher.publish_event(Topic::EventsRaw, id, &event, model::ClockState::Synced);
    let pending = told.expect("the event is sent").expect("there is room");
    assert!(pending.wait(PATIENCE).expect("the event is acknowledged"), "in time");
}

/// Until the validator is past what was published by hand.
fn wait_until_judged(setup: &Setup) {
    wait_for("the readings are judged", PATIENCE, || {
        let found = object(&ledger(setup, &["--json", "--adapter", PRESS]));
        let press = &found["adapters"][0];
        if press["records"] == 11 && press["pending"] == 0 { Ok(()) } else { Err(press.to_string()) }
    });
}

fn start(setup: &Setup) -> Gateway {
    let gateway = setup.start();
    gateway.wait_for_child("load", None);
    gateway.wait_for_child("archive", None);
    let raw = gateway.wait("readings are stored", |status| written(status, "telemetry.raw"));
    gateway.wait_for_records("telemetry.raw", raw + 1_000);
    gateway
}

// G-03, OFF-30, REC-03
#[test]
fn a_running_gateway_adds_up_and_a_silent_loss_does_not() {
    let setup = setup();
    let _gateway = start(&setup);
    let delivered = wait_for("the archive has confirmed something", PATIENCE, || {
        let printed = ledger(&setup, &[]);
        let is_there = printed.out.contains("sf-sink-archive on telemetry.clean");
        if is_there { Ok(printed) } else { Err(format!("{printed:?}")) }
    });
    crate::harness::say(&delivered.out);
    assert!(delivered.lines()[0].starts_with("everything that was read is accounted for: "), "{delivered:?}");
    let all = object(&ledger(&setup, &["--json"]));
    assert_eq!(all["accounted_for"], true, "{all}");
    let load = all["adapters"].as_array().unwrap().iter().find(|adapter| adapter["adapter"] == "load").unwrap();
    assert!(load["records"].as_u64().unwrap() > 1_000 && load["epochs"][0]["from_seq"] == 0, "{load}");
    assert!(load["clean"].as_u64().unwrap() > 0, "{load}");
    let part = object(&ledger(&setup, &["--json", "--from", "5s"]));
    let of_part = part["adapters"][0]["records"].as_u64().unwrap();
    assert!(part["accounted_for"] == true && of_part < load["records"].as_u64().unwrap() + 1_000, "{part}");

    publish_with_a_hole(&setup);
    wait_until_judged(&setup);
    let missing = ledger(&setup, &[]);
    crate::harness::say(&missing.out);
    assert_eq!(missing.failure(65), "streamforge: 2 not accounted for");
    let sentence = missing.out.lines().next().unwrap();
    assert_eq!(sentence, "2 records are not accounted for: press: epoch 2 seq 4 to 5 (2)");
    assert_eq!(ledger(&setup, &["--adapter", "load"]).code, Some(0), "the other adapter is whole");
    assert_eq!(ledger(&setup, &["--adapter", PRESS, "--from", "2m"]).code, Some(0), "it was before");
    let wrong = ledger(&setup, &["--adapter", "pres"]);
    assert!(wrong.failure(64).contains("did you mean \"press\"?"), "{wrong:?}");

    tell_the_loss(&setup);
    let told = wait_for("the row is in the ledger", PATIENCE, || {
        let told = ledger(&setup, &[]);
        if told.code == Some(0) { Ok(told) } else { Err(format!("{told:?}")) }
    });
    crate::harness::say(&told.out);
    assert!(told.lines()[0].ends_with("; 2 lost and told in the rows below"), "{told:?}");
    assert!(told.out.contains("buffer_full"), "{told:?}");
}

// OFF-30
#[test]
fn times_that_make_no_sense_are_refused() {
    let wrong = run(&["ctl", "ledger", "--from", "yesterday"]);
    assert!(wrong.failure(64).contains("--from yesterday: this is not a time"), "{wrong:?}");
    let wrong = run(&["ctl", "ledger", "--from", "1h", "--to", "2h"]);
    assert!(wrong.failure(64).contains("is not before"), "{wrong:?}");
}
