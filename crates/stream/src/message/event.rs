//! `sf.Event` (`contracts/avro/event.v1.avsc`): a discrete change in the plant or in the data (REC-02).

use model::{ClockState, Quality, TextList, TextMap, Timestamp, Value};

use super::telemetry::{classification, quality, quality_index};
use crate::avro::{
    DecodeError, Reader, put_boolean, put_frame, put_long, put_optional_long, put_optional_text, put_string,
    put_text_map, put_texts, put_time, put_value,
};

/// One event.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// Stable over retries.
    pub event_id: &'a str,
    /// `point.quality`, `point.gap`, `data_loss`, ...
    pub event_type: &'a str,
    pub asset_id: &'a str,
    pub parameter: Option<&'a str>,
    pub from_state: Option<&'a str>,
    pub to_state: Option<&'a str>,
    /// Last time the old state was known to hold.
    pub occurred_after: Option<Timestamp>,
    /// `rising`, `falling` or `change`, for a state of the plant that was seen to change.
    pub edge: Option<&'a str>,
    /// The first state after a start, or one that stood unchanged over an outage: no edge.
    pub initial: bool,
    /// The state changed while nobody looked, some time after `occurred_after`.
    pub missed_window: bool,
    /// A word of `model::Severity`, where the source of the event says how bad it is.
    pub severity: Option<&'a str>,
    /// Who stamped `device_time`.
    pub time_source: &'a str,
    /// One sentence for a person.
    pub message: &'a str,
    pub value: Value<'a>,
    pub unit: Option<&'a str>,
    pub quality: Quality,
    pub quality_reason: Option<&'a str>,
    pub device_time: Timestamp,
    pub gateway_time: Timestamp,
    pub epoch: i64,
    pub seq: i64,
    pub flags: TextList<'a>,
    pub metadata: TextMap<'a>,
    /// What belongs to the event type.
    pub details: TextMap<'a>,
}

impl Event<'_> {
    /// Appends the event to `out`, framed with `schema_id`, as stamped by a clock that is set.
    pub fn encode(&self, out: &mut Vec<u8>, schema_id: i32) {
        self.encode_stamped(out, schema_id, ClockState::Synced);
    }

    /// As [`Event::encode`], with what the clock that stamped it is worth.
    pub fn encode_stamped(&self, out: &mut Vec<u8>, schema_id: i32, clock_state: ClockState) {
        put_frame(out, schema_id);
        put_string(out, self.event_id);
        put_string(out, self.event_type);
        put_string(out, self.asset_id);
        put_optional_text(out, None); // asset_path
        put_optional_text(out, self.parameter);
        put_optional_text(out, self.from_state);
        put_optional_text(out, self.to_state);
        put_optional_text(out, self.edge);
        put_boolean(out, self.initial);
        put_boolean(out, self.missed_window);
        put_optional_long(out, self.occurred_after.map(Timestamp::as_micros));
        put_optional_text(out, self.severity);
        put_string(out, self.message);
        put_value(out, self.value);
        put_optional_text(out, self.unit);
        put_long(out, quality_index(self.quality));
        put_optional_text(out, self.quality_reason);
        put_long(out, 1); // classification EVENT
        put_time(out, self.device_time);
        put_time(out, self.gateway_time);
        put_string(out, self.time_source);
        put_string(out, clock_state.as_str());
        put_optional_long(out, None); // clock_skew_ms
        put_long(out, self.epoch);
        put_long(out, self.seq);
        put_texts(out, self.flags);
        put_text_map(out, self.metadata);
        put_text_map(out, TextMap::default()); // tags
        put_text_map(out, self.details);
    }
}

/// Reads the Avro body (framing taken off by [`crate::avro::unframe`]).
pub fn decode(body: &[u8]) -> Result<Event<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let event_id = reader.text("event_id")?;
    let event_type = reader.text("event_type")?;
    let asset_id = reader.text("asset_id")?;
    reader.optional_text("asset_path")?;
    let parameter = reader.optional_text("parameter")?;
    let from_state = reader.optional_text("from_state")?;
    let to_state = reader.optional_text("to_state")?;
    let edge = reader.optional_text("edge")?;
    let initial = reader.boolean("initial")?;
    let missed_window = reader.boolean("missed_window")?;
    let occurred_after = reader.optional_long("occurred_after")?.map(Timestamp::from_micros);
    let severity = reader.optional_text("severity")?;
    let message = reader.text("message")?;
    let value = reader.value("value")?;
    let unit = reader.optional_text("unit")?;
    let quality = quality(reader.long("quality")?)?;
    let quality_reason = reader.optional_text("quality_reason")?;
    classification(reader.long("classification")?)?;
    let device_time = reader.time("device_time")?;
    let gateway_time = reader.time("gateway_time")?;
    let time_source = reader.text("time_source")?;
    reader.text("clock_state")?;
    reader.optional_long("clock_skew_ms")?;
    let epoch = reader.long("epoch")?;
    let seq = reader.long("seq")?;
    let flags = reader.texts("flags")?;
    let metadata = reader.text_map("metadata")?;
    reader.text_map("tags")?;
    let details = reader.text_map("details")?;
    reader.finish()?;
    Ok(Event {
        event_id,
        event_type,
        asset_id,
        parameter,
        from_state,
        to_state,
        occurred_after,
        edge,
        initial,
        missed_window,
        severity,
        time_source,
        message,
        value,
        unit,
        quality,
        quality_reason,
        device_time,
        gateway_time,
        epoch,
        seq,
        flags,
        metadata,
        details,
    })
}
