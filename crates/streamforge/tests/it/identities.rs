//! Who may do what with a gateway's own stream: its processes, the programs of its machine, and its operator.

use std::time::Duration;

use kafka::client::{Producer, Settings, admin};
use serde_json::json;

use crate::harness::{Setup, run};

const PATIENCE: Duration = Duration::from_secs(20);

/// Sends one record as a program that did not log in.
fn send(setup: &Setup, topic: &str) -> Result<bool, String> {
    let producer = Producer::open(&Settings::new(&setup.kafka.to_string(), "stranger")).expect("a producer");
    let batch = producer.batch();
    batch.send(topic, 0, b"key", b"value", 1_000, &[]).map_err(|error| error.to_string())?;
    batch.finish().wait(PATIENCE).map_err(|error| error.to_string())
}

// STR-14: only the runtime writes clean readings, aggregates and alarms; others of this machine read, and bring readings
#[test]
fn programs_of_this_machine_use_the_stream_and_leave_the_gateways_topics_alone() {
    let adapter = json!({ "adapter_id": "sim", "adapter_type": "simulated", "asset_id": "sim", "points": 10,
        "poll_interval_ms": 200 });
    let setup = Setup::new("gw-identities").with("adapters", json!([adapter]));
    if !setup.is_embedded() {
        return; // the rules of another's cluster are another's
    }
    let mut gateway = setup.start();
    gateway.wait_for_records("telemetry.clean", 20);

    for topic in ["telemetry.clean", "telemetry.1s", "alarms.clean", "audit", "_schemas"] {
        let refused = send(&setup, topic).expect_err(topic);
        assert!(refused.to_lowercase().contains("authorization"), "{topic}: {refused}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let plan = admin::TopicPlan { name: "mine".to_owned(), partitions: 1, config: Vec::new() };
    let settings = Settings::new(&setup.kafka.to_string(), "stranger");
    runtime.block_on(admin::create_topics(&settings, &[plan])).expect("a topic of one's own");
    assert_eq!(send(&setup, "mine"), Ok(true));
    assert_eq!(send(&setup, "telemetry.raw"), Ok(true), "as an adapter started by hand does");

    // the operator is whoever may read the data folder
    let kafka = setup.kafka.to_string();
    let deletion = ["ctl", "topics", "delete", "telemetry.1hour", "--execute"];
    let refused = run(&[&deletion[..], &["--bootstrap", &kafka]].concat());
    assert!(refused.failure(64).to_lowercase().contains("authoriz"), "{refused:?}");
    let data = setup.data().display().to_string();
    run(&[&deletion[..], &["--data-dir", &data]].concat()).lines();
    gateway.stop("TERM");
}
