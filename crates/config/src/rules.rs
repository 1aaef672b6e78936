//! Validation rules of a gateway, as written; `pipeline` turns them into checks.

use serde_json::Value;

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

/// What is checked for the tags that `asset` and `parameter` match. Of several matching rules, the first one that
/// holds a check decides it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Shown in dead letters.
    pub id: String,
    /// Asset id, or a glob with `*`.
    pub asset: String,
    /// Parameter, or a glob with `*`.
    pub parameter: String,
    pub range: Option<Limits>,
    pub rate: Option<RateLimits>,
    /// How often a reading is expected, in milliseconds; twice that without one is a gap.
    pub expected_interval_ms: Option<i64>,
}

/// The validator's settings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Validation {
    pub rules: Vec<Rule>,
}

impl Validation {
    /// Reads `{"rules": [...]}`.
    pub fn read(value: &Value, pointer: &str) -> (Self, Vec<Problem>) {
        let mut object = Object::new(value, pointer);
        let mut rules: Vec<Rule> = Vec::new();
        let mut problems = Vec::new();
        for (i, entry) in object.list("rules").into_iter().flatten().enumerate() {
            let (rule, found) = Rule::read(entry, &format!("{pointer}/rules/{i}"));
            problems.extend(found);
            if rules.iter().any(|other| other.id == rule.id && !rule.id.is_empty()) {
                let message = format!("two rules are named {:?}", rule.id);
                problems.push(Problem::new(
                    format!("{pointer}/rules/{i}/id"),
                    "duplicate",
                    message,
                    "rule names are unique",
                ));
            }
            rules.push(rule);
        }
        object.extend(problems);
        (Self { rules }, object.finish())
    }
}

impl Rule {
    fn read(value: &Value, pointer: &str) -> (Self, Vec<Problem>) {
        let mut object = Object::new(value, pointer);
        let id = object.required_text("id").unwrap_or_default().to_owned();
        let asset = object.text("asset").unwrap_or("*").to_owned();
        let parameter = object.text("parameter").unwrap_or("*").to_owned();
        let range = object.value("range").map(|value| read_limits(value, &format!("{pointer}/range"), &mut object));
        let rate = object
            .value("rate_of_change")
            .map(|value| read_rate(value, &format!("{pointer}/rate_of_change"), &mut object));
        let expected_interval_ms = object.integer("expected_interval_ms", 10, 30 * 24 * 3600 * 1000);
        if range.is_none() && rate.is_none() && expected_interval_ms.is_none() {
            object.problem_here("empty_rule", "checks nothing", "give range, rate_of_change or expected_interval_ms");
        }
        (Self { id, asset, parameter, range, rate, expected_interval_ms }, object.finish())
    }

    /// True when the rule speaks of this tag.
    pub fn matches(&self, asset: &str, parameter: &str) -> bool {
        glob(&self.asset, asset) && glob(&self.parameter, parameter)
    }
}

fn read_limits(value: &Value, pointer: &str, parent: &mut Object<'_>) -> Limits {
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

fn read_rate(value: &Value, pointer: &str, parent: &mut Object<'_>) -> RateLimits {
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

/// Matches `*` anywhere, everything else literally.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn globs() {
        for (pattern, text, matches) in [
            ("*", "anything", true),
            ("pump_*", "pump_07", true),
            ("pump_*", "press_07", false),
            ("*_temperature", "oil_temperature", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1c2b", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn crossed_limits_are_refused_each_with_its_path() {
        // AC-066
        let value =
            json!({"rules": [{"id": "r", "range": {"hard_lo": 0, "hard_hi": 100, "soft_lo": -10, "soft_hi": 110}}]});
        let (_, problems) = Validation::read(&value, "/validation");
        let printed: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            printed,
            [
                "/validation/rules/0/range: hard_lo 0 is above soft_lo -10",
                "/validation/rules/0/range: soft_hi 110 is above hard_hi 100",
            ]
        );
    }
}
