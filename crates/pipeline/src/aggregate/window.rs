//! One window: readings folded as they come, readings kept until their time can be weighed, or the shorter windows it is
//! merged from.
//!
//! A window of windows keeps its children by their start, so that a child told again replaces its entry (AGG-05) and the
//! result does not depend on the order of arrival. A child of one plain reading, the usual case of a slow point, is kept
//! small.

use std::sync::Arc;

use model::aggregate::{self as wire, Coverage, Partials};
use model::{Kind, Quality, Statistics, Timestamp, Value};

use super::plan::Plan;
use super::series::{Moment, Series};
use super::statistics::Accumulator;
use super::totals::{Extra, Sum, Totals};

/// What enters a window.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// A value at its device time.
    Reading { value: Value<'a>, quality: Quality, time: Timestamp },
    /// What held does not hold any more from `time` on: BAD, a gap, a silence (AGG-07). Nothing is known since `since`, the
    /// last reading or the one that was BAD.
    Stop { time: Timestamp, since: Timestamp },
    /// A shorter window that begins at `start`.
    Child { start: Timestamp, kind: Kind, partials: Partials<'a>, partial: bool },
}

/// The content of a window.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    Readings(Accumulator),
    /// Readings of angles.
    Angles(Box<Sum>),
    Series(Box<Series>),
    /// Sorted by start.
    Children(Vec<(Timestamp, Child)>),
}

/// A child, in as little memory as it needs.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Child {
    One { value: f64, quality: Quality, time: Timestamp },
    Many(Box<Totals>),
}

impl Child {
    fn of_partials(partials: &Partials<'_>, partial: bool) -> Self {
        let plain = partials.coverage.is_none() && matches!(partials.extra, wire::Extra::None) && !partial;
        Self::one(&partials.statistics, plain).unwrap_or_else(|| Self::Many(Box::new(Totals::of(partials, partial))))
    }

    pub(super) fn of_totals(totals: Totals) -> Self {
        let plain = totals.coverage.is_none() && totals.extra == Extra::None && !totals.partial;
        Self::one(&totals.statistics, plain).unwrap_or_else(|| Self::Many(Box::new(totals)))
    }

    fn one(s: &Statistics, plain: bool) -> Option<Self> {
        let quality = match (s.good_count, s.suspect_count) {
            (1, _) => Quality::Good,
            (_, 1) => Quality::Suspect,
            _ => Quality::Uncertain,
        };
        (plain && s.count == 1).then_some(Self::One { value: s.first, quality, time: s.first_time })
    }

    pub(super) fn totals(&self) -> Totals {
        match self {
            Self::One { value, quality, time } => {
                Totals { statistics: Accumulator::of_reading(*value, *quality, *time).finish(), ..Totals::default() }
            }
            Self::Many(totals) => (**totals).clone(),
        }
    }

    /// Memory beside its place, about.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::One { .. } => 0,
            Self::Many(totals) => size_of::<Totals>() + totals.bytes(),
        }
    }

    /// Neither a reading nor time that is known: a gap begins here.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Many(totals) if totals.is_empty())
    }
}

impl Content {
    /// The content of a window before its first input; `of_children` at levels that merge windows.
    pub(super) fn empty(plan: &Plan, kind: Kind, of_children: bool) -> Self {
        match kind {
            _ if of_children => Self::Children(Vec::new()),
            _ if plan.is_timed(kind) => Self::Series(Box::default()),
            Kind::Angle => Self::Angles(Box::new(Sum::of(Totals::empty(kind, false, false)))),
            _ => Self::Readings(Accumulator::default()),
        }
    }

    /// Takes an input in.
    #[inline]
    pub(super) fn add(&mut self, kind: Kind, input: &Input<'_>) {
        match (self, input) {
            (Self::Readings(all), Input::Reading { value, quality, time }) => {
                if let Some(number) = value.as_number() {
                    all.add(number, *quality, *time);
                }
            }
            (content, input) => content.add_other(kind, input),
        }
    }

    fn add_other(&mut self, kind: Kind, input: &Input<'_>) {
        match (self, input) {
            (Self::Angles(all), Input::Reading { value, quality, time }) => {
                if let Some(degrees) = value.as_number() {
                    all.add_angle(degrees, *quality, *time);
                }
            }
            (Self::Series(series), Input::Reading { value, quality, time }) => {
                let like: Option<Arc<str>> = series.moments.last().and_then(|moment| moment.state.clone());
                series.add(Moment::new(kind, value, *quality, *time, like.as_ref()));
            }
            (Self::Series(series), Input::Stop { time, .. }) => {
                series.stop(time.as_micros());
            }
            (Self::Children(children), Input::Child { start, partials, partial, .. }) => {
                let child = Child::of_partials(partials, *partial);
                match children.binary_search_by_key(start, |(start, _)| *start) {
                    Ok(at) => children[at].1 = child,
                    Err(at) => children.insert(at, (*start, child)),
                }
            }
            (Self::Readings(_) | Self::Angles(_), Input::Stop { .. }) => {} // a stop says nothing of readings
            (_, _) => debug_assert!(false, "readings never reach a level that merges windows, nor windows another"),
        }
    }

