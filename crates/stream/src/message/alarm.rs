//! `sf.Alarm` (`contracts/avro/alarm.v1.avsc`): one transition of one alarm in Avro binary (ALM-04).

use model::{Alarm, AlarmChange, Timestamp};

use super::telemetry::{quality, quality_index};
use crate::avro::{
    DecodeError, Reader, put_boolean, put_double, put_frame, put_long, put_optional_long, put_optional_text,
    put_string, put_text_map, put_texts, put_time, put_value,
};

/// Appends the transition to `out`, framed with `schema_id`. A limit that is not finite is a bug of the caller and
/// becomes null.
pub fn encode(out: &mut Vec<u8>, schema_id: i32, alarm: &Alarm<'_>) {
    put_frame(out, schema_id);
    put_string(out, alarm.alarm_key);
    put_string(out, alarm.occurrence_id);
    put_long(out, alarm.seq);
    put_string(out, alarm.kind);
    put_string(out, alarm.severity);
    put_optional_long(out, alarm.priority.map(i64::from));
    put_string(out, alarm.asset_id);
    put_optional_text(out, alarm.asset_path);
    put_optional_text(out, alarm.parameter);
    put_value(out, alarm.value);
    match alarm.limit.filter(|limit| limit.is_finite()) {
        None => out.push(0),
        Some(limit) => {
            out.push(2); // zigzag of branch 1
            put_double(out, limit);
        }
    }
    put_optional_text(out, alarm.unit);
    put_long(out, quality_index(alarm.quality));
    let facts = [
        alarm.condition_active,
        alarm.acked,
        alarm.latched,
        alarm.suppressed_by_design,
        alarm.out_of_service,
        alarm.enabled,
    ];
    for fact in facts {
        put_boolean(out, fact);
    }
    put_string(out, alarm.state);
    put_string(out, alarm.isa_state);
    put_optional_text(out, alarm.suppression_kind);
    put_string(out, alarm.message);
    put_optional_text(out, alarm.consequence);
    put_optional_text(out, alarm.action);
    put_optional_text(out, alarm.group);
    put_optional_long(out, alarm.first_out_rank.map(i64::from));
    put_boolean(out, alarm.chattering);
    put_string(out, alarm.change.from);
    put_string(out, alarm.change.to);
    put_string(out, alarm.change.cause);
    put_optional_text(out, alarm.change.actor);
    put_optional_text(out, alarm.change.actor_role);
    put_optional_text(out, alarm.change.comment);
    put_optional_text(out, alarm.change.command_id);
    for time in [alarm.activated_at, alarm.acked_at, alarm.cleared_at, alarm.shelved_until] {
        put_optional_long(out, time.map(Timestamp::as_micros));
    }
    put_time(out, alarm.device_time);
    put_time(out, alarm.gateway_time);
    put_texts(out, alarm.flags);
    put_optional_text(out, alarm.config_revision);
    put_text_map(out, alarm.metadata);
    put_text_map(out, alarm.tags);
}

/// Reads the Avro body (framing taken off by [`crate::avro::unframe`]).
pub fn decode(body: &[u8]) -> Result<Alarm<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let alarm = Alarm {
        alarm_key: reader.text("alarm_key")?,
        occurrence_id: reader.text("occurrence_id")?,
        seq: reader.long("seq")?,
        kind: reader.text("type")?,
        severity: reader.text("severity")?,
        priority: optional_int(&mut reader, "priority")?,
        asset_id: reader.text("asset_id")?,
        asset_path: reader.optional_text("asset_path")?,
        parameter: reader.optional_text("parameter")?,
        value: reader.value("value")?,
        limit: optional_double(&mut reader, "limit")?,
        unit: reader.optional_text("unit")?,
        quality: quality(reader.long("quality")?)?,
        condition_active: reader.boolean("condition_active")?,
        acked: reader.boolean("acked")?,
        latched: reader.boolean("latched")?,
        suppressed_by_design: reader.boolean("suppressed_by_design")?,
        out_of_service: reader.boolean("out_of_service")?,
        enabled: reader.boolean("enabled")?,
        state: reader.text("state")?,
        isa_state: reader.text("isa_state")?,
        suppression_kind: reader.optional_text("suppression_kind")?,
        message: reader.text("message")?,
        consequence: reader.optional_text("consequence")?,
        action: reader.optional_text("action")?,
        group: reader.optional_text("group")?,
        first_out_rank: optional_int(&mut reader, "first_out_rank")?,
        chattering: reader.boolean("chattering")?,
        change: AlarmChange {
            from: reader.text("from")?,
            to: reader.text("to")?,
            cause: reader.text("cause")?,
            actor: reader.optional_text("actor")?,
            actor_role: reader.optional_text("actor_role")?,
            comment: reader.optional_text("comment")?,
            command_id: reader.optional_text("command_id")?,
        },
        activated_at: optional_time(&mut reader, "activated_at")?,
        acked_at: optional_time(&mut reader, "acked_at")?,
        cleared_at: optional_time(&mut reader, "cleared_at")?,
        shelved_until: optional_time(&mut reader, "shelved_until")?,
        device_time: reader.time("device_time")?,
        gateway_time: reader.time("gateway_time")?,
        flags: reader.texts("flags")?,
        config_revision: reader.optional_text("config_revision")?,
        metadata: reader.text_map("metadata")?,
        tags: reader.text_map("tags")?,
    };
    reader.finish()?;
    Ok(alarm)
}

fn optional_int(reader: &mut Reader<'_>, field: &'static str) -> Result<Option<i32>, DecodeError> {
    if reader.present(field)? { reader.int(field).map(Some) } else { Ok(None) }
}

fn optional_time(reader: &mut Reader<'_>, field: &'static str) -> Result<Option<Timestamp>, DecodeError> {
    Ok(reader.optional_long(field)?.map(Timestamp::from_micros))
}

fn optional_double(reader: &mut Reader<'_>, field: &'static str) -> Result<Option<f64>, DecodeError> {
    if !reader.present(field)? {
        return Ok(None);
    }
    match reader.double(field)? {
        number if number.is_finite() => Ok(Some(number)),
        _ => Err(DecodeError::NotFinite { field }),
    }
}
