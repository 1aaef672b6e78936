//! Clock skew of a source: one alert per source, not one per reading (section 5.4 of the records, REC-14).
//!
//! Raised when more than 10 s have lain between the device's and the gateway's clock for a minute, cleared below 5 s. A
//! skew near a multiple of a quarter of an hour is a local time, one of 18 s is GPS time.

/// Beyond this the clocks differ, in microseconds.
const RAISE: i64 = 10_000_000;
/// Below this they agree again.
const CLEAR: i64 = 5_000_000;
/// How long they must differ.
const RAISE_AFTER: i64 = 60_000_000;
const QUARTER: i64 = 900_000_000;
/// How near a multiple of a quarter of an hour counts as one (REC-14).
const NEAR: i64 = 30_000_000;
const GPS: i64 = 18_000_000;
const GPS_NEAR: i64 = 500_000;
/// Readings that must agree before a cause is named.
const AGREEING_MIN: u8 = 3;

/// What is known of one source's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skew {
    /// Since when the clocks differ, by the gateway's time in microseconds.
    since: Option<i64>,
    raised: bool,
    cause: Option<Cause>,
    agreeing: u8,
}

/// Why a clock may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    LocalTime,
    GpsTime,
}

impl Cause {
    /// For a person.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LocalTime => "the source probably sends local time",
            Self::GpsTime => "the source probably sends GPS time, which has no leap seconds",
        }
    }
}

/// A change worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Raised { skew: i64, cause: Option<Cause> },
    Cleared { skew: i64 },
}

impl Skew {
    pub fn is_raised(&self) -> bool {
        self.raised
    }

    /// As it was when it was last told.
    pub fn restored(raised: bool) -> Self {
        Self { raised, ..Self::default() }
    }

    /// Takes in `gateway_time - device_time` of a live reading, all in microseconds.
    pub fn take(&mut self, skew: i64, now: i64) -> Option<Told> {
        let size = skew.saturating_abs();
        if size < CLEAR {
            let was_raised = self.raised;
            *self = Self::default();
            return was_raised.then_some(Told::Cleared { skew });
        }
        if size <= RAISE || self.raised {
            return None;
        }
        let cause = cause(size);
        self.agreeing = if cause == self.cause { self.agreeing.saturating_add(1) } else { 1 };
        self.cause = cause;
        let since = *self.since.get_or_insert(now);
        if now.saturating_sub(since) < RAISE_AFTER {
            return None;
        }
        self.raised = true;
        Some(Told::Raised { skew, cause: cause.filter(|_| self.agreeing >= AGREEING_MIN) })
    }
}

fn cause(size: i64) -> Option<Cause> {
    if (size - GPS).abs() <= GPS_NEAR {
        return Some(Cause::GpsTime);
    }
    let rest = size % QUARTER;
    (size > NEAR && (rest <= NEAR || QUARTER - rest <= NEAR)).then_some(Cause::LocalTime)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn run(skew: i64, seconds: i64) -> Vec<Told> {
        let mut state = Skew::default();
        (0..seconds).filter_map(|second| state.take(skew, second * SECOND)).collect()
    }

    #[test]
    fn one_alert_however_many_readings() {
        // AC-061
        assert_eq!(run(15_200_000, 600), [Told::Raised { skew: 15_200_000, cause: None }]);
        assert_eq!(run(9_000_000, 600), []);
        assert_eq!(run(15_200_000, 59), [], "not for a minute yet");
    }

    #[test]
    fn local_and_gps_time_are_named() {
        // REC-14
        let hour = 3600 * SECOND;
        let raised = |skew| match run(skew, 100)[..] {
            [Told::Raised { cause, .. }] => cause,
            _ => panic!("one alert is told"),
        };
        assert_eq!(raised(-hour + 2 * SECOND), Some(Cause::LocalTime));
        assert_eq!(raised(5 * hour + hour / 2), Some(Cause::LocalTime));
        assert_eq!(raised(-18 * SECOND), Some(Cause::GpsTime));
        assert_eq!(raised(40 * SECOND), None);
    }

    #[test]
    fn it_clears_once_the_clocks_agree() {
        let mut state = Skew::default();
        for second in 0..100 {
            state.take(20 * SECOND, second * SECOND);
        }
        assert_eq!(state.take(7 * SECOND, 100 * SECOND), None, "between clear and raise nothing changes");
        assert!(state.is_raised());
        assert_eq!(state.take(SECOND, 101 * SECOND), Some(Told::Cleared { skew: SECOND }));
        assert_eq!(state.take(SECOND, 102 * SECOND), None);
    }
}
