//! Rate of change: flags a reading that moved faster than the process can.
//!
//! Invariants: the first reading of a point is never flagged, there is nothing to compare it with; a real step after a
//! product change is believed after three readings that agree with each other (VAL-20).

use config::rules::RateLimits;
use model::{Quality, reason};

use crate::bytes::{Reader, Writer};
use crate::validate::Finding;

/// Rejected readings that must agree before a new level is believed; the last of them is accepted as SUSPECT.
const AGREEING_FOR_STEP: u8 = 3;
/// Readings further apart than this many expected intervals are not compared.
const INTERVALS_MAX: i64 = 10;

/// Limits per second of device time in the point's own unit; those not configured are infinite.
#[derive(Debug, Clone, PartialEq)]
pub struct Rate {
    /// Index of the configured rule.
    pub rule: u32,
    soft_per_s: f64,
    hard_per_s: f64,
    /// Microseconds; no comparison over a longer time.
    apart_max: i64,
}

/// A value at a device time in microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct At {
    pub value: f64,
    pub time: i64,
}

/// A level that was rejected and may turn out to be real.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    newest: At,
    agreeing: u8,
}

impl Candidate {
    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.float(self.newest.value);
        writer.int(self.newest.time);
        writer.int(i64::from(self.agreeing));
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let newest = At { value: reader.float()?, time: reader.int()? };
        Some(Self { newest, agreeing: u8::try_from(reader.int()?).ok()? })
    }
}

/// Result of the comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Compared {
    /// Within the limits, or nothing to compare with.
    Pass,
    /// Accepted with a mark.
    Marked(Finding),
    /// Rejected; the candidate is all that is remembered of it.
    Rejected(Finding, Candidate),
}

impl Rate {
    /// `expected_interval` in microseconds, where it is known.
    pub fn new(rule: u32, limits: &RateLimits, expected_interval: Option<i64>) -> Self {
        Self {
            rule,
            soft_per_s: limits.soft_per_s.unwrap_or(f64::INFINITY),
            hard_per_s: limits.hard_per_s.unwrap_or(f64::INFINITY),
            apart_max: expected_interval.map_or(i64::MAX, |interval| interval.saturating_mul(INTERVALS_MAX)),
        }
    }

    /// Compares with the last accepted reading and with the level rejected since then.
    pub fn check(&self, last: Option<At>, rejected: Option<Candidate>, now: At) -> Compared {
        let Some(change) = last.and_then(|last| self.change_per_s(last, now)) else { return Compared::Pass };
        if change <= self.soft_per_s && change <= self.hard_per_s {
            return Compared::Pass;
        }
        let soft = Finding {
            quality: Quality::Suspect,
            code: reason::ROC_SOFT,
            rule: Some(self.rule),
            limit: Some(self.soft_per_s.min(self.hard_per_s)),
        };
        if change <= self.hard_per_s {
            return Compared::Marked(soft);
        }
        let agreeing = match rejected {
            Some(level) if now.time <= level.newest.time => return self.reject(level), // told again, not confirmed
            Some(level) if self.change_per_s(level.newest, now).is_some_and(|change| change <= self.hard_per_s) => {
                level.agreeing.saturating_add(1)
            }
            _ => 1,
        };
        if agreeing >= AGREEING_FOR_STEP {
            return Compared::Marked(soft);
        }
        self.reject(Candidate { newest: now, agreeing })
    }

    fn reject(&self, candidate: Candidate) -> Compared {
        let finding = Finding {
            quality: Quality::Bad,
            code: reason::ROC_HARD,
            rule: Some(self.rule),
            limit: Some(self.hard_per_s),
        };
        Compared::Rejected(finding, candidate)
    }

    /// `None` when the two cannot be compared.
    fn change_per_s(&self, before: At, now: At) -> Option<f64> {
        let elapsed = now.time.saturating_sub(before.time);
        if elapsed <= 0 || elapsed > self.apart_max {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "years in microseconds fit 53 bits")]
        let seconds = elapsed as f64 / 1e6;
        Some((now.value - before.value).abs() / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rate: &Rate, series: &[(f64, i64)]) -> Vec<Option<Quality>> {
        let (mut last, mut candidate) = (None, None);
        let mut found = Vec::new();
        for (value, second) in series {
            let now = At { value: *value, time: second * 1_000_000 };
            match rate.check(last, candidate, now) {
                Compared::Rejected(finding, level) => {
                    candidate = Some(level);
                    found.push(Some(finding.quality));
                    continue;
                }
                Compared::Marked(finding) => found.push(Some(finding.quality)),
                Compared::Pass => found.push(None),
            }
            (last, candidate) = (Some(now), None);
        }
        found
    }

    fn hard(limit: f64) -> Rate {
        Rate::new(0, &RateLimits { soft_per_s: None, hard_per_s: Some(limit) }, None)
    }

    const BAD: Option<Quality> = Some(Quality::Bad);
    const SUSPECT: Option<Quality> = Some(Quality::Suspect);

    #[test]
    fn a_real_step_is_believed_after_three_readings() {
        // AC-068, VAL-20
        let series = [(10.0, 0), (10.0, 1), (50.0, 2), (50.0, 3), (50.0, 4), (50.0, 5)];
        assert_eq!(run(&hard(5.0), &series), [None, None, BAD, BAD, SUSPECT, None]);
    }

    #[test]
    fn outliers_that_disagree_or_are_told_twice_do_not_make_a_level() {
        let series = [(10.0, 0), (50.0, 1), (90.0, 2), (10.0, 3), (50.0, 4), (50.0, 4), (50.0, 4), (11.0, 5)];
        assert_eq!(run(&hard(5.0), &series), [None, BAD, BAD, None, BAD, BAD, BAD, None]);
    }

    #[test]
    fn soft_marks_and_what_lies_too_far_apart_is_not_compared() {
        let rate = Rate::new(0, &RateLimits { soft_per_s: Some(1.0), hard_per_s: Some(5.0) }, Some(1_000_000));
        let series = [(0.0, 0), (1.0, 1), (3.0, 2), (100.0, 13), (0.0, 12)];
        assert_eq!(run(&rate, &series), [None, None, SUSPECT, None, None]);
    }
}
