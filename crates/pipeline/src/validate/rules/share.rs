//! The share of a point's readings that was rejected: more than one in a hundred within five minutes says that the rule
//! or the sensor is wrong (VAL-26).

/// The span counted, in microseconds of arrival.
const SPAN: i64 = 300 * 1_000_000;
/// Readings below which a share says nothing.
const READINGS_MIN: u32 = 20;
/// One in so many may be rejected.
const ONE_IN: u32 = 100;

/// Counts of the span under way; begins with the first rejection of a well point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub began: i64,
    pub readings: u32,
    pub rejected: u32,
}

/// What a span brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    pub readings: u32,
    pub rejected: u32,
}

impl Share {
    /// Begins with a rejected reading.
    pub fn begin(now: i64) -> Self {
        Self { began: now, readings: 1, rejected: 1 }
    }

    /// Takes a reading in. When the span ends: what it brought if that was too much, and whether to go on counting.
    pub fn take(&mut self, rejected: bool, now: i64) -> (Option<Trouble>, bool) {
        let ended = now.saturating_sub(self.began) >= SPAN;
        if !ended {
            self.readings = self.readings.saturating_add(1);
            self.rejected = self.rejected.saturating_add(u32::from(rejected));
            return (None, true);
        }
        let much = self.readings >= READINGS_MIN && self.rejected.saturating_mul(ONE_IN) > self.readings;
        let trouble = much.then_some(Trouble { readings: self.readings, rejected: self.rejected });
        let again = rejected || much;
        *self = Self { began: now, readings: 1, rejected: u32::from(rejected) };
        (trouble, again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(every: u32) -> Option<Trouble> {
        let mut share = Share::begin(0);
        let mut told = None;
        for second in 1..=300_u32 {
            let rejected = every > 0 && second % every == 0;
            told = told.or(share.take(rejected, i64::from(second) * 1_000_000).0);
        }
        told
    }

    #[test]
    fn more_than_one_in_a_hundred_is_told_when_the_span_ends() {
        // VAL-26
        assert_eq!(told(10), Some(Trouble { readings: 300, rejected: 30 }));
        assert_eq!(told(150), None, "2 of 300");
        assert_eq!(told(0), None);
    }

    #[test]
    fn a_quiet_span_ends_the_counting() {
        let mut share = Share::begin(0);
        (1..300).for_each(|second| assert!(share.take(false, second * 1_000_000).1));
        assert_eq!(share.take(false, SPAN), (None, false));
    }
}
