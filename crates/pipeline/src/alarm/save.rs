//! Everything about one asset's alarms as bytes, and the figures of the areas.
//!
//! Numbers are zigzag varints, texts have their length in front, the first byte is the version. `restore.rs` reads it; a
//! field that is added here is added there, and the version counts up.

use std::collections::VecDeque;

use model::text::{put_text, put_zigzag};
use model::{Timestamp, Value};

use super::command::{CommandResult, REASONS};
use super::first_out::Member;
use super::lane::{Hub, Lane};
use super::memory::{Point, Times};
use super::timers::Deadline;

/// Of the bytes. Those of version 1, which knew nothing of conditions that a source keeps, are read too.
pub(super) const VERSION: u8 = 2;

pub(super) fn save(lane: &Lane, hub: &Hub, asset: &str, out: &mut Vec<u8>) -> bool {
    let Some(number) = lane.asset(asset) else { return false };
    let asset = &lane.assets[number as usize];
    if asset.points.is_empty() {
        return false;
    }
    out.push(VERSION);
    put_zigzag(out, lane.steady);
    put_zigzag(out, lane.timers.order);
    for sequence in asset.commands.sequences {
        put_optional(out, sequence);
    }
    put_count(out, asset.commands.answers.len());
    for (id, result) in &asset.commands.answers {
        put_text(out, id);
        put_zigzag(out, result_number(*result));
    }
    put_count(out, asset.points.len());
    for point in &asset.points {
        let point = &lane.points[*point as usize];
        put_point(out, point);
        put_count(out, point.alarms.len());
        for n in &point.alarms {
            put_alarm(out, lane, hub, *n);
        }
    }
    true
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    put_zigzag(out, i64::try_from(count).unwrap_or(i64::MAX));
}

fn put_optional(out: &mut Vec<u8>, number: Option<i64>) {
    out.push(u8::from(number.is_some()));
    if let Some(number) = number {
        put_zigzag(out, number);
    }
}

fn put_bits(out: &mut Vec<u8>, bits: &[bool]) {
    out.push(bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit)));
}

fn put_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Null => out.push(0),
        Value::Float(number) => {
            out.push(1);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Value::Int(number) => {
            out.push(2);
            put_zigzag(out, number);
        }
        Value::Bool(truth) => out.push(3 + u8::from(truth)),
        Value::Text(text) => {
            out.push(5);
            put_text(out, text);
        }
    }
}

fn put_point(out: &mut Vec<u8>, point: &Point) {
    put_text(out, &point.name);
    put_zigzag(out, point.judged);
    put_value(out, point.value.value());
    put_zigzag(out, point.value_time);
    put_value(out, point.rejected.value());
    put_value(out, point.unit.as_deref().map_or(Value::Null, Value::Text));
    out.push(point.quality as u8);
    put_bits(out, &[point.unknown]);
}

fn put_deadline(out: &mut Vec<u8>, deadline: Option<Deadline>) {
    out.push(u8::from(deadline.is_some()));
    if let Some(Deadline { at, device_time, order }) = deadline {
        for number in [at, device_time, order] {
            put_zigzag(out, number);
        }
    }
}

fn put_times(out: &mut Vec<u8>, times: &Times) {
    put_optional(out, times.activated.map(Timestamp::as_micros));
    put_optional(out, times.cleared.map(Timestamp::as_micros));
    out.push(u8::from(times.acked.is_some()));
    if let Some(acked) = &times.acked {
        put_text(out, &acked.by);
        put_zigzag(out, acked.issued.as_micros());
        put_zigzag(out, acked.applied.as_micros());
    }
}

fn put_alarm(out: &mut Vec<u8>, lane: &Lane, hub: &Hub, n: u32) {
    let alarm = &lane.alarms[n as usize];
    let rule = hub.plan.rule(alarm.rule);
    put_text(out, &rule.settings.id);
    out.push(rule.settings.detect.kind() as u8);
    out.push(lane.severity(hub, n) as u8);
    put_value(out, rule.settings.detect.limit().map_or(Value::Null, Value::Float));
    let rank = rule.group.and_then(|group| hub.groups.rank(group, Member { lane: lane.number, alarm: n }));
    put_optional(out, rank.map(|(rank, _)| i64::from(rank)));
    put_zigzag(out, rank.map_or(0, |(_, episode)| episode));
    let f = alarm.flags;
    put_bits(
        out,
        &[f.condition_active, f.acked, f.latched, f.shelved, f.by_design, f.subsumed, f.out_of_service, f.enabled],
    );
    put_bits(out, &[alarm.held, alarm.by_hard_limit]);
    put_zigzag(out, alarm.seq);
    put_zigzag(out, alarm.occurrence);
    put_times(out, &alarm.times);
    put_count(out, alarm.past.len());
    for past in &alarm.past {
        put_zigzag(out, past.number);
        put_bits(out, &[past.acked]);
        put_times(out, &past.times);
    }
    put_deadline(out, alarm.pending.map(|pending| pending.deadline));
    if let Some(pending) = alarm.pending {
        put_bits(out, &[pending.on]);
        out.push(pending.cause as u8);
    }
    put_deadline(out, alarm.shelf.map(|shelf| shelf.deadline));
    if let Some(shelf) = alarm.shelf {
        put_zigzag(out, shelf.until.as_micros());
        put_bits(out, &[shelf.one_shot]);
    }
    put_deadline(out, alarm.release);
    put_deadline(out, alarm.remind);
    for number in alarm.recent.into_iter().chain([alarm.standing_since, alarm.out_of_service_since]) {
        put_zigzag(out, number);
    }
    let days = alarm.days.as_ref().map(|days| &days.days);
    put_count(out, days.map_or(0, VecDeque::len));
    for (day, count) in days.into_iter().flatten() {
        put_zigzag(out, *day);
        put_zigzag(out, *count);
    }
    out.push(f.by_source.map_or(0, |kind| kind as u8 + 1));
    put_bits(out, &[alarm.kept.is_some()]);
    if let Some(kept) = &alarm.kept {
        put_text(out, &kept.origin);
        out.push(kept.severity as u8);
    }
}

fn result_number(result: CommandResult) -> i64 {
    match result {
        CommandResult::Applied => 0,
        CommandResult::Already => 1,
        CommandResult::StaleOccurrence => 2,
        CommandResult::Expired => 3,
        CommandResult::Rejected(reason) => {
            4 + REASONS.iter().position(|known| *known == reason).and_then(|at| i64::try_from(at).ok()).unwrap_or(0)
        }
    }
}

pub(super) fn save_areas(hub: &Hub, out: &mut Vec<u8>) {
    out.push(VERSION);
    put_count(out, hub.areas.len());
    for (area, name) in hub.areas.iter().zip(&hub.plan.areas) {
        put_text(out, name);
        put_count(out, area.window.len());
        for at in &area.window {
            put_zigzag(out, *at);
        }
        put_optional(out, area.flood_since);
        put_optional(out, area.begun);
        put_count(out, area.days.days.len());
        for (number, day) in &area.days.days {
            put_zigzag(out, *number);
            for count in day.by_severity.into_iter().chain([day.flood_micros, day.floods, day.peak, day.fleeting]) {
                put_zigzag(out, count);
            }
        }
    }
}
