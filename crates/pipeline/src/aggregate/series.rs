//! Windows that are about time: averages over time, counters, truths and states (AGG-07, AGG-10, AGG-11).
//!
//! Readings are kept until the window closes, sorted by device time, so that the order of their arrival does not matter.
//! A window is its *head*, from its start to its first reading, in which the value from before holds, and its *body*. The
//! head follows from what [`Held`] says and from the first reading alone, so it can be exchanged later without the body.

use std::sync::Arc;

use config::aggregation::Averaging;
use model::aggregate::{Carry, Counts};
use model::{Kind, Quality, Timestamp, Value};

use super::counter::{self, Step};
use super::plan::Plan;
use super::statistics::Accumulator;
use super::totals::{Extra, Totals, as_float};

/// A reading of a window about time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Moment {
    pub(super) time: i64,
    /// 0 or 1 of a truth, 0 of a state.
    pub(super) number: f64,
    pub(super) state: Option<Arc<str>>,
    pub(super) quality: Quality,
}

/// What holds at the start of a window.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Held {
    pub(super) moment: Moment,
    /// Of a counter: what was counted since `moment` already.
    pub(super) counted: f64,
}

/// The readings of a window, and the times at which what held stopped to hold; both ascending.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Series {
    pub(super) moments: Vec<Moment>,
    pub(super) stops: Vec<i64>,
}

/// Where and how a window is folded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'p> {
    pub(super) plan: &'p Plan,
    pub(super) kind: Kind,
    pub(super) start: i64,
    pub(super) end: i64,
}

/// What a bool is called.
pub(super) fn truth(truth: bool) -> &'static str {
    if truth { "true" } else { "false" }
}

impl Moment {
    /// The reading as its kind sees it. `like` lends its state when it is the same, so that texts are not copied.
    pub(super) fn new(
        kind: Kind,
        value: &Value<'_>,
        quality: Quality,
        time: Timestamp,
        like: Option<&Arc<str>>,
    ) -> Self {
        let number = value.as_number().unwrap_or(0.0);
        let shared = |text: &str| match like {
            Some(like) if **like == *text => Arc::clone(like),
            _ => Arc::from(text),
        };
        let (number, state) = match (kind, value) {
            (Kind::Bool, Value::Bool(is)) => (f64::from(u8::from(*is)), Some(shared(truth(*is)))),
            (Kind::Bool, _) => (f64::from(u8::from(number != 0.0)), Some(shared(truth(number != 0.0)))),
            (Kind::Enum, Value::Text(text)) => (0.0, Some(shared(text))),
            (Kind::Enum, Value::Bool(is)) => (0.0, Some(shared(truth(*is)))),
            (Kind::Enum, Value::Int(number)) => (0.0, Some(shared(&number.to_string()))),
            (Kind::Enum, _) => (0.0, Some(shared(&number.to_string()))),
            _ => (number, None),
        };
        Self { time: time.as_micros(), number, state, quality }
    }

    fn statistics(&self) -> Accumulator {
        Accumulator::of_reading(self.number, self.quality, Timestamp::from_micros(self.time))
    }
}

impl Held {
    /// For the wire.
    pub(super) fn carry(&self, behind_us: i64) -> Carry<'_> {
        let Moment { time, number, ref state, quality } = self.moment;
        let time = Timestamp::from_micros(time);
        Carry { time, number, state: state.as_deref(), quality, counted: self.counted, behind_us }
    }

    /// From the wire.
    pub(super) fn of(carry: &Carry<'_>) -> Self {
        let Carry { time, number, state, quality, counted, .. } = *carry;
        Self { moment: Moment { time: time.as_micros(), number, state: state.map(Arc::from), quality }, counted }
    }
}

impl Series {
    pub(super) fn add(&mut self, moment: Moment) {
        // of two readings at one time the order is that of their values, whichever came first
        let before = |known: &Moment| {
            (known.time, known.state.as_deref()) < (moment.time, moment.state.as_deref())
                || (known.time == moment.time
                    && known.state == moment.state
                    && known.number.total_cmp(&moment.number).is_le())
        };
        let at = if self.moments.last().is_none_or(before) {
            self.moments.len()
        } else {
            self.moments.partition_point(before)
        };
        self.moments.insert(at, moment);
    }

    /// True when it is a new one.
    pub(super) fn stop(&mut self, time: i64) -> bool {
        match self.stops.binary_search(&time) {
            Ok(_) => false,
            Err(at) => {
                self.stops.insert(at, time);
                true
            }
        }
    }

