//! Where the outputs ended as a lane came along: how far a restart has to look back for what was told.
//!
//! A restart reads a lane again from a place, and must find by name everything that was told since it was there. The
//! ends of the outputs, asked when the lane had not yet come to that place, lie before all of it.

use std::collections::VecDeque;

use crate::validate::LaneTime;

/// Places kept; when there are more, every other one goes, and a restart looks back a little further.
const STEPS_MAX: usize = 512;

/// The way of a lane since the place a restart would begin at. `E` is where the outputs end.
#[derive(Debug)]
pub struct Trail<E> {
    steps: VecDeque<(LaneTime, E)>,
}

impl<E: Copy> Trail<E> {
    /// A run begins at `place`: what was told since the lane was there before lies behind `marks`.
    pub fn begin(place: LaneTime, marks: E) -> Self {
        Self { steps: VecDeque::from([(place, marks)]) }
    }

    /// The lane is at `place`, and the outputs end at `ends` or behind; not to be called before the lane has come to
    /// every place where something was told before this run.
    pub fn note(&mut self, place: LaneTime, ends: E) {
        if self.steps.back().is_some_and(|(last, _)| *last >= place) {
            return; // it has not moved, and something may have been told meanwhile
        }
        if self.steps.len() >= STEPS_MAX {
            let mut number = 0;
            self.steps.retain(|_| {
                number += 1;
                number % 2 == 1 // the first stays
            });
        }
        self.steps.push_back((place, ends));
    }

    /// Ends of the outputs before anything was told that a replay from `place` comes to. Places only go forward: what
    /// lies before is forgotten.
    pub fn before(&mut self, place: LaneTime) -> E {
        while self.steps.get(1).is_some_and(|(second, _)| *second < place) {
            self.steps.pop_front();
        }
        self.steps[0].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64, now: i64) -> LaneTime {
        LaneTime { offset, now, shift: 0 }
    }

    #[test]
    fn what_was_told_at_a_place_lies_behind_the_ends_before_it() {
        // I3
        let mut trail = Trail::begin(at(10, 100), 5);
        trail.note(at(12, 120), 7);
        trail.note(at(12, 130), 8); // a pause in which something was told
        assert_eq!(trail.before(at(12, 120)), 5, "at 12/120 itself something may have been told before the ends");
        assert_eq!(trail.before(at(12, 125)), 7);
        assert_eq!(trail.before(at(13, 90)), 8);
    }

    #[test]
    fn a_lane_that_stands_still_keeps_its_first_ends() {
        let mut trail = Trail::begin(at(10, 100), 5);
        trail.note(at(12, 120), 7);
        trail.note(at(12, 120), 9);
        assert_eq!(trail.before(at(12, 121)), 7);
    }

    #[test]
    fn a_long_way_is_kept_in_longer_steps() {
        let mut trail = Trail::begin(at(10, 100), 5);
        for step in 0..100_000 {
            trail.note(at(20 + step, 100), step);
        }
        assert!(trail.steps.len() <= STEPS_MAX);
        assert_eq!(trail.before(at(20, 0)), 5, "the beginning is never forgotten by itself");
        let ends = trail.before(at(50_000, 0));
        assert!((0..49_980).contains(&ends), "{ends}");
    }
}
