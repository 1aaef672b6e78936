//! The settings of the single checks, and how each is read; every number has its unit in its name.

use model::ValueType;
use serde_json::Value;

use crate::expr::Expr;
use crate::{Object, Problem};

/// Inclusive limits in the tag's own unit; hard ones reject, soft ones mark.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    pub hard_lo: Option<f64>,
    pub hard_hi: Option<f64>,
    pub soft_lo: Option<f64>,
    pub soft_hi: Option<f64>,
}

/// Largest believable change per second of device time, in the tag's own unit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RateLimits {
    pub soft_per_s: Option<f64>,
    pub hard_per_s: Option<f64>,
}

/// A reading is a spike when it lies further than `k` robust standard deviations from the median of the last seven.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spike {
    pub k: f64,
    /// Least deviation the comparison assumes, in the tag's own unit; a quiet signal would otherwise always spike.
    pub deadband: f64,
}

/// A signal is frozen when it stays within `epsilon` for `for_ms` while readings arrive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flatline {
    pub for_ms: i64,
    pub epsilon: f64,
}

/// The values a tag may take.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Allowed {
    pub texts: Vec<String>,
    pub numbers: Vec<f64>,
    /// Others are BAD instead of SUSPECT.
    pub reject_others: bool,
}

/// The unit a tag arrives in, as exact text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Unit {
    pub expected: String,
    /// Other units that are converted; the value becomes `value * scale + offset`.
    pub conversions: Vec<Conversion>,
}

/// One listed pair of units.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversion {
    pub from: String,
    pub scale: f64,
    pub offset: f64,
}

/// A condition over parameters of the same asset that must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct CrossCheck {
    pub condition: Expr,
    /// Operands older than this do not count, in milliseconds of device time.
    pub max_age_ms: i64,
}

/// How old an operand of a condition may be when nothing is configured (10 s).
pub const OPERAND_AGE_MS: i64 = 10_000;

pub(super) fn limits(value: &Value, pointer: &str, parent: &mut Object<'_>) -> Limits {
    let mut object = Object::new(value, pointer);
    let limits = Limits {
        hard_lo: object.number("hard_lo"),
        hard_hi: object.number("hard_hi"),
        soft_lo: object.number("soft_lo"),
        soft_hi: object.number("soft_hi"),
    };
    // AC-066: a soft limit outside the hard ones can never be met
    let mut ordered = |low: Option<f64>, low_name: &str, high: Option<f64>, high_name: &str| {
        if let (Some(low), Some(high)) = (low, high)
            && low > high
        {
            object.problem_here("limits_crossed", format!("{low_name} {low} is above {high_name} {high}"), "");
        }
    };
    ordered(limits.hard_lo, "hard_lo", limits.hard_hi, "hard_hi");
    ordered(limits.soft_lo, "soft_lo", limits.soft_hi, "soft_hi");
    ordered(limits.hard_lo, "hard_lo", limits.soft_lo, "soft_lo");
    ordered(limits.soft_hi, "soft_hi", limits.hard_hi, "hard_hi");
    parent.extend(object.finish());
    limits
}

pub(super) fn rate(value: &Value, pointer: &str, parent: &mut Object<'_>) -> RateLimits {
    let mut object = Object::new(value, pointer);
    let rate = RateLimits { soft_per_s: object.number("soft_per_s"), hard_per_s: object.number("hard_per_s") };
    for (key, limit) in [("soft_per_s", rate.soft_per_s), ("hard_per_s", rate.hard_per_s)] {
        if limit.is_some_and(|limit| limit <= 0.0) {
            object.problem(key, "out_of_range", "must be above 0", "");
        }
    }
    if let (Some(soft), Some(hard)) = (rate.soft_per_s, rate.hard_per_s)
        && soft > hard
    {
        object.problem_here("limits_crossed", format!("soft_per_s {soft} is above hard_per_s {hard}"), "");
    }
    parent.extend(object.finish());
    rate
}

pub(super) fn spike(value: &Value, pointer: &str, parent: &mut Object<'_>) -> Spike {
    let mut object = Object::new(value, pointer);
    let spike = Spike { k: object.number("k").unwrap_or(6.0), deadband: object.number("deadband").unwrap_or(0.0) };
    if spike.k <= 0.0 {
        object.problem("k", "out_of_range", "must be above 0", "6 is usual");
    }
    if spike.deadband < 0.0 {
        object.problem("deadband", "out_of_range", "must not be below 0", "");
    }
    parent.extend(object.finish());
    spike
}