    /// The window, and what holds at its end. `next` is the first reading behind the window, when it is known.
    pub(super) fn fold(
        &self,
        frame: &Frame<'_>,
        held: Option<&Held>,
        next: Option<(i64, f64)>,
    ) -> (Totals, Option<Held>) {
        let mut totals = self.body(frame, next);
        frame.head(&mut totals, held, self.moments.first(), &self.stops, 1);
        if let (Kind::Counter, true, Some(held)) = (frame.kind, self.moments.is_empty(), held) {
            frame.counter_passes(&mut totals, held, next);
        }
        (totals, self.held_at_end(frame, held, next))
    }

    /// Everything from the first reading on.
    fn body(&self, frame: &Frame<'_>, next: Option<(i64, f64)>) -> Totals {
        let mut totals = frame.empty();
        let mut statistics = Accumulator::default();
        for (i, moment) in self.moments.iter().enumerate() {
            statistics.merge(&moment.statistics().finish());
            match self.moments.get(i + 1) {
                Some(following) => frame.between(&mut totals, moment, following, frame.start, &self.stops, 1.0),
                None => frame.tail(&mut totals, moment, next, &self.stops),
            }
        }
        totals.statistics = statistics.finish();
        if let (Extra::States(states), Some(first), Some(last)) =
            (&mut totals.extra, self.moments.first(), self.moments.last())
        {
            states.first = first.state.clone().unwrap_or_else(|| Arc::from(""));
            states.last = last.state.clone().unwrap_or_else(|| Arc::from(""));
        }
        totals
    }

    fn held_at_end(&self, frame: &Frame<'_>, held: Option<&Held>, next: Option<(i64, f64)>) -> Option<Held> {
        let last = match (self.moments.last(), held) {
            (Some(moment), _) => Held { moment: moment.clone(), counted: 0.0 },
            (None, Some(held)) => held.clone(),
            (None, None) => return None,
        };
        frame.after(last, &self.stops, next)
    }
}

