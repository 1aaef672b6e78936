//! Everything that is known of a window, owned, and how two of them merge (AGG-05).
//!
//! Numbers merge by [`super::statistics`]; times, counts and vectors add up. Nothing here is rounded, so that a longer
//! window is what its readings would have made.

use std::sync::Arc;

use model::aggregate::{self as wire, Counts, Coverage, OTHER_STATE, Partials, STATES_MAX, StateTimes, Vector};
use model::{Kind, Quality, Statistics};

use super::statistics::{self, Accumulator};

/// Share of a window's time that must be covered for the window to be GOOD (AGG-04).
const COVERED_SHARE_MIN: f64 = 0.8;

/// The whole of a window.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Totals {
    pub statistics: Statistics,
    /// `None` where time is not looked at.
    pub coverage: Option<Coverage>,
    pub extra: Extra,
    /// Closed before its end, or merged from such a window.
    pub partial: bool,
}

/// What only some kinds have.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Extra {
    #[default]
    None,
    Counter(Counts),
    Angle(Vector),
    States(Box<States>),
}

/// What a bool or a state did.
#[derive(Debug, Clone, PartialEq)]
pub struct States {
    pub transitions: i64,
    /// Of the first and last reading; empty without one.
    pub first: Arc<str>,
    pub last: Arc<str>,
    /// Microseconds by state, in the order of their appearance.
    pub times: Vec<(Arc<str>, i64)>,
}

impl Default for States {
    fn default() -> Self {
        let none: Arc<str> = Arc::from("");
        Self { transitions: 0, first: Arc::clone(&none), last: none, times: Vec::new() }
    }
}

impl States {
    /// Adds time to a state; beyond [`STATES_MAX`] states to [`OTHER_STATE`].
    pub fn add_time(&mut self, state: &Arc<str>, micros: i64) {
        if let Some((_, time)) = self.times.iter_mut().find(|(known, _)| known == state) {
            *time += micros;
        } else if self.times.iter().filter(|(known, _)| &**known != OTHER_STATE).count() < STATES_MAX {
            self.times.push((Arc::clone(state), micros));
        } else if let Some((_, time)) = self.times.iter_mut().find(|(known, _)| &**known == OTHER_STATE) {
            *time += micros;
        } else {
            self.times.push((Arc::from(OTHER_STATE), micros));
        }
    }

    /// Takes time from a state.
    pub fn take_time(&mut self, state: &Arc<str>, micros: i64) {
        let known = self.times.iter().position(|(known, _)| known == state);
        let other = || self.times.iter().position(|(known, _)| &**known == OTHER_STATE);
        let Some(at) = known.or_else(other) else { return };
        self.times[at].1 -= micros;
        if self.times[at].1 <= 0 {
            self.times.remove(at);
        }
    }
}

impl Totals {
    /// From the wire.
    pub fn of(partials: &Partials<'_>, partial: bool) -> Self {
        let extra = match &partials.extra {
            wire::Extra::None => Extra::None,
            wire::Extra::Counter(counts) => Extra::Counter(*counts),
            wire::Extra::Angle(vector) => Extra::Angle(*vector),
            wire::Extra::States(states) => Extra::States(Box::new(States {
                transitions: states.transitions,
                first: states.first.into(),
                last: states.last.into(),
                times: states.times.iter().map(|(state, micros)| (state.into(), micros)).collect(),
            })),
        };
        Self { statistics: partials.statistics, coverage: partials.coverage, extra, partial }
    }

