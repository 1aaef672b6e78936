//! The laws of [`adapters::adapter::Adapter`], run against every member.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use adapters::adapter::Adapter;
use adapters::sample::{Cycle, Value};
use adapters::simulated::Simulated;
use model::{Quality, SystemClock};
use serde_json::json;

use crate::support::{build, device, settings};

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
