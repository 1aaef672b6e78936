//! Messages into rows: one function per table, fields in the order of [`super::schema`].
//!
//! Pure, borrowed from the record, nothing allocated.

use bytes::BytesMut;
use model::aggregate::Extra;
use model::{Aggregate, Kind, Quality, Reading, TextList, Timestamp, Value};
use stream::Schema;
use stream::Topic;
use stream::avro::{DecodeError, unframe};
use stream::message::{Event, aggregate, event, telemetry};

use super::copy::{bigint, boolean, double, json, json_numbers, null, optional_text, row, text, texts, time};
use super::schema::{EVENTS, TELEMETRY, TELEMETRY_1S, Table};

/// The event that says a point's quality changed.
const POINT_QUALITY: &str = "point.quality";

/// Appends the row or rows of a record that belong to `table`; returns how many.
pub fn append(out: &mut BytesMut, table: &Table, topic: Topic, payload: &[u8]) -> Result<u64, DecodeError> {
    let (_, body) = unframe(payload)?;
    match topic.schema() {
        Schema::Telemetry => reading(out, &telemetry::decode(body)?),
        Schema::Aggregate => window(out, &aggregate::decode(body)?),
        Schema::Event => {
            let event = event::decode(body)?;
            if table.name == EVENTS.name {
                append_event(out, &event);
            } else if !quality_lost(out, &event) {
                return Ok(0);
            }
        }
        Schema::Alarm | Schema::DeadLetter => return Ok(0),
    }
    Ok(1)
}

fn reading(out: &mut BytesMut, reading: &Reading<'_>) {
    row(out, TELEMETRY.width());
    time(out, reading.device_time);
    text(out, reading.asset_id);
    text(out, reading.parameter);
    values(out, reading.value);
    optional_text(out, reading.value_label);
    optional_text(out, reading.unit);
    text(out, reading.quality.as_str());
    optional_text(out, reading.quality_reason);
    texts(out, reading.reasons);
    texts(out, reading.flags);
    time(out, reading.gateway_time);
    text(out, reading.time_source);
    optional_bigint(out, reading.clock_skew_ms);
    optional_text(out, reading.asset_path);
    let (gateway_id, adapter_id) = origin(reading.metadata);
    text(out, adapter_id);
    text(out, gateway_id);
    bigint(out, reading.epoch);
    bigint(out, reading.seq);
}

/// A point that turned bad: a row without value, so that a historian sees the gap. False when the event is
/// something else.
fn quality_lost(out: &mut BytesMut, event: &Event<'_>) -> bool {
    let Some(parameter) = event.parameter else { return false };
    if event.event_type != POINT_QUALITY || event.quality != Quality::Bad {
        return false;
    }
    let (gateway_id, adapter_id) = origin(event.metadata);
    row(out, TELEMETRY.width());
    time(out, event.device_time);
    text(out, event.asset_id);
    text(out, parameter);
    values(out, Value::Null);
    null(out); // value_label
    optional_text(out, event.unit);
    text(out, event.quality.as_str());
    optional_text(out, event.quality_reason);
    match &event.quality_reason {
        Some(reason) => texts(out, TextList::Slice(std::slice::from_ref(reason))),
        None => null(out),
    }
    texts(out, event.flags);
    time(out, event.gateway_time);
    null(out); // time_source
    null(out); // clock_skew_ms
    null(out); // asset_path
    text(out, adapter_id);
    text(out, gateway_id);
    bigint(out, event.epoch);
    bigint(out, event.seq);
    true
}

/// A window; what its kind does not have, and all numbers of a window without readings, are NULL.
fn window(out: &mut BytesMut, window: &Aggregate<'_>) {
    let s = &window.partials.statistics;
    let (min, max) = window.extremes().unzip();
    let has_sum = window.kind == Kind::Value && s.count > 0;
    row(out, TELEMETRY_1S.width());
    time(out, window.window_start);
    text(out, window.asset_id);
    text(out, window.parameter);
    for number in [window.average(), min, max, has_sum.then_some(s.sum)] {
        optional_double(out, number);
    }
    bigint(out, s.count);
    optional_double(out, has_sum.then_some(s.m2));
    optional_time(out, min.map(|_| s.min_time));
    optional_time(out, max.map(|_| s.max_time));
    let (has_readings, is_state) = (s.count > 0, window.kind == Kind::Enum);
    optional_double(out, (has_readings && !is_state).then_some(s.first));
    optional_time(out, has_readings.then_some(s.first_time));
    optional_double(out, (has_readings && !is_state).then_some(s.last));
    optional_time(out, has_readings.then_some(s.last_time));
    for count in [s.good_count, s.suspect_count, s.uncertain_count] {
        bigint(out, count);
    }
    optional_text(out, window.unit);
    text(out, window.quality.as_str());
    bigint(out, window.revision);
    time(out, window.window_end);
    time(out, window.gateway_time);
    text(out, window.gateway_id);
    text(out, window.kind.as_str());
    text(out, window.avg_method());
    optional_double(out, window.stddev());
    let coverage = window.partials.coverage;
    optional_double(out, coverage.and_then(|coverage| coverage.integral));
    optional_bigint(out, coverage.map(|coverage| coverage.covered_us / 1000));
    optional_bigint(out, coverage.map(|coverage| coverage.good_us / 1000));
    double(out, window.percent_good());
    boolean(out, window.partial);
    match &window.partials.extra {
        Extra::Counter(counts) => double(out, counts.delta),
        _ => null(out),
    }
    optional_double(out, window.percent_true());
    if let Extra::States(states) = &window.partials.extra {
        bigint(out, states.transitions);
        optional_text(out, has_readings.then_some(states.first));
        optional_text(out, has_readings.then_some(states.last));
        json_numbers(out, states.times.iter().map(|(state, micros)| (state, micros / 1000)));
    } else {
        for _ in 0..4 {
            null(out);
        }
    }
    texts(out, window.flags);
}

