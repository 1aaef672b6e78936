//! One lane: the assets of a partition, and how readings, deadlines and steps meet.
//!
//! Every step goes through [`Lane::apply`], so that counting, ranks, reminders and the record cannot be forgotten. What a
//! step releases on other alarms of the point is settled at the end of the call: an alarm that returns with the same
//! reading is not told in between.

use std::collections::HashMap;

use config::alarms::{Detect, Level};
use foldhash::fast::RandomState;
use model::{AlarmKind, AlarmState, Quality, Severity, Value};

use super::Now;
use super::condition::{self, Class, Fresh, Input, Seen, suppressed};
use super::engine::{Counts, Transition};
use super::first_out::{Groups, Member};
use super::flood::{Area, FLEETING, LONG_AGO};
use super::memory::{Alarm, Asset, Cause, DEVICE_MARK, NEVER, Pending, Point};
use super::plan::{Plan, Rule};
use super::record::{Parts, Telling, Why, tell};
use super::restore::Gone;
use super::state::{self, Step};
use super::timers::{Timers, What};

/// Who is told of transitions.
pub(super) type Out<'o> = &'o mut dyn FnMut(&Transition<'_>);

/// What lanes share.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) gateway_id: String,
    pub(super) plan: Plan,
    pub(super) groups: Groups,
    pub(super) areas: Vec<Area>,
    pub(super) counts: Counts,
    /// Alarms of conditions that sources keep.
    pub(super) conditions: usize,
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) number: usize,
    pub(super) steady: i64,
    pub(super) assets: Vec<Asset>,
    pub(super) by_name: HashMap<Box<str>, u32, RandomState>,
    pub(super) points: Vec<Point>,
    pub(super) alarms: Vec<Alarm>,
    pub(super) timers: Timers,
    /// Points whose alarms may hide one another no more.
    touched: Vec<u32>,
    /// Assets changed since they were saved.
    pub(super) changed: Vec<u32>,
    /// Restored alarms whose rules are gone.
    pub(super) gone: Vec<Gone>,
}

pub(super) fn number(length: usize) -> u32 {
    u32::try_from(length).expect("lanes are limited far below 2^32 points")
}

impl Lane {
    pub(super) fn new(number: usize) -> Self {
        Self { number, steady: LONG_AGO, ..Self::default() }
    }

    /// Lets time go on: everything that fell due happens at its own moment.
    pub(super) fn advance(&mut self, hub: &mut Hub, now: Now, out: Out<'_>) -> Now {
        self.steady = self.steady.max(now.steady);
        let now = Now { steady: self.steady, ..now };
        while let Some(at) = self.timers.next_at().filter(|at| *at <= now.steady) {
            let then = now.at(at);
            while let Some((_, n, what)) = self.timers.take(at) {
                self.fire(hub, n, what, then, out);
            }
            self.settle(hub, then, out);
        }
        now
    }

    fn fire(&mut self, hub: &mut Hub, n: u32, what: What, now: Now, out: Out<'_>) {
        let alarm = &mut self.alarms[n as usize];
        match what {
            What::Delay => {
                if let Some(pending) = alarm.pending.take() {
                    self.change(hub, n, pending.on, pending.cause, now, out);
                }
            }
            What::ShelfEnd => {
                alarm.shelf = None;
                self.apply(hub, n, Step::Shelve(false), Why::cause("shelve_expired"), now, out);
            }
            What::Release => {
                alarm.release = None;
                self.apply(hub, n, Step::ByDesign(false), Why::cause("released"), now, out);
            }
            What::Remind => {
                alarm.remind = None;
                if alarm.flags.state() == AlarmState::Active {
                    let telling =
                        Telling { announce: true, ..Telling::unchanged(AlarmState::Active, Why::cause("re_alarm")) };
                    self.tell(hub, n, &telling, now, out);
                    self.remind(hub, n, now);
                }
            }
        }
    }

