//! From what a payload says to the value of a tag, with its quality.
//!
//! Pure. A value is never guessed: a text is a number only where `coerce` says so, a number that is none is BAD, and an
//! integer a float cannot hold says so (MQ-12).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Quality, ValueType, reason};
use regex_lite::Regex;

use super::json::Scalar;
use crate::sample::{Value, Verdict};

/// Longest text that becomes a value; a longer one is cut off and marked.
pub const TEXT_MAX: usize = 4096;
/// Integers up to this are exact in a float.
const EXACT_MAX: u64 = 1 << 53;

/// How the values of a field are made.
#[derive(Debug, Clone)]
pub struct Conversion {
    pub value_type: ValueType,
    pub scale: f64,
    pub offset: f64,
    /// Texts may be numbers and booleans.
    pub coerce: bool,
    pub decimal_comma: bool,
    /// Where the number stands in a text: its first group, or the whole match.
    pub pattern: Option<Regex>,
    pub states: Option<Arc<BTreeMap<String, Arc<str>>>>,
    pub true_words: Vec<String>,
    pub false_words: Vec<String>,
}

impl Default for Conversion {
    fn default() -> Self {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Self {
            value_type: ValueType::Float,
            scale: 1.0,
            offset: 0.0,
            coerce: false,
            decimal_comma: false,
            pattern: None,
            states: None,
            true_words: words(&["true", "on", "yes", "1"]),
            false_words: words(&["false", "off", "no", "0"]),
        }
    }
}

impl PartialEq for Conversion {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

/// A value with what is to be said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Converted {
    pub value: Value,
    pub label: Option<Arc<str>>,
    pub verdict: Verdict,
    /// What was there instead of a value.
    pub raw: Option<Box<str>>,
}

impl Converted {
    fn good(value: Value) -> Self {
        Self { value, label: None, verdict: Verdict::good(), raw: None }
    }

    /// No value, for a reason.
    pub fn bad(code: &'static str, raw: Option<&str>) -> Self {
        let raw = raw.map(|raw| raw.chars().take(64).collect::<String>().into());
        Self { value: Value::Null, label: None, verdict: Verdict::bad(code), raw }
    }

    fn marked(mut self, code: &'static str) -> Self {
        self.verdict.add(Quality::Suspect, code);
        self
    }
}

impl Conversion {
    /// Makes the value.
    pub fn convert(&self, scalar: &Scalar<'_>) -> Converted {
        let converted = match scalar {
            Scalar::Null => return Converted::bad(reason::NO_VALUE, None),
            Scalar::NotFinite => return Converted::bad(reason::NAN_INF, None),
            Scalar::Text(text) => self.of_text(text),
            other => self.of_plain(other),
        };
        self.labelled(converted)
    }

    fn of_plain(&self, scalar: &Scalar<'_>) -> Converted {
        match (self.value_type, scalar) {
            (ValueType::Bool, Scalar::Bool(flag)) => Converted::good(Value::Bool(*flag)),
            (ValueType::Float | ValueType::Int, Scalar::Number(text)) => self.number(text),
            (ValueType::Float | ValueType::Int, Scalar::Int(number)) => self.integer(*number),
            (ValueType::Float | ValueType::Int, Scalar::Unsigned(number)) => match i64::try_from(*number) {
                Ok(number) => self.integer(number),
                Err(_) => self.beyond(&number.to_string()),
            },
            (ValueType::Float, Scalar::Float(number)) => self.float(*number),
            (ValueType::Int, Scalar::Float(number)) => self.whole(*number, scalar),
            (ValueType::Bool, _) if self.coerce => match scalar {
                Scalar::Number("0") | Scalar::Int(0) | Scalar::Unsigned(0) => Converted::good(Value::Bool(false)),
                Scalar::Number("1") | Scalar::Int(1) | Scalar::Unsigned(1) => Converted::good(Value::Bool(true)),
                _ => mismatch(scalar),
            },
            (ValueType::Int, Scalar::Bool(flag)) if self.coerce => self.integer(i64::from(*flag)),
            _ => mismatch(scalar),
        }
    }