fn append_event(out: &mut BytesMut, event: &Event<'_>) {
    row(out, EVENTS.width());
    time(out, event.device_time);
    text(out, event.event_id);
    text(out, event.event_type);
    text(out, event.asset_id);
    optional_text(out, event.parameter);
    optional_text(out, event.from_state);
    optional_text(out, event.to_state);
    match event.occurred_after {
        Some(after) => time(out, after),
        None => null(out),
    }
    text(out, event.message);
    values(out, event.value);
    optional_text(out, event.unit);
    text(out, event.quality.as_str());
    optional_text(out, event.quality_reason);
    texts(out, event.flags);
    json(out, event.details);
    time(out, event.gateway_time);
    let (gateway_id, adapter_id) = origin(event.metadata);
    optional_text(out, Some(adapter_id).filter(|id| !id.is_empty()));
    text(out, gateway_id);
    bigint(out, event.epoch);
    bigint(out, event.seq);
}

/// `value`, `value_int`, `value_bool`, `value_text`. An integer fills both numbers: `value` for charts, `value_int`
/// because a double would round it.
fn values(out: &mut BytesMut, value: Value<'_>) {
    match value.as_number() {
        Some(number) => double(out, number),
        None => null(out),
    }
    match value {
        Value::Int(number) => bigint(out, number),
        _ => null(out),
    }
    match value {
        Value::Bool(truth) => boolean(out, truth),
        _ => null(out),
    }
    match value {
        Value::Text(value) => text(out, value),
        _ => null(out),
    }
}

fn optional_double(out: &mut BytesMut, number: Option<f64>) {
    match number {
        Some(number) => double(out, number),
        None => null(out),
    }
}

fn optional_time(out: &mut BytesMut, at: Option<Timestamp>) {
    match at {
        Some(at) => time(out, at),
        None => null(out),
    }
}

fn optional_bigint(out: &mut BytesMut, number: Option<i64>) {
    match number {
        Some(number) => bigint(out, number),
        None => null(out),
    }
}