    /// A reading of a watched point.
    pub(super) fn reading(&mut self, hub: &mut Hub, p: u32, now: Now, input: &Input<'_>, out: Out<'_>) {
        let class = input.class();
        let stepped = input.flags.contains(model::flag::CLOCK_STEP);
        if !self.is_news(hub, p, class, input.device_time.as_micros(), stepped) {
            return;
        }
        let point = &mut self.points[p as usize];
        point.quality = input.quality;
        if point.unit.as_deref() != input.unit {
            point.unit = input.unit.map(Into::into);
        }
        if class == Class::Value {
            let number = point.value.value().as_number();
            let previous = number.filter(|_| point.value_time != NEVER).map(|number| (number, point.value_time));
            let fresh = Fresh { previous, codes: input.codes, reason: input.reason };
            point.value.set(input.value);
            point.value_time = input.device_time.as_micros();
            point.unknown = false;
            for i in 0..self.points[p as usize].alarms.len() {
                let n = self.points[p as usize].alarms[i];
                self.judge(hub, n, Some(&fresh), now, out);
            }
            self.operand_changed(hub, p, now, out);
        } else {
            if class != Class::Hold {
                point.rejected.set(input.value);
            }
            self.unknown(hub, p, class, now, out);
        }
        self.settle(hub, now, out);
    }

    /// Whether a reading may change live state (ALM-08).
    fn is_news(&mut self, hub: &mut Hub, p: u32, class: Class, device_time: i64, stepped: bool) -> bool {
        if class == Class::Past {
            hub.counts.past += 1;
            return false;
        }
        let point = &mut self.points[p as usize];
        if stepped {
            point.judged = NEVER; // the clock behind its times was set anew
        }
        if device_time < point.judged {
            hub.counts.older += 1;
            return false;
        }
        point.judged = device_time;
        self.mark_changed(p);
        true
    }

    fn mark_changed(&mut self, p: u32) {
        let number = self.points[p as usize].asset;
        self.mark_asset_changed(number);
    }

    pub(super) fn mark_asset_changed(&mut self, number: u32) {
        let asset = &mut self.assets[number as usize];
        if !asset.changed {
            asset.changed = true;
            self.changed.push(number);
        }
    }

    /// A point or a device does not report.
    pub(super) fn stale(&mut self, hub: &mut Hub, p: u32, now: Now, out: Out<'_>) {
        self.mark_changed(p);
        let point = &mut self.points[p as usize];
        point.quality = point.quality.worse(Quality::Uncertain);
        for i in 0..point.alarms.len() {
            let n = self.points[p as usize].alarms[i];
            if hub.plan.rule(self.alarms[n as usize].rule).settings.detect.kind() == AlarmKind::Stale {
                self.observe(hub, n, true, false, now, out);
            }
        }
        self.unknown(hub, p, Class::Hold, now, out);
        self.settle(hub, now, out);
    }

    /// A device or a part of the gateway works, or does not any more.
    pub(super) fn source(&mut self, hub: &mut Hub, p: u32, down: bool, device_time: i64, now: Now, out: Out<'_>) {
        if !self.is_news(hub, p, Class::Value, device_time, false) {
            return;
        }
        self.points[p as usize].quality = if down { Quality::Bad } else { Quality::Good };
        for i in 0..self.points[p as usize].alarms.len() {
            let n = self.points[p as usize].alarms[i];
            self.observe(hub, n, down, false, now, out);
        }
        self.settle(hub, now, out);
    }

    /// What an alarm of the gateway itself speaks of.
    pub(super) fn tell_what(&mut self, p: u32, message: &str) {
        self.points[p as usize].value.set(Value::Text(message));
    }