    fn of_text(&self, text: &str) -> Converted {
        if matches!(self.value_type, ValueType::String | ValueType::Raw) {
            if text.len() <= TEXT_MAX {
                return Converted::good(Value::Text(clean(text).into()));
            }
            let end = (0..=TEXT_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
            return Converted::good(Value::Text(clean(&text[..end]).into())).marked(reason::CLAMPED);
        }
        if !self.coerce {
            return Converted::bad(reason::TYPE_MISMATCH, Some(text));
        }
        let mut wanted = text.trim();
        if let Some(pattern) = &self.pattern {
            let Some(found) = pattern.captures(wanted) else {
                return Converted::bad(reason::TYPE_MISMATCH, Some(text));
            };
            wanted = found.get(1).or_else(|| found.get(0)).map_or("", |part| part.as_str()).trim();
        }
        if self.value_type == ValueType::Bool {
            let is = |words: &[String]| words.iter().any(|word| word.eq_ignore_ascii_case(wanted));
            return match (is(&self.true_words), is(&self.false_words)) {
                (true, _) => Converted::good(Value::Bool(true)),
                (false, true) => Converted::good(Value::Bool(false)),
                _ => Converted::bad(reason::TYPE_MISMATCH, Some(text)),
            };
        }
        let number = if self.decimal_comma {
            Cow::Owned(wanted.replace('.', "").replace(',', "."))
        } else {
            Cow::Borrowed(wanted)
        };
        let plain = number.strip_prefix('+').unwrap_or(&number);
        let is_number =
            plain.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E'));
        if is_number && plain.bytes().any(|byte| byte.is_ascii_digit()) {
            return self.number(plain);
        }
        let not_finite =
            ["nan", "inf", "-inf", "infinity", "-infinity"].iter().any(|word| plain.eq_ignore_ascii_case(word));
        Converted::bad(if not_finite { reason::NAN_INF } else { reason::TYPE_MISMATCH }, Some(text))
    }

    fn number(&self, text: &str) -> Converted {
        if let Ok(number) = text.parse::<i64>() {
            return self.integer(number);
        }
        let Ok(number) = text.parse::<f64>() else { return Converted::bad(reason::TYPE_MISMATCH, Some(text)) };
        if !number.is_finite() {
            return Converted::bad(reason::NAN_INF, Some(text));
        }
        let digits_only = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        match self.value_type {
            _ if digits_only => self.beyond(text),
            ValueType::Int => self.whole(number, &Scalar::Number(text)),
            _ => self.float(number),
        }
    }

    fn integer(&self, number: i64) -> Converted {
        if self.value_type == ValueType::Int && self.is_as_it_is() {
            return Converted::good(Value::Int(number));
        }
        #[expect(clippy::cast_precision_loss, reason = "marked where it loses")]
        let converted = self.float(number as f64);
        if number.unsigned_abs() > EXACT_MAX { converted.marked(reason::PRECISION_LOSS) } else { converted }
    }

    /// An integer that no 64 bits with a sign hold (AC-005).
    fn beyond(&self, text: &str) -> Converted {
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => self.float(number).marked(reason::PRECISION_LOSS),
            _ => Converted::bad(reason::NAN_INF, Some(text)),
        }
    }

    fn whole(&self, number: f64, scalar: &Scalar<'_>) -> Converted {
        if !self.is_as_it_is() {
            return self.float(number);
        }
        #[expect(clippy::cast_precision_loss, reason = "a power of two")]
        let fits = number.fract() == 0.0 && number.abs() <= EXACT_MAX as f64;
        if !fits {
            return mismatch(scalar);
        }
        #[expect(clippy::cast_possible_truncation, reason = "whole, and within what a float holds exactly")]
        Converted::good(Value::Int(number as i64))
    }

    fn float(&self, number: f64) -> Converted {
        let scaled = number * self.scale + self.offset;
        if scaled.is_finite() { Converted::good(Value::Float(scaled)) } else { Converted::bad(reason::NAN_INF, None) }
    }

    fn is_as_it_is(&self) -> bool {
        self.scale == 1.0 && self.offset == 0.0
    }

    fn labelled(&self, converted: Converted) -> Converted {
        let Some(states) = &self.states else { return converted };
        let key = match &converted.value {
            Value::Int(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Text(text) => text.to_string(),
            Value::Null => return converted,
        };
        match states.get(&key) {
            Some(label) => Converted { label: Some(Arc::clone(label)), ..converted },
            None => converted.marked(reason::UNKNOWN_ENUM),
        }
    }
}

fn mismatch(scalar: &Scalar<'_>) -> Converted {
    Converted::bad(reason::TYPE_MISMATCH, Some(&text_of(scalar)))
}

/// Bytes as a text of hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xF]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// A scalar as a person reads it.
pub fn text_of(scalar: &Scalar<'_>) -> String {
    match scalar {
        Scalar::Null => "null".to_owned(),
        Scalar::Bool(flag) => flag.to_string(),
        Scalar::Number(text) => (*text).to_owned(),
        Scalar::Int(number) => number.to_string(),
        Scalar::Unsigned(number) => number.to_string(),
        Scalar::Float(number) => number.to_string(),
        Scalar::NotFinite => "NaN".to_owned(),
        Scalar::Text(text) => text.to_string(),
    }
}

/// Without control characters (G-11).
fn clean(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control() || *letter == '\n' || *letter == '\t').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversion(value_type: ValueType) -> Conversion {
        Conversion { value_type, ..Conversion::default() }
    }