impl Frame<'_> {
    fn empty(&self) -> Totals {
        let integral = self.kind == Kind::Value;
        Totals::empty(self.kind, true, integral)
    }

    /// Until when a reading holds, at the latest `until`.
    fn holds_until(&self, moment: &Moment, until: i64, stops: &[i64]) -> i64 {
        let stop = stops.iter().find(|stop| **stop >= moment.time).copied().unwrap_or(i64::MAX);
        until.min(stop).min(moment.time.saturating_add(self.plan.hold))
    }

    /// What is held at the end, given what was last; `None` when it does not hold any more. A counter counts on, whatever is
    /// known of it.
    fn after(&self, last: Held, stops: &[i64], next: Option<(i64, f64)>) -> Option<Held> {
        if self.kind == Kind::Counter {
            let counted = self.share_until_end(&last.moment, next).unwrap_or(last.counted);
            return Some(Held { counted, ..last });
        }
        let holds = self.holds_until(&last.moment, i64::MAX, stops) > self.end;
        holds.then_some(last)
    }

    /// Of what a counter counts from `last` to the reading behind the window: the share up to the window's end. `None` when
    /// nothing can be spread.
    fn share_until_end(&self, last: &Moment, next: Option<(i64, f64)>) -> Option<f64> {
        let (time, number) = next?;
        let elapsed = time.saturating_sub(last.time);
        if elapsed <= 0 || elapsed > self.plan.hold {
            return None;
        }
        match counter::step(last.number, number, as_float(elapsed), self.plan.modulus, self.plan.rate) {
            Step::Counted(delta) | Step::Reset(delta) => {
                Some(delta * as_float(self.end.saturating_sub(last.time)) / as_float(elapsed))
            }
            Step::Refused => None,
        }
    }

    /// From one reading to the next, from `from` on. `sign` -1 takes back what 1 added.
    fn between(&self, totals: &mut Totals, moment: &Moment, following: &Moment, from: i64, stops: &[i64], sign: f64) {
        let from = from.max(moment.time);
        let until = self.holds_until(moment, following.time, stops);
        if self.kind == Kind::Counter {
            let elapsed = as_float(following.time.saturating_sub(moment.time).max(0));
            let step = counter::step(moment.number, following.number, elapsed, self.plan.modulus, self.plan.rate);
            let spread = following.time.saturating_sub(moment.time) <= self.plan.hold;
            count(totals, step, 0.0, !spread, sign);
            if spread && step != Step::Refused {
                cover(totals, moment.quality, from, following.time, 0.0, sign);
            }
            return;
        }
        let whole = until == following.time;
        let (a, b) = (moment.number, following.number);
        let span = as_float(following.time.saturating_sub(moment.time));
        let integral = if self.plan.averaging == Averaging::Linear && whole && span > 0.0 {
            let at_from = a + (b - a) * as_float(from.saturating_sub(moment.time)) / span;
            f64::midpoint(at_from, b) * millis(from, until)
        } else {
            a * millis(from, until)
        };
        cover(totals, moment.quality, from, until, integral, sign);
        pass(totals, moment, from, until, sign);
        if let (Extra::States(states), true) = (&mut totals.extra, whole && moment.state != following.state) {
            states.transitions += if sign > 0.0 { 1 } else { -1 };
        }
    }

    /// From the last reading to the end of the window.
    fn tail(&self, totals: &mut Totals, last: &Moment, next: Option<(i64, f64)>, stops: &[i64]) {
        if self.kind == Kind::Counter {
            if let (Some(share), Extra::Counter(counts)) = (self.share_until_end(last, next), &mut totals.extra) {
                counts.delta += share;
                cover(totals, last.quality, last.time, self.end, 0.0, 1.0);
            }
            return;
        }
        let until = self.holds_until(last, self.end, stops);
        cover(totals, last.quality, last.time, until, last.number * millis(last.time, until), 1.0);
        pass(totals, last, last.time, until, 1.0);
    }

    /// Adds the time before the first reading, or the whole window when there is none; `sign` -1 takes it away.
    pub(super) fn head(
        &self,
        totals: &mut Totals,
        held: Option<&Held>,
        first: Option<&Moment>,
        stops: &[i64],
        sign: i8,
    ) {
        let Some(held) = held else { return };
        let sign = f64::from(sign);
        let moment = &held.moment;
        match first {
            Some(first) if self.kind == Kind::Counter => {
                let elapsed = first.time.saturating_sub(moment.time);
                let plan = self.plan;
                let step = counter::step(moment.number, first.number, as_float(elapsed), plan.modulus, plan.rate);
                let spread = elapsed <= plan.hold;
                count(totals, step, held.counted, !spread, sign);
                if spread && step != Step::Refused {
                    cover(totals, moment.quality, self.start, first.time, 0.0, sign);
                }
            }
            Some(first) => self.between(totals, moment, first, self.start, stops, sign),
            None if self.kind == Kind::Counter => {}
            None => {
                let until = self.holds_until(moment, self.end, stops);
                let integral = moment.number * millis(self.start, until);
                cover(totals, moment.quality, self.start, until, integral, sign);
                pass(totals, moment, self.start, until, sign);
            }
        }
    }

    /// Of a counter without a reading in this window: its share of the step over it.
    fn counter_passes(&self, totals: &mut Totals, held: &Held, next: Option<(i64, f64)>) {
        if let (Some(through), Extra::Counter(counts)) = (self.share_until_end(&held.moment, next), &mut totals.extra) {
            counts.delta += through - held.counted;
            cover(totals, held.moment.quality, self.start, self.end, 0.0, 1.0);
        }
    }
}

fn count(totals: &mut Totals, step: Step, counted: f64, gap: bool, sign: f64) {
    let Extra::Counter(counts) = &mut totals.extra else { return };
    let one = if sign > 0.0 { 1 } else { -1 };
    let Counts { delta, resets, refused, gaps } = counts;
    match step {
        Step::Counted(step) => *delta += sign * (step - counted),
        Step::Reset(step) => {
            *delta += sign * (step - counted);
            *resets += one;
        }
        Step::Refused => {
            *refused += one;
            return;
        }
    }
    if gap {
        *gaps += one;
    }
}

fn cover(totals: &mut Totals, quality: Quality, from: i64, until: i64, integral: f64, sign: f64) {
    let micros = until.saturating_sub(from);
    if micros <= 0 {
        return;
    }
    if sign > 0.0 {
        totals.cover(micros, quality, integral);
    } else {
        totals.cover(-micros, quality, -integral);
    }
}

/// Time in a state.
fn pass(totals: &mut Totals, moment: &Moment, from: i64, until: i64, sign: f64) {
    let micros = until.saturating_sub(from);
    let (Extra::States(states), Some(state), true) = (&mut totals.extra, &moment.state, micros > 0) else { return };
    if sign > 0.0 {
        states.add_time(state, micros);
    } else {
        states.take_time(state, micros);
    }
}

