//! The chain of checks, in its fixed order. Only the end of it writes to the point, and only for accepted readings: a
//! panic inside a check or a BAD finding leaves the history as it was.

use config::rules::UnknownPoints;
use model::{Quality, Reading, Value, reason};

use super::finding::Finding;
use super::judgement::{Judgement, Rejection, Verdict};
use super::plan::{Checks, Further};
use super::point::{NEVER, Point};
use super::rules::condition::{Held, Operand};
use super::rules::{device_time, duplicate, gap, presence, rate, unit, value_type};

/// What the asset's other points say, told before the chain begins.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Around {
    /// The condition over them does not hold.
    pub(super) broken: Option<Finding>,
    /// Bit by place in [`Further::gates`]: the rule is switched off.
    pub(super) off: u64,
}

/// How the point's memory is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    /// Steady time, microseconds.
    pub(super) now: i64,
    /// Gateway time less steady time.
    pub(super) shift: i64,
    /// The source's clock was set before this reading.
    pub(super) stepped: bool,
    pub(super) unknown_points: UnknownPoints,
    /// Expressions read this point.
    pub(super) is_operand: bool,
}

impl Checks {
    fn is_on(&self, rule: u32, around: Around) -> bool {
        let Some(further) = &self.further else { return true };
        around.off == 0
            || !further.gates.iter().enumerate().any(|(at, (gate, _))| *gate == rule && around.off >> at & 1 == 1)
    }
}

/// Judges a reading against what its point remembers. `judgement` is a new one, filled in place: it is too large to be
/// handed about by value for every reading.
pub(super) fn judge(
    checks: &Checks,
    point: &mut Point,
    reading: &Reading<'_>,
    around: Around,
    arrival: Arrival,
    judgement: &mut Judgement,
) {
    if reading.quality == Quality::Bad {
        judgement.verdict = Verdict::Reject(Rejection::Source);
        lose(point);
        return;
    }
    if checks.unknown {
        let dead = arrival.unknown_points == UnknownPoints::DeadLetter;
        let quality = if dead { Quality::Bad } else { Quality::Suspect };
        let finding = Finding::always(quality, reason::UNCONFIGURED);
        if dead {
            judgement.reject(finding);
            return;
        }
        judgement.add(finding);
    }
    if let Some(finding) = type_of(checks, reading, around).or_else(|| presence::check(&reading.value)) {
        judgement.reject(finding);
        return;
    }
    if let Some(further) = &checks.further
        && let Some(expected) = further.unit.as_ref().filter(|expected| checks.is_on(expected.rule, around))
    {
        match expected.check(reading.unit, &reading.value) {
            unit::Compared::Same => {}
            unit::Compared::Converted(value) => judgement.converted = Some(value),
            unit::Compared::Wrong(finding) => {
                judgement.reject(finding);
                return;
            }
        }
    }
    match device_time::check(reading) {
        None => {}
        Some(device_time::Found::Unusable(finding)) => {
            judgement.device_time = reading.gateway_time;
            judgement.add(finding);
        }
        Some(device_time::Found::Unsynced(finding)) => judgement.add(finding),
    }
    let value = judgement.converted.map_or(reading.value, Value::Float);
    let time = judgement.device_time.as_micros();
    if arrival.stepped {
        point.forget_times();
    }
    match point.memory.look(point.newest, time, &value, reading.quality) {
        duplicate::Seen::New => {}
        duplicate::Seen::Duplicate => {
            judgement.verdict = Verdict::Duplicate;
            return;
        }
        duplicate::Seen::Conflict => judgement.add(Finding::always(Quality::Suspect, reason::DUP_CONFLICT)),
    }
    judgement.in_order = time > point.newest;
    let number = value.as_number();
    if let (Some(value), Some(range)) = (number, &checks.range)
        && let Some(finding) = range.check(value)
        && checks.is_on(range.rule, around)
    {
        if finding.quality == Quality::Bad {
            judgement.reject(finding);
            return;
        }
        judgement.add(finding);
    }
    if let Some(further) = &checks.further
        && let Some(allowed) = further.allowed.as_ref().filter(|allowed| checks.is_on(allowed.rule, around))
        && let Some(finding) = allowed.check(&value, reading.value_label)
    {
        if finding.quality == Quality::Bad {
            judgement.reject(finding);
            return;
        }
        judgement.add(finding);
    }
    // VAL-23: what comes out of order is not compared with its predecessor
    if let (Some(value), Some(rate), true) = (number, &checks.rate, judgement.in_order) {
        let last = point.has_number.then_some(rate::At { value: point.last_value, time: point.newest });
        let compared =
            rate.check(last, point.extras.as_deref().and_then(|extras| extras.rejected), rate::At { value, time });
        match compared {
            rate::Compared::Pass => {}
            _ if !checks.is_on(rate.rule, around) => {}
            rate::Compared::Marked(finding) => judgement.add(finding),
            rate::Compared::Rejected(finding, level) => {
                point.extras.get_or_insert_default().rejected = Some(level);
                judgement.reject(finding);
                return;
            }
        }
    }
    if let Some(further) = &checks.further {
        compare_with_history(checks, further, point, number, around, judgement);
    }
    if let Some(interval) = checks.expected_interval
        && !arrival.stepped
    {
        let gap = gap::check((point.arrival != NEVER).then_some(point.arrival), arrival.now, interval);
        judgement.gap = gap.map(|gap| gap.shifted(arrival.shift));
    }
    judgement.late = device_time::is_late(time, point.newest);
    remember(checks, point, reading, &value, judgement, arrival);
}

