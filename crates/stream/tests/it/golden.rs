//! Golden samples: one encoded record per schema version. They are never edited; a build that cannot read them cannot
//! read yesterday's stream.

use std::path::PathBuf;

use stream::Schema;
use stream::message::{aggregate, alarm, dead_letter, event, telemetry};

use crate::codec::through_library;
use crate::samples;

fn golden(name: &str) -> PathBuf {
    PathBuf::from("../../contracts/golden").join(name)
}

/// The file must hold exactly these bytes; it is written when it does not exist yet (a new schema version).
fn compare(name: &str, payload: &[u8]) {
    let path = golden(name);
    if !path.exists() {
        std::fs::write(&path, payload).expect("the golden folder is writable");
    }
    assert_eq!(
        std::fs::read(&path).expect("the sample is readable"),
        payload,
        "{name} differs from what this build writes"
    );
}

#[test]
fn version_1_of_every_contract() {
    let mut payload = Vec::new();
    telemetry::encode(&mut payload, 1, &samples::reading());
    compare("telemetry.v1.bin", &payload);
    assert_eq!(telemetry::decode(&payload[5..]).unwrap().seq, 41_256);
    through_library(Schema::Telemetry, &payload);

    payload.clear();
    aggregate::encode(&mut payload, 1, &samples::aggregate());
    compare("aggregate.v1.bin", &payload);

    payload.clear();
    samples::event().encode(&mut payload, 1);
    compare("event.v1.bin", &payload);
    assert!(event::decode(&payload[5..]).is_ok());

    payload.clear();
    samples::dead_letter().encode(&mut payload, 1);
    compare("dead-letter.v1.bin", &payload);
    assert!(dead_letter::decode(&payload[5..]).is_ok());
}

/// The sample was written by another Avro library from the contract, before anything here wrote alarms.
#[test]
fn version_1_of_the_alarm_contract() {
    let mut payload = Vec::new();
    alarm::encode(&mut payload, 1, &samples::alarm());
    compare("alarm.v1.bin", &payload);
    let (_, again) = through_library(Schema::Alarm, &payload);
    assert_eq!(again, payload[5..], "read and written again, byte for byte");
}

#[test]
fn every_contract_is_an_avro_schema_of_namespace_sf() {
    for schema in Schema::ALL {
        let parsed = apache_avro::Schema::parse_str(schema.text()).unwrap();
        let apache_avro::Schema::Record(record) = parsed else { panic!("not a record") };
        assert_eq!(record.name.namespace(), Some("sf"));
    }
}
