//! What alarm rules must keep among each other and towards the validator's hard ranges (ALM-05).
//!
//! Two rules meet when some asset matches both and they look at the same parameter. Whether it exists nobody knows here,
//! so whatever could meet is checked.

use std::collections::{BTreeMap, BTreeSet};

use super::glob::{covers, overlap};
use super::rule::pointer_of;
use super::{AlarmRule, Alarms, Detect, Level};
use crate::{Problem, Validation};

/// Everything that takes more than one rule to see.
pub(super) fn check(alarms: &Alarms, pointer: &str) -> Vec<Problem> {
    let mut problems = duplicates(alarms, pointer);
    let mut by_parameter: BTreeMap<&str, Vec<Bound<'_>>> = BTreeMap::new();
    for (i, rule) in alarms.rules.iter().enumerate() {
        if let Detect::Level { level, limit, hysteresis } = rule.detect {
            by_parameter.entry(&rule.parameter).or_default().push(Bound { i, rule, level, limit, hysteresis });
        }
    }
    for limits in by_parameter.values() {
        for (n, one) in limits.iter().enumerate() {
            let others = || limits.iter().filter(|other| other.level != one.level && one.meets(other));
            let crossed = limits[..n]
                .iter()
                .filter(|other| other.level != one.level && one.meets(other))
                .find_map(|other| crossing(one, other));
            problems.extend(crossed.map(|message| {
                let hint = "limits of one point ascend: LOLO, LO, HI, HIHI";
                Problem::new(pointer_of(pointer, one.i, "limit"), "limits_crossed", message, hint)
            }));
            let nearest = others()
                .filter(|other| crossing(one, other).is_none())
                .min_by(|a, b| (a.limit - one.limit).abs().total_cmp(&(b.limit - one.limit).abs()));
            problems.extend(nearest.and_then(|other| too_wide(one, other, pointer)));
        }
    }
    problems
}

#[derive(Debug, Clone, Copy)]
struct Bound<'a> {
    i: usize,
    rule: &'a AlarmRule,
    level: Level,
    limit: f64,
    hysteresis: f64,
}

impl Bound<'_> {
    fn meets(&self, other: &Self) -> bool {
        overlap(&self.rule.asset, &other.rule.asset)
    }

    fn name(&self) -> String {
        format!("{} {}", self.level.kind().as_str(), self.limit)
    }
}

fn crossing(a: &Bound<'_>, b: &Bound<'_>) -> Option<String> {
    let (low, high) = if a.level < b.level { (a, b) } else { (b, a) };
    let message = || format!("{} of {:?} is not below {} of {:?}", low.name(), low.rule.id, high.name(), high.rule.id);
    (low.limit >= high.limit).then(message)
}

fn too_wide(one: &Bound<'_>, neighbour: &Bound<'_>, pointer: &str) -> Option<Problem> {
    let distance = (one.limit - neighbour.limit).abs();
    (one.hysteresis >= distance).then(|| {
        let message = format!(
            "hysteresis {} is not smaller than the distance {distance} between {} and {} of {:?}",
            one.hysteresis,
            one.name(),
            neighbour.name(),
            neighbour.rule.id
        );
        Problem::new(pointer_of(pointer, one.i, "hysteresis"), "hysteresis_too_large", message, "")
    })
}

fn duplicates(alarms: &Alarms, pointer: &str) -> Vec<Problem> {
    let mut seen = BTreeSet::new();
    let repeated = alarms.rules.iter().enumerate().filter(|(_, rule)| !rule.id.is_empty() && !seen.insert(&rule.id));
    repeated
        .map(|(i, rule)| {
            let message = format!("two alarms are named {:?}", rule.id);
            Problem::new(pointer_of(pointer, i, "id"), "duplicate", message, "the name is part of the alarm's key")
        })
        .collect()
}

