//! Unit: the exact text, or a listed pair that is converted. The only check that may change a value.

use config::rules::{Conversion, Unit};
use model::{Quality, Value, reason};

use crate::validate::Finding;

/// The unit a point is expected in.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// Index of the configured rule.
    pub rule: u32,
    unit: String,
    conversions: Vec<Conversion>,
}

/// What the comparison says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Compared {
    Same,
    /// The value in the expected unit.
    Converted(f64),
    Wrong(Finding),
}

impl Expected {
    pub fn new(rule: u32, unit: &Unit) -> Self {
        Self { rule, unit: unit.expected.clone(), conversions: unit.conversions.clone() }
    }

    /// The unit after the check.
    pub fn text(&self) -> &str {
        &self.unit
    }

    /// Compares the unit a reading carries.
    pub fn check(&self, unit: Option<&str>, value: &Value<'_>) -> Compared {
        if unit.unwrap_or("") == self.unit {
            return Compared::Same;
        }
        let listed = self.conversions.iter().find(|pair| Some(pair.from.as_str()) == unit);
        let converted = listed.zip(value.as_number()).map(|(pair, value)| value.mul_add(pair.scale, pair.offset));
        match converted.filter(|value| value.is_finite()) {
            Some(value) => Compared::Converted(value),
            None => Compared::Wrong(Finding {
                quality: Quality::Bad,
                code: reason::UNIT_MISMATCH,
                rule: Some(self.rule),
                limit: None,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_pairs_are_converted() {
        // VAL table, "unit"
        let kelvin = Conversion { from: "K".to_owned(), scale: 1.0, offset: -273.15 };
        let unit = Expected::new(1, &Unit { expected: "°C".to_owned(), conversions: vec![kelvin] });
        assert_eq!(unit.check(Some("°C"), &Value::Float(20.0)), Compared::Same);
        assert_eq!(unit.check(Some("K"), &Value::Float(293.15)), Compared::Converted(20.0));
        assert_eq!(unit.check(Some("K"), &Value::Int(0)), Compared::Converted(-273.15));
        for (other, value) in
            [(Some("°F"), Value::Float(1.0)), (None, Value::Float(1.0)), (Some("K"), Value::Text("x"))]
        {
            assert!(matches!(unit.check(other, &value), Compared::Wrong(_)), "{other:?}");
        }
        assert_eq!(Expected::new(0, &Unit::default()).check(None, &Value::Null), Compared::Same);
    }
}
