//! Stamps in payloads, by a format that is declared and never guessed (MQ-13).
//!
//! Pure. Zones come from the IANA database in the program, not from the machine. A local time that the change to winter
//! time made mean two moments is the first of them, one that the change to summer time left out is moved behind it; both
//! say so.

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;
use model::Timestamp;

/// How a stamp is written.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// A number of units since 1970; microseconds in one unit, as numerator and denominator.
    Epoch {
        numerator: i64,
        denominator: i64,
    },
    Rfc3339,
    /// `%Y-%m-%d %H:%M:%S` and the like; `has_offset` when the text itself says its zone.
    Pattern {
        pattern: String,
        has_offset: bool,
    },
}

/// A declared stamp.
#[derive(Debug, Clone, PartialEq)]
pub struct Clockwork {
    pub format: Format,
    pub zone: Option<Tz>,
}

/// What a stamp means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    At(Timestamp),
    /// One of two moments, or none: a change of the clock.
    Ambiguous(Timestamp),
    /// Not readable, or a local time of nobody knows where.
    Unusable,
}

impl Format {
    /// The formats without a pattern, by name.
    pub fn by_name(name: &str) -> Option<Self> {
        let epoch = |numerator, denominator| Some(Self::Epoch { numerator, denominator });
        match name {
            "epoch_s" => epoch(1_000_000, 1),
            "epoch_ms" => epoch(1_000, 1),
            "epoch_us" => epoch(1, 1),
            "epoch_ns" => epoch(1, 1_000),
            "rfc3339" => Some(Self::Rfc3339),
            _ => None,
        }
    }

    /// A pattern, or what is wrong with it.
    pub fn pattern(text: &str) -> Result<Self, String> {
        let mut has_offset = false;
        for item in StrftimeItems::new(text) {
            match item {
                Item::Error => return Err("has a % that is no field of a time".to_owned()),
                Item::Fixed(fixed) => {
                    use chrono::format::Fixed;
                    has_offset |= !matches!(
                        fixed,
                        Fixed::Nanosecond
                            | Fixed::Nanosecond3
                            | Fixed::Nanosecond6
                            | Fixed::Nanosecond9
                            | Fixed::ShortMonthName
                            | Fixed::LongMonthName
                            | Fixed::ShortWeekdayName
                            | Fixed::LongWeekdayName
                            | Fixed::LowerAmPm
                            | Fixed::UpperAmPm
                    );
                }
                _ => {}
            }
        }
        Ok(Self::Pattern { pattern: text.to_owned(), has_offset })
    }
}

impl Clockwork {
    /// Reads a stamp.
    pub fn read(&self, text: &str) -> Read {
        let text = text.trim();
        match &self.format {
            Format::Epoch { numerator, denominator } => match epoch(text, *numerator, *denominator) {
                Some(micros) => Read::At(Timestamp::from_micros(micros)),
                None => Read::Unusable,
            },
            Format::Rfc3339 => match Timestamp::parse_rfc3339(text) {
                Some(time) => Read::At(time),
                None => self.local(["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"], text),
            },
            Format::Pattern { pattern, has_offset: true } => match DateTime::parse_from_str(text, pattern) {
                Ok(time) => Read::At(Timestamp::from_micros(time.timestamp_micros())),
                Err(_) => Read::Unusable,
            },
            Format::Pattern { pattern, .. } => self.local([pattern], text),
        }
    }

    fn local<'p>(&self, patterns: impl IntoIterator<Item = impl AsRef<str> + 'p>, text: &str) -> Read {
        let parsed =
            patterns.into_iter().find_map(|pattern| NaiveDateTime::parse_from_str(text, pattern.as_ref()).ok());
        let (Some(local), Some(zone)) = (parsed, self.zone) else { return Read::Unusable };
        let micros = local.and_utc().timestamp_micros();
        let at = |offset_s: i32| Timestamp::from_micros(micros.saturating_sub(i64::from(offset_s) * 1_000_000));
        match zone.offset_from_local_datetime(&local) {
            MappedLocalTime::Single(offset) => Read::At(at(offset.fix().local_minus_utc())),
            MappedLocalTime::Ambiguous(first, _) => Read::Ambiguous(at(first.fix().local_minus_utc())),
            MappedLocalTime::None => {
                // the clock jumped over it: with the offset from before, it lies as far behind the jump
                let day_before = local.checked_sub_signed(chrono::TimeDelta::days(1));
                let before = day_before.and_then(|local| zone.offset_from_local_datetime(&local).earliest());
                before.map_or(Read::Unusable, |offset| Read::Ambiguous(at(offset.fix().local_minus_utc())))
            }
        }
    }
}

