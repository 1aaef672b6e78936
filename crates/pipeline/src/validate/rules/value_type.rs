//! Type: a value is of the type its tag declares; an integer may stand for a float, nothing else is stretched.
//! An integer too large for 64 signed bits comes as a float (MB-10).

use model::{Quality, Value, ValueType, reason};

use crate::validate::Finding;

/// Characters of a text value; a longer one is refused, never cut.
pub const TEXT_MAX: usize = 1024;
/// Smallest magnitude that does not fit into 64 signed bits: 2^63.
const INT_END: f64 = 9_223_372_036_854_775_808.0;

/// Finds a value of another type than `declared`, or a text no screen should show.
pub fn check(value: &Value<'_>, declared: ValueType) -> Option<Finding> {
    let fits = match (value, declared) {
        (Value::Null, _)
        | (Value::Float(_), ValueType::Float)
        | (Value::Int(_), ValueType::Int | ValueType::Float)
        | (Value::Bool(_), ValueType::Bool) => true,
        (Value::Float(number), ValueType::Int) => number.abs() >= INT_END,
        (Value::Text(text), ValueType::String | ValueType::Raw) => is_clean(text),
        _ => false,
    };
    if fits { None } else { Some(Finding::always(Quality::Bad, reason::TYPE_MISMATCH)) }
}

fn is_clean(text: &str) -> bool {
    let short = text.len() <= TEXT_MAX || text.chars().count() <= TEXT_MAX;
    short && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_widen_and_nothing_else_does() {
        // VAL table, "type" and "string"
        let fits = |value: Value<'_>, declared| check(&value, declared).is_none();
        assert!(fits(Value::Int(5), ValueType::Float));
        assert!(!fits(Value::Float(5.0), ValueType::Int));
        assert!(fits(Value::Float(1.844_674_407_370_955e19), ValueType::Int), "an unsigned counter beyond 2^63");
        assert!(!fits(Value::Bool(true), ValueType::Int));
        assert!(!fits(Value::Text("5"), ValueType::Float));
        assert!(fits(Value::Null, ValueType::Float), "a missing value is the next check's business");
        assert!(fits(Value::Text("00ff"), ValueType::Raw));
    }

    #[test]
    fn long_texts_and_control_characters_are_refused_not_cut() {
        let fits = |text: &str| check(&Value::Text(text), ValueType::String).is_none();
        assert!(fits(&"ä".repeat(TEXT_MAX)));
        assert!(!fits(&"a".repeat(TEXT_MAX + 1)));
        assert!(!fits("batch\u{1b}[2J"));
    }
}
