//! Detection: is the condition there? One function per reading, without memory of its own (ALM-06).
//!
//! Equality at a limit is in alarm. Hysteresis only delays the way back: a condition that is there stays until the value
//! is behind `limit - hysteresis`. Delays are the lane's business.

use config::alarms::{Compare, Detect, Scalar, Setpoint, SuppressWhen};
use model::{Quality, TextList, Timestamp, Value, reason};

use crate::validate::Codes;

/// What the engine needs to know of a reading.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    pub value: Value<'a>,
    pub unit: Option<&'a str>,
    pub quality: Quality,
    /// The worst finding's code; a rejected reading comes with BAD and its reason (AC-104).
    pub reason: Option<&'a str>,
    /// What the validator marked it with.
    pub codes: Codes,
    pub device_time: Timestamp,
    pub flags: TextList<'a>,
}

/// How a reading counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Old, or told a second time: never changes live state (ALM-08, VAL-46).
    Past,
    Value,
    /// No value to judge by: state is held (ALM-07).
    Hold,
    /// BAD by the point's own fault.
    Bad,
    /// Rejected by a hard limit: its quality alarm comes at once (ALM-05).
    HardLimit,
    /// BAD because the device does not answer; the device's alarm says so, once.
    NoAnswer,
}

/// Flags of readings that are not live.
const PAST_FLAGS: [&str; 4] = ["historical", "backfill", "retained", "reprocessed"];
/// Reasons of UNCERTAIN readings that repeat an old value.
const REPEATED: [&str; 2] = ["STALE", "LAST_KNOWN"];
/// Reasons that speak of the way to the device, not of the point.
const NO_ANSWER: [&str; 5] =
    [reason::COMM_FAIL, reason::TIMEOUT, reason::GATEWAY_TARGET_FAIL, reason::DEVICE_BUSY, "SOURCE_OFFLINE"];

impl Input<'_> {
    pub(super) fn class(&self) -> Class {
        if self.flags.iter().any(|flag| PAST_FLAGS.contains(&flag)) {
            return Class::Past;
        }
        let reason = self.reason.unwrap_or_default();
        match self.quality {
            Quality::Bad if reason == reason::RANGE_HARD || reason == reason::ROC_HARD => Class::HardLimit,
            Quality::Bad if NO_ANSWER.contains(&reason) => Class::NoAnswer,
            Quality::Bad => Class::Bad,
            Quality::Uncertain if REPEATED.contains(&reason) => Class::Hold,
            _ if self.value.is_null() => Class::Hold,
            _ => Class::Value,
        }
    }
}

/// What only the newest reading tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fresh<'a> {
    /// Number and device time of the value before, when there is one.
    pub(super) previous: Option<(f64, i64)>,
    pub(super) codes: Codes,
    pub(super) reason: Option<&'a str>,
}

impl Fresh<'_> {
    /// Whether the reading is marked with one of these.
    pub(super) fn is_marked(&self, reasons: &[String]) -> bool {
        let names = |code: &str| reasons.iter().any(|reason| reason == code);
        !reasons.is_empty() && (self.reason.is_some_and(names) || self.codes.iter().any(names))
    }
}

/// What is known of a point when its condition is judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) value: Value<'a>,
    /// Microseconds of device time.
    pub(super) device_time: i64,
    /// Number and device time of the value before, when there is one.
    pub(super) previous: Option<(f64, i64)>,
    /// Value of the setpoint's parameter.
    pub(super) setpoint: Option<f64>,
}

