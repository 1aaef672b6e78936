//! Golden samples: one encoded record per schema version. They are never edited; a build that cannot read them cannot
//! read yesterday's stream.

use std::path::PathBuf;

use apache_avro::reader::datum::GenericDatumReader;
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
    samples::event().encode(&mut payload, 1);
    compare("event.v1.bin", &payload);
    assert!(event::decode(&payload[5..]).is_ok());

    payload.clear();
    samples::dead_letter().encode(&mut payload, 1);
    compare("dead-letter.v1.bin", &payload);
    assert!(dead_letter::decode(&payload[5..]).is_ok());
}

#[test]
fn version_2_of_the_aggregate_contract() {
    let mut payload = Vec::new();
    aggregate::encode(&mut payload, 1, &samples::states());
    compare("aggregate.v2.bin", &payload);
    through_library(Schema::Aggregate, &payload);
}

#[test]
fn windows_of_version_1_are_still_read() {
    // REC-05
    let payload = std::fs::read(golden("aggregate.v1.bin")).unwrap();
    let window = aggregate::decode(&payload[5..]).unwrap();
    let expected = samples::aggregate();
    assert_eq!(window.partials.statistics, expected.partials.statistics);
    assert_eq!((window.kind, window.revision, window.unit), (model::Kind::Value, 2, Some("mm/s")));
    assert!(window.partials.coverage.is_none() && window.carry.is_none());
}

/// The library reads what version 1 wrote with version 2 as the reader's schema: the change is backward compatible.
#[test]
fn version_2_takes_version_1_by_the_rules_of_avro() {
    // REC-05
    let payload = std::fs::read(golden("aggregate.v1.bin")).unwrap();
    let parse = |text: &str| apache_avro::Schema::parse_str(text).unwrap();
    let (old, new) = (parse(Schema::Aggregate.earlier_texts()[0]), parse(Schema::Aggregate.text()));
    let reader = GenericDatumReader::builder(&old).reader_schema(&new).build().unwrap();
    let value = reader.read_value(&mut &payload[5..]).unwrap();
    let apache_avro::types::Value::Record(fields) = value else { panic!("not a record") };
    let kind = fields.iter().find(|(name, _)| name == "kind").unwrap();
    assert_eq!(kind.1, apache_avro::types::Value::String("value".to_owned()));
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
