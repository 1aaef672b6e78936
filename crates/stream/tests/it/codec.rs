//! The hand-written codec writes and reads exactly what the Avro library does with the contracts.

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use model::{Alarm, AlarmChange, Classification, Quality, Reading, TextList, TextMap, Timestamp, Value, ValueType};
use proptest::prelude::*;
use stream::avro::{DecodeError, unframe};
use stream::message::{aggregate, alarm, dead_letter, event, telemetry};
use stream::{Schema, message};

use crate::samples;

fn schema(schema: Schema) -> apache_avro::Schema {
    apache_avro::Schema::parse_str(schema.text()).expect("the contracts are Avro schemas")
}

/// Decodes a framed payload with the library and encodes it again.
pub(crate) fn through_library(which: Schema, payload: &[u8]) -> (Avro, Vec<u8>) {
    let schema = schema(which);
    let (_, body) = unframe(payload).expect("framed");
    let mut rest = body;
    let reader = GenericDatumReader::builder(&schema).build().expect("a reader");
    let value = reader.read_value(&mut rest).expect("the library reads what we write");
    assert!(rest.is_empty(), "the library leaves {} bytes", rest.len());
    let mut again = Vec::new();
    let writer = GenericDatumWriter::builder(&schema).build().expect("a writer");
    writer.write_value(&mut again, value.clone()).expect("the library writes what it read");
    (value, again)
}

fn field<'v>(value: &'v Avro, name: &str) -> &'v Avro {
    let Avro::Record(fields) = value else { panic!("not a record: {value:?}") };
    &fields.iter().find(|(key, _)| key == name).unwrap_or_else(|| panic!("no field {name}")).1
}

#[test]
fn telemetry_is_what_the_contract_says() {
    // 5.1, REC-04
    let mut payload = Vec::new();
    telemetry::encode(&mut payload, 7, &samples::reading());
    assert_eq!(unframe(&payload).unwrap().0, 7);
    let (value, again) = through_library(Schema::Telemetry, &payload);
    assert_eq!(again.len(), payload.len() - 5, "the same bytes but for the order of the maps");
    assert_eq!(field(&value, "asset_id"), &Avro::String("line_1_sensor_01".into()));
    assert_eq!(field(&value, "value"), &Avro::Union(1, Box::new(Avro::Double(85.4))));
    assert_eq!(field(field(&value, "timestamps"), "device_time"), &Avro::TimestampMicros(samples::time(0).as_micros()));
    assert_eq!(field(field(&value, "sequence"), "seq"), &Avro::Long(41_256));
    let decoded = telemetry::decode(&payload[5..]).unwrap();
    assert_eq!(decoded.record_id(), "gw-1/adapter_modbus_001/3/41256");
    assert!(decoded.flags.contains("gap_before"));
}

#[test]
fn the_other_contracts_read_back_by_the_library_and_by_us() {
    let mut payload = Vec::new();
    aggregate::encode(&mut payload, 1, &samples::aggregate());
    let (value, _) = through_library(Schema::Aggregate, &payload);
    assert_eq!(field(field(&value, "aggregates"), "count"), &Avro::Long(6000));
    assert_eq!(aggregate::decode(&payload[5..]).unwrap().partials.statistics, samples::aggregate().partials.statistics);
    for window in [samples::aggregate(), samples::states()] {
        payload.clear();
        aggregate::encode(&mut payload, 1, &window);
        through_library(Schema::Aggregate, &payload);
        let decoded = aggregate::decode(&payload[5..]).unwrap();
        let mut again = Vec::new();
        aggregate::encode(&mut again, 1, &decoded);
        assert_eq!(again, payload, "what is read is what was written");
        for cut in 0..payload.len() - 5 {
            // a record of version 2 cut where version 1 ended is one of version 1
            let _unused = aggregate::decode(&payload[5..5 + cut]).is_ok();
        }
    }
    assert!(
        message::json::aggregate(&samples::states())
            .to_string()
            .contains(r#""ms_by_state":{"idle":20000,"run":30500}"#)
    );

    payload.clear();
    samples::event().encode(&mut payload, 1);
    let (value, _) = through_library(Schema::Event, &payload);
    assert_eq!(field(&value, "event_type"), &Avro::String("point.quality".into()));
    assert_eq!(event::decode(&payload[5..]).unwrap().details.get("last_good_time"), Some("2026-01-29T09:59:59.000Z"));

    payload.clear();
    samples::dead_letter().encode(&mut payload, 1);
    let (value, _) = through_library(Schema::DeadLetter, &payload);
    assert_eq!(field(field(&value, "original"), "payload"), &Avro::Bytes(vec![0, 0, 0, 0, 1, 0xde, 0xad]));
    let letter = dead_letter::decode(&payload[5..]).unwrap();
    assert_eq!((letter.id(), letter.payload), ("gw-1/telemetry.raw/10/77".to_owned(), samples::dead_letter().payload));
    assert!(message::json::dead_letter(&letter).to_string().contains("00000001dead"));
}

/// An alarm with every optional field given.
fn full_alarm() -> Alarm<'static> {
    Alarm {
        priority: Some(-1),
        asset_path: Some("acme/north"),
        parameter: Some("pressure"),
        value: Value::Float(91.5),
        limit: Some(90.0),
        unit: Some("bar"),
        latched: true,
        suppressed_by_design: true,
        out_of_service: true,
        suppression_kind: Some("shelved"),
        message: "too much pressure",
        consequence: Some("the seal fails"),
        action: Some("open the valve"),
        group: Some("trip"),
        first_out_rank: Some(2),
        chattering: true,
        change: AlarmChange {
            actor: Some("ana"),
            actor_role: Some("operator"),
            comment: Some("seen"),
            command_id: Some("c-1"),
            ..samples::alarm().change
        },
        activated_at: Some(samples::time(1)),
        acked_at: Some(samples::time(2)),
        cleared_at: Some(samples::time(3)),
        shelved_until: Some(samples::time(4)),
        flags: TextList::Slice(&["annunciate"]),
        config_revision: Some("r1"),
        tags: TextMap::Slice(&[("line", "1")]),
        ..samples::alarm()
    }
}

