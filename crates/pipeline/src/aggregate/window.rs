//! One open window: readings folded as they come, or the shorter windows it is merged from.
//!
//! A window of windows keeps its children by their start, so that a child told again replaces its entry (AGG-05) and the
//! result does not depend on the order of arrival. A child of one reading, the usual case of a slow point, is kept small.

use model::{Quality, Statistics, Timestamp};

use super::statistics::Accumulator;

/// What enters a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Input {
    /// A number at its device time.
    Value { value: f64, quality: Quality, time: Timestamp },
    /// A shorter window that begins at `start`.
    Child { start: Timestamp, statistics: Statistics },
}

/// The content of an open window.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    Readings(Accumulator),
    /// Sorted by start.
    Children(Vec<(Timestamp, Child)>),
}

/// A child, in as little memory as it needs.
#[derive(Debug, Clone, PartialEq)]
pub enum Child {
    One { value: f64, quality: Quality, time: Timestamp },
    Many(Box<Statistics>),
}

impl Child {
    pub(super) fn new(statistics: &Statistics) -> Self {
        if statistics.count != 1 {
            return Self::Many(Box::new(*statistics));
        }
        let quality = match (statistics.good_count, statistics.suspect_count) {
            (1, _) => Quality::Good,
            (_, 1) => Quality::Suspect,
            _ => Quality::Uncertain,
        };
        Self::One { value: statistics.first, quality, time: statistics.first_time }
    }

    pub(super) fn statistics(&self) -> Statistics {
        self.accumulator().finish()
    }

    fn accumulator(&self) -> Accumulator {
        match self {
            Self::One { value, quality, time } => Accumulator::of_reading(*value, *quality, *time),
            Self::Many(statistics) => Accumulator::of(**statistics),
        }
    }
}

impl Content {
    /// Begins with the first input.
    pub fn new(input: &Input) -> Self {
        match *input {
            Input::Value { value, quality, time } => Self::Readings(Accumulator::of_reading(value, quality, time)),
            Input::Child { start, ref statistics } => Self::Children(vec![(start, Child::new(statistics))]),
        }
    }

    /// Takes a further input in. A window holds readings or windows, never both.
    pub fn add(&mut self, input: &Input) {
        match (self, input) {
            (Self::Readings(all), Input::Value { value, quality, time }) => all.add(*value, *quality, *time),
            (Self::Children(children), Input::Child { start, statistics }) => {
                let child = Child::new(statistics);
                match children.binary_search_by_key(start, |(start, _)| *start) {
                    Ok(at) => children[at].1 = child,
                    Err(at) => children.insert(at, (*start, child)),
                }
            }
            (Self::Readings(all), Input::Child { statistics, .. }) => all.merge(statistics),
            (Self::Children(_), Input::Value { .. }) => {
                debug_assert!(false, "readings never reach a level that merges windows");
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Children(children) if children.is_empty())
    }

    /// The window's statistics.
    pub fn fold(&self) -> Statistics {
        match self {
            Self::Readings(all) => all.finish(),
            Self::Children(children) => {
                let mut children = children.iter().map(|(_, child)| child.accumulator());
                let mut all = children.next().expect("a window is made with its first child");
                for child in children {
                    all.merge(&child.finish());
                }
                all.finish()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(second: i64, values: &[f64]) -> Input {
        let start = Timestamp::from_millis(second * 1000);
        let mut all = Accumulator::of_reading(values[0], Quality::Good, start);
        for value in &values[1..] {
            all.add(*value, Quality::Good, start.plus_micros(1));
        }
        Input::Child { start, statistics: all.finish() }
    }

    #[test]
    fn a_revised_child_replaces_its_entry_and_order_does_not_matter() {
        // AGG-05
        let mut content = Content::new(&child(2, &[5.0, 7.0]));
        content.add(&child(1, &[100.0]));
        content.add(&child(3, &[1.0]));
        content.add(&child(1, &[3.0, 3.0]));
        let mut in_order = Content::new(&child(1, &[3.0, 3.0]));
        in_order.add(&child(2, &[5.0, 7.0]));
        in_order.add(&child(3, &[1.0]));
        assert_eq!(content.fold(), in_order.fold());
        let s = content.fold();
        assert_eq!((s.count, s.sum, s.first, s.last, s.max), (5, 19.0, 3.0, 1.0, 7.0));
    }

    #[test]
    fn a_child_of_one_reading_folds_like_the_reading() {
        let Input::Child { statistics, .. } = child(1, &[4.5]) else { unreachable!() };
        assert_eq!(Child::new(&statistics).accumulator().finish(), statistics);
        assert!(size_of::<Child>() <= 24);
    }
}
