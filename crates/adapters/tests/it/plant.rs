//! The demo plant through its own adapters: all sixty tags have values, and the settings are valid as they stand.

use std::sync::Arc;

use adapters::adapter::Adapter;
use adapters::sample::{Cycle, Value};
use testkit::plant::{Plant, demo_adapters};
use testkit::sim::modbus::load::Load;
use testkit::sim::modbus::{Simulator, fault};

use crate::support::build;

#[tokio::test]
async fn all_sixty_tags_have_values() {
    let simulator = Simulator::local(Arc::new(Plant::new())).await.unwrap();
    let mut seen = 0;
    for settings in demo_adapters(simulator.address().port()) {
        let problems = (adapters::modbus::SPEC.validate)(&settings, "");
        assert!(problems.is_empty(), "{problems:?}");
        let mut adapter = build(&settings);
        adapter.connect().await.unwrap();
        let mut cycle = Cycle::new(1);
        adapter.poll(0, &mut cycle).await.unwrap();
        for sample in &cycle.samples {
            let tag = &adapter.tags()[sample.tag];
            assert_ne!(sample.value, Value::Null, "{}", tag.parameter);
            if tag.parameter == "program" {
                assert_eq!(sample.value, Value::Text("PRG-1042 HOUSING".into()));
            }
            if tag.parameter == "state" {
                assert_eq!(sample.label.as_deref(), Some("waiting"));
            }
        }
        seen += cycle.samples.len();
    }
    assert_eq!(seen, 60);
    // Few requests: every table of a machine is read in one.
    assert!(simulator.request_count() <= 9, "{}", simulator.request_count());
}

#[tokio::test]
async fn the_pumps_sensor_misbehaves_in_time() {
    use adapters::modbus::config::plan;
    use model::{SystemClock, reason};
    let settings = &demo_adapters(1)[2];
    let plan = plan(settings, "").unwrap();
    let tag = plan.tags.iter().position(|tag| tag.parameter == "vibration_de").unwrap();
    let image = testkit::plant::registers(3, 61_000).unwrap();
    let span = plan.wants[tag].span;
    let registers = &image.holding[usize::from(span.offset)..][..2];
    let sample = plan.decodings[tag].registers(tag, registers, model::Clock::now(&SystemClock));
    assert_eq!(sample.verdict.reason(), Some(reason::NAN_INF));
}

#[tokio::test]
async fn load_units_are_read_completely() {
    let load = Load { first_unit: 101, units: 2, points: 500 };
    let simulator = Simulator::local(Arc::new(load)).await.unwrap();
    let mut adapter = build(&load.adapter(simulator.address().port(), 102, 1000));
    adapter.connect().await.unwrap();
    let mut cycle = Cycle::new(1);
    adapter.poll(0, &mut cycle).await.unwrap();
    assert_eq!(cycle.samples.len(), 500);
    assert!(cycle.samples.iter().all(|sample| matches!(sample.value, Value::Float(v) if (9.0..91.0).contains(&v))));
    // 1000 registers in requests of 124.
    assert_eq!(simulator.request_count(), 9);
    simulator.script(fault::Rule::every(fault::Fault::Close));
}