/// Gateway and adapter out of the metadata, in one walk.
fn origin(metadata: model::TextMap<'_>) -> (&str, &str) {
    let (mut gateway_id, mut adapter_id) = ("", "");
    for (key, value) in metadata.iter() {
        match key {
            "gateway_id" => gateway_id = value,
            "adapter_id" => adapter_id = value,
            _ => {}
        }
    }
    (gateway_id, adapter_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::aggregate::{Partials, StateTimes, States};
    use model::{Classification, Resolution, Statistics, TextMap, ValueType};

    use super::super::schema::{TABLES, TELEMETRY_1HOUR};

    /// Lengths of the fields of one row; `None` is NULL.
    fn fields(bytes: &[u8]) -> Vec<Option<Vec<u8>>> {
        let (count, mut rest) = bytes.split_at(2);
        let mut fields = Vec::new();
        for _ in 0..i16::from_be_bytes(count.try_into().unwrap()) {
            let (length, after) = rest.split_at(4);
            let length = usize::try_from(i32::from_be_bytes(length.try_into().unwrap())).ok();
            let (field, after) = after.split_at(length.unwrap_or(0));
            fields.push(length.map(|_| field.to_vec()));
            rest = after;
        }
        assert!(rest.is_empty(), "one row and nothing behind it");
        fields
    }

    fn named(table: &Table, bytes: &[u8]) -> impl Fn(&str) -> Option<Vec<u8>> + use<> {
        let names: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
        let fields = fields(bytes);
        assert_eq!(fields.len(), names.len(), "{}", table.name);
        move |name| fields[names.iter().position(|have| *have == name).unwrap()].clone()
    }

    fn a_reading() -> Reading<'static> {
        Reading {
            asset_id: "a",
            asset_path: None,
            parameter: "p",
            value: Value::Int(7),
            value_type: ValueType::Int,
            value_label: Some("on"),
            unit: None,
            quality: Quality::Suspect,
            quality_reason: Some("RANGE_SOFT"),
            reasons: TextList::Slice(&["RANGE_SOFT"]),
            classification: Classification::Telemetry,
            device_time: Timestamp::YEAR_2000,
            gateway_time: Timestamp::YEAR_2000.plus_micros(1),
            time_source: "DEVICE",
            clock_state: "SYNCED",
            clock_skew_ms: Some(-1),
            epoch: 2,
            seq: 3,
            flags: TextList::default(),
            metadata: TextMap::Slice(&[("adapter_id", "ad"), ("gateway_id", "gw")]),
            tags: TextMap::default(),
        }
    }

    #[test]
    fn fields_stand_in_the_order_of_the_columns() {
        let mut payload = Vec::new();
        telemetry::encode(&mut payload, 1, &a_reading());
        let mut out = BytesMut::new();
        assert_eq!(append(&mut out, &TELEMETRY, Topic::TelemetryClean, &payload), Ok(1));
        let field = named(&TELEMETRY, &out);
        assert_eq!(field("time"), Some(vec![0; 8]));
        assert_eq!(field("value"), Some(7.0_f64.to_be_bytes().to_vec()));
        assert_eq!(field("value_int"), Some(7_i64.to_be_bytes().to_vec()));
        assert_eq!((field("value_bool"), field("value_text"), field("unit")), (None, None, None));
        assert_eq!(field("value_label"), Some(b"on".to_vec()));
        assert_eq!(field("quality_reason"), Some(b"RANGE_SOFT".to_vec()));
        assert_eq!((field("adapter_id"), field("gateway_id")), (Some(b"ad".to_vec()), Some(b"gw".to_vec())));
        assert_eq!(field("seq"), Some(3_i64.to_be_bytes().to_vec()));
        assert_eq!(field("gateway_time"), Some(1_i64.to_be_bytes().to_vec()));
    }

    #[test]
    fn windows_and_events_fill_their_tables() {
        let at = Timestamp::YEAR_2000;
        let statistics = Statistics {
            count: 1,
            sum: 2.0,
            mean: 3.0,
            m2: 4.0,
            min: 5.0,
            min_time: at,
            max: 6.0,
            max_time: at,
            first: 7.0,
            first_time: at,
            last: 8.0,
            last_time: at,
            good_count: 9,
            suspect_count: 10,
            uncertain_count: 11,
        };
        let window = Aggregate {
            revision: 12,
            gateway_id: "gw",
            ..aggregate::plain(("a", "p"), Resolution::Hour, at, statistics)
        };
        let (mut payload, mut out) = (Vec::new(), BytesMut::new());
        aggregate::encode(&mut payload, 1, &window);
        append(&mut out, &TELEMETRY_1HOUR, Topic::Telemetry1hour, &payload).unwrap();
        let field = named(&TELEMETRY_1HOUR, &out);
        for (name, number) in [("sum", 2.0_f64), ("avg", 3.0), ("m2", 4.0), ("min", 5.0), ("max", 6.0), ("last", 8.0)] {
            assert_eq!(field(name), Some(number.to_be_bytes().to_vec()), "{name}");
        }
        assert_eq!(field("revision"), Some(12_i64.to_be_bytes().to_vec()));
        assert_eq!(field("uncertain_count"), Some(11_i64.to_be_bytes().to_vec()));
        assert_eq!((field("avg_method"), field("delta")), (Some(b"sample".to_vec()), None));

        // AGG-08, AGG-11: what is not there is NULL, never 0
        let states = States { transitions: 2, first: "", last: "", times: StateTimes::Owned(&[]) };
        let empty = Statistics::default();
        let partials = Partials { statistics: empty, coverage: None, extra: Extra::States(states) };
        payload.clear();
        out.clear();
        aggregate::encode(&mut payload, 1, &Aggregate { kind: Kind::Bool, partials, ..window });
        append(&mut out, &TELEMETRY_1HOUR, Topic::Telemetry1hour, &payload).unwrap();
        let field = named(&TELEMETRY_1HOUR, &out);
        for name in ["avg", "min", "max", "sum", "first", "last_time", "first_state", "ms_by_state", "percent_true"] {
            assert_eq!(field(name), None, "{name}");
        }
        assert_eq!(field("transitions"), Some(2_i64.to_be_bytes().to_vec()));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        // G-08, REC-08
        let mut payload = Vec::new();
        telemetry::encode(&mut payload, 1, &a_reading());
        for table in TABLES {
            for topic in [Topic::TelemetryClean, Topic::Telemetry1s, Topic::EventsClean] {
                for cut in 0..payload.len() {
                    let mut out = BytesMut::new();
                    assert!(append(&mut out, table, topic, &payload[..cut]).is_err());
                }
            }
        }
    }
}