/// Milliseconds between two times, not below 0.
fn millis(from: i64, until: i64) -> f64 {
    as_float(until.saturating_sub(from).max(0)) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::Plans;
    use config::aggregation::PointRule;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000;

    fn plans(kind: Kind, averaging: Averaging, max_hold_ms: i64) -> Plans {
        let rule = PointRule { kind: Some(kind), averaging, max_hold_ms, ..PointRule::default() };
        Plans::new(&config::Aggregation { points: vec![rule], ..config::Aggregation::default() })
    }

    fn number(time: i64, number: f64) -> Moment {
        Moment { time, number, state: None, quality: Quality::Good }
    }

    fn series(moments: &[Moment], stops: &[i64]) -> Series {
        let mut series = Series::default();
        moments.iter().cloned().for_each(|moment| series.add(moment));
        for stop in stops {
            series.stop(*stop);
        }
        series
    }

    fn frame(plans: &Plans, kind: Kind, start: i64, end: i64) -> Frame<'_> {
        Frame { plan: plans.get(0), kind, start, end }
    }

    fn average(totals: &Totals) -> f64 {
        let coverage = totals.coverage.unwrap();
        coverage.integral.unwrap() / (as_float(coverage.covered_us) / 1000.0)
    }

    #[test]
    fn the_example_of_the_specification() {
        // AGG-07
        let readings = series(&[number(0, 10.0), number(45 * SECOND, 20.0)], &[]);
        for (averaging, expected) in [(Averaging::Step, 12.5), (Averaging::Linear, 16.25)] {
            let plans = plans(Kind::Value, averaging, 600_000);
            let (totals, _) = readings.fold(&frame(&plans, Kind::Value, 0, 60 * SECOND), None, None);
            assert!((average(&totals) - expected).abs() < 1e-12, "{averaging:?}");
            assert_eq!(totals.statistics.mean, 15.0, "sample");
        }
    }

    #[test]
    fn a_gap_in_the_middle_is_not_covered() {
        // AC-080
        let plans = plans(Kind::Value, Averaging::Step, 600_000);
        let values = (0..60).filter(|second| !(20..40).contains(second));
        let moments: Vec<Moment> =
            values.map(|second| number(second * SECOND, if second < 20 { 1.0 } else { 4.0 })).collect();
        let (totals, held) =
            series(&moments, &[20 * SECOND]).fold(&frame(&plans, Kind::Value, 0, 60 * SECOND), None, None);
        assert_eq!(totals.coverage.unwrap().covered_us, 40 * SECOND);
        assert!((average(&totals) - 2.5).abs() < 1e-12, "over the covered time only");
        assert_eq!(totals.quality(60 * SECOND), Quality::Uncertain);
        assert_eq!(held.unwrap().moment.number, 4.0);
    }

    #[test]
    fn a_truth_for_half_the_time() {
        // AC-079
        let plans = plans(Kind::Bool, Averaging::Sample, 600_000);
        let truth_at = |second: i64, is| {
            let time = Timestamp::from_micros(second * SECOND);
            Moment::new(Kind::Bool, &Value::Bool(is), Quality::Good, time, None)
        };
        let readings = series(&[truth_at(0, false), truth_at(10, true), truth_at(40, false)], &[]);
        let (totals, _) = readings.fold(&frame(&plans, Kind::Bool, 0, 60 * SECOND), None, None);
        let Extra::States(states) = &totals.extra else { panic!("states") };
        let time = |state: &str| states.times.iter().find(|(known, _)| &**known == state).unwrap().1;
        assert_eq!((time("true"), time("false"), states.transitions), (30 * SECOND, 30 * SECOND, 2));
        assert_eq!((&*states.first, &*states.last), ("false", "false"));
        assert!(totals.coverage.unwrap().integral.is_none(), "never averaged");
    }

    #[test]
    fn a_step_of_a_counter_is_spread_over_windows_by_time() {
        // AGG-10
        let plans = plans(Kind::Counter, Averaging::Sample, 60_000);
        let mut held = None;
        let mut deltas = Vec::new();
        let next = Some((25 * SECOND, 50.0));
        for (start, readings, next) in
            [(0, vec![number(5 * SECOND, 10.0)], next), (10, vec![], next), (20, vec![number(25 * SECOND, 50.0)], None)]
        {
            let frame = frame(&plans, Kind::Counter, start * SECOND, (start + 10) * SECOND);
            let (totals, carry) = series(&readings, &[]).fold(&frame, held.as_ref(), next);
            let Extra::Counter(counts) = totals.extra else { panic!("a counter") };
            deltas.push((counts.delta, counts.gaps, totals.coverage.unwrap().covered_us / SECOND));
            held = carry;
        }
        assert_eq!(deltas, [(10.0, 0, 5), (20.0, 0, 10), (10.0, 0, 5)]);
        // too long ago to be spread: counted where it arrives, and said so
        let late = series(&[number(200 * SECOND, 90.0)], &[]);
        let frame = frame(&plans, Kind::Counter, 200 * SECOND, 210 * SECOND);
        let Extra::Counter(counts) = late.fold(&frame, held.as_ref(), None).0.extra else { panic!("a counter") };
        assert_eq!((counts.delta, counts.gaps), (40.0, 1));
    }

    fn moments(states: bool) -> impl Strategy<Value = Vec<Moment>> {
        let quality = prop_oneof![3 => Just(Quality::Good), 1 => Just(Quality::Suspect)];
        let moment = (0_i64..4000, -50_i32..50, quality).prop_map(move |(ms, value, quality)| Moment {
            time: ms * 1000,
            number: if states { 0.0 } else { f64::from(value) },
            state: states.then(|| Arc::from(format!("s{}", value.rem_euclid(3)))),
            quality,
        });
        prop::collection::vec(moment, 0..12).prop_map(|mut moments| {
            moments.sort_by_key(|moment| moment.time);
            moments.dedup_by_key(|moment| moment.time);
            moments
        })
    }

    /// What holds at a millisecond, asked of the readings directly.
    fn holding<'m>(moments: &'m [Moment], stops: &[i64], hold: i64, at: i64) -> Option<&'m Moment> {
        let moment = moments.iter().rfind(|moment| moment.time <= at)?;
        let stopped = stops.iter().any(|stop| *stop >= moment.time && *stop <= at);
        (!stopped && at < moment.time + hold).then_some(moment)
    }

    proptest! {
        #[test]
        fn windows_over_time_equal_the_direct_computation(
            moments in moments(false),
            states in moments(true),
            stops in prop::collection::vec(0_i64..4000, 0..4),
            hold_ms in 10_i64..3000,
        ) {
            // AGG-07, AGG-11: four windows of a second, against a walk through every millisecond
            let stops: Vec<i64> = stops.into_iter().map(|ms| ms * 1000).collect();
            for (kind, moments) in [(Kind::Value, &moments), (Kind::Enum, &states)] {
                let plans = plans(kind, Averaging::Step, hold_ms);
                let mut held = None;
                for second in 0..4 {
                    let (start, end) = (second * SECOND, (second + 1) * SECOND);
                    let within = |time: i64| time >= start && time < end;
                    let here: Vec<Moment> = moments.iter().filter(|moment| within(moment.time)).cloned().collect();
                    let stops_here: Vec<i64> = stops.iter().copied().filter(|stop| within(*stop)).collect();
                    let frame = frame(&plans, kind, start, end);
                    let (totals, carry) = series(&here, &stops_here).fold(&frame, held.as_ref(), None);
                    let (mut covered, mut good, mut integral) = (0, 0, 0.0);
                    let mut in_state = std::collections::BTreeMap::new();
                    for at in (start..end).step_by(1000) {
                        let Some(moment) = holding(moments, &stops, hold_ms * 1000, at) else { continue };
                        covered += 1000;
                        good += if moment.quality == Quality::Good { 1000 } else { 0 };
                        integral += moment.number;
                        if let Some(state) = &moment.state {
                            *in_state.entry(state.to_string()).or_insert(0) += 1000;
                        }
                    }
                    let coverage = totals.coverage.unwrap();
                    prop_assert_eq!((coverage.covered_us, coverage.good_us), (covered, good));
                    prop_assert!((coverage.integral.unwrap_or(0.0) - integral).abs() <= 1e-9 * (1.0 + integral.abs()));
                    if let Extra::States(states) = &totals.extra {
                        let times = states.times.iter().map(|(state, micros)| (state.to_string(), *micros)).collect();
                        prop_assert_eq!(in_state, times);
                    }
                    held = carry;
                }
            }
        }

        #[test]
        fn short_windows_add_up_to_the_long_one(
            moments in moments(false),
            cuts in prop::collection::btree_set(1_i64..4000, 0..6),
            linear in any::<bool>(),
            counter in any::<bool>(),
        ) {
            // AGG-05, AGG-07, AGG-10: with everything held long enough, where the windows end does not matter
            let kind = if counter { Kind::Counter } else { Kind::Value };
            let averaging = if linear && !counter { Averaging::Linear } else { Averaging::Step };
            let plans = plans(kind, averaging, 100_000);
            let whole = series(&moments, &[]).fold(&frame(&plans, kind, 0, 4 * SECOND), None, None).0;
            let mut held = None;
            let mut sum: Option<super::super::totals::Sum> = None;
            let mut start = 0;
            for end in cuts.into_iter().map(|ms| ms * 1000).chain([4 * SECOND]) {
                let here: Vec<Moment> =
                    moments.iter().filter(|moment| moment.time >= start && moment.time < end).cloned().collect();
                let next = moments.iter().find(|moment| moment.time >= end).map(|moment| (moment.time, moment.number));
                let (totals, carry) = series(&here, &[]).fold(&frame(&plans, kind, start, end), held.as_ref(), next);
                match &mut sum {
                    None => sum = Some(super::super::totals::Sum::of(totals)),
                    Some(sum) => sum.add(&totals),
                }
                (held, start) = (carry, end);
            }
            let sum = sum.unwrap().finish();
            prop_assert_eq!(sum.coverage.unwrap().covered_us, whole.coverage.unwrap().covered_us);
            prop_assert_eq!(sum.statistics.count, whole.statistics.count);
            match (&sum.extra, &whole.extra) {
                (Extra::Counter(ours), Extra::Counter(direct)) => {
                    prop_assert!((ours.delta - direct.delta).abs() <= 1e-9 * (1.0 + direct.delta.abs()));
                    prop_assert_eq!((ours.resets, ours.refused), (direct.resets, direct.refused));
                }
                _ if averaging == Averaging::Step => {
                    let (ours, direct) = (sum.coverage.unwrap().integral.unwrap(), whole.coverage.unwrap().integral.unwrap());
                    prop_assert!((ours - direct).abs() <= 1e-9 * (1.0 + direct.abs()));
                }
                _ => {} // a straight line needs the reading behind the window, which holds its last value instead
            }
        }

        #[test]
        fn another_head_is_the_window_made_anew(
            moments in moments(false),
            states in moments(true),
            before in (-3000_i64..0, -3000_i64..0),
            stops in prop::collection::vec(0_i64..4000, 0..3),
            hold_ms in 10_i64..5000,
        ) {
            // AGG-06: late data before a window changes it without its readings
            let stops: Vec<i64> = stops.into_iter().map(|ms| ms * 1000).collect();
            for (kind, averaging, moments) in [
                (Kind::Value, Averaging::Step, &moments),
                (Kind::Value, Averaging::Linear, &moments),
                (Kind::Counter, Averaging::Sample, &moments),
                (Kind::Enum, Averaging::Sample, &states),
            ] {
                let plans = plans(kind, averaging, hold_ms);
                let frame = frame(&plans, kind, 0, 4 * SECOND);
                let held = |ms: i64| Held { moment: Moment { time: ms * 1000, state: (kind == Kind::Enum).then(|| Arc::from("s1")), ..number(0, 7.0) }, counted: 0.0 };
                let (old, new) = (held(before.0), held(before.1));
                let readings = series(moments, &stops);
                let Some(first) = readings.moments.first() else { continue };
                let mut exchanged = readings.fold(&frame, Some(&old), None).0;
                frame.head(&mut exchanged, Some(&old), Some(first), &readings.stops, -1);
                frame.head(&mut exchanged, Some(&new), Some(first), &readings.stops, 1);
                let direct = readings.fold(&frame, Some(&new), None).0;
                let (ours, anew) = (exchanged.coverage.unwrap(), direct.coverage.unwrap());
                prop_assert_eq!((ours.covered_us, ours.good_us), (anew.covered_us, anew.good_us));
                let integrals = (ours.integral.unwrap_or(0.0), anew.integral.unwrap_or(0.0));
                prop_assert!((integrals.0 - integrals.1).abs() <= 1e-9 * (1e6 + integrals.1.abs()));
                if let (Extra::States(ours), Extra::States(anew)) = (&exchanged.extra, &direct.extra) {
                    prop_assert_eq!(ours.transitions, anew.transitions);
                    let sorted = |states: &super::super::totals::States| { let mut times = states.times.clone(); times.sort(); times };
                    prop_assert_eq!(sorted(ours), sorted(anew));
                }
            }
        }
    }
}
