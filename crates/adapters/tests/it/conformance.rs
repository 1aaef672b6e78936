//! The laws of [`adapters::adapter::Adapter`], run against every member.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use adapters::adapter::Adapter;
use adapters::mqtt::MqttAdapter;
use adapters::opcua::OpcUaAdapter;
use adapters::sample::{Cycle, Value};
use adapters::simulated::Simulated;
use model::{Quality, SystemClock};
use serde_json::json;
use testkit::plant::points::mqtt_adapters;
use testkit::sim::mqtt::{Broker, Fleet};
use tokio::time::Instant;

use crate::support::{DEADLINE, build, device, settings};

/// Laws 1 to 3: constant descriptions, each tag of a group exactly once, connecting again at any time.
async fn keeps_the_laws<A: Adapter>(mut adapter: A) {
    let (tags, groups, devices) = (adapter.tags().to_vec(), adapter.groups().to_vec(), adapter.devices().to_vec());
    assert!(groups.is_sorted_by_key(|group| group.period), "fastest first");
    for _ in 0..3 {
        adapter.connect().await.unwrap();
        for group in 0..groups.len() {
            for _ in 0..2 {
                let mut cycle = Cycle::new(devices.len());
                adapter.poll(group, &mut cycle).await.unwrap();
                let mut reported: Vec<usize> = cycle.samples.iter().map(|sample| sample.tag).collect();
                reported.sort_unstable();
                let due: Vec<usize> = (0..tags.len()).filter(|tag| tags[*tag].group == group).collect();
                assert_eq!(reported, due);
                for sample in &cycle.samples {
                    let bad = sample.verdict.quality() == Quality::Bad;
                    assert_eq!(sample.value == Value::Null, bad, "no value means BAD, and the reverse: {sample:?}");
                    assert!(cycle.devices[tags[sample.tag].device].asked);
                }
            }
        }
        assert_eq!((adapter.tags(), adapter.groups(), adapter.devices()), (&tags[..], &groups[..], &devices[..]));
    }
}

/// Laws 1, 2, 7 and 8 for a source that sends by itself and has this many points; `connected` has it say all of them.
async fn hears_by_the_laws<A: Adapter>(mut adapter: A, points: usize, connected: impl Fn()) {
    let (groups, devices) = (adapter.groups().to_vec(), adapter.devices().to_vec());
    let mut known = adapter.tags().to_vec();
    let mut newest = None;
    for round in 0..3 {
        adapter.connect().await.unwrap();
        connected();
        // of the connection before: worth nothing
        if let Some(receipt) = newest.take() {
            adapter.settle(receipt);
        }
        let wanted = if round == 0 { points } else { 1 };
        let mut seen = BTreeSet::new();
        let deadline = Instant::now() + DEADLINE;
        while seen.len() < wanted {
            let mut cycle = Cycle::new(devices.len());
            // dropped again and again: what it has heard is not lost, and it does not wait with something in the cycle
            let heard = tokio::time::timeout(Duration::from_millis(1), adapter.hear(&mut cycle)).await;
            assert!(Instant::now() < deadline, "{} of {points} points in round {round}", seen.len());
            match heard {
                Ok(result) => result.unwrap(),
                Err(_) => assert!(cycle.is_empty()),
            }
            assert!(adapter.tags().starts_with(&known), "points are only added");
            known = adapter.tags().to_vec();
            for sample in &cycle.samples {
                let bad = sample.verdict.quality() == Quality::Bad;
                assert_eq!(sample.value == Value::Null, bad, "no value means BAD, and the reverse: {sample:?}");
                assert!(!groups.iter().enumerate().any(|(group, _)| known[sample.tag].group == group));
                seen.insert(sample.tag);
            }
            assert!(cycle.receipt.is_none() || cycle.receipt > newest, "receipts grow");
            newest = cycle.receipt.or(newest);
            if let Some(receipt) = cycle.receipt {
                adapter.settle(receipt);
            }
        }
        assert_eq!((adapter.groups(), adapter.devices()), (&groups[..], &devices[..]));
    }
}

