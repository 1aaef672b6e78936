//! Conditions that a source keeps itself: its word counts, and is taken over without delay or hysteresis (UA-29).
//!
//! Invariants:
//! - Our acknowledgement stays ours: the source's comes on top of it, and its absence takes none away (UA-31, ALM-19 h).
//! - Words are taken in the order they were said, each once, whatever the clocks of source and gateway do: they are
//!   numbered, and an older number changes nothing.
//! - Somebody is called for a condition that came, never for one that was there before (AC-044).

use config::alarms::{AlarmRule, Detect};
use model::{Quality, Severity, SuppressionKind, Timestamp, Value};

use super::Now;
use super::lane::{Hub, Lane, Out};
use super::memory::{Acked, CONDITION_MARK, Kept, NEVER};
use super::record::{Telling, Why};
use super::state::Step;

/// Alarms of conditions over all sources; further ones are refused and counted, so that what a server makes up leaves
/// room for the alarms of the rules.
pub const CONDITIONS_MAX: usize = 20_000;
/// Name of the rule nobody wrote; alarms are `condition:<identity>` of the source's asset.
const RULE: &str = "condition";

/// A word of a source about a condition.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct ConditionEvent<'a> {
    pub asset: &'a str,
    /// Server, condition and branch (UA-27).
    pub condition: &'a str,
    /// Who tells of it.
    pub origin: &'a str,
    /// Grows with each word of the origin.
    pub order: i64,
    pub active: bool,
    pub acked: bool,
    /// The source suppresses it.
    pub suppression: Option<SuppressionKind>,
    pub severity: Severity,
    pub message: &'a str,
    pub quality: Quality,
    /// It is over because a refresh did not tell of it.
    pub by_refresh: bool,
    /// It was so before; nobody is to be called.
    pub quiet: bool,
    /// Who acknowledged or suppressed it at the source.
    pub actor: Option<&'a str>,
    pub device_time: Timestamp,
}

/// A source has told everything.
#[derive(Debug, Clone, Copy)]
pub struct RefreshEvent<'a> {
    pub asset: &'a str,
    pub origin: &'a str,
    /// What was told has a higher number.
    pub since: i64,
    pub order: i64,
}

/// The rule of all of them.
pub(super) fn rule() -> AlarmRule {
    AlarmRule {
        id: RULE.to_owned(),
        asset: String::new(),
        parameter: String::new(),
        detect: Detect::Condition,
        on_delay_ms: 0,
        off_delay_ms: 0,
        severity: Severity::Medium,
        priority: None,
        message: "A condition of the source".to_owned(),
        consequence: None,
        action: None,
        group: None,
        area: None,
        latching: false,
        subsume: false,
        re_alarm_ms: None,
        enabled: true,
        suppress_when: None,
    }
}

impl Lane {
    /// Takes the word of a source over.
    pub(super) fn kept(&mut self, hub: &mut Hub, p: u32, event: &ConditionEvent<'_>, now: Now, out: Out<'_>) {
        let Some(n) = self.points[p as usize].alarms.first().copied() else { return };
        let (severity, origin) = (event.severity, event.origin);
        let kept =
            self.alarms[n as usize].kept.get_or_insert_with(|| Box::new(Kept { origin: origin.into(), severity }));
        let point = &mut self.points[p as usize];
        if *kept.origin != *origin {
            // somebody else tells of it now, and counts for itself
            kept.origin = origin.into();
            point.judged = NEVER;
        }
        if event.order < point.judged {
            hub.counts.older += 1;
            return;
        }
        let is_other = std::mem::replace(&mut kept.severity, severity) != severity;
        (point.judged, point.value_time, point.quality) = (event.order, event.device_time.as_micros(), event.quality);
        point.value.set(Value::Text(event.message));
        let asset = point.asset;
        self.mark_asset_changed(asset);
        let told = self.alarms[n as usize].seq;
        let why = |cause| Why { actor: event.actor, quiet: event.quiet || event.acked, ..Why::cause(cause) };
        if event.suppression.is_some() {
            self.apply(hub, n, Step::BySource(event.suppression), why("source_suppressed"), now, out);
        }
        if event.active {
            self.apply(hub, n, Step::Activate { latching: false }, Why { actor: None, ..why("condition") }, now, out);
        } else {
            let cause = if event.by_refresh { "refresh" } else { "return" };
            self.apply(hub, n, Step::Return, Why::cause(cause), now, out);
        }
        if event.suppression.is_none() {
            self.apply(hub, n, Step::BySource(None), why("source_released"), now, out);
        }
        let flags = self.alarms[n as usize].flags;
        if event.acked && !flags.acked {
            let by = event.actor.unwrap_or(event.origin).into();
            let acked = Acked { by, issued: event.device_time, applied: now.wall };
            self.alarms[n as usize].times.acked = Some(acked);
            self.apply(hub, n, Step::Ack, why("source_ack"), now, out);
        }
        let alarm = &self.alarms[n as usize];
        if is_other && alarm.seq == told && alarm.flags.is_standing() {
            let telling = Telling::unchanged(alarm.flags.state(), Why::cause("severity"));
            self.tell(hub, n, &telling, now, out);
        }
        self.settle(hub, now, out);
    }

    /// What the origin did not tell of is over.
    pub(super) fn refreshed(&mut self, hub: &mut Hub, event: &RefreshEvent<'_>, now: Now, out: Out<'_>) {
        let Some(asset) = self.asset(event.asset) else { return };
        for i in 0..self.assets[asset as usize].points.len() {
            let p = self.assets[asset as usize].points[i];
            let point = &self.points[p as usize];
            if !point.name.starts_with(CONDITION_MARK) || point.judged > event.since {
                continue;
            }
            let Some(n) = point.alarms.first().copied() else { continue };
            let alarm = &self.alarms[n as usize];
            let is_its = alarm.kept.as_ref().is_some_and(|kept| *kept.origin == *event.origin);
            if !is_its || !alarm.flags.condition_active {
                continue;
            }
            self.points[p as usize].judged = event.order;
            self.points[p as usize].value_time = now.wall.as_micros();
            self.apply(hub, n, Step::Return, Why::cause("refresh"), now, out);
            let released = Why { quiet: true, ..Why::cause("source_released") };
            self.apply(hub, n, Step::BySource(None), released, now, out);
        }
        self.settle(hub, now, out);
    }
}
