//! Device time: a stamp from a clock that was never set, or from tomorrow, is not believed (section 5.4 of the records).
//!
//! The reading is kept under the gateway's time then; its own stamp travels on in the metadata.

use model::{Quality, Reading, Timestamp, reason, time_source};

use crate::validate::Finding;

/// Further ahead of the gateway than this is not believed, in microseconds.
const FUTURE_MAX: i64 = 3600 * 1_000_000;
/// Further behind the gateway than this is not believed, in microseconds.
const PAST_MAX: i64 = 400 * 24 * 3600 * 1_000_000;
/// Older than the newest of its point by more than this is late, in microseconds.
const LATE_AFTER: i64 = 60 * 1_000_000;

/// State of a clock that was never set, or lost its reference too long ago (OFF-01).
const UNSYNCED: &str = "UNSYNCED";

/// What is wrong with a reading's times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Found {
    /// The device time gives way to the gateway's.
    Unusable(Finding),
    /// The gateway stamped it, by a clock that is not set.
    Unsynced(Finding),
}

/// Finds a device time that cannot be used. While the gateway's own clock is not set, a device's is believed.
pub fn check(reading: &Reading<'_>) -> Option<Found> {
    if reading.clock_state == UNSYNCED {
        let own = [time_source::ACQUISITION, time_source::GATEWAY].contains(&reading.time_source);
        return own.then(|| Found::Unsynced(Finding::always(Quality::Uncertain, reason::CLOCK_UNSYNCED)));
    }
    let code = compare(reading.device_time, reading.gateway_time)?;
    Some(Found::Unusable(Finding::always(Quality::Uncertain, code)))
}

fn compare(device_time: Timestamp, gateway_time: Timestamp) -> Option<&'static str> {
    let behind = gateway_time.micros_since(device_time);
    if behind < -FUTURE_MAX {
        Some(reason::DEVICE_TIME_FUTURE)
    } else if behind > PAST_MAX || device_time < Timestamp::YEAR_2000 {
        Some(reason::DEVICE_TIME_INVALID)
    } else {
        None
    }
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
        let code = |micros_ahead: i64| compare(now.plus_micros(micros_ahead), now);
        let hour = 3_600_000_000;
        assert_eq!(compare(Timestamp::from_micros(0), now), Some("DEVICE_TIME_INVALID"));
        assert_eq!(code(2 * hour), Some("DEVICE_TIME_FUTURE"));
        assert_eq!(code(hour), None);
        assert_eq!(code(-20 * 24 * hour), None);
        assert_eq!(code(-15_200_000), None);
        assert_eq!(code(-401 * 24 * hour), Some("DEVICE_TIME_INVALID"));
        assert_eq!(compare(Timestamp::from_micros(i64::MIN), now), Some("DEVICE_TIME_INVALID"));
        assert_eq!(compare(Timestamp::from_micros(i64::MAX), now), Some("DEVICE_TIME_FUTURE"));
    }
}