    /// True when the last of the children marks the beginning of a gap.
    pub(super) fn ends_in_gap(&self) -> bool {
        matches!(self, Self::Children(children) if children.last().is_some_and(|(_, child)| child.is_empty()))
    }

    /// Everything but a series, which needs to know what held before.
    pub(super) fn fold(&self, plan: &Plan, kind: Kind, width: i64) -> Totals {
        match self {
            Self::Readings(all) => {
                let statistics = all.finish();
                Totals { statistics, coverage: sampled(plan, &statistics, width), ..Totals::default() }
            }
            Self::Angles(all) => {
                let mut totals = Sum::clone(all).finish();
                totals.coverage = sampled(plan, &totals.statistics, width);
                totals
            }
            Self::Series(_) => {
                debug_assert!(false, "a series is folded with what held before");
                Totals::default()
            }
            Self::Children(children) if children.is_empty() => Totals::empty(kind, false, false),
            Self::Children(_) => self.fold_children(),
        }
    }

    /// The merge of the children; nothing where there is none.
    pub(super) fn fold_children(&self) -> Totals {
        match self {
            Self::Children(children) => {
                let mut children = children.iter().map(|(_, child)| child);
                let Some(first) = children.next() else { return Totals::default() };
                let mut all = Sum::of(first.totals());
                for child in children {
                    match child {
                        Child::One { value, quality, time } => all.add_reading(*value, *quality, *time),
                        Child::Many(totals) => all.add(totals),
                    }
                }
                all.finish()
            }
            Self::Readings(_) | Self::Angles(_) | Self::Series(_) => Totals::default(),
        }
    }
}

/// What readings at a known interval cover: each of them its interval.
fn sampled(plan: &Plan, s: &Statistics, width: i64) -> Option<Coverage> {
    let interval = plan.interval?;
    let of = |count: i64| count.saturating_mul(interval).min(width);
    Some(Coverage { covered_us: of(s.count), good_us: of(s.good_count), integral: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::Plans;

    fn plain() -> Plans {
        Plans::new(&config::Aggregation::default())
    }

    fn child(second: i64, values: &[f64]) -> Input<'static> {
        let start = Timestamp::from_millis(second * 1000);
        let mut all = Accumulator::of_reading(values[0], Quality::Good, start);
        for value in &values[1..] {
            all.add(*value, Quality::Good, start.plus_micros(1));
        }
        let partials = Partials { statistics: all.finish(), coverage: None, extra: wire::Extra::None };
        Input::Child { start, kind: Kind::Value, partials, partial: false }
    }

    fn fold(children: &[Input<'_>]) -> Totals {
        let mut content = Content::Children(Vec::new());
        for child in children {
            content.add(Kind::Value, child);
        }
        content.fold(plain().get(0), Kind::Value, 60_000_000)
    }

    #[test]
    fn a_revised_child_replaces_its_entry_and_order_does_not_matter() {
        // AGG-05
        let told_again = [child(2, &[5.0, 7.0]), child(1, &[100.0]), child(3, &[1.0]), child(1, &[3.0, 3.0])];
        let in_order = [child(1, &[3.0, 3.0]), child(2, &[5.0, 7.0]), child(3, &[1.0])];
        assert_eq!(fold(&told_again), fold(&in_order));
        let s = fold(&in_order).statistics;
        assert_eq!((s.count, s.sum, s.first, s.last, s.max), (5, 19.0, 3.0, 1.0, 7.0));
    }

    #[test]
    fn directions_are_averaged_as_vectors() {
        // AC-079, AGG-12: 350, 10 and 20 degrees are 6.7, not 126.7; so are their seconds merged
        let rule = config::aggregation::PointRule { kind: Some(Kind::Angle), ..Default::default() };
        let plans = Plans::new(&config::Aggregation { points: vec![rule], ..Default::default() });
        let of = |degrees: &[f64]| {
            let mut content = Content::empty(plans.get(0), Kind::Angle, false);
            for (at, degrees) in (0..).zip(degrees) {
                let (value, time) = (Value::Float(*degrees), Timestamp::from_millis(at));
                content.add(Kind::Angle, &Input::Reading { value, quality: Quality::Good, time });
            }
            content.fold(plans.get(0), Kind::Angle, 1_000_000)
        };
        let direction = |totals: &Totals| {
            let Extra::Angle(vector) = totals.extra else { panic!("an angle") };
            vector.sin.atan2(vector.cos).to_degrees()
        };
        let all = of(&[350.0, 10.0, 20.0]);
        assert!((direction(&all) - 6.7).abs() < 0.05, "{all:?}");
        let mut minute = Sum::of(of(&[350.0]));
        minute.add(&of(&[10.0, 20.0]));
        assert!((direction(&minute.finish()) - direction(&all)).abs() < 1e-9);
    }

    #[test]
    fn a_child_of_one_reading_folds_like_the_reading() {
        let Input::Child { partials, .. } = child(1, &[4.5]) else { unreachable!() };
        assert_eq!(Child::of_partials(&partials, false).totals().statistics, partials.statistics);
        assert!(size_of::<Child>() <= 24);
    }
}
