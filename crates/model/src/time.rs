//! Time: a timestamp in microseconds UTC and the clock everything above is handed.
//!
//! Durations and schedules use the monotonic clock (G-04); nothing here knows a local time zone.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

/// Microseconds since 1970-01-01T00:00:00Z, negative before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 2000-01-01T00:00:00Z; a device time before it is a clock that was never set (5.4).
    pub const YEAR_2000: Self = Self(946_684_800_000_000);

    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1000))
    }

    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds, rounded down; the unit of Kafka timestamps.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// `self - earlier` in microseconds, saturating.
    pub const fn micros_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    #[must_use]
    pub const fn plus_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// Start of the window of `width_micros` that holds this instant, aligned to the epoch (AGG-01).
    #[must_use]
    pub const fn window_start(self, width_micros: i64) -> Self {
        Self(self.0 - self.0.rem_euclid(width_micros))
    }

    /// Reads RFC 3339 in UTC or with an offset, up to nanoseconds (cut to microseconds).
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let number = |range: std::ops::Range<usize>| -> Option<i64> {
            let digits = bytes.get(range)?;
            digits.iter().try_fold(0, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')))
        };
        let separators_hold = bytes.get(4) == Some(&b'-')
            && bytes.get(7) == Some(&b'-')
            && matches!(bytes.get(10), Some(b'T' | b't' | b' '))
            && bytes.get(13) == Some(&b':')
            && bytes.get(16) == Some(&b':');
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
        let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
        if !separators_hold || !in_range {
            return None;
        }
        let mut rest = &bytes[19..];
        let mut micros = 0;
        if let Some(fraction) = rest.strip_prefix(b".") {
            let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 || digits > 9 {
                return None;
            }
            let used = digits.min(6);
            let value = fraction[..used].iter().fold(0, |sum, b| sum * 10 + i64::from(b - b'0'));
            micros = value * 10_i64.pow(6 - u32::try_from(used).ok()?);
            rest = &fraction[digits..];
        }
        let offset_minutes = match rest {
            b"Z" | b"z" => 0,
            [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
                let at = bytes.len() - 5;
                let minutes = number(at..at + 2)? * 60 + number(at + 3..at + 5)?;
                if *sign == b'-' { -minutes } else { minutes }
            }
            _ => return None,
        };
        // REC-15: a leap second is the last microsecond before it
        let (second, micros) = if second == 60 { (59, 999_999) } else { (second, micros) };
        let days = days_from_civil(year, month, day);
        let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset_minutes * 60;
        Some(Self(seconds * 1_000_000 + micros))
    }
}

/// RFC 3339 in UTC with 3 digits, or 6 where microseconds are known (REC-01).
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_euclid(1_000_000);
        let micros = self.0.rem_euclid(1_000_000);
        let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
        let in_day = seconds.rem_euclid(86_400);
        let (hour, minute, second) = (in_day / 3600, in_day / 60 % 60, in_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.")?;
        if micros % 1000 == 0 { write!(f, "{:03}Z", micros / 1000) } else { write!(f, "{micros:06}Z") }
    }
}

/// Days since 1970-01-01 of a proleptic Gregorian date.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The reverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// What the gateway's clock is worth (OFF-01).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ClockState {
    /// Follows a time server and is within 100 ms of it.
    #[default]
    Synced,
    /// Lost its time server, or never showed one, not longer than a day ago.
    Holdover,
    /// Never set since the machine started, or without a time server for more than a day.
    Unsynced,
}

impl ClockState {
    /// Word in readings, events and health.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Synced => "SYNCED",
            Self::Holdover => "HOLDOVER",
            Self::Unsynced => "UNSYNCED",
        }
    }

    /// Number in metrics, from well to worst.
    pub const fn as_number(self) -> u8 {
        match self {
            Self::Synced => 0,
            Self::Holdover => 1,
            Self::Unsynced => 2,
        }
    }

    /// The reverse of [`ClockState::as_number`]; what is no number of a state is the worst.
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Synced,
            1 => Self::Holdover,
            _ => Self::Unsynced,
        }
    }
}

/// Wall clock. A parameter everywhere, so that tests set the time.
pub trait Clock: Send + Sync + fmt::Debug {
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place where the wall clock is read")]
    fn now(&self) -> Timestamp {
        match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)),
            Err(before) => Timestamp(-i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX)),
        }
    }
}

/// A clock that stands still until it is set; for tests and simulations.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    pub fn at(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.0))
    }

    pub fn set(&self, now: Timestamp) {
        self.0.store(now.0, Ordering::SeqCst);
    }

    pub fn advance_micros(&self, micros: i64) {
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_round_trips() {
        // REC-01, REC-15
        for text in [
            "2026-01-29T10:00:00.123Z",
            "1969-12-31T23:59:59.999Z",
            "2038-01-19T03:14:08.000Z",
            "2000-02-29T00:00:00.000001Z",
        ] {
            assert_eq!(Timestamp::parse_rfc3339(text).unwrap().to_string(), text);
        }
        assert_eq!(
            Timestamp::parse_rfc3339("2026-01-29T11:00:00+01:00"),
            Timestamp::parse_rfc3339("2026-01-29T10:00:00Z")
        );
        assert_eq!(
            Timestamp::parse_rfc3339("2016-12-31T23:59:60Z").unwrap().to_string(),
            "2016-12-31T23:59:59.999999Z"
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "2026-01-29",
            "2026-13-29T10:00:00Z",
            "2026-01-29T10:00:00",
            "2026-01-29T10:00:00.Z",
            "2026-01-29T10:00:00+1:00",
        ] {
            assert_eq!(Timestamp::parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn windows_align_to_the_epoch_also_before_it() {
        // AGG-01
        assert_eq!(Timestamp::from_millis(1999).window_start(1_000_000), Timestamp::from_millis(1000));
        assert_eq!(Timestamp::from_millis(-1).window_start(1_000_000), Timestamp::from_millis(-1000));
    }
}
