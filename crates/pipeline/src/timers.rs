//! Deadlines of many points in the order they come due, without looking at those that are not (a timer wheel).
//!
//! Deadlines are kept in steps; one fires at the end of its step, never before. Whoever is called looks whether the
//! deadline still holds: moving one costs nothing until the old one comes due.

use std::collections::BTreeMap;

/// Width of a step, in microseconds.
const STEP: i64 = 250_000;

/// Deadlines and what they are for.
#[derive(Debug, Clone)]
pub struct Timers<K> {
    steps: BTreeMap<i64, Vec<K>>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { steps: BTreeMap::new() }
    }
}

impl<K> Timers<K> {
    /// Asks to be told of `key` when `deadline` has passed, both in microseconds of the same clock.
    pub fn set(&mut self, deadline: i64, key: K) {
        self.steps.entry(Self::step_of(deadline)).or_default().push(key);
    }

    /// When a deadline fires: the end of its step.
    pub fn step_of(deadline: i64) -> i64 {
        deadline.div_euclid(STEP).saturating_add(1).saturating_mul(STEP)
    }

    /// The keys of one step that has passed by `now`, with its time; `None` when there is none.
    pub fn due(&mut self, now: i64) -> Option<(i64, Vec<K>)> {
        let first = self.steps.first_entry().filter(|entry| *entry.key() <= now)?;
        Some((*first.key(), first.remove()))
    }

    /// When the next keys come due.
    pub fn next_step(&self) -> Option<i64> {
        self.steps.first_key_value().map(|(step, _)| *step)
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_order_and_never_early() {
        let mut timers = Timers::default();
        for deadline in [5_000_000, 0, 1_249_999, 1_250_000, -3] {
            timers.set(deadline, deadline);
        }
        assert_eq!(timers.due(-1_000_000), None);
        assert_eq!(timers.due(0), Some((0, vec![-3])));
        assert_eq!(timers.due(0), None);
        let mut fired = Vec::new();
        while let Some((at, keys)) = timers.due(1_500_000) {
            fired.extend(keys.into_iter().inspect(|key| assert!(*key < at)));
        }
        assert_eq!(fired, [0, 1_249_999, 1_250_000]);
        assert!(!timers.is_empty());
    }
}