#[test]
fn alarms_read_back_by_the_library_and_by_us() {
    // ALM-04, REC-04
    for sample in [samples::alarm(), full_alarm()] {
        let mut payload = Vec::new();
        alarm::encode(&mut payload, 9, &sample);
        let (value, again) = through_library(Schema::Alarm, &payload);
        assert_eq!(again, payload[5..]);
        assert_eq!(field(&value, "type"), &Avro::String("HI".into()));
        let decoded = alarm::decode(&payload[5..]).unwrap();
        assert_eq!((decoded.limit, decoded.change), (sample.limit, sample.change));
        assert_eq!(decoded.shelved_until, sample.shelved_until);
        let mut again = Vec::new();
        alarm::encode(&mut again, 9, &decoded);
        assert_eq!(again, payload);
        let json = message::json::any(Schema::Alarm, &payload[5..]).expect("a record of the contract");
        assert_eq!(json["transition"]["cause"], "limit");
        for cut in 0..payload.len() - 5 {
            assert!(alarm::decode(&payload[5..5 + cut]).is_err(), "cut at {cut}"); // G-08
        }
    }
}

#[test]
fn a_limit_that_is_not_finite_never_passes() {
    // 5.1
    let mut payload = Vec::new();
    alarm::encode(&mut payload, 1, &Alarm { limit: Some(f64::INFINITY), ..full_alarm() });
    assert_eq!(alarm::decode(&payload[5..]).unwrap().limit, None);
}

#[test]
fn every_truncation_is_an_error_and_every_tail_too() {
    // G-08
    let mut payload = Vec::new();
    telemetry::encode(&mut payload, 1, &samples::reading());
    for cut in 0..payload.len() - 5 {
        assert!(telemetry::decode(&payload[5..5 + cut]).is_err(), "cut at {cut}");
    }
    payload.push(0);
    assert_eq!(telemetry::decode(&payload[5..]).unwrap_err(), DecodeError::LeftOver { bytes: 1 });
    assert_eq!(unframe(&[1, 0, 0, 0, 1]).unwrap_err(), DecodeError::Framing);
}

#[test]
fn a_float_that_is_not_finite_never_passes() {
    // 5.1: never NaN or infinite
    let mut reading = samples::reading();
    reading.value = Value::Float(f64::NAN);
    let mut payload = Vec::new();
    telemetry::encode(&mut payload, 1, &reading);
    assert!(telemetry::decode(&payload[5..]).unwrap().value.is_null());
}