    /// The value of a point is not known any more: states are held, delays begin anew (ALM-07).
    fn unknown(&mut self, hub: &mut Hub, p: u32, class: Class, now: Now, out: Out<'_>) {
        self.points[p as usize].unknown = true;
        for i in 0..self.points[p as usize].alarms.len() {
            let n = self.points[p as usize].alarms[i];
            let Rule { settings, made, .. } = hub.plan.rule(self.alarms[n as usize].rule);
            match (settings.detect.kind(), class) {
                (AlarmKind::Quality, Class::HardLimit) => self.observe(hub, n, true, true, now, out),
                (AlarmKind::Quality, Class::Bad) if !made => self.observe(hub, n, true, false, now, out),
                (AlarmKind::Stale, Class::Bad | Class::HardLimit) => self.observe(hub, n, false, false, now, out),
                (AlarmKind::Quality | AlarmKind::Stale, _) => {}
                _ => self.hold(hub, n, now, out),
            }
        }
        self.operand_changed(hub, p, now, out);
    }

    fn hold(&mut self, hub: &mut Hub, n: u32, now: Now, out: Out<'_>) {
        self.stop_delay(n);
        let alarm = &mut self.alarms[n as usize];
        if alarm.flags.is_standing() && !alarm.held {
            alarm.held = true;
            let telling = Telling::unchanged(alarm.flags.state(), Why::cause("quality"));
            self.tell(hub, n, &telling, now, out);
        }
    }

    fn stop_delay(&mut self, n: u32) {
        let pending = self.alarms[n as usize].pending.take();
        self.timers.stop(pending.map(|pending| pending.deadline), n, What::Delay);
    }

    /// Judges an alarm by the newest value of its point.
    fn judge(&mut self, hub: &mut Hub, n: u32, fresh: Option<&Fresh<'_>>, now: Now, out: Out<'_>) {
        self.judge_design(hub, n, now, out);
        let setpoint = self.alarms[n as usize].setpoint.map(|setpoint| self.points[setpoint as usize].known());
        if setpoint == Some(None) {
            return self.hold(hub, n, now, out);
        }
        let (was_held, told) = {
            let alarm = &mut self.alarms[n as usize];
            (std::mem::take(&mut alarm.held), alarm.seq)
        };
        let alarm = &self.alarms[n as usize];
        let point = &self.points[alarm.point as usize];
        let detect = &hub.plan.rule(alarm.rule).settings.detect;
        let there = match detect {
            Detect::Quality { reasons } => Some(fresh.is_some_and(|fresh| fresh.is_marked(reasons))),
            Detect::Stale => Some(false),
            _ => {
                let setpoint = setpoint.flatten().and_then(|value| value.as_number());
                let previous = fresh.and_then(|fresh| fresh.previous);
                let seen = Seen { value: point.value.value(), device_time: point.value_time, previous, setpoint };
                condition::in_alarm(detect, alarm.flags.condition_active, &seen)
            }
        };
        if let Some(there) = there {
            self.observe(hub, n, there, false, now, out);
        }
        let alarm = &self.alarms[n as usize];
        if was_held && alarm.seq == told && alarm.flags.is_standing() {
            let telling = Telling::unchanged(alarm.flags.state(), Why::cause("quality"));
            self.tell(hub, n, &telling, now, out);
        }
    }

    /// Suppression by design: at once when the state begins, after the release delay when it ends, and never while it is
    /// not known (ALM-13).
    fn judge_design(&mut self, hub: &mut Hub, n: u32, now: Now, out: Out<'_>) {
        let alarm = &self.alarms[n as usize];
        let Some(when) = &hub.plan.rule(alarm.rule).settings.suppress_when else { return };
        let operand = alarm.design.and_then(|design| self.points[design as usize].known());
        let delay = if operand.is_some() { when.release_delay_ms.saturating_mul(1000) } else { 0 };
        if suppressed(when, operand) {
            self.stop_release(n);
            self.apply(hub, n, Step::ByDesign(true), Why::cause("suppressed"), now, out);
        } else if alarm.flags.by_design && delay > 0 {
            if alarm.release.is_none() {
                let deadline = self.timers.start(now.steady.saturating_add(delay), 0, n, What::Release);
                self.alarms[n as usize].release = Some(deadline);
            }
        } else {
            self.stop_release(n);
            self.apply(hub, n, Step::ByDesign(false), Why::cause("released"), now, out);
        }
    }

