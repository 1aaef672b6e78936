//! Validation rules of a gateway, as written; `pipeline` turns them into checks.

mod checks;

use model::ValueType;
use serde_json::Value;

pub(crate) use checks::condition;
pub use checks::{Allowed, Conversion, CrossCheck, Flatline, Limits, OPERAND_AGE_MS, RateLimits, Spike, Unit};

use crate::expr::Expr;
use crate::{Object, Problem};

/// What is checked for the tags that `asset` and `parameter` match.
///
/// Of several matching rules the one that names the tag more exactly decides a check; of two that are equally exact, the
/// first. So rules with globs are templates, and rules without are the points' own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rule {
    /// Shown in dead letters.
    pub id: String,
    /// Counted up by whoever changes the rule (VAL-25).
    pub revision: i64,
    /// Asset id, or a glob with `*`.
    pub asset: String,
    /// Parameter, or a glob with `*`.
    pub parameter: String,
    pub value_type: Option<ValueType>,
    pub unit: Option<Unit>,
    pub range: Option<Limits>,
    pub allowed: Option<Allowed>,
    pub rate: Option<RateLimits>,
    pub spike: Option<Spike>,
    pub flatline: Option<Flatline>,
    pub cross_check: Option<CrossCheck>,
    /// How often a reading is expected, in milliseconds; twice that without one is a gap, three times is stale.
    pub expected_interval_ms: Option<i64>,
    /// The rule's checks are off while this does not hold (VAL-21); gap and stale go on.
    pub enabled_when: Option<Expr>,
}

/// What happens to readings of points that no adapter is configured for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownPoints {
    Pass,
    #[default]
    Suspect,
    DeadLetter,
}

/// A point that may arrive although no adapter of this gateway reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointGlob {
    pub asset: String,
    pub parameter: String,
}

/// The validator's settings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Validation {
    pub rules: Vec<Rule>,
    pub unknown_points: UnknownPoints,
    /// The points there are; `None` when an adapter learns its points while it runs, so that none is unknown.
    pub known_points: Option<Vec<PointGlob>>,
}

/// Rules of one document; one more is refused.
const RULES_MAX: usize = 100_000;