fn any_value() -> impl Strategy<Value = (Option<f64>, Option<i64>, Option<bool>, Option<String>)> {
    prop_oneof![
        Just((None, None, None, None)),
        any::<f64>().prop_filter("finite", |v| v.is_finite()).prop_map(|v| (Some(v), None, None, None)),
        any::<i64>().prop_map(|v| (None, Some(v), None, None)),
        any::<bool>().prop_map(|v| (None, None, Some(v), None)),
        ".{0,40}".prop_map(|v| (None, None, None, Some(v))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_reading_is_the_same_bytes_for_us_and_for_the_library(
        asset in ".{0,20}", path in proptest::option::of(".{0,20}"), value in any_value(), quality in 0..4_u8,
        times in (any::<i64>(), any::<i64>()), skew in proptest::option::of(any::<i64>()), seq in (any::<i64>(), any::<i64>()),
        flags in proptest::collection::vec("[a-z_]{0,12}", 0..4), metadata in proptest::collection::btree_map("[a-z_]{1,12}", ".{0,12}", 0..5),
    ) {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let metadata: Vec<(&str, &str)> = metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let value_ref = match &value {
            (Some(v), ..) => Value::Float(*v),
            (_, Some(v), ..) => Value::Int(*v),
            (_, _, Some(v), _) => Value::Bool(*v),
            (.., Some(v)) => Value::Text(v),
            _ => Value::Null,
        };
        let reading = Reading {
            asset_id: &asset, asset_path: path.as_deref(), value: value_ref,
            quality: [Quality::Good, Quality::Suspect, Quality::Uncertain, Quality::Bad][usize::from(quality)],
            value_type: ValueType::Raw, classification: Classification::Alarm,
            device_time: Timestamp::from_micros(times.0), gateway_time: Timestamp::from_micros(times.1),
            clock_skew_ms: skew, epoch: seq.0, seq: seq.1, flags: TextList::Slice(&flags), metadata: TextMap::Slice(&metadata),
            ..samples::reading()
        };
        let mut payload = Vec::new();
        telemetry::encode(&mut payload, 1, &reading);
        through_library(Schema::Telemetry, &payload); // maps have no order there, so only readable, not byte-equal
        let decoded = telemetry::decode(&payload[5..]).unwrap();
        let mut again = Vec::new();
        telemetry::encode(&mut again, 1, &decoded);
        prop_assert_eq!(decoded.value, value_ref);
        prop_assert_eq!(&again, &payload, "a reading that is passed on keeps its bytes");
    }

    #[test]
    fn any_alarm_is_the_same_bytes_for_us_and_for_the_library(
        texts in (".{0,20}", ".{0,20}", proptest::option::of(".{0,20}"), proptest::option::of(".{0,20}")), numbers in (any::<i64>(), any::<i32>()),
        limit in proptest::option::of(any::<f64>().prop_filter("finite", |v| v.is_finite())), facts in any::<[bool; 4]>(),
        time in proptest::option::of(any::<i64>()), comment in proptest::option::of(".{0,20}"),
    ) {
        let base = full_alarm();
        let record = Alarm {
            alarm_key: &texts.0, message: &texts.1, parameter: texts.2.as_deref(), group: texts.3.as_deref(),
            seq: numbers.0, priority: Some(numbers.1), first_out_rank: facts[3].then_some(numbers.1), limit,
            condition_active: facts[0], acked: facts[1], enabled: facts[2],
            cleared_at: time.map(Timestamp::from_micros),
            change: AlarmChange { comment: comment.as_deref(), ..base.change }, ..base
        };
        let mut payload = Vec::new();
        alarm::encode(&mut payload, 1, &record);
        let (_, again) = through_library(Schema::Alarm, &payload);
        prop_assert_eq!(&again, &payload[5..]);
        let decoded = alarm::decode(&payload[5..]).unwrap();
        let mut again = Vec::new();
        alarm::encode(&mut again, 1, &decoded);
        prop_assert_eq!(&again, &payload);
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        // G-08, AC-102
        let _unused = (telemetry::decode(&bytes).is_ok(), aggregate::decode(&bytes).is_ok(), event::decode(&bytes).is_ok(), dead_letter::decode(&bytes).is_ok(), alarm::decode(&bytes).is_ok());
    }

    #[test]
    fn a_flipped_byte_never_panics(at in 0..300_usize, flip in 1..=255_u8) {
        // G-08
        let mut payload = Vec::new();
        telemetry::encode(&mut payload, 1, &samples::reading());
        let at = at % payload.len();
        payload[at] ^= flip;
        if let Ok((_, body)) = unframe(&payload) {
            let _unused = telemetry::decode(body).is_ok();
        }
        payload.clear();
        alarm::encode(&mut payload, 1, &full_alarm());
        let at = at % payload.len();
        payload[at] ^= flip;
        let _unused = alarm::decode(&payload[5..]).is_ok();
    }
}