fn type_of(checks: &Checks, reading: &Reading<'_>, around: Around) -> Option<Finding> {
    if let Some(finding) = value_type::check(&reading.value, reading.value_type) {
        return Some(finding);
    }
    let further = checks.further.as_ref()?;
    let declared = further.value_type.filter(|_| checks.is_on(further.type_rule, around))?;
    value_type::check(&reading.value, declared).map(|finding| Finding { rule: Some(further.type_rule), ..finding })
}

/// Spike, flatline and the condition over other points; all of them only mark.
fn compare_with_history(
    checks: &Checks,
    further: &Further,
    point: &Point,
    number: Option<f64>,
    around: Around,
    judgement: &mut Judgement,
) {
    let extras = point.extras.as_deref();
    if let (Some(value), true) = (number, judgement.in_order) {
        if let (Some(spike), Some(extras)) = (&further.spike, extras)
            && checks.is_on(spike.rule, around)
            && let Some(finding) = spike.check(&extras.recent, value)
        {
            judgement.add(finding);
        }
        if let Some(flatline) = &further.flatline
            && checks.is_on(flatline.rule, around)
        {
            let time = judgement.device_time.as_micros();
            let rest = flatline.next(extras.and_then(|extras| extras.rest), value, time);
            if let Some(finding) = flatline.check(&rest, time) {
                judgement.add(finding);
            }
        }
    }
    if let Some(finding) = around.broken {
        judgement.add(finding);
    }
}

/// Writes an accepted reading into the point's history.
#[inline]
fn remember(
    checks: &Checks,
    point: &mut Point,
    reading: &Reading<'_>,
    value: &Value<'_>,
    judgement: &Judgement,
    arrival: Arrival,
) {
    let time = judgement.device_time.as_micros();
    point.memory.remember(time, value, reading.quality);
    point.arrival = arrival.now;
    point.stale = false;
    if !judgement.in_order {
        return;
    }
    point.newest = time;
    let number = value.as_number();
    point.has_number = number.is_some();
    point.last_value = number.unwrap_or_default();
    if let Some(extras) = &mut point.extras {
        extras.rejected = None;
    }
    if checks.further.is_none() && !arrival.is_operand {
        return;
    }
    let extras = point.extras.get_or_insert_default();
    if let (Some(further), Some(number)) = (&checks.further, number) {
        if further.spike.is_some() {
            extras.recent.push(number);
        }
        if let Some(flatline) = &further.flatline {
            extras.rest = Some(flatline.next(extras.rest, number, time));
        }
    }
    if arrival.is_operand {
        extras.operand = Held::of(value).map(|value| Operand { value, time, lost: false });
    }
}

/// The newest reading has no value: what expressions knew of the point counts for nothing.
fn lose(point: &mut Point) {
    if let Some(operand) = point.extras.as_mut().and_then(|extras| extras.operand.as_mut()) {
        operand.lost = true;
    }
}