impl Validation {
    /// Reads `{"rules": [...]}`.
    pub fn read(value: &Value, pointer: &str) -> (Self, Vec<Problem>) {
        let mut object = Object::new(value, pointer);
        let mut rules: Vec<Rule> = Vec::new();
        let mut problems = Vec::new();
        let mut ids = std::collections::HashSet::new();
        for (i, entry) in object.list("rules").into_iter().flatten().enumerate() {
            if i >= RULES_MAX {
                object.problem("rules", "too_many", format!("more than {RULES_MAX} rules"), "use globs");
                break;
            }
            let (rule, found) = Rule::read(entry, &format!("{pointer}/rules/{i}"));
            problems.extend(found);
            if !rule.id.is_empty() && !ids.insert(rule.id.clone()) {
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
        let unknown_points = match object.word("unknown_points", &["pass", "suspect", "dead_letter"]) {
            Some("pass") => UnknownPoints::Pass,
            Some("dead_letter") => UnknownPoints::DeadLetter,
            _ => UnknownPoints::Suspect,
        };
        let mut known = Vec::new();
        for (i, entry) in object.list("further_points").into_iter().flatten().enumerate() {
            let mut point = Object::new(entry, &format!("{pointer}/further_points/{i}"));
            known.push(PointGlob {
                asset: point.text("asset").unwrap_or("*").to_owned(),
                parameter: point.text("parameter").unwrap_or("*").to_owned(),
            });
            problems.extend(point.finish());
        }
        object.extend(problems);
        (Self { rules, unknown_points, known_points: Some(known) }, object.finish())
    }

    /// Takes in the points of the adapters; `None` when they cannot be known beforehand.
    #[must_use]
    pub fn with_points(mut self, points: Option<Vec<PointGlob>>) -> Self {
        self.known_points = match (self.known_points, points) {
            (further, Some(mut points)) => {
                points.extend(further.into_iter().flatten());
                (!points.is_empty()).then_some(points)
            }
            (_, None) => None,
        };
        self
    }

    /// Problems of rules that name a point nobody brings: such a rule would watch nothing, silently.
    pub fn unknown_names(&self, pointer: &str) -> Vec<Problem> {
        let Some(known) = &self.known_points else { return Vec::new() };
        let mut problems = Vec::new();
        for (i, rule) in self.rules.iter().enumerate() {
            let at = format!("{pointer}/rules/{i}");
            problems.extend(unknown_point(known, &rule.asset, &rule.parameter, &at));
            let expressions = [
                ("cross_check/condition", rule.cross_check.as_ref().map(|check| &check.condition)),
                ("enabled_when", rule.enabled_when.as_ref()),
            ];
            for (key, expression) in expressions {
                for operand in expression.iter().flat_map(|expression| expression.operands()) {
                    let unknown = unknown_point(known, &rule.asset, operand, &format!("{at}/{key}"));
                    // VAL-24: other assets lie on other partitions, and nothing orders them
                    problems.extend(unknown.map(|mut problem| {
                        problem.hint.push_str("; an expression reads points of its own asset only");
                        problem
                    }));
                }
            }
        }
        problems
    }
}

/// The problem of a name that meets no known point.
pub(crate) fn unknown_point(known: &[PointGlob], asset: &str, parameter: &str, pointer: &str) -> Option<Problem> {
    if known.iter().any(|point| globs_meet(&point.asset, asset) && globs_meet(&point.parameter, parameter)) {
        return None;
    }
    let of_asset: Vec<&str> =
        known.iter().filter(|point| globs_meet(&point.asset, asset)).map(|point| point.parameter.as_str()).collect();
    let assets: Vec<&str> = known.iter().map(|point| point.asset.as_str()).collect();
    let (message, hint) = if of_asset.is_empty() {
        (format!("no adapter brings an asset {asset:?}"), crate::read::suggest(asset, &assets))
    } else {
        let hint = crate::read::suggest(parameter, &of_asset);
        (format!("no adapter brings a point {parameter:?} of {asset:?}"), hint)
    };
    let further = "list what others bring under validation.further_points";
    let hint = if hint.is_empty() { further.to_owned() } else { format!("{hint}; {further}") };
    Some(Problem::new(pointer, "unknown_point", message, hint))
}

impl Rule {
    fn read(value: &Value, pointer: &str) -> (Self, Vec<Problem>) {
        let mut object = Object::new(value, pointer);
        let at = |key: &str| format!("{pointer}/{key}");
        let mut rule = Self {
            id: object.required_text("id").unwrap_or_default().to_owned(),
            revision: object.integer("revision", 1, i64::MAX).unwrap_or(1),
            asset: object.text("asset").unwrap_or("*").to_owned(),
            parameter: object.text("parameter").unwrap_or("*").to_owned(),
            value_type: checks::value_type(&mut object),
            expected_interval_ms: object.integer("expected_interval_ms", 10, 30 * 24 * 3600 * 1000),
            enabled_when: condition(&mut object, "enabled_when"),
            ..Self::default()
        };
        rule.unit = object.value("unit").map(|value| checks::unit(value, &at("unit"), &mut object));
        rule.range = object.value("range").map(|value| checks::limits(value, &at("range"), &mut object));
        rule.allowed = object.value("allowed").map(|value| checks::allowed(value, &at("allowed"), &mut object));
        rule.rate = object.value("rate_of_change").map(|value| checks::rate(value, &at("rate_of_change"), &mut object));
        rule.spike = object.value("spike").map(|value| checks::spike(value, &at("spike"), &mut object));
        rule.flatline = object.value("flatline").map(|value| checks::flatline(value, &at("flatline"), &mut object));
        rule.cross_check =
            object.value("cross_check").and_then(|value| checks::cross_check(value, &at("cross_check"), &mut object));
        let checks_something =
            ["type", "unit", "range", "allowed", "rate_of_change", "spike", "flatline", "cross_check"]
                .iter()
                .chain(&["expected_interval_ms"])
                .any(|key| value.get(key).is_some_and(|value| !value.is_null()));
        if !checks_something {
            let hint =
                "give range, rate_of_change, spike, flatline, allowed, unit, type, cross_check or expected_interval_ms";
            object.problem_here("empty_rule", "checks nothing", hint);
        }
        if rule.flatline.is_some()
            && rule.value_type.is_some_and(|of| matches!(of, ValueType::Bool | ValueType::String))
        {
            let hint = "states rest for as long as they please; use an alarm of type stale for silence";
            object.problem("flatline", "not_for_states", "is for numbers only", hint);
        }
        (rule, object.finish())
    }

    /// True when the rule speaks of this tag.
    pub fn matches(&self, asset: &str, parameter: &str) -> bool {
        glob(&self.asset, asset) && glob(&self.parameter, parameter)
    }

    /// How exactly the rule names its tags; a higher one goes before (per-point over template).
    pub fn exactness(&self) -> u8 {
        2 * u8::from(!self.asset.contains('*')) + u8::from(!self.parameter.contains('*'))
    }
}

/// Matches `*` anywhere, everything else literally.
pub fn matches(pattern: &str, text: &str) -> bool {
    glob(pattern, text)
}

fn glob(pattern: &str, text: &str) -> bool {
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

/// True when some text matches both.
pub(crate) fn globs_meet(left: &str, right: &str) -> bool {
    match (left.contains('*'), right.contains('*')) {
        (_, false) => glob(left, right),
        (false, true) => glob(right, left),
        // two globs meet unless their fixed ends differ
        (true, true) => {
            let (left_begin, right_begin) =
                (left.split('*').next().unwrap_or_default(), right.split('*').next().unwrap_or_default());
            let (left_end, right_end) =
                (left.rsplit('*').next().unwrap_or_default(), right.rsplit('*').next().unwrap_or_default());
            (left_begin.starts_with(right_begin) || right_begin.starts_with(left_begin))
                && (left_end.ends_with(right_end) || right_end.ends_with(left_end))
        }
    }
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

    fn problems(rule: &Value) -> Vec<String> {
        let (_, problems) = Validation::read(&json!({ "rules": [rule] }), "/validation");
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn bad_rules_are_refused_with_path_reason_and_hint() {
        // VAL-24, the issue's list of bad rules
        let cases = [
            (json!({"id": "r"}), "/validation/rules/0: checks nothing"),
            (json!({"id": "r", "range": {"hard_lo": 20, "hard_hi": 10}}), "hard_lo 20 is above hard_hi 10"),
            (
                json!({"id": "r", "cross_check": {"condition": "pump_2:flow > 1"}}),
                "/cross_check/condition: pump_2 names another asset",
            ),
            (
                json!({"id": "r", "cross_check": {"condition": "while(1)"}}),
                "/cross_check/condition: while is not a function",
            ),
            (json!({"id": "r", "cross_check": {"condition": "1 + 2"}}), "is a number, not a condition"),
            (json!({"id": "r", "cross_check": {}}), "/cross_check/condition: is missing"),
            (json!({"id": "r", "range": {}, "enabled_when": "a >"}), "/enabled_when: it ends too early"),
            (json!({"id": "r", "spike": {"k": 0}}), "/spike/k: must be above 0"),
            (json!({"id": "r", "flatline": {}}), "/flatline/for_ms: is missing"),
            (json!({"id": "r", "type": "BOOL", "flatline": {"for_ms": 1000}}), "/flatline: is for numbers only"),
            (json!({"id": "r", "allowed": {"values": []}}), "/allowed/values: must hold"),
            (
                json!({"id": "r", "unit": {"expected": "bar", "convert": [{"from": "bar"}]}}),
                "/convert/0/from: \"bar\" has its meaning",
            ),
            (
                json!({"id": "r", "unit": {"expected": "bar", "convert": [{"from": "psi", "scale": 0}]}}),
                "/convert/0/scale: must not be 0",
            ),
            (json!({"id": "r", "flatlin": {"for_ms": 1000}, "range": {}}), "did you mean \"flatline\"?"),
        ];
        for (rule, expected) in cases {
            let found = problems(&rule);
            assert_eq!(found.len(), 1, "{rule}: {found:#?}");
            assert!(found[0].contains(expected), "{rule}: {found:#?}");
        }
        let long = format!("a{}", "+1".repeat(200));
        assert!(problems(&json!({"id": "r", "cross_check": {"condition": long}}))[0].contains("more than 64 parts"));
    }

    #[test]
    fn a_rule_for_a_point_nobody_brings_is_refused() {
        let point =
            |asset: &str, parameter: &str| PointGlob { asset: asset.to_owned(), parameter: parameter.to_owned() };
        let value = json!({"rules": [
            {"id": "a", "asset": "pump_1", "parameter": "temperature", "range": {}},
            {"id": "b", "asset": "pump_9", "parameter": "temperature", "range": {}},
            {"id": "c", "asset": "pump_*", "parameter": "temperatur", "range": {}},
            {"id": "d", "asset": "*", "parameter": "temperature", "cross_check": {"condition": "flow > speeed"}},
        ], "further_points": [{"asset": "press_*"}]});
        let (validation, problems) = Validation::read(&value, "/validation");
        assert_eq!(problems, []);
        let points = vec![point("pump_1", "temperature"), point("pump_1", "flow"), point("pump_1", "speed")];
        let known = validation.clone().with_points(Some(points));
        let printed: Vec<String> = known.unknown_names("/validation").iter().map(ToString::to_string).collect();
        assert_eq!(printed.len(), 2, "{printed:#?}");
        assert!(printed[0].starts_with("/validation/rules/1: no adapter brings an asset \"pump_9\""), "{printed:#?}");
        assert!(printed[1].contains("did you mean \"temperature\"?"), "{printed:#?}");
        assert_eq!(validation.with_points(None).unknown_names("/validation"), [], "nothing is known of the points");
    }

    #[test]
    fn globs_that_share_a_text_meet() {
        for (left, right, meet) in [
            ("pump_*", "pump_1", true),
            ("pump_1", "pump_*", true),
            ("pump_*", "press_*", false),
            ("*_1", "pump_*", true),
            ("*_1", "*_2", false),
            ("a*", "ab*c", true),
        ] {
            assert_eq!(globs_meet(left, right), meet, "{left} {right}");
        }
    }
}