    pub(super) fn stop_release(&mut self, n: u32) {
        let release = self.alarms[n as usize].release.take();
        self.timers.stop(release, n, What::Release);
    }

    /// Alarms that compare with this point.
    fn operand_changed(&mut self, hub: &mut Hub, p: u32, now: Now, out: Out<'_>) {
        for i in 0..self.points[p as usize].dependents.len() {
            let n = self.points[p as usize].dependents[i];
            self.judge_design(hub, n, now, out);
            let alarm = &self.alarms[n as usize];
            if alarm.setpoint != Some(p) || alarm.point == p {
                continue;
            }
            if self.points[p as usize].known().is_none() {
                self.hold(hub, n, now, out);
            } else if self.points[alarm.point as usize].known().is_some() {
                self.judge(hub, n, None, now, out);
            }
        }
    }

    /// The condition is there, or is not: starts, keeps or ends a delay.
    fn observe(&mut self, hub: &mut Hub, n: u32, there: bool, at_once: bool, now: Now, out: Out<'_>) {
        let alarm = &mut self.alarms[n as usize];
        let first = std::mem::take(&mut alarm.restored);
        let rule_changed = std::mem::take(&mut alarm.rule_changed);
        if alarm.flags.condition_active == there {
            return self.stop_delay(n);
        }
        if alarm.pending.is_some() && !at_once {
            return;
        }
        let cause = match there {
            true => Cause::Detected,
            false if rule_changed => Cause::Config,
            false if first => Cause::Restart,
            false => Cause::Returned,
        };
        let settings = &hub.plan.rule(alarm.rule).settings;
        let delay_ms = if there { settings.on_delay_ms } else { settings.off_delay_ms };
        if delay_ms == 0 || at_once {
            self.stop_delay(n);
            self.alarms[n as usize].by_hard_limit = at_once;
            return self.change(hub, n, there, cause, now, out);
        }
        let device_time = self.points[alarm.point as usize].judged;
        let at = now.steady.saturating_add(delay_ms.saturating_mul(1000));
        let deadline = self.timers.start(at, device_time, n, What::Delay);
        alarm.pending = Some(Pending { deadline, on: there, cause });
    }

    fn change(&mut self, hub: &mut Hub, n: u32, there: bool, cause: Cause, now: Now, out: Out<'_>) {
        let settings = &hub.plan.rule(self.alarms[n as usize].rule).settings;
        let step = if there { Step::Activate { latching: settings.latching } } else { Step::Return };
        let cause = match cause {
            Cause::Detected => word(&settings.detect),
            Cause::Returned => "return",
            Cause::Restart => "restart",
            Cause::Config => "config",
        };
        self.apply(hub, n, step, Why::cause(cause), now, out);
    }

