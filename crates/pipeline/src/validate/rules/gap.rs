//! Gap: nothing arrived for more than twice the expected interval.

use model::Timestamp;

/// A hole before a reading, by the gateway's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Arrival of the last reading before the hole.
    pub from: Timestamp,
    /// Arrival of the first one after it.
    pub to: Timestamp,
    /// Readings expected behind `from`, up to and with the one at `to`, which is the only one that came.
    pub expected: i64,
}

impl Gap {
    /// The same by a clock that is ahead by `shift` microseconds.
    #[must_use]
    pub fn shifted(self, shift: i64) -> Self {
        Self { from: self.from.plus_micros(shift), to: self.to.plus_micros(shift), ..self }
    }
}

/// Finds a hole between two arrivals, all in microseconds.
pub fn check(previous: Option<i64>, arrival: i64, expected_interval: i64) -> Option<Gap> {
    let from = previous?;
    let elapsed = arrival.saturating_sub(from);
    if elapsed <= expected_interval.saturating_mul(2) {
        return None;
    }
    Some(Gap {
        from: Timestamp::from_micros(from),
        to: Timestamp::from_micros(arrival),
        expected: elapsed / expected_interval.max(1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_the_interval_is_still_no_gap() {
        let second = 1_000_000;
        assert_eq!(check(None, 50 * second, second), None);
        assert_eq!(check(Some(0), 2 * second, second), None);
        let gap = check(Some(0), 2 * second + 1, second).unwrap();
        assert_eq!(gap.expected, 2);
        assert_eq!(check(Some(10 * second), 5 * second, second), None, "a clock that stepped back is no gap");
    }
}
