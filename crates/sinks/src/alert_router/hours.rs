//! Hours of the week in a time zone: when people sleep, when a route holds (RTE-01, RTE-07).
//!
//! A time belongs to the hours when a clock on the wall of that zone shows one of them. So a night in which the clock is
//! set back is an hour longer, and one in which it is put forward an hour shorter.

use chrono::{DateTime, Datelike, Days, LocalResult, NaiveDate, NaiveTime, TimeZone, Timelike, Weekday};
use chrono_tz::Tz;
use model::Timestamp;

const DAY_MINUTES: u16 = 24 * 60;
const MINUTE_MICROS: i64 = 60_000_000;
/// A clock is put forward by less than this anywhere.
const GAP_MINUTES_MAX: i64 = 180;

/// From a time of day to another, on some days of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    pub zone: Tz,
    /// From Monday on. Hours over midnight belong to the day on which they begin.
    pub days: [bool; 7],
    /// Minutes of the day; `from > to` goes over midnight, equal is a whole day.
    pub from: u16,
    pub to: u16,
}

impl Hours {
    /// Is `at` within the hours?
    pub fn contains(&self, at: Timestamp) -> bool {
        self.begun_on(at).is_some()
    }

    /// The end of the hours that hold `at`; `at` itself when none do.
    pub fn end(&self, at: Timestamp) -> Timestamp {
        let Some(mut day) = self.begun_on(at) else { return at };
        if self.from >= self.to {
            day = day + Days::new(1);
        }
        let time = NaiveTime::from_num_seconds_from_midnight_opt(u32::from(self.to) * 60, 0).unwrap_or_default();
        let local = day.and_time(time);
        // where the clock is put forward over the end, the hours end as soon as it shows a time again
        let end = (0..=GAP_MINUTES_MAX).find_map(|minutes| {
            match self.zone.from_local_datetime(&(local + chrono::TimeDelta::minutes(minutes))) {
                LocalResult::Single(end) => Some(end),
                LocalResult::Ambiguous(_, later) => Some(later),
                LocalResult::None => None,
            }
        });
        let end = end.map_or(at, |end| Timestamp::from_micros(end.timestamp_micros()));
        end.max(at.plus_micros(MINUTE_MICROS))
    }

    /// The day on which the hours that hold `at` began.
    fn begun_on(&self, at: Timestamp) -> Option<NaiveDate> {
        let local = local(self.zone, at);
        let minute = u16::try_from(local.hour() * 60 + local.minute()).unwrap_or(DAY_MINUTES);
        let today = local.date_naive();
        let holds = |day: NaiveDate| self.days[day.weekday().num_days_from_monday() as usize];
        if self.from < self.to {
            return (self.from..self.to).contains(&minute).then_some(today).filter(|day| holds(*day));
        }
        if minute >= self.from {
            return Some(today).filter(|day| holds(*day));
        }
        today.pred_opt().filter(|yesterday| minute < self.to && holds(*yesterday))
    }
}

/// A moment as the clocks of a zone show it.
pub fn local(zone: Tz, at: Timestamp) -> DateTime<Tz> {
    let utc = DateTime::from_timestamp_micros(at.as_micros()).unwrap_or_default();
    utc.with_timezone(&zone)
}

/// The next multiple of `interval` behind `at`, counted from midnight of the zone: a digest of every hour comes at the full
/// hour, one of every day at midnight.
pub fn next_aligned(zone: Tz, at: Timestamp, interval_micros: i64) -> Timestamp {
    let local = local(zone, at);
    let in_day = i64::from(local.num_seconds_from_midnight()) * 1_000_000 + i64::from(local.nanosecond() / 1_000);
    at.plus_micros(interval_micros - in_day.rem_euclid(interval_micros))
}

/// A time of day, `22:00`, in minutes.
pub fn parse_time(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two_digits = |text: &str| (text.len() == 2).then(|| text.parse::<u16>().ok()).flatten();
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

/// A day of the week by its first three letters.
pub fn parse_day(text: &str) -> Option<usize> {
    let day: Weekday = text.parse().ok()?;
    Some(day.num_days_from_monday() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [bool; 7] = [true; 7];

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    fn night(days: [bool; 7]) -> Hours {
        Hours { zone: chrono_tz::Europe::Berlin, days, from: 22 * 60, to: 6 * 60 }
    }

    #[test]
    fn a_night_goes_over_midnight_and_belongs_to_the_evening() {
        // RTE-07
        let mut friday_only = [false; 7];
        friday_only[4] = true;
        let hours = night(friday_only);
        assert!(!hours.contains(at("2026-03-06T20:59:00Z")), "21:59 on Friday");
        assert!(hours.contains(at("2026-03-06T21:00:00Z")), "22:00 on Friday");
        assert!(hours.contains(at("2026-03-07T04:59:59Z")), "05:59 on Saturday");
        assert!(!hours.contains(at("2026-03-07T05:00:00Z")), "06:00 on Saturday");
        assert!(!hours.contains(at("2026-03-07T22:00:00Z")), "23:00 on Saturday");
        assert_eq!(hours.end(at("2026-03-06T23:30:00Z")), at("2026-03-07T05:00:00Z"));
        assert_eq!(hours.end(at("2026-03-07T12:00:00Z")), at("2026-03-07T12:00:00Z"), "none of the hours");
    }

    #[test]
    fn nights_in_which_the_clock_is_set() {
        // RTE-07: 2026-03-29 and 2026-10-25 in Berlin
        let hours = night(ALL);
        assert_eq!(hours.end(at("2026-03-28T21:30:00Z")), at("2026-03-29T04:00:00Z"), "an hour shorter");
        assert_eq!(hours.end(at("2026-10-24T20:30:00Z")), at("2026-10-25T05:00:00Z"), "an hour longer");
        // an end that the clock jumps over, and one that it shows twice
        let to_half_past_two = Hours { to: 150, ..hours };
        assert_eq!(to_half_past_two.end(at("2026-03-28T23:00:00Z")), at("2026-03-29T01:00:00Z"));
        assert_eq!(to_half_past_two.end(at("2026-10-24T23:00:00Z")), at("2026-10-25T01:30:00Z"));
    }

    #[test]
    fn digests_are_aligned_to_the_clock_on_the_wall() {
        // RTE-04
        let quarter = 15 * 60_000_000;
        let zone = chrono_tz::Asia::Kolkata;
        assert_eq!(next_aligned(zone, at("2026-03-06T10:07:12Z"), quarter), at("2026-03-06T10:15:00Z"));
        assert_eq!(next_aligned(zone, at("2026-03-06T10:15:00Z"), quarter), at("2026-03-06T10:30:00Z"));
        let day = 24 * 3_600_000_000;
        assert_eq!(next_aligned(zone, at("2026-03-06T10:07:12Z"), day), at("2026-03-06T18:30:00Z"), "midnight there");
    }

    #[test]
    fn times_and_days_are_read_strictly() {
        assert_eq!((parse_time("06:30"), parse_time("24:00"), parse_time("6:30")), (Some(390), None, None));
        assert_eq!((parse_day("mon"), parse_day("Sunday"), parse_day("holiday")), (Some(0), Some(6), None));
    }
}