/// Microseconds of a decimal number of units, without a detour over a float.
fn epoch(text: &str, numerator: i64, denominator: i64) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        // an exponent: rare, and as exact as its writer was
        let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite())?;
        #[expect(clippy::cast_precision_loss, reason = "the factors are small")]
        let micros = number * (numerator as f64) / (denominator as f64);
        #[expect(clippy::cast_possible_truncation, reason = "held against the range of times just before")]
        return (micros.abs() < 9e18).then_some(micros as i64);
    }
    let whole: i64 = whole.parse().ok()?;
    let used = &fraction[..fraction.len().min(12)];
    let scale = 10_i128.pow(u32::try_from(used.len()).ok()?);
    let fraction: i128 = if used.is_empty() { 0 } else { used.parse().ok()? };
    let micros = (i128::from(whole) * scale + fraction) * i128::from(numerator) / scale / i128::from(denominator);
    let micros = i64::try_from(micros).ok()?;
    Some(if negative { -micros } else { micros })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: &str, zone: Option<&str>, text: &str) -> Read {
        let format = Format::by_name(format).unwrap_or_else(|| Format::pattern(format).unwrap());
        Clockwork { format, zone: zone.map(|zone| zone.parse().unwrap()) }.read(text)
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    // MQ-13
    #[test]
    fn numbers_of_every_unit() {
        let time = at("2026-01-29T10:00:00.123456Z");
        assert_eq!(read("epoch_s", None, "1769680800.123456"), Read::At(time));
        assert_eq!(read("epoch_ms", None, "1769680800123.456"), Read::At(time));
        assert_eq!(read("epoch_us", None, "1769680800123456"), Read::At(time));
        assert_eq!(read("epoch_ns", None, "1769680800123456789"), Read::At(time));
        assert_eq!(read("epoch_s", None, "1.7696808e9"), Read::At(at("2026-01-29T10:00:00Z")));
        assert_eq!(read("epoch_s", None, "-1.5"), Read::At(Timestamp::from_micros(-1_500_000)));
        for bad in ["", "x", "1e400", "99999999999999999999", "1.5.2", "NaN"] {
            assert_eq!(read("epoch_s", None, bad), Read::Unusable, "{bad}");
        }
    }

    // MQ-13, AC-053
    #[test]
    fn local_times_need_a_zone_and_know_the_changes_of_the_clock() {
        let pattern = "%Y-%m-%d %H:%M:%S";
        let berlin = Some("Europe/Berlin");
        assert_eq!(read(pattern, berlin, "2026-10-25 02:30:00"), Read::Ambiguous(at("2026-10-25T00:30:00Z")));
        assert_eq!(read(pattern, berlin, "2026-03-29 02:30:00"), Read::Ambiguous(at("2026-03-29T01:30:00Z")));
        assert_eq!(read(pattern, berlin, "2026-07-01 12:00:00"), Read::At(at("2026-07-01T10:00:00Z")));
        assert_eq!(read(pattern, None, "2026-07-01 12:00:00"), Read::Unusable);
        assert_eq!(read("rfc3339", None, "2026-07-01T12:00:00+02:00"), Read::At(at("2026-07-01T10:00:00Z")));
        assert_eq!(read("rfc3339", berlin, "2026-07-01T12:00:00.5"), Read::At(at("2026-07-01T10:00:00.5Z")));
        assert_eq!(read("rfc3339", None, "2026-07-01T12:00:00"), Read::Unusable);
        assert_eq!(read("%d.%m.%Y %H:%M %z", None, "01.07.2026 12:00 +0200"), Read::At(at("2026-07-01T10:00:00Z")));
        assert!(Format::pattern("%Q").is_err());
    }
}
