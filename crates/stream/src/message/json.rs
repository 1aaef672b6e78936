//! Messages as JSON for people and for HTTP: the document's names, RFC 3339 times, large integers as text (REC-01).

use std::time::Duration;

use model::aggregate::Extra;
use model::{Aggregate, Alarm, Reading, TextList, TextMap, Timestamp, Value};
use serde_json::{Map, Value as Json, json};

use super::{DeadLetter, Event};

/// Largest integer every JSON reader keeps exact.
const EXACT_MAX: u64 = 1 << 53;

/// A value; integers beyond 2^53 as text.
pub fn value(value: Value<'_>) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Float(number) => json!(number),
        Value::Int(number) if number.unsigned_abs() > EXACT_MAX => json!(number.to_string()),
        Value::Int(number) => json!(number),
        Value::Bool(truth) => json!(truth),
        Value::Text(text) => json!(text),
    }
}

/// A reading in the form of the document.
pub fn reading(reading: &Reading<'_>) -> Json {
    let mut body = json!({
        "record_id": reading.record_id(),
        "asset_id": reading.asset_id,
        "parameter": reading.parameter,
        "value": value(reading.value),
        "value_type": reading.value_type.as_str(),
        "unit": reading.unit,
        "quality": reading.quality.as_str(),
        "classification": reading.classification.as_str(),
        "timestamps": {
            "device_time": reading.device_time.to_string(),
            "gateway_time": reading.gateway_time.to_string(),
        },
        "time_source": reading.time_source,
        "clock_state": reading.clock_state,
        "clock_skew_ms": reading.clock_skew_ms,
        "sequence": { "epoch": reading.epoch, "seq": reading.seq },
        "metadata": map(reading.metadata),
    });
    let Json::Object(fields) = &mut body else { return body };
    let mut optional = |key: &str, present: bool, value: Json| {
        if present {
            fields.insert(key.to_owned(), value);
        }
    };
    optional("asset_path", reading.asset_path.is_some(), json!(reading.asset_path));
    optional("value_label", reading.value_label.is_some(), json!(reading.value_label));
    optional("quality_reason", reading.quality_reason.is_some(), json!(reading.quality_reason));
    optional("reasons", !reading.reasons.is_empty(), list(reading.reasons));
    optional("flags", !reading.flags.is_empty(), list(reading.flags));
    optional("tags", reading.tags.iter().next().is_some(), map(reading.tags));
    body
}

/// A window in the form of the document; what its kind does not have is null or absent.
pub fn aggregate(window: &Aggregate<'_>) -> Json {
    let s = &window.partials.statistics;
    let (min, max) = window.extremes().unzip();
    let has_readings = s.count > 0;
    let mut body = json!({
        "asset_id": window.asset_id,
        "parameter": window.parameter,
        "unit": window.unit,
        "resolution": window.resolution.as_str(),
        "window_start": window.window_start.to_string(),
        "window_end": window.window_end.to_string(),
        "kind": window.kind.as_str(),
        "aggregates": { "avg": window.average(), "min": min, "max": max, "count": s.count },
        "stddev": window.stddev(),
        "range": window.extremes().map(|(min, max)| max - min),
        "first": has_readings.then_some(s.first),
        "last": has_readings.then_some(s.last),
        "avg_method": window.avg_method(),
        "percent_good": window.percent_good(),
        "quality": window.quality.as_str(),
        "partial": window.partial,
        "revision": window.revision,
        "is_correction": window.revision > 1,
    });
    let Json::Object(fields) = &mut body else { return body };
    if let Some(coverage) = window.partials.coverage {
        fields.insert("covered_ms".to_owned(), json!(coverage.covered_us / 1000));
        fields.insert("good_ms".to_owned(), json!(coverage.good_us / 1000));
    }
    match window.partials.extra {
        Extra::Counter(counts) => {
            let seconds = Duration::from_micros(
                (window.window_end.as_micros() - window.window_start.as_micros()).unsigned_abs().max(1),
            );
            fields.insert("delta".to_owned(), json!(counts.delta));
            fields.insert("rate_per_s".to_owned(), json!(counts.delta / seconds.as_secs_f64()));
            fields.insert("resets".to_owned(), json!(counts.resets));
        }
        Extra::States(states) => {
            let times = states.times.iter().map(|(state, micros)| (state.to_owned(), json!(micros / 1000)));
            fields.insert("transitions".to_owned(), json!(states.transitions));
            fields.insert("ms_by_state".to_owned(), Json::Object(times.collect()));
            if has_readings {
                fields.insert("first".to_owned(), json!(states.first));
                fields.insert("last".to_owned(), json!(states.last));
            }
            if let Some(percent) = window.percent_true() {
                fields.insert("ms_true".to_owned(), json!(states.times.get("true") / 1000));
                fields.insert("percent_true".to_owned(), json!(percent));
            }
        }
        Extra::None | Extra::Angle(_) => {}
    }
    if !window.flags.is_empty() {
        fields.insert("flags".to_owned(), list(window.flags));
    }
    body
}