    /// Takes a step: the only way an alarm's flags change.
    pub(super) fn apply(&mut self, hub: &mut Hub, n: u32, step: Step, why: Why<'_>, now: Now, out: Out<'_>) -> bool {
        let alarm = &mut self.alarms[n as usize];
        let before = alarm.flags;
        let Some(mut outcome) = state::next(before, step) else { return false };
        outcome.announce &= !why.quiet;
        let after = outcome.flags;
        alarm.flags = after;
        if outcome.new_occurrence {
            alarm.begin_occurrence();
            alarm.times.activated = Some(now.wall);
        }
        if matches!(step, Step::Activate { .. }) {
            alarm.recent.rotate_left(1);
            alarm.recent[alarm.recent.len() - 1] = now.steady;
            alarm.standing_since = now.steady;
        }
        let mut fleeting = false;
        if before.is_standing() && !after.is_standing() {
            alarm.times.cleared = Some(now.wall);
            fleeting = !after.acked && now.steady.saturating_sub(alarm.standing_since) < FLEETING;
        }
        let (rule, point) = (alarm.rule, alarm.point);
        let Rule { settings, group, area, .. } = hub.plan.rule(rule);
        let (area, group, hides) = (*area as usize, *group, settings.subsume);
        let member = Member { lane: self.number, alarm: n };
        if outcome.announce {
            if let Some(count) = alarm.days.get_or_insert_default().at(now.steady) {
                *count += 1;
            }
            let severity = self.severity(hub, n);
            hub.areas[area].announced(severity, now.steady);
            if let Some(group) = group {
                hub.groups.announced(group, member);
            }
        } else if fleeting && after.suppression().is_none() {
            hub.areas[area].fleeting(now.steady);
        }
        if after.state() != AlarmState::Active {
            self.stop_reminding(n);
        } else if outcome.announce {
            self.remind(hub, n, now);
        }
        let telling = Telling { from: before.state(), why, past: None, announce: outcome.announce, fleeting };
        self.tell(hub, n, &telling, now, out);
        if let Some(group) = group {
            hub.groups.update(group, member, after.is_standing() && after.suppression().is_none());
        }
        if hides {
            self.hide(hub, point, false, now, out);
            self.touched.push(point);
        }
        if before.condition_active && !after.condition_active {
            self.alarms[n as usize].by_hard_limit = false;
            self.end_one_shot(hub, n, now, out);
        }
        true
    }

    fn end_one_shot(&mut self, hub: &mut Hub, n: u32, now: Now, out: Out<'_>) {
        if self.alarms[n as usize].shelf.is_some_and(|shelf| shelf.one_shot) {
            self.stop_shelf(n);
            self.apply(hub, n, Step::Shelve(false), Why::cause("one_shot"), now, out);
        }
    }

    pub(super) fn stop_shelf(&mut self, n: u32) {
        let shelf = self.alarms[n as usize].shelf.take();
        self.timers.stop(shelf.map(|shelf| shelf.deadline), n, What::ShelfEnd);
    }

    fn stop_reminding(&mut self, n: u32) {
        let remind = self.alarms[n as usize].remind.take();
        self.timers.stop(remind, n, What::Remind);
    }

    /// Tells again after a while; counted from the lane's time, so that a long pause is told once.
    fn remind(&mut self, hub: &Hub, n: u32, now: Now) {
        self.stop_reminding(n);
        if let Some(ms) = hub.plan.rule(self.alarms[n as usize].rule).settings.re_alarm_ms {
            let at = now.steady.max(self.steady).saturating_add(ms.saturating_mul(1000));
            self.alarms[n as usize].remind = Some(self.timers.start(at, 0, n, What::Remind));
        }
    }

    /// All points again, after the rules may have changed.
    pub(super) fn touch_all(&mut self) {
        self.touched = (0..number(self.points.len())).collect();
    }

    pub(super) fn settle(&mut self, hub: &mut Hub, now: Now, out: Out<'_>) {
        while let Some(point) = self.touched.pop() {
            self.hide(hub, point, true, now, out);
        }
    }

    /// HIHI hides HI, LOLO hides LO, while it is shown itself (ALM-09).
    fn hide(&mut self, hub: &mut Hub, point: u32, release: bool, now: Now, out: Out<'_>) {
        for i in 0..self.points[point as usize].alarms.len() {
            let n = self.points[point as usize].alarms[i];
            let hider = match &hub.plan.rule(self.alarms[n as usize].rule).settings.detect {
                Detect::Level { level: Level::Hi, .. } => AlarmKind::HiHi,
                Detect::Level { level: Level::Lo, .. } => AlarmKind::LoLo,
                _ => continue,
            };
            let hidden = self.points[point as usize].alarms.iter().any(|other| {
                let other = &self.alarms[*other as usize];
                let settings = &hub.plan.rule(other.rule).settings;
                let shown = matches!(other.flags.state(), AlarmState::Active | AlarmState::Acknowledged);
                settings.subsume && settings.detect.kind() == hider && shown
            });
            if hidden || release {
                let cause = if hidden { "subsumed" } else { "released" };
                self.apply(hub, n, Step::Subsume(hidden), Why::cause(cause), now, out);
            }
        }
    }

