//! Flatline: a value that rests within `epsilon` for longer than the process ever does, while readings arrive.

use config::rules;
use model::{Quality, reason};

use crate::validate::Finding;

/// The settings of a point.
#[derive(Debug, Clone, PartialEq)]
pub struct Flatline {
    /// Index of the configured rule.
    pub rule: u32,
    /// Microseconds of device time.
    rest_max: i64,
    epsilon: f64,
}

/// Where the value came to rest, and since when by device time in microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rest {
    pub value: f64,
    pub since: i64,
}

impl Flatline {
    pub fn new(rule: u32, settings: &rules::Flatline) -> Self {
        Self { rule, rest_max: settings.for_ms.saturating_mul(1000), epsilon: settings.epsilon }
    }

    /// What is remembered after a reading: the same rest, or a new one.
    pub fn next(&self, rest: Option<Rest>, value: f64, time: i64) -> Rest {
        match rest {
            Some(rest) if (value - rest.value).abs() <= self.epsilon => rest,
            _ => Rest { value, since: time },
        }
    }

    /// Finds a rest that has lasted too long at `time`.
    pub fn check(&self, rest: &Rest, time: i64) -> Option<Finding> {
        let frozen = time.saturating_sub(rest.since) >= self.rest_max;
        frozen.then_some(Finding {
            quality: Quality::Suspect,
            code: reason::FLATLINE,
            rule: Some(self.rule),
            limit: Some(self.epsilon),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_sensor_is_marked_until_its_first_change() {
        // AC-071: frozen for 30 min, T = 10 min
        let flatline = Flatline::new(0, &rules::Flatline { for_ms: 600_000, epsilon: 0.01 });
        let minute = 60_000_000;
        let mut rest = None;
        let marked: Vec<i64> = (0..=31)
            .filter(|i| {
                let value = if *i == 31 { 21.0 } else { 20.0 + 0.005 * f64::from(u8::from(i % 2 == 0)) };
                let now = flatline.next(rest, value, i * minute);
                rest = Some(now);
                flatline.check(&now, i * minute).is_some()
            })
            .collect();
        assert_eq!(marked, (10..=30).collect::<Vec<_>>());
    }
}
