//! From memory to the record of one transition (ALM-04).

use config::alarms::AlarmRule;
use model::{
    AlarmChange, AlarmKind, AlarmState, IsaState, Severity, SuppressionKind, TextList, TextMap, Timestamp, Value,
    alarm_flag,
};

use super::Now;
use super::flood::is_chattering;
use super::memory::{Alarm, NEVER, Past, Point};

/// Why something happens, and by whom.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Why<'a> {
    pub(super) cause: &'a str,
    pub(super) actor: Option<&'a str>,
    pub(super) role: Option<&'a str>,
    pub(super) comment: Option<&'a str>,
    pub(super) command_id: Option<&'a str>,
    /// Nobody is to be called: it was so before.
    pub(super) quiet: bool,
}

impl<'a> Why<'a> {
    pub(super) fn cause(cause: &'a str) -> Self {
        Self { cause, ..Self::default() }
    }
}

/// What is told besides the alarm itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Telling<'a> {
    pub(super) from: AlarmState,
    pub(super) why: Why<'a>,
    /// An earlier occurrence that the record speaks of.
    pub(super) past: Option<&'a Past>,
    pub(super) announce: bool,
    pub(super) fleeting: bool,
}

impl<'a> Telling<'a> {
    /// Nothing changes its state.
    pub(super) fn unchanged(state: AlarmState, why: Why<'a>) -> Self {
        Self { from: state, why, past: None, announce: false, fleeting: false }
    }
}

/// Everything a record is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) gateway_id: &'a str,
    pub(super) asset: &'a str,
    pub(super) alarm_id: &'a str,
    pub(super) kind: AlarmKind,
    pub(super) severity: Severity,
    /// `None` for an alarm whose rule is gone.
    pub(super) rule: Option<&'a AlarmRule>,
    pub(super) parameter: Option<&'a str>,
    pub(super) point: Option<&'a Point>,
    pub(super) alarm: &'a Alarm,
    pub(super) rank: Option<i32>,
}

/// Builds the record and hands it on.
pub(super) fn tell(parts: &Parts<'_>, telling: &Telling<'_>, now: Now, out: &mut dyn FnMut(&model::Alarm<'_>)) {
    let Parts { alarm, rule, point, .. } = *parts;
    let flags = alarm.flags;
    let past = telling.past;
    let times = past.map_or(&alarm.times, |past| &past.times);
    let alarm_key = format!("{}/{}/{}", parts.gateway_id, parts.asset, parts.alarm_id);
    let occurrence_id = format!("{alarm_key}/{}", past.map_or(alarm.occurrence, |past| past.number));
    let acked_at = times.acked.as_ref().map(|acked| acked.issued);
    let ack_applied_at = times.acked.as_ref().map(|acked| acked.applied.to_string()).unwrap_or_default();
    let mut metadata = vec![("gateway_id", parts.gateway_id)];
    if let Some(acked) = &times.acked {
        metadata.extend([("acked_by", &*acked.by), ("ack_applied_at", &ack_applied_at)]);
    }
    let facts = [
        (telling.announce, alarm_flag::ANNUNCIATE),
        (alarm.held, alarm_flag::QUALITY),
        (telling.fleeting, alarm_flag::FLEETING),
        (past.is_some(), alarm_flag::PAST_OCCURRENCE),
    ];
    let record_flags: Vec<&str> = facts.iter().filter(|(holds, _)| *holds).map(|(_, flag)| *flag).collect();
    let (acked, state, isa_state) = match past {
        Some(past) if past.acked => (true, AlarmState::Cleared, IsaState::A),
        Some(_) => (false, AlarmState::Cleared, IsaState::D),
        None => (flags.acked, flags.state(), flags.isa()),
    };
    let area = rule.and_then(|rule| rule.area.as_deref()).map(|area| [("area", area)]);
    let area = area.as_ref().map_or(&[][..], |area| area.as_slice());
    let kept = point.filter(|_| parts.kind == AlarmKind::Condition);
    // the words about a condition are numbered; its time is the source's
    let judged = point.map(|point| if kept.is_some() { point.value_time } else { point.judged });
    let judged = judged.filter(|judged| *judged != NEVER);
    out(&model::Alarm {
        alarm_key: &alarm_key,
        occurrence_id: &occurrence_id,
        seq: alarm.seq,
        kind: parts.kind.as_str(),
        severity: parts.severity.as_str(),
        priority: rule.and_then(|rule| rule.priority),
        asset_id: parts.asset,
        asset_path: None,
        parameter: parts.parameter,
        value: point.map_or(Value::Null, |point| observed(parts.kind, point)),
        limit: rule.and_then(|rule| rule.detect.limit()),
        unit: point.and_then(|point| point.unit.as_deref()),
        quality: point.map(|point| point.quality).unwrap_or_default(),
        condition_active: past.is_none() && flags.condition_active,
        acked,
        latched: past.is_none() && flags.latched,
        suppressed_by_design: flags.by_design || flags.subsumed || flags.by_source == Some(SuppressionKind::ByDesign),
        out_of_service: flags.out_of_service || flags.by_source == Some(SuppressionKind::OutOfService),
        enabled: flags.enabled && flags.by_source != Some(SuppressionKind::Disabled),
        state: state.as_str(),
        isa_state: isa_state.as_str(),
        suppression_kind: flags.suppression().filter(|_| past.is_none()).map(SuppressionKind::as_str),
        message: kept.and_then(said).or(rule.map(|rule| rule.message.as_str())).unwrap_or_default(),
        consequence: rule.and_then(|rule| rule.consequence.as_deref()),
        action: rule.and_then(|rule| rule.action.as_deref()),
        group: rule.and_then(|rule| rule.group.as_deref()),
        first_out_rank: parts.rank,
        chattering: is_chattering(alarm.recent, now.steady),
        change: AlarmChange {
            from: telling.from.as_str(),
            to: state.as_str(),
            cause: telling.why.cause,
            actor: telling.why.actor,
            actor_role: telling.why.role,
            comment: telling.why.comment,
            command_id: telling.why.command_id,
        },
        activated_at: times.activated,
        acked_at,
        cleared_at: times.cleared,
        shelved_until: alarm.shelf.map(|shelf| shelf.until),
        device_time: judged.map_or(now.wall, Timestamp::from_micros),
        gateway_time: now.wall,
        flags: TextList::Slice(&record_flags),
        config_revision: None,
        metadata: TextMap::Slice(&metadata),
        tags: TextMap::Slice(area),
    });
}

/// What the source of a condition says about it.
fn said(point: &Point) -> Option<&str> {
    match point.value.value() {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// The value the alarm speaks of: for a quality alarm what was rejected.
fn observed(kind: AlarmKind, point: &Point) -> Value<'_> {
    if kind == AlarmKind::Quality && point.unknown { point.rejected.value() } else { point.value.value() }
}