/// Every limit must be strictly inside the validator's hard range: behind it a real excursion is BAD, goes to the dead
/// letters, and the alarm never comes (AC-103).
pub fn check_against(alarms: &Alarms, validation: &Validation, pointer: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (i, rule) in alarms.rules.iter().enumerate() {
        let Detect::Level { level, limit, .. } = rule.detect else { continue };
        // of several matching rules the first that holds a range decides, so what it covers hides the later ones
        for check in &validation.rules {
            let Some(range) = check.range else { continue };
            if !overlap(&check.asset, &rule.asset) || !overlap(&check.parameter, &rule.parameter) {
                continue;
            }
            let (lo, hi) = (range.hard_lo, range.hard_hi);
            if lo.is_some_and(|lo| limit <= lo) || hi.is_some_and(|hi| limit >= hi) {
                let text = |bound: Option<f64>| bound.map_or_else(|| "..".to_owned(), |bound| bound.to_string());
                let message = format!(
                    "{} {limit} is not inside the hard range {} to {} of validation rule {:?}",
                    level.kind().as_str(),
                    text(lo),
                    text(hi),
                    check.id
                );
                let hint =
                    "readings behind the hard range are rejected and the alarm would never come: widen the range";
                problems.push(Problem::new(pointer_of(pointer, i, "limit"), "outside_hard_range", message, hint));
                break;
            }
            if covers(&check.asset, &rule.asset) && covers(&check.parameter, &rule.parameter) {
                break;
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn alarm(id: &str, asset: &str, kind: &str, limit: i32, hysteresis: i32) -> Value {
        json!({"id": id, "asset": asset, "parameter": "t", "type": kind, "limit": limit, "hysteresis": hysteresis,
            "severity": "HIGH", "message": "m"})
    }

    fn read(rules: &[Value]) -> (Alarms, Vec<String>) {
        let (alarms, problems) = Alarms::read(&json!({ "rules": rules }), "/alarms");
        (alarms, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_low_limit_above_a_high_one_is_refused() {
        // AC-066, ALM-05
        let (_, problems) = read(&[alarm("hi", "press_*", "hi", 10, 0), alarm("lo", "press_1", "lo", 20, 0)]);
        assert_eq!(
            problems,
            [
                "/alarms/rules/1/limit: LO 20 of \"lo\" is not below HI 10 of \"hi\" (limits of one point ascend: LOLO, LO, HI, HIHI)"
            ]
        );
        let (_, problems) = read(&[alarm("hi", "press_*", "hi", 10, 0), alarm("lo", "pump_*", "lo", 20, 0)]);
        assert!(problems.is_empty(), "they never meet: {problems:?}");
        let (_, problems) = read(&[alarm("hh", "*", "hihi", 90, 0), alarm("h", "*", "hi", 90, 0)]);
        assert_eq!(problems.len(), 1, "equal limits are one limit");
    }

    #[test]
    fn a_hysteresis_that_reaches_the_neighbour_is_refused() {
        // AC-066, ALM-05
        let (_, problems) = read(&[alarm("hi", "*", "hi", 90, 50), alarm("lo", "*", "lo", 60, 1)]);
        assert_eq!(
            problems,
            [
                "/alarms/rules/0/hysteresis: hysteresis 50 is not smaller than the distance 30 between HI 90 and LO 60 of \"lo\""
            ]
        );
        let (_, problems) = read(&[alarm("hi", "*", "hi", 90, 29), alarm("lo", "*", "lo", 60, 29)]);
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn the_same_name_twice_is_refused() {
        // ALM-03
        let (_, problems) = read(&[alarm("a", "*", "hi", 90, 0), alarm("a", "*", "lo", 10, 0)]);
        assert!(problems.len() == 1 && problems[0].starts_with("/alarms/rules/1/id: two alarms are named"));
    }

    #[test]
    fn a_limit_the_validator_would_reject_first_is_refused() {
        // AC-103
        let validation = |rules: Value| Validation::read(&json!({ "rules": rules }), "/validation").0;
        let (alarms, problems) = read(&[alarm("hh", "pump_7", "hihi", 120, 0)]);
        assert!(problems.is_empty());
        let everything = json!({"id": "all", "range": {"hard_lo": 0, "hard_hi": 100}});
        let found = check_against(&alarms, &validation(json!([everything])), "/alarms");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].code, "outside_hard_range");
        assert!(found[0].to_string().starts_with(
            "/alarms/rules/0/limit: HIHI 120 is not inside the hard range 0 to 100 of validation rule \"all\""
        ));
        // strictly: at 120 itself nothing behind it would ever be seen
        let at_limit = json!({"id": "at", "range": {"hard_hi": 120}});
        assert_eq!(check_against(&alarms, &validation(json!([at_limit])), "/alarms").len(), 1);
        // the first rule with a range decides, so a wider one for this pump is enough
        let wider = json!({"id": "pump", "asset": "pump_*", "range": {"hard_hi": 200}});
        assert_eq!(check_against(&alarms, &validation(json!([wider, everything])), "/alarms"), []);
        assert_eq!(check_against(&alarms, &validation(json!([everything, wider])), "/alarms").len(), 1);
        let other = json!({"id": "other", "parameter": "pressure_*", "range": {"hard_hi": 1}});
        assert_eq!(check_against(&alarms, &validation(json!([other])), "/alarms"), []);
    }
}
