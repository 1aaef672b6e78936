//! From a dead letter back to a reading, and from there to the one that goes to the clean readings (VAL-42, VAL-44).
//!
//! The value, the device's time and the record's id stay as they were; quality, reasons and flags tell what happened.

use model::{Quality, Reading, TextList, TextMap, Value, ValueType, flag, reason, time_source};
use pipeline::validate::Judgement;
use stream::avro;
use stream::message::{DeadLetter, telemetry};

/// The reading in a letter with the schema id of its bytes, or one clause about why there is none.
pub(super) fn reading_of<'a>(letter: &DeadLetter<'a>) -> Result<(i32, Reading<'a>), &'static str> {
    if letter.topic != stream::Topic::TelemetryRaw.name() {
        return Err("it is no reading; only readings go to the clean readings");
    }
    let (id, body) = avro::unframe(letter.payload).map_err(|_| "its bytes cannot be read")?;
    let reading = telemetry::decode(body).map_err(|_| "its bytes cannot be read")?;
    Ok((id, reading))
}

/// Hands the reading, as a person approved it, to `then`. A reading without a value cannot be approved.
pub(super) fn approved<T>(
    reading: &Reading<'_>,
    letter_reason: &str,
    then: impl FnOnce(&Reading<'_>) -> T,
) -> Result<T, &'static str> {
    if matches!(reading.value, Value::Null) {
        return Err("it has no value, so there is nothing to approve");
    }
    let mut reasons: Vec<&str> = reading.reasons.iter().collect();
    for code in [letter_reason, reason::OPERATOR_APPROVED] {
        if !reasons.contains(&code) {
            reasons.push(code);
        }
    }
    let flags = with_flags(reading, &[flag::REPROCESSED]);
    Ok(then(&Reading {
        quality: Quality::Suspect,
        quality_reason: Some(reason::OPERATOR_APPROVED),
        reasons: TextList::Slice(&reasons),
        flags: TextList::Slice(&flags),
        ..*reading
    }))
}

/// Hands the reading, as the rules of today judged it, to `then`. Gaps are not marked: the readings around it are not
/// among those that are judged.
pub(super) fn judged<T>(
    reading: &Reading<'_>,
    judged: &Judgement,
    unit: Option<&str>,
    then: impl FnOnce(&Reading<'_>) -> T,
) -> T {
    let mut reasons: Vec<&str> = reading.reasons.iter().collect();
    for code in judged.codes.iter() {
        if !reading.reasons.contains(code) {
            reasons.push(code);
        }
    }
    let flags = if judged.late {
        with_flags(reading, &[flag::LATE, flag::REPROCESSED])
    } else {
        with_flags(reading, &[flag::REPROCESSED])
    };
    let mut metadata: Vec<(&str, &str)> = reading.metadata.iter().collect();
    let raw_time = reading.device_time.as_micros().to_string();
    let raw_value = text_of(reading.value);
    let mut changed = Reading {
        quality: judged.quality,
        quality_reason: judged.reason.or(reading.quality_reason),
        reasons: TextList::Slice(&reasons),
        flags: TextList::Slice(&flags),
        ..*reading
    };
    if judged.device_time != reading.device_time {
        if reading.metadata.get("device_time_raw").is_none() {
            metadata.push(("device_time_raw", &raw_time));
        }
        changed.device_time = judged.device_time;
        changed.time_source = time_source::GATEWAY;
        changed.clock_skew_ms = None;
    }
    if let Some(value) = judged.converted {
        metadata.retain(|(key, _)| *key != "raw_value");
        metadata.extend([("raw_value", raw_value.as_str()), ("raw_unit", reading.unit.unwrap_or(""))]);
        changed.value = Value::Float(value);
        changed.value_type = ValueType::Float;
        changed.unit = unit;
    }
    changed.metadata = TextMap::Slice(&metadata);
    then(&changed)
}

fn with_flags<'a>(reading: &Reading<'a>, further: &[&'a str]) -> Vec<&'a str> {
    let mut flags: Vec<&str> = reading.flags.iter().collect();
    for name in further {
        if !flags.contains(name) {
            flags.push(name);
        }
    }
    flags
}

fn text_of(value: Value<'_>) -> String {
    match value {
        Value::Null => String::new(),
        Value::Float(number) => number.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Text(text) => text.to_owned(),
    }
}