/// Whether the condition is there; `active` says whether it was. `None`: cannot be judged by this reading, so it stays.
pub(super) fn in_alarm(detect: &Detect, active: bool, seen: &Seen<'_>) -> Option<bool> {
    match detect {
        Detect::Level { level, limit, hysteresis } => {
            let value = seen.value.as_number()?;
            let (value, limit) = if level.is_high() { (value, *limit) } else { (-value, -limit) };
            Some(exceeds(value, limit, *hysteresis, active))
        }
        Detect::Deviation { setpoint, limit, hysteresis } => {
            let setpoint = match setpoint {
                Setpoint::Number(number) => *number,
                Setpoint::Parameter(_) => seen.setpoint?,
            };
            Some(exceeds((seen.value.as_number()? - setpoint).abs(), *limit, *hysteresis, active))
        }
        Detect::Rate { per_s, hysteresis } => {
            let (before, at) = seen.previous?;
            let micros = seen.device_time.saturating_sub(at);
            if micros <= 0 {
                return None;
            }
            #[expect(clippy::cast_precision_loss, reason = "2^53 microseconds are 285 years")]
            let seconds = micros as f64 / 1e6;
            Some(exceeds((seen.value.as_number()? - before).abs() / seconds, *per_s, *hysteresis, active))
        }
        Detect::Discrete { expected } => Some(!equal(seen.value, expected)),
        Detect::Quality { .. } | Detect::Stale | Detect::Comm { .. } | Detect::System { .. } | Detect::Condition => {
            None
        }
    }
}

fn exceeds(value: f64, limit: f64, hysteresis: f64, active: bool) -> bool {
    if active { value >= limit - hysteresis } else { value >= limit }
}

/// A switch is a number to some devices and a truth to others.
fn equal(value: Value<'_>, scalar: &Scalar) -> bool {
    match (value, scalar) {
        (Value::Bool(truth), Scalar::Bool(expected)) => truth == *expected,
        (Value::Bool(truth), Scalar::Number(expected)) => f64::from(u8::from(truth)) == *expected,
        (Value::Text(text), Scalar::Text(expected)) => text == expected,
        (value, Scalar::Number(expected)) => value.as_number() == Some(*expected),
        (value, Scalar::Bool(expected)) => value.as_number() == Some(f64::from(u8::from(*expected))),
        _ => false,
    }
}