/// An event.
pub fn event(event: &Event<'_>) -> Json {
    json!({
        "event_id": event.event_id,
        "event_type": event.event_type,
        "asset_id": event.asset_id,
        "parameter": event.parameter,
        "from_state": event.from_state,
        "to_state": event.to_state,
        "message": event.message,
        "value": value(event.value),
        "quality": event.quality.as_str(),
        "quality_reason": event.quality_reason,
        "timestamps": { "device_time": event.device_time.to_string(), "gateway_time": event.gateway_time.to_string() },
        "metadata": map(event.metadata),
        "details": map(event.details),
    })
}

/// A transition of an alarm.
pub fn alarm(alarm: &Alarm<'_>) -> Json {
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    json!({
        "alarm_key": alarm.alarm_key,
        "occurrence_id": alarm.occurrence_id,
        "seq": alarm.seq,
        "type": alarm.kind,
        "severity": alarm.severity,
        "priority": alarm.priority,
        "asset_id": alarm.asset_id,
        "asset_path": alarm.asset_path,
        "parameter": alarm.parameter,
        "value": value(alarm.value),
        "limit": alarm.limit,
        "unit": alarm.unit,
        "quality": alarm.quality.as_str(),
        "condition_active": alarm.condition_active,
        "acked": alarm.acked,
        "latched": alarm.latched,
        "suppressed_by_design": alarm.suppressed_by_design,
        "out_of_service": alarm.out_of_service,
        "enabled": alarm.enabled,
        "state": alarm.state,
        "isa_state": alarm.isa_state,
        "suppression_kind": alarm.suppression_kind,
        "message": alarm.message,
        "consequence": alarm.consequence,
        "action": alarm.action,
        "group": alarm.group,
        "first_out_rank": alarm.first_out_rank,
        "chattering": alarm.chattering,
        "transition": {
            "from": alarm.change.from, "to": alarm.change.to, "cause": alarm.change.cause,
            "actor": alarm.change.actor, "actor_role": alarm.change.actor_role,
            "comment": alarm.change.comment, "command_id": alarm.change.command_id,
        },
        "activated_at": time(alarm.activated_at),
        "acked_at": time(alarm.acked_at),
        "cleared_at": time(alarm.cleared_at),
        "shelved_until": time(alarm.shelved_until),
        "timestamps": { "device_time": alarm.device_time.to_string(), "gateway_time": alarm.gateway_time.to_string() },
        "flags": list(alarm.flags),
        "config_revision": alarm.config_revision,
        "metadata": map(alarm.metadata),
        "tags": map(alarm.tags),
    })
}

/// A dead letter; the original bytes as hexadecimal text.
pub fn dead_letter(letter: &DeadLetter<'_>) -> Json {
    json!({
        "dlq_id": letter.id(),
        "stage": letter.stage,
        "rule_id": letter.rule_id,
        "reason": letter.reason,
        "detail": letter.detail,
        "observed": letter.observed,
        "limit": letter.limit,
        "asset_id": letter.asset_id,
        "parameter": letter.parameter,
        "value": letter.value,
        "device_time": letter.device_time.map(|time| time.to_string()),
        "first_failed_at": letter.first_failed_at.to_string(),
        "attempts": letter.attempts,
        "original": {
            "topic": letter.topic, "partition": letter.partition, "offset": letter.offset,
            "schema_id": letter.schema_id, "payload_hex": hex(letter.payload),
        },
    })
}

fn list(texts: TextList<'_>) -> Json {
    Json::Array(texts.iter().map(Json::from).collect())
}

fn map(texts: TextMap<'_>) -> Json {
    Json::Object(texts.iter().map(|(key, value)| (key.to_owned(), Json::from(value))).collect::<Map<_, _>>())
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// A record of any of our contracts as JSON; `None` when it is not one.
pub fn any(schema: super::Schema, body: &[u8]) -> Option<Json> {
    match schema {
        super::Schema::Telemetry => super::telemetry::decode(body).ok().map(|decoded| reading(&decoded)),
        super::Schema::Aggregate => super::aggregate::decode(body).ok().map(|decoded| aggregate(&decoded)),
        super::Schema::Event => super::event::decode(body).ok().map(|decoded| event(&decoded)),
        super::Schema::DeadLetter => super::dead_letter::decode(body).ok().map(|decoded| dead_letter(&decoded)),
        super::Schema::Alarm => super::alarm::decode(body).ok().map(|decoded| alarm(&decoded)),
    }
}
