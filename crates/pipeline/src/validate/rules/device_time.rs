//! Device time: a stamp from a clock that was never set, or from tomorrow, is not believed (section 5.4 of the records).
//!
//! The reading is kept under the gateway's time then; its own stamp travels on in the metadata.

use model::{Quality, Timestamp};

use crate::validate::Finding;

/// The stamp cannot be a real time: before 2000 or too long ago.
pub const DEVICE_TIME_INVALID: &str = "DEVICE_TIME_INVALID";
/// The stamp lies too far ahead.
pub const DEVICE_TIME_FUTURE: &str = "DEVICE_TIME_FUTURE";

/// Further ahead of the gateway than this is not believed, in microseconds.
const FUTURE_MAX: i64 = 3600 * 1_000_000;
/// Further behind the gateway than this is not believed, in microseconds.
const PAST_MAX: i64 = 400 * 24 * 3600 * 1_000_000;
/// Older than the newest of its point by more than this is late, in microseconds.
const LATE_AFTER: i64 = 60 * 1_000_000;

/// Finds a device time that cannot be used.
pub fn check(device_time: Timestamp, gateway_time: Timestamp) -> Option<Finding> {
    let behind = gateway_time.micros_since(device_time);
    let code = if behind < -FUTURE_MAX {
        DEVICE_TIME_FUTURE
    } else if behind > PAST_MAX || device_time < Timestamp::YEAR_2000 {
        DEVICE_TIME_INVALID
    } else {
        return None;
    };
    Some(Finding { quality: Quality::Uncertain, code, rule: None, limit: None })
}

/// True when the reading is late against the newest one of its point, both in microseconds.
pub fn is_late(device_time: i64, newest: i64) -> bool {
    device_time < newest.saturating_sub(LATE_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_stamps_are_found_and_odd_ones_are_kept() {
        // AC-061
        let now = Timestamp::parse_rfc3339("2026-01-29T10:00:00Z").unwrap();
        let code = |micros_ahead: i64| check(now.plus_micros(micros_ahead), now).map(|finding| finding.code);
        let hour = 3_600_000_000;
        assert_eq!(check(Timestamp::from_micros(0), now).unwrap().code, DEVICE_TIME_INVALID);
        assert_eq!(code(2 * hour), Some(DEVICE_TIME_FUTURE));
        assert_eq!(code(hour), None);
        assert_eq!(code(-20 * 24 * hour), None);
        assert_eq!(code(-15_200_000), None);
        assert_eq!(code(-401 * 24 * hour), Some(DEVICE_TIME_INVALID));
        assert_eq!(check(Timestamp::from_micros(i64::MIN), now).unwrap().code, DEVICE_TIME_INVALID);
        assert_eq!(check(Timestamp::from_micros(i64::MAX), now).unwrap().code, DEVICE_TIME_FUTURE);
    }
}