/// Whether the state is there in which the alarm means nothing. An operand that is not known, BAD or stale never
/// suppresses (ALM-13).
pub fn suppressed(when: &SuppressWhen, operand: Option<Value<'_>>) -> bool {
    let Some(value) = operand.filter(|value| !value.is_null()) else { return false };
    match &when.compare {
        Compare::Equals(scalar) => equal(value, scalar),
        Compare::NotEquals(scalar) => !equal(value, scalar),
        Compare::Above(limit) => value.as_number().is_some_and(|number| number > *limit),
        Compare::Below(limit) => value.as_number().is_some_and(|number| number < *limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::alarms::Level;

    fn seen(value: Value<'_>) -> Seen<'_> {
        Seen { value, device_time: 2_000_000, previous: Some((10.0, 1_000_000)), setpoint: None }
    }

    #[test]
    fn limits_with_hysteresis_in_both_directions() {
        // ALM-06: equality at the limit is in alarm
        let high = Detect::Level { level: Level::Hi, limit: 90.0, hysteresis: 2.0 };
        let low = Detect::Level { level: Level::LoLo, limit: 10.0, hysteresis: 2.0 };
        for (detect, value, active, there) in [
            (&high, 89.9, false, false),
            (&high, 90.0, false, true),
            (&high, 88.0, true, true),
            (&high, 87.9, true, false),
            (&low, 10.1, false, false),
            (&low, 10.0, false, true),
            (&low, 12.0, true, true),
            (&low, 12.1, true, false),
        ] {
            assert_eq!(in_alarm(detect, active, &seen(Value::Float(value))), Some(there), "{value} {active}");
        }
        assert_eq!(in_alarm(&high, false, &seen(Value::Int(90))), Some(true));
        assert_eq!(in_alarm(&high, true, &seen(Value::Text("hot"))), None, "a text is no number: held");
    }

    #[test]
    fn deviation_rate_and_mismatch() {
        // ALM-05
        let fixed = Detect::Deviation { setpoint: Setpoint::Number(50.0), limit: 5.0, hysteresis: 1.0 };
        assert_eq!(in_alarm(&fixed, false, &seen(Value::Float(45.0))), Some(true));
        assert_eq!(in_alarm(&fixed, true, &seen(Value::Float(54.1))), Some(true));
        assert_eq!(in_alarm(&fixed, true, &seen(Value::Float(53.9))), Some(false));
        let follows = Detect::Deviation { setpoint: Setpoint::Parameter("sp".into()), limit: 5.0, hysteresis: 0.0 };
        assert_eq!(in_alarm(&follows, false, &seen(Value::Float(45.0))), None, "the setpoint is not known");
        let known = Seen { setpoint: Some(41.0), ..seen(Value::Float(45.0)) };
        assert_eq!(in_alarm(&follows, false, &known), Some(false));
        let rate = Detect::Rate { per_s: 5.0, hysteresis: 1.0 };
        assert_eq!(in_alarm(&rate, false, &seen(Value::Float(5.0))), Some(true), "downwards counts too");
        assert_eq!(in_alarm(&rate, true, &seen(Value::Float(13.9))), Some(false));
        let same_time = Seen { device_time: 1_000_000, ..seen(Value::Float(99.0)) };
        assert_eq!(in_alarm(&rate, true, &same_time), None);
        let mismatch = Detect::Discrete { expected: Scalar::Bool(true) };
        assert_eq!(in_alarm(&mismatch, false, &seen(Value::Int(1))), Some(false));
        assert_eq!(in_alarm(&mismatch, false, &seen(Value::Bool(false))), Some(true));
    }

    #[test]
    fn only_live_readings_with_a_value_are_judged() {
        // ALM-07, ALM-08, VAL-46
        let input = |quality, reason, flags| Input {
            value: Value::Float(1.0),
            unit: None,
            quality,
            reason,
            codes: Codes::default(),
            device_time: Timestamp::from_micros(0),
            flags: TextList::Slice(flags),
        };
        for (input, class) in [
            (input(Quality::Good, None, &["initial"]), Class::Value),
            (input(Quality::Suspect, Some("RANGE_SOFT"), &[]), Class::Value),
            (input(Quality::Suspect, Some("OPERATOR_APPROVED"), &["reprocessed"]), Class::Past),
            (input(Quality::Good, None, &["initial", "retained"]), Class::Past),
            (input(Quality::Good, None, &["historical"]), Class::Past),
            (input(Quality::Good, None, &["backfill"]), Class::Past),
            (input(Quality::Uncertain, Some("LAST_KNOWN"), &[]), Class::Hold),
            (input(Quality::Bad, Some("RANGE_HARD"), &[]), Class::HardLimit),
            (input(Quality::Bad, Some("ROC_HARD"), &[]), Class::HardLimit),
            (input(Quality::Bad, Some("TIMEOUT"), &[]), Class::NoAnswer),
            (input(Quality::Bad, Some("SENSOR_FAULT"), &[]), Class::Bad),
        ] {
            assert_eq!(input.class(), class, "{input:?}");
        }
    }

    #[test]
    fn an_operand_that_is_not_known_never_suppresses() {
        // ALM-13
        let when = |compare| SuppressWhen { parameter: "running".into(), compare, release_delay_ms: 0 };
        for (compare, value, hides) in [
            (Compare::Equals(Scalar::Bool(false)), Value::Bool(false), true),
            (Compare::Equals(Scalar::Bool(false)), Value::Int(1), false),
            (Compare::NotEquals(Scalar::Text("RUN".into())), Value::Text("STOP"), true),
            (Compare::Above(5.0), Value::Float(5.0), false),
            (Compare::Below(5.0), Value::Float(4.9), true),
            (Compare::NotEquals(Scalar::Number(1.0)), Value::Null, false),
        ] {
            assert_eq!(suppressed(&when(compare.clone()), Some(value)), hides, "{compare:?} {value:?}");
        }
        assert!(!suppressed(&when(Compare::NotEquals(Scalar::Number(1.0))), None));
    }
}
