//! Points in time as people write them.

use model::Timestamp;

use crate::exit::{Failure, USAGE};

const UNITS: [(&str, i64); 4] = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];

/// Reads RFC 3339, a date (its beginning in UTC), an age like `15m` (s, m, h, d), or milliseconds since 1970.
pub(crate) fn parse(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some(time) =
        Timestamp::parse_rfc3339(text).or_else(|| Timestamp::parse_rfc3339(&format!("{text}T00:00:00Z")))
    {
        return Some(time);
    }
    for (unit, seconds) in UNITS {
        if let Some(age) = text.strip_suffix(unit).and_then(|number| number.parse::<u32>().ok()) {
            return Some(now.plus_micros(-i64::from(age) * seconds * 1_000_000));
        }
    }
    let ms: u64 = text.parse().ok()?;
    i64::try_from(ms).ok().map(Timestamp::from_millis)
}

/// What [`parse`] takes, for messages.
pub(crate) const FORMS: &str = "2026-01-31T12:00:00Z, 2026-01-31, 15m (an age: s, m, h, d) or milliseconds since 1970";

/// The time an option names; none when it is absent.
pub(crate) fn option(option: &str, text: Option<&String>, now: Timestamp) -> Result<Option<Timestamp>, Failure> {
    let Some(text) = text else { return Ok(None) };
    let wrong = || Failure::new(USAGE, format!("{option} {text}: this is not a time; write {FORMS}"));
    parse(text, now).map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_each_form() {
        let now = Timestamp::parse_rfc3339("2026-01-31T12:00:00Z").unwrap();
        let at = |text: &str| parse(text, now).map(|time| time.to_string());
        assert_eq!(at("2026-01-31T12:00:00+01:00").as_deref(), Some("2026-01-31T11:00:00.000Z"));
        assert_eq!(at("2026-01-31").as_deref(), Some("2026-01-31T00:00:00.000Z"));
        assert_eq!(at("90m").as_deref(), Some("2026-01-31T10:30:00.000Z"));
        assert_eq!(at("2d").as_deref(), Some("2026-01-29T12:00:00.000Z"));
        assert_eq!(at("1769860800000").as_deref(), Some("2026-01-31T12:00:00.000Z"));
        for wrong in ["", "yesterday", "-5m", "5w", "2026-13-01", "1.5"] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }
}
