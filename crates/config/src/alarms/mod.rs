//! Alarm rules of a gateway, as written; `pipeline` turns them into alarms.
//!
//! ```yaml
//! alarms:
//!   shelve_max_ms: 43200000
//!   rules:
//!     - { id: oil_hot, asset: "press_*", parameter: oil_temperature, type: hihi, limit: 95, hysteresis: 2,
//!         on_delay_ms: 5000, severity: CRITICAL, message: oil is too hot, subsume: true }
//! ```
//!
//! One rule is read in `rule.rs`; what several rules and the validator's ranges must keep among each other is in
//! `checks.rs` and `glob.rs`.

mod checks;
mod glob;
mod rule;
pub mod system;

use serde_json::Value;

pub use checks::check_against;
pub use rule::{AlarmRule, Compare, Detect, Level, Scalar, Setpoint, SuppressWhen};

use crate::{Object, Problem};

/// Rules in one document; more are refused.
pub const RULES_MAX: usize = 10_000;

const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;
/// The longest shelving there is (ALM-12); a document may ask for less.
const SHELVE_MS_MAX: i64 = 12 * HOUR_MS;

/// The alarm engine's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarms {
    /// Longest time an operator may shelve an alarm for, in milliseconds.
    pub shelve_max_ms: i64,
    /// The same for a CRITICAL one.
    pub shelve_critical_max_ms: i64,
    pub rules: Vec<AlarmRule>,
}

impl Default for Alarms {
    fn default() -> Self {
        Self { shelve_max_ms: SHELVE_MS_MAX, shelve_critical_max_ms: HOUR_MS, rules: Vec::new() }
    }
}

impl Alarms {
    /// Reads `{"rules": [...], "shelve_max_ms": ..., "shelve_critical_max_ms": ...}`.
    pub fn read(value: &Value, pointer: &str) -> (Self, Vec<Problem>) {
        let mut object = Object::new(value, pointer);
        let mut alarms = Self::default();
        let shelve_max_ms = object.integer("shelve_max_ms", MINUTE_MS, SHELVE_MS_MAX);
        alarms.shelve_max_ms = shelve_max_ms.unwrap_or(alarms.shelve_max_ms);
        let critical_max_ms = object.integer("shelve_critical_max_ms", MINUTE_MS, SHELVE_MS_MAX);
        alarms.shelve_critical_max_ms = critical_max_ms.unwrap_or(alarms.shelve_critical_max_ms);
        let list = object.list("rules").map(Vec::as_slice).unwrap_or_default();
        if list.len() > RULES_MAX {
            object.problem("rules", "too_many", format!("{} rules are more than {RULES_MAX}", list.len()), "use globs");
            return (alarms, object.finish());
        }
        let mut problems = Vec::new();
        for (i, entry) in list.iter().enumerate() {
            let (rule, found) = AlarmRule::read(entry, &format!("{pointer}/rules/{i}"));
            problems.extend(found);
            alarms.rules.push(rule);
        }
        object.extend(problems);
        object.extend(checks::check(&alarms, pointer));
        (alarms, object.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(value: &Value) -> Vec<String> {
        Alarms::read(value, "/alarms").1.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_empty_section_has_the_limits_of_the_specification() {
        // ALM-12
        let (alarms, problems) = Alarms::read(&json!({}), "/alarms");
        assert_eq!((alarms, problems.len()), (Alarms::default(), 0));
        assert_eq!(
            Alarms::read(&json!({"shelve_max_ms": 43_200_001}), "/alarms").1[0].to_string(),
            "/alarms/shelve_max_ms: 43200001 is outside 60000 to 43200000"
        );
    }

    #[test]
    fn unknown_keys_and_rules_without_a_name_are_reported_with_their_places() {
        // G-06
        let printed = problems(&json!({"rule": [], "rules": [{"type": "hi"}]}));
        assert!(
            printed.contains(&"/alarms/rule: is not a known key (did you mean \"rules\"?)".to_owned()),
            "{printed:?}"
        );
        for key in ["id", "parameter", "limit", "severity", "message"] {
            let begin = format!("/alarms/rules/0/{key}: is missing");
            assert!(printed.iter().any(|problem| problem.starts_with(&begin)), "{key} in {printed:#?}");
        }
    }
}