// UA-32
#[tokio::test]
async fn opcua_keeps_the_laws() {
    let server = testkit::sim::opcua::Server::local().await.unwrap();
    let settings = testkit::plant::points::opcua_adapter(server.address().port());
    let problems = (adapters::opcua::SPEC.validate)(&settings, "");
    assert!(problems.is_empty(), "{problems:?}");
    let plan = adapters::opcua::config::plan(&settings, "").unwrap();
    let state = tempfile::tempdir().unwrap();
    let folders = adapters::opcua::trust::Folders::new(state.path());
    let adapter = OpcUaAdapter::new(plan, "gw-1", "box.local", None, folders, Arc::new(SystemClock));
    // fifteen points, of which one is a list of four and a parameter each
    Box::pin(hears_by_the_laws(adapter, 18, || {})).await;
    assert_eq!(server.counters().changes_refused, 0, "G-01");
}

// MQ-01: a broker that only speaks the older version
#[tokio::test]
async fn mqtt_keeps_the_laws() {
    let broker = Broker::local().await.unwrap();
    let _fleet = Fleet::start(&broker.address().to_string(), Duration::from_millis(20));
    let [json, sparkplug] = mqtt_adapters(broker.address().port());
    let build = |settings| {
        let plan = adapters::mqtt::config::plan(settings, "").unwrap();
        MqttAdapter::new(plan, "gw-1", None, Arc::new(SystemClock))
    };
    hears_by_the_laws(build(&json), 9, || {}).await;
    // the edge node is born again with each new connection of its own
    hears_by_the_laws(build(&sparkplug), 6, || broker.cut("sim-demo")).await;
}

#[tokio::test]
async fn modbus_keeps_the_laws() {
    let (simulator, _memory) = device().await;
    let groups = json!({"groups": {"default": {"period_ms": 500}, "fast": {"period_ms": 50}}});
    let mut value = settings(&simulator, 30, &groups);
    for index in 10..20 {
        value["points"][index]["group"] = json!("fast");
    }
    // One address the device does not have: it must not harm the others.
    value["points"][5]["address"] = json!("49000");
    keeps_the_laws(build(&value)).await;
}

#[tokio::test]
async fn simulated_keeps_the_laws() {
    let value = json!({"adapter_id": "load", "adapter_type": "simulated", "points": 50});
    keeps_the_laws(Simulated::new(&adapters::simulated::plan(&value, "").unwrap(), Arc::new(SystemClock))).await;
}

// Law 5, MB-19
#[tokio::test]
async fn one_answer_one_device_time() {
    let (simulator, _memory) = device().await;
    let mut adapter = build(&settings(&simulator, 140, &json!({})));
    adapter.connect().await.unwrap();
    let mut cycle = Cycle::new(1);
    adapter.poll(0, &mut cycle).await.unwrap();
    let mut times: BTreeMap<_, usize> = BTreeMap::new();
    for sample in &cycle.samples {
        *times.entry(sample.device_time).or_default() += 1;
    }
    // 140 registers are two requests: 125 and 15.
    assert_eq!(simulator.request_count(), 2);
    let mut counts: Vec<usize> = times.into_values().collect();
    counts.sort_unstable();
    assert!(counts == [15, 125] || counts == [140], "{counts:?}");
}

// Law 6
#[tokio::test]
async fn a_dropped_poll_leaves_only_connect() {
    use testkit::sim::modbus::fault::{Fault, Rule};
    let (simulator, _memory) = device().await;
    simulator.script(Rule::every(Fault::Drop).times(1));
    let mut adapter = build(&settings(&simulator, 3, &json!({})));
    adapter.connect().await.unwrap();
    let mut cycle = Cycle::new(1);
    let dropped = tokio::time::timeout(Duration::from_millis(30), adapter.poll(0, &mut cycle)).await;
    assert!(dropped.is_err());
    cycle.clear();
    assert!(adapter.poll(0, &mut cycle).await.is_err());
    adapter.connect().await.unwrap();
    cycle.clear();
    adapter.poll(0, &mut cycle).await.unwrap();
    assert_eq!(cycle.samples[2].value, Value::Int(1002));
}