    /// For the wire.
    pub fn partials(&self) -> Partials<'_> {
        let extra = match &self.extra {
            Extra::None => wire::Extra::None,
            Extra::Counter(counts) => wire::Extra::Counter(*counts),
            Extra::Angle(vector) => wire::Extra::Angle(*vector),
            Extra::States(states) => wire::Extra::States(wire::States {
                transitions: states.transitions,
                first: &states.first,
                last: &states.last,
                times: StateTimes::Owned(&states.times),
            }),
        };
        Partials { statistics: self.statistics, coverage: self.coverage, extra }
    }

    /// Memory beside its place, about.
    pub(super) fn bytes(&self) -> usize {
        match &self.extra {
            Extra::States(states) => size_of::<States>() + states.times.len() * size_of::<(Arc<str>, i64)>(),
            Extra::None | Extra::Counter(_) | Extra::Angle(_) => 0,
        }
    }

    /// No reading, and no time that is known: the marker at the beginning of a gap (AGG-08).
    pub fn is_empty(&self) -> bool {
        self.statistics.count == 0 && self.coverage.is_none_or(|coverage| coverage.covered_us == 0)
    }

    /// GOOD when at least 95 % of what there is, readings or time, is GOOD, and 80 % of the time is covered where time is
    /// looked at; SUSPECT when a counter began anew or ran too fast; else UNCERTAIN (AGG-04, AGG-10).
    pub fn quality(&self, width: i64) -> Quality {
        let enough = match self.coverage {
            None => statistics::quality(&self.statistics) == Quality::Good,
            Some(Coverage { covered_us, good_us, .. }) => {
                let (covered, good) = (as_float(covered_us), as_float(good_us));
                covered >= COVERED_SHARE_MIN * as_float(width) && good >= statistics::GOOD_SHARE_MIN * covered
            }
        };
        match &self.extra {
            _ if !enough => Quality::Uncertain,
            Extra::Counter(counts) if counts.resets + counts.refused > 0 => Quality::Suspect,
            _ => Quality::Good,
        }
    }

    /// The kinds that have something extra begin with it, so that all windows of a point look alike.
    pub(super) fn empty(kind: Kind, is_timed: bool, integral: bool) -> Self {
        let coverage = is_timed.then_some(Coverage { covered_us: 0, good_us: 0, integral: integral.then_some(0.0) });
        let extra = match kind {
            Kind::Value => Extra::None,
            Kind::Counter => Extra::Counter(Counts::default()),
            Kind::Angle => Extra::Angle(Vector::default()),
            Kind::Bool | Kind::Enum => Extra::States(Box::default()),
        };
        Self { statistics: Statistics::default(), coverage, extra, partial: false }
    }

    /// Adds covered time.
    pub(super) fn cover(&mut self, micros: i64, quality: Quality, integral: f64) {
        let Some(coverage) = &mut self.coverage else { return };
        coverage.covered_us += micros;
        coverage.good_us += if quality == Quality::Good { micros } else { 0 };
        if let Some(sum) = &mut coverage.integral {
            *sum += integral;
        }
    }
}

/// Totals that grow window by window.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sum {
    accumulator: Accumulator,
    /// All but the statistics.
    rest: Totals,
    /// What the sums of the integral and of a counter lost to rounding.
    integral_lost: f64,
    delta_lost: f64,
}

impl Sum {
    pub(super) fn of(totals: Totals) -> Self {
        let accumulator = Accumulator::of(totals.statistics);
        Self { accumulator, rest: totals, integral_lost: 0.0, delta_lost: 0.0 }
    }

    /// Adds one reading that has nothing but its value.
    pub(super) fn add_reading(&mut self, value: f64, quality: Quality, time: model::Timestamp) {
        self.accumulator.add(value, quality, time);
    }

    /// Adds a direction.
    pub(super) fn add_angle(&mut self, degrees: f64, quality: Quality, time: model::Timestamp) {
        self.accumulator.add(degrees, quality, time);
        if let Extra::Angle(vector) = &mut self.rest.extra {
            let (sin, cos) = degrees.to_radians().sin_cos();
            vector.sin += sin;
            vector.cos += cos;
        }
    }

