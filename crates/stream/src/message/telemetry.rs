//! `sf.Telemetry` (`contracts/avro/telemetry.v1.avsc`): a reading in Avro binary.

use model::{Classification, Quality, Reading, ValueType};

use crate::avro::{
    DecodeError, Reader, put_frame, put_long, put_optional_long, put_optional_text, put_string, put_text_map,
    put_texts, put_time, put_value,
};

/// Appends the reading to `out`, framed with `schema_id`.
pub fn encode(out: &mut Vec<u8>, schema_id: i32, reading: &Reading<'_>) {
    put_frame(out, schema_id);
    put_string(out, reading.asset_id);
    put_optional_text(out, reading.asset_path);
    put_string(out, reading.parameter);
    put_value(out, reading.value);
    put_long(out, value_type_index(reading.value_type));
    put_optional_text(out, reading.value_label);
    put_optional_text(out, reading.unit);
    put_long(out, quality_index(reading.quality));
    put_optional_text(out, reading.quality_reason);
    put_texts(out, reading.reasons);
    put_long(out, classification_index(reading.classification));
    put_time(out, reading.device_time);
    put_time(out, reading.gateway_time);
    put_string(out, reading.time_source);
    put_string(out, reading.clock_state);
    put_optional_long(out, reading.clock_skew_ms);
    put_long(out, reading.epoch);
    put_long(out, reading.seq);
    put_texts(out, reading.flags);
    put_text_map(out, reading.metadata);
    put_text_map(out, reading.tags);
}

/// Reads the Avro body (framing taken off by [`crate::avro::unframe`]).
pub fn decode(body: &[u8]) -> Result<Reading<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let reading = Reading {
        asset_id: reader.text("asset_id")?,
        asset_path: reader.optional_text("asset_path")?,
        parameter: reader.text("parameter")?,
        value: reader.value("value")?,
        value_type: value_type(reader.long("value_type")?)?,
        value_label: reader.optional_text("value_label")?,
        unit: reader.optional_text("unit")?,
        quality: quality(reader.long("quality")?)?,
        quality_reason: reader.optional_text("quality_reason")?,
        reasons: reader.texts("reasons")?,
        classification: classification(reader.long("classification")?)?,
        device_time: reader.time("device_time")?,
        gateway_time: reader.time("gateway_time")?,
        time_source: reader.text("time_source")?,
        clock_state: reader.text("clock_state")?,
        clock_skew_ms: reader.optional_long("clock_skew_ms")?,
        epoch: reader.long("epoch")?,
        seq: reader.long("seq")?,
        flags: reader.texts("flags")?,
        metadata: reader.text_map("metadata")?,
        tags: reader.text_map("tags")?,
    };
    reader.finish()?;
    Ok(reading)
}

pub(super) fn quality_index(quality: Quality) -> i64 {
    match quality {
        Quality::Good => 0,
        Quality::Suspect => 1,
        Quality::Uncertain => 2,
        Quality::Bad => 3,
    }
}

pub(super) fn quality(index: i64) -> Result<Quality, DecodeError> {
    match index {
        0 => Ok(Quality::Good),
        1 => Ok(Quality::Suspect),
        2 => Ok(Quality::Uncertain),
        3 => Ok(Quality::Bad),
        index => Err(DecodeError::UnknownBranch { field: "quality", index }),
    }
}

fn value_type_index(value_type: ValueType) -> i64 {
    match value_type {
        ValueType::Float => 0,
        ValueType::Int => 1,
        ValueType::Bool => 2,
        ValueType::String => 3,
        ValueType::Raw => 4,
    }
}

fn value_type(index: i64) -> Result<ValueType, DecodeError> {
    match index {
        0 => Ok(ValueType::Float),
        1 => Ok(ValueType::Int),
        2 => Ok(ValueType::Bool),
        3 => Ok(ValueType::String),
        4 => Ok(ValueType::Raw),
        index => Err(DecodeError::UnknownBranch { field: "value_type", index }),
    }
}

pub(super) fn classification_index(classification: Classification) -> i64 {
    match classification {
        Classification::Telemetry => 0,
        Classification::Event => 1,
        Classification::Alarm => 2,
    }
}

pub(super) fn classification(index: i64) -> Result<Classification, DecodeError> {
    match index {
        0 => Ok(Classification::Telemetry),
        1 => Ok(Classification::Event),
        2 => Ok(Classification::Alarm),
        index => Err(DecodeError::UnknownBranch { field: "classification", index }),
    }
}
