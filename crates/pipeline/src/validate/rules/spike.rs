//! Spike: a value far from the median of the last seven, measured in their own spread.
//!
//! `|x - median| > k * 1.4826 * MAD`; the MAD is never taken below the deadband, or a quiet signal would always spike. A
//! spike is marked and still remembered: seven readings of a new level make it the median.

use config::rules;
use model::{Quality, reason};

use crate::validate::Finding;

/// Values compared with.
pub const WINDOW: usize = 7;
/// From the median absolute deviation to a standard deviation, for normal noise.
const MAD_TO_SIGMA: f64 = 1.4826;

/// The settings of a point.
#[derive(Debug, Clone, PartialEq)]
pub struct Spike {
    /// Index of the configured rule.
    pub rule: u32,
    k: f64,
    deadband: f64,
}

/// The newest accepted values, the oldest first.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Recent {
    values: [f64; WINDOW],
    count: u8,
}

impl Recent {
    pub fn push(&mut self, value: f64) {
        if usize::from(self.count) < WINDOW {
            self.values[usize::from(self.count)] = value;
            self.count += 1;
        } else {
            self.values.rotate_left(1);
            self.values[WINDOW - 1] = value;
        }
    }

    pub fn values(&self) -> &[f64] {
        &self.values[..usize::from(self.count)]
    }
}

impl Spike {
    pub fn new(rule: u32, settings: &rules::Spike) -> Self {
        Self { rule, k: settings.k, deadband: settings.deadband }
    }

    /// Compares with what came before; nothing is found until seven values are known.
    pub fn check(&self, recent: &Recent, value: f64) -> Option<Finding> {
        if recent.values().len() < WINDOW {
            return None;
        }
        let median = middle(recent.values);
        let deviation = middle(recent.values.map(|value| (value - median).abs())).max(self.deadband);
        let limit = self.k * MAD_TO_SIGMA * deviation;
        let is_spike = (value - median).abs() > limit;
        is_spike.then_some(Finding {
            quality: Quality::Suspect,
            code: reason::SPIKE,
            rule: Some(self.rule),
            limit: Some(if value > median { median + limit } else { median - limit }),
        })
    }
}

fn middle(mut values: [f64; WINDOW]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[WINDOW / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wild_value_is_a_spike_and_a_level_is_not() {
        // VAL table, "spike"
        let spike = Spike::new(2, &rules::Spike { k: 6.0, deadband: 0.1 });
        let mut recent = Recent::default();
        let mut found = Vec::new();
        let series = [20.0, 20.1, 19.9, 20.0, 20.1, 19.9, 20.0, 35.0, 20.1, 35.0, 35.0, 35.0, 35.0];
        for value in series {
            found.push(spike.check(&recent, value).is_some());
            recent.push(value);
        }
        assert_eq!(found[..9], [false, false, false, false, false, false, false, true, false]);
        assert_eq!(found[9..], [true, true, true, false], "the fourth of a level among seven is its median");
        let finding = spike.check(&recent, -100.0).unwrap();
        assert!(finding.limit.unwrap() < 35.0, "the lower bound was crossed");
    }

    #[test]
    fn a_constant_signal_needs_its_deadband() {
        let mut recent = Recent::default();
        (0..7).for_each(|_| recent.push(5.0));
        let with = |deadband| Spike::new(0, &rules::Spike { k: 6.0, deadband });
        assert!(with(0.0).check(&recent, 5.001).is_some());
        assert!(with(0.01).check(&recent, 5.001).is_none());
    }
}