    /// Adds a window; windows come in ascending order where their states matter.
    pub(super) fn add(&mut self, other: &Totals) {
        let had_readings = self.accumulator.count() > 0;
        self.accumulator.merge(&other.statistics);
        let rest = &mut self.rest;
        rest.partial |= other.partial;
        match (&mut rest.coverage, other.coverage) {
            (Some(ours), Some(theirs)) => {
                ours.covered_us += theirs.covered_us;
                ours.good_us += theirs.good_us;
                match (&mut ours.integral, theirs.integral) {
                    (Some(ours), Some(theirs)) => add_exactly(ours, &mut self.integral_lost, theirs),
                    (ours @ None, theirs) => *ours = theirs,
                    (Some(_), None) => {}
                }
            }
            (ours @ None, theirs) => *ours = theirs,
            (Some(_), None) => {}
        }
        match (&mut rest.extra, &other.extra) {
            (Extra::Counter(ours), Extra::Counter(theirs)) => {
                add_exactly(&mut ours.delta, &mut self.delta_lost, theirs.delta);
                ours.resets += theirs.resets;
                ours.refused += theirs.refused;
                ours.gaps += theirs.gaps;
            }
            (Extra::Angle(ours), Extra::Angle(theirs)) => {
                ours.sin += theirs.sin;
                ours.cos += theirs.cos;
            }
            (Extra::States(ours), Extra::States(theirs)) => {
                ours.transitions += theirs.transitions;
                if other.statistics.count > 0 {
                    if !had_readings {
                        ours.first = Arc::clone(&theirs.first);
                    }
                    ours.last = Arc::clone(&theirs.last);
                }
                for (state, micros) in &theirs.times {
                    ours.add_time(state, *micros);
                }
            }
            (ours @ Extra::None, theirs) => *ours = theirs.clone(),
            _ => {} // kinds never mix: the lane keeps them apart
        }
    }

    pub(super) fn finish(mut self) -> Totals {
        self.rest.statistics = self.accumulator.finish();
        if let Some(Coverage { integral: Some(integral), .. }) = &mut self.rest.coverage {
            *integral += self.integral_lost;
        }
        if let Extra::Counter(counts) = &mut self.rest.extra {
            counts.delta += self.delta_lost;
        }
        self.rest
    }
}

/// Adds and keeps what rounding loses (Neumaier).
pub(super) fn add_exactly(sum: &mut f64, lost: &mut f64, number: f64) {
    let total = *sum + number;
    *lost += if sum.abs() >= number.abs() { (*sum - total) + number } else { (number - total) + *sum };
    *sum = total;
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of a window stay far below 2^53")]
pub(super) fn as_float(micros: i64) -> f64 {
    micros as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_beyond_the_limit_are_other() {
        // AGG-11
        let mut states = States::default();
        for i in 0..40 {
            states.add_time(&Arc::from(format!("s{i}")), 10);
        }
        states.add_time(&Arc::from("s3"), 5);
        assert_eq!(states.times.len(), STATES_MAX + 1);
        let time = |name: &str| states.times.iter().find(|(state, _)| &**state == name).unwrap().1;
        assert_eq!((time("s3"), time(OTHER_STATE)), (15, 80));
    }

    #[test]
    fn quality_weighs_time_where_time_is_looked_at() {
        // AGG-04, AGG-10
        let with = |covered_us, good_us, resets| Totals {
            coverage: Some(Coverage { covered_us, good_us, integral: None }),
            extra: Extra::Counter(Counts { resets, ..Counts::default() }),
            ..Totals::default()
        };
        assert_eq!(with(80, 76, 0).quality(100), Quality::Good);
        assert_eq!(with(79, 79, 0).quality(100), Quality::Uncertain);
        assert_eq!(with(80, 75, 0).quality(100), Quality::Uncertain);
        assert_eq!(with(80, 80, 1).quality(100), Quality::Suspect);
        assert_eq!(with(50, 50, 1).quality(100), Quality::Uncertain, "the worst finding counts");
    }
}
