//! Presence: a reading that is not BAD has a value, and a float is a number.

use model::{Quality, Value, reason};

use crate::validate::Finding;

/// Finds a missing or unusable value.
pub fn check(value: &Value<'_>) -> Option<Finding> {
    let code = match value {
        Value::Null => reason::NO_VALUE,
        Value::Float(number) if !number.is_finite() => reason::NAN_INF,
        _ => return None,
    };
    Some(Finding { quality: Quality::Bad, code, rule: None, limit: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_and_not_a_number_are_bad() {
        // VAL table, "null, NaN, ±Inf"
        let code = |value: Value<'_>| check(&value).map(|finding| (finding.quality, finding.code));
        assert_eq!(code(Value::Null), Some((Quality::Bad, reason::NO_VALUE)));
        assert_eq!(code(Value::Float(f64::NAN)), Some((Quality::Bad, reason::NAN_INF)));
        assert_eq!(code(Value::Float(f64::NEG_INFINITY)), Some((Quality::Bad, reason::NAN_INF)));
        assert_eq!(code(Value::Float(-0.0)), None);
        assert_eq!(code(Value::Text("")), None);
    }
}
