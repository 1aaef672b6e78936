//! Why a reading was rejected, in one sentence for a person (VAL-40).

use std::fmt::Write as _;

use model::{Reading, Value, reason};

use super::{Finding, Plan};

/// The sentence for a finding, into a buffer that is used again.
pub fn explain(out: &mut String, plan: &Plan, reading: &Reading<'_>, finding: &Finding) {
    out.clear();
    let rule = finding.rule.and_then(|rule| plan.rule(rule));
    // writing into a String cannot fail
    let written = match (finding.code, finding.limit) {
        (reason::RANGE_HARD, Some(limit)) => {
            let below = reading.value.as_number().is_some_and(|value| value < limit);
            write!(out, "{} is {} the hard limit {limit}", Shown(reading), if below { "below" } else { "above" })
        }
        (reason::ROC_HARD, Some(limit)) => {
            write!(out, "{} differs from the value before by more than {limit} per second", Shown(reading))
        }
        (reason::TYPE_MISMATCH, _) => {
            write!(out, "{} is not a clean value of type {}", Shown(reading), declared(reading, rule))
        }
        (reason::UNIT_MISMATCH, _) => {
            let expected = rule.and_then(|rule| rule.unit.as_ref()).map_or("none", |unit| unit.expected.as_str());
            write!(out, "the unit is {:?}, expected is {expected:?}", reading.unit.unwrap_or(""))
        }
        (reason::UNKNOWN_ENUM, _) => write!(out, "{} is not one of the allowed values", Shown(reading)),
        (reason::NO_VALUE, _) => write!(out, "the reading has no value"),
        (reason::NAN_INF, _) => write!(out, "the value is not a finite number"),
        (reason::UNCONFIGURED, _) => write!(out, "no adapter of this gateway is configured for this point"),
        (code, _) => write!(out, "{} broke the check {code}", Shown(reading)),
    };
    debug_assert!(written.is_ok());
    if let Some(rule) = rule {
        out.push_str(" (rule ");
        out.push_str(&rule.id);
        out.push(')');
    }
}

fn declared(reading: &Reading<'_>, rule: Option<&config::rules::Rule>) -> &'static str {
    rule.and_then(|rule| rule.value_type).unwrap_or(reading.value_type).as_str()
}

/// Value and unit, short.
struct Shown<'r>(&'r Reading<'r>);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.value {
            Value::Null => f.write_str("no value"),
            Value::Float(number) => write!(f, "{number}"),
            Value::Int(number) => write!(f, "{number}"),
            Value::Bool(truth) => write!(f, "{truth}"),
            Value::Text(text) => write!(f, "{:?}", text.chars().take(64).collect::<String>()),
        }?;
        self.0.unit.map_or(Ok(()), |unit| write!(f, " {unit}"))
    }
}
