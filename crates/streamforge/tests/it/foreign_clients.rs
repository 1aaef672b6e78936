//! Somebody else's Kafka clients read what we wrote.

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use stream::{Topic, header, partitioner};
use testkit::plant::demo_adapters;

use crate::harness::{
    Setup, Simulator, kcat_available, not_run, python, python_available, read_all, say, wait_for, written,
};

fn demo_setup(simulator: &Simulator) -> Setup {
    let rule = json!({ "id": "vibration", "parameter": "vibration_de", "range": { "hard_lo": 0, "hard_hi": 20 } });
    Setup::new("gw-foreign")
        .with("adapters", demo_adapters(simulator.port()))
        .with("validation", json!({ "rules": [rule] }))
}

// AC-063, REC-10, REC-12
#[test]
fn kcat_reads_clean_telemetry() {
    if let Err(why) = kcat_available() {
        return not_run("kcat", &why);
    }
    let simulator = Simulator::start();
    let setup = demo_setup(&simulator);
    let gateway = setup.start();
    gateway.wait_for_records("telemetry.clean", 600);
    let format = "%p|%o|%T|%k|%S|%h\n";
    let output = Command::new("kcat")
        .args([
            "-C",
            "-q",
            "-e",
            "-b",
            &setup.kafka.to_string(),
            "-t",
            "telemetry.clean",
            "-o",
            "beginning",
            "-f",
            format,
        ])
        .output()
        .expect("kcat runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ours = read_all(setup.kafka, Topic::TelemetryClean);
    let mut seen = 0;
    for line in text.lines() {
        let fields: Vec<&str> = line.splitn(6, '|').collect();
        let [partition, offset, timestamp, key, size, headers] = fields[..] else { panic!("{line:?}") };
        let partition: i32 = partition.parse().expect("a partition");
        let record = ours.iter().find(|record| record.partition == partition && record.offset.to_string() == offset);
        let record = record.unwrap_or_else(|| panic!("{line:?} is not among ours"));
        assert_eq!(partition, partitioner::partition_for(key.as_bytes(), 12), "{line}");
        assert_eq!(record.key, key.as_bytes());
        assert_eq!(record.timestamp_ms.to_string(), timestamp);
        assert_eq!(record.payload.len().to_string(), size);
        for name in [header::RECORD_ID, header::QUALITY, header::CLASS, header::GATEWAY] {
            assert!(headers.contains(&format!("{name}=")), "{line}");
        }
        seen += 1;
    }
    assert!(seen >= 600, "kcat saw {seen} records");
    say(&format!("kcat: {seen} records of telemetry.clean"));
}

// REC-04, REC-12, AC-061, AC-062, AC-063, AGG-04, VAL-40, STR-22, spec/records.md 5.1
#[test]
fn confluent_kafka_reads_all_kinds_of_records() {
    if let Err(why) = python_available(&["confluent_kafka.schema_registry.avro"]) {
        return not_run("confluent-kafka with AvroDeserializer", &why);
    }
    let simulator = Simulator::start();
    let setup = demo_setup(&simulator);
    let gateway = setup.start();
    gateway.wait_for_records("telemetry.clean", 600);
    // a minute, its lateness of 30 s and what is left of the minute it began in
    wait_for("a minute is closed and a dead letter is there", Duration::from_secs(180), || {
        let status = gateway.status()?;
        let (minutes, letters) = (written(&status, "telemetry.1min")?, written(&status, "dlq.telemetry")?);
        if minutes > 0 && letters > 0 { Ok(()) } else { Err(format!("{minutes} minutes, {letters} dead letters")) }
    });
    let arguments =
        [setup.kafka.to_string(), format!("http://{}", setup.registry), "gw-foreign".to_owned(), contracts()];
    let printed = python("read_topics.py", &arguments);
    say(&format!("confluent-kafka: {}", printed.trim()));
}

fn contracts() -> String {
    "../../contracts/avro".to_owned()
}
