//! Messages into rows: one function per table, fields in the order of [`super::schema`].
//!
//! Pure, borrowed from the record, nothing allocated.

use bytes::BytesMut;
use model::{Aggregate, Quality, Reading, TextList, Value};
use stream::Schema;
use stream::Topic;
use stream::avro::{DecodeError, unframe};
use stream::message::{Event, aggregate, event, telemetry};

use super::copy::{bigint, boolean, double, json, null, optional_text, row, text, texts, time};
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

fn window(out: &mut BytesMut, window: &Aggregate<'_>) {
    let s = &window.statistics;
    row(out, TELEMETRY_1S.width());
    time(out, window.window_start);
    text(out, window.asset_id);
    text(out, window.parameter);
    for number in [s.mean, s.min, s.max, s.sum] {
        double(out, number);
    }
    bigint(out, s.count);
    double(out, s.m2);
    time(out, s.min_time);
    time(out, s.max_time);
    double(out, s.first);
    time(out, s.first_time);
    double(out, s.last);
    time(out, s.last_time);
    for count in [s.good_count, s.suspect_count, s.uncertain_count] {
        bigint(out, count);
    }
    optional_text(out, window.unit);
    text(out, window.quality.as_str());
    bigint(out, window.revision);
    time(out, window.window_end);
    time(out, window.gateway_time);
    text(out, window.gateway_id);
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