    /// As configured; a quality alarm raised by a hard limit is as severe as the point's highest limit (ALM-05).
    pub(super) fn severity(&self, hub: &Hub, n: u32) -> Severity {
        let alarm = &self.alarms[n as usize];
        if let Some(kept) = &alarm.kept {
            return kept.severity;
        }
        let own = hub.plan.rule(alarm.rule).settings.severity;
        if !alarm.by_hard_limit {
            return own;
        }
        let rules: Vec<u32> = self.points[alarm.point as usize]
            .alarms
            .iter()
            .filter(|other| **other != n)
            .map(|other| self.alarms[*other as usize].rule)
            .collect();
        let highest = hub.plan.severest(&rules).map(|rule| hub.plan.rule(rule).settings.severity);
        highest.map_or(own, |highest| highest.max(own))
    }

    /// The alarm's part of its key.
    pub(super) fn alarm_id(&self, hub: &Hub, n: u32) -> String {
        let alarm = &self.alarms[n as usize];
        alarm_id(&hub.plan.rule(alarm.rule).settings.id, self.points[alarm.point as usize].source())
    }

    /// The record of an alarm as it is now.
    pub(super) fn record(
        &self,
        hub: &Hub,
        n: u32,
        telling: &Telling<'_>,
        now: Now,
        out: &mut dyn FnMut(&model::Alarm<'_>),
    ) {
        let alarm = &self.alarms[n as usize];
        let point = &self.points[alarm.point as usize];
        let Rule { settings, group, .. } = hub.plan.rule(alarm.rule);
        let member = Member { lane: self.number, alarm: n };
        let parts = Parts {
            gateway_id: &hub.gateway_id,
            asset: &self.assets[point.asset as usize].name,
            alarm_id: &self.alarm_id(hub, n),
            kind: settings.detect.kind(),
            severity: self.severity(hub, n),
            rule: Some(settings),
            parameter: if point.source().is_some() { None } else { Some(&point.name) },
            point: Some(point),
            alarm,
            rank: group.and_then(|group| hub.groups.rank(group, member)).map(|(rank, _)| rank),
        };
        tell(&parts, telling, now, out);
    }

    /// Writes a record.
    pub(super) fn tell(&mut self, hub: &mut Hub, n: u32, telling: &Telling<'_>, now: Now, out: Out<'_>) {
        self.alarms[n as usize].seq += 1;
        self.mark_changed(self.alarms[n as usize].point);
        hub.counts.transitions += 1;
        let lane = self.number;
        self.record(hub, n, telling, now, &mut |alarm| {
            out(&Transition { lane, alarm: *alarm, annunciate: telling.announce });
        });
    }
}

/// The rule's name, and that of the device or condition when it is the alarm of one.
pub(super) fn alarm_id(rule: &str, source: Option<&str>) -> String {
    let plain = |c: char| if c == '/' || c.is_control() { '_' } else { c };
    match source {
        None => rule.to_owned(),
        Some(source) => format!("{rule}{DEVICE_MARK}{}", source.chars().map(plain).collect::<String>()),
    }
}

/// Why an alarm of this kind comes.
fn word(detect: &Detect) -> &'static str {
    match detect {
        Detect::Level { .. } => "limit",
        Detect::Deviation { .. } => "deviation",
        Detect::Rate { .. } => "rate",
        Detect::Discrete { .. } => "mismatch",
        Detect::Quality { .. } => "quality",
        Detect::Stale => "stale",
        Detect::Comm { .. } => "communication",
        Detect::System { .. } => "system",
        Detect::Condition => "condition",
    }
}