    #[expect(clippy::needless_pass_by_value, reason = "read as a literal in every case below")]
    fn of(conversion: &Conversion, scalar: Scalar<'_>) -> (Value, Option<&'static str>) {
        let converted = conversion.convert(&scalar);
        (converted.value, converted.verdict.reason())
    }

    // AC-049, AC-050, MQ-12
    #[test]
    fn what_is_no_value_is_said_and_never_guessed() {
        let float = conversion(ValueType::Float);
        assert_eq!(of(&float, Scalar::Number("21.5")), (Value::Float(21.5), None));
        assert_eq!(of(&float, Scalar::NotFinite), (Value::Null, Some(reason::NAN_INF)));
        assert_eq!(of(&float, Scalar::Number("1e999")), (Value::Null, Some(reason::NAN_INF)));
        assert_eq!(of(&float, Scalar::Null), (Value::Null, Some(reason::NO_VALUE)));
        assert_eq!(of(&float, Scalar::Text("21.5".into())), (Value::Null, Some(reason::TYPE_MISMATCH)));
        assert_eq!(of(&float, Scalar::Bool(true)), (Value::Null, Some(reason::TYPE_MISMATCH)));
        let coerced = Conversion { coerce: true, ..float };
        assert_eq!(of(&coerced, Scalar::Text(" 21.5 ".into())), (Value::Float(21.5), None));
        assert_eq!(of(&coerced, Scalar::Text("21,5".into())), (Value::Null, Some(reason::TYPE_MISMATCH)));
        let comma = Conversion { decimal_comma: true, ..coerced.clone() };
        assert_eq!(of(&comma, Scalar::Text("1.021,5".into())), (Value::Float(1021.5), None));
        let unit = Conversion { pattern: Some(Regex::new(r"^(-?[0-9.]+) *°C$").unwrap()), ..coerced };
        assert_eq!(of(&unit, Scalar::Text("23.5 °C".into())), (Value::Float(23.5), None));
        assert_eq!(of(&unit, Scalar::Text("23.5 F".into())), (Value::Null, Some(reason::TYPE_MISMATCH)));
    }

    // MQ-12: 64 bits exact
    #[test]
    fn integers_stay_integers_when_they_can() {
        let int = conversion(ValueType::Int);
        assert_eq!(of(&int, Scalar::Number("9007199254740993")), (Value::Int(9_007_199_254_740_993), None));
        assert_eq!(of(&int, Scalar::Number("2.0")), (Value::Int(2), None));
        assert_eq!(of(&int, Scalar::Number("2.5")), (Value::Null, Some(reason::TYPE_MISMATCH)));
        assert_eq!(
            of(&int, Scalar::Number("18446744073709551615")),
            (Value::Float(18_446_744_073_709_551_615.0), Some(reason::PRECISION_LOSS))
        );
        let float = conversion(ValueType::Float);
        assert_eq!(of(&float, Scalar::Number("9007199254740993")).1, Some(reason::PRECISION_LOSS));
        let scaled = Conversion { scale: 0.5, offset: 1.0, ..int };
        assert_eq!(of(&scaled, Scalar::Int(853)), (Value::Float(427.5), None));
    }

    #[test]
    fn words_and_states() {
        let words = Conversion { coerce: true, ..conversion(ValueType::Bool) };
        assert_eq!(of(&words, Scalar::Text("ON".into())), (Value::Bool(true), None));
        assert_eq!(of(&words, Scalar::Text("maybe".into())), (Value::Null, Some(reason::TYPE_MISMATCH)));
        assert_eq!(of(&words, Scalar::Number("0")), (Value::Bool(false), None));
        let states = BTreeMap::from([("0".to_owned(), Arc::from("stop")), ("1".to_owned(), Arc::from("run"))]);
        let named = Conversion { states: Some(Arc::new(states)), ..conversion(ValueType::Int) };
        assert_eq!(named.convert(&Scalar::Number("1")).label.as_deref(), Some("run"));
        assert_eq!(of(&named, Scalar::Number("7")), (Value::Int(7), Some(reason::UNKNOWN_ENUM)));
        let text = conversion(ValueType::String);
        assert_eq!(of(&text, Scalar::Text("a\u{7}b".into())), (Value::Text("ab".into()), None));
    }
}