pub(super) fn flatline(value: &Value, pointer: &str, parent: &mut Object<'_>) -> Flatline {
    let mut object = Object::new(value, pointer);
    let for_ms = object.integer("for_ms", 100, 30 * 24 * 3600 * 1000);
    if for_ms.is_none() {
        object.problem("for_ms", "missing", "is missing", "how long the value may stay the same, in milliseconds");
    }
    let epsilon = object.number("epsilon").unwrap_or(0.0);
    if epsilon < 0.0 {
        object.problem("epsilon", "out_of_range", "must not be below 0", "");
    }
    parent.extend(object.finish());
    Flatline { for_ms: for_ms.unwrap_or(i64::MAX), epsilon }
}

/// Texts and numbers that one list may hold.
const ALLOWED_MAX: usize = 1000;

pub(super) fn allowed(value: &Value, pointer: &str, parent: &mut Object<'_>) -> Allowed {
    let mut object = Object::new(value, pointer);
    let mut allowed =
        Allowed { reject_others: object.word("others", &["suspect", "bad"]) == Some("bad"), ..Allowed::default() };
    let values = object.list("values");
    match values {
        None => object.problem("values", "missing", "is missing", "the list of allowed values"),
        Some(values) if values.is_empty() || values.len() > ALLOWED_MAX => {
            object.problem("values", "out_of_range", format!("must hold 1 to {ALLOWED_MAX} values"), "");
        }
        Some(values) => {
            for (i, value) in values.iter().enumerate() {
                match (value.as_str(), value.as_f64()) {
                    (Some(text), _) => allowed.texts.push(text.to_owned()),
                    (_, Some(number)) => allowed.numbers.push(number),
                    _ => {
                        let pointer = format!("{pointer}/values/{i}");
                        object.extend([Problem::new(pointer, "wrong_type", "must be a text or a number", "")]);
                    }
                }
            }
        }
    }
    parent.extend(object.finish());
    allowed
}

/// `"bar"`, or `{"expected": "bar", "convert": [{"from": "psi", "scale": 0.0689}]}`.
pub(super) fn unit(value: &Value, pointer: &str, parent: &mut Object<'_>) -> Unit {
    if let Some(text) = value.as_str() {
        return Unit { expected: text.to_owned(), conversions: Vec::new() };
    }
    let mut object = Object::new(value, pointer);
    let expected = object.required_text("expected").unwrap_or_default().to_owned();
    let mut conversions: Vec<Conversion> = Vec::new();
    for (i, entry) in object.list("convert").into_iter().flatten().enumerate() {
        let mut pair = Object::new(entry, &format!("{pointer}/convert/{i}"));
        let from = pair.required_text("from").unwrap_or_default().to_owned();
        let scale = pair.number("scale").unwrap_or(1.0);
        if scale == 0.0 {
            pair.problem("scale", "out_of_range", "must not be 0", "every value would become the offset");
        }
        if from == expected || conversions.iter().any(|other| other.from == from) {
            pair.problem("from", "duplicate", format!("{from:?} has its meaning already"), "");
        }
        conversions.push(Conversion { from, scale, offset: pair.number("offset").unwrap_or(0.0) });
        object.extend(pair.finish());
    }
    parent.extend(object.finish());
    Unit { expected, conversions }
}

pub(super) fn cross_check(value: &Value, pointer: &str, parent: &mut Object<'_>) -> Option<CrossCheck> {
    let mut object = Object::new(value, pointer);
    let condition = condition(&mut object, "condition");
    if condition.is_none() && value.get("condition").is_none() {
        object.problem("condition", "missing", "is missing", "for example: flow < 1 || running");
    }
    let max_age_ms = object.integer("max_age_ms", 1, 24 * 3600 * 1000).unwrap_or(OPERAND_AGE_MS);
    parent.extend(object.finish());
    Some(CrossCheck { condition: condition?, max_age_ms })
}

/// Reads a condition and reports what is wrong with it.
pub(crate) fn condition(object: &mut Object<'_>, key: &'static str) -> Option<Expr> {
    let text = object.text(key)?;
    match Expr::parse(text) {
        Err(error) => {
            object.problem(key, error.code, error.message, error.hint);
            None
        }
        Ok(expression) if !expression.is_condition() => {
            object.problem(key, "not_a_condition", "is a number, not a condition", "compare it with something");
            None
        }
        Ok(expression) => Some(expression),
    }
}

pub(super) fn value_type(object: &mut Object<'_>) -> Option<ValueType> {
    let word = object.word("type", &["FLOAT", "INT", "BOOL", "STRING"])?;
    Some(match word {
        "FLOAT" => ValueType::Float,
        "INT" => ValueType::Int,
        "BOOL" => ValueType::Bool,
        _ => ValueType::String,
    })
}
