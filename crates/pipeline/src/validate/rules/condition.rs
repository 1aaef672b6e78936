//! Cross-tag conditions over one asset: what the asset's other points said last, if it is fresh enough (VAL-24, VAL-21).

use config::expr::Scalar;
use config::rules::CrossCheck;
use model::{Quality, Value, reason};

use crate::validate::Finding;

/// The newest accepted value of a point that an expression reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Operand {
    pub value: Held,
    /// Device time in microseconds.
    pub time: i64,
    /// The point's newest reading was BAD: its value counts for nothing.
    pub lost: bool,
}

/// A value of its own.
#[derive(Debug, Clone, PartialEq)]
pub enum Held {
    Number(f64),
    Truth(bool),
    Text(Box<str>),
}

impl Held {
    /// `None` for what no expression can read.
    pub fn of(value: &Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Null => return None,
            Value::Bool(truth) => Self::Truth(*truth),
            Value::Text(text) => Self::Text((*text).into()),
            number => Self::Number(number.as_number()?),
        })
    }

    fn scalar(&self) -> Scalar<'_> {
        match self {
            Self::Number(number) => Scalar::Number(*number),
            Self::Truth(truth) => Scalar::Truth(*truth),
            Self::Text(text) => Scalar::Text(text),
        }
    }
}

impl Operand {
    /// The value, when it is not older than `max_age` microseconds at `time` and not lost.
    pub fn at(&self, time: i64, max_age: i64) -> Option<Scalar<'_>> {
        let fresh = time.saturating_sub(self.time).abs() <= max_age;
        (fresh && !self.lost).then(|| self.value.scalar())
    }
}

/// A condition that must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Index of the configured rule.
    pub rule: u32,
    settings: CrossCheck,
}

impl Condition {
    pub fn new(rule: u32, settings: &CrossCheck) -> Self {
        Self { rule, settings: settings.clone() }
    }

    /// Microseconds.
    pub fn max_age(&self) -> i64 {
        self.settings.max_age_ms.saturating_mul(1000)
    }

    /// Finds a condition that does not hold; one that cannot be told is not found.
    pub fn check<'a>(&'a self, operand: &mut dyn FnMut(&str) -> Option<Scalar<'a>>) -> Option<Finding> {
        let broken = self.settings.condition.holds(operand) == Some(false);
        broken.then_some(Finding {
            quality: Quality::Suspect,
            code: reason::CROSS_TAG,
            rule: Some(self.rule),
            limit: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::expr::Expr;

    #[test]
    fn a_missing_old_or_lost_operand_leaves_the_condition_open() {
        // VAL table, "cross-tag"
        let settings = CrossCheck { condition: Expr::parse("flow < 1 || running").unwrap(), max_age_ms: 10_000 };
        let condition = Condition::new(4, &settings);
        let running = |value, time, lost| Operand { value: Held::Truth(value), time, lost };
        let found = |operand: Option<&Operand>| {
            condition
                .check(&mut |name| match name {
                    "flow" => Some(Scalar::Number(5.0)),
                    _ => operand?.at(20_000_000, condition.max_age()),
                })
                .map(|finding| finding.code)
        };
        assert_eq!(found(Some(&running(false, 15_000_000, false))), Some("CROSS_TAG"));
        assert_eq!(found(Some(&running(true, 15_000_000, false))), None);
        assert_eq!(found(Some(&running(false, 9_999_999, false))), None, "too old");
        assert_eq!(found(Some(&running(false, 15_000_000, true))), None, "lost");
        assert_eq!(found(None), None);
    }
}
