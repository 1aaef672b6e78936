//! From configured rules to the checks of one point, decided once per point.

use std::collections::{BTreeSet, HashMap, HashSet};

use config::expr::{Expr, all_operands};
use config::rules::{PointGlob, Rule, UnknownPoints, Validation, matches};
use model::{ValueType, reason};

use super::rules::allowed::Allowed;
use super::rules::condition::Condition;
use super::rules::flatline::Flatline;
use super::rules::range::Range;
use super::rules::rate::Rate;
use super::rules::spike::Spike;
use super::rules::unit::Expected;

/// The checks of a point. Many points share one.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Checks {
    pub(super) range: Option<Range>,
    pub(super) rate: Option<Rate>,
    /// Microseconds.
    pub(super) expected_interval: Option<i64>,
    /// No adapter is configured for the point, and that is to be told.
    pub(super) unknown: bool,
    /// What few points have, apart so that the others carry one word for it.
    pub(super) further: Option<Box<Further>>,
}

/// The rarer checks.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Further {
    pub(super) value_type: Option<ValueType>,
    /// The rule behind `value_type`.
    pub(super) type_rule: u32,
    pub(super) unit: Option<Expected>,
    pub(super) allowed: Option<Allowed>,
    pub(super) spike: Option<Spike>,
    pub(super) flatline: Option<Flatline>,
    pub(super) condition: Option<Condition>,
    /// Rules whose checks are off while their condition does not hold (VAL-21).
    pub(super) gates: Vec<(u32, Expr)>,
}

impl Checks {
    /// The rule that marks with a code.
    pub(super) fn rule_of(&self, code: &str) -> Option<u32> {
        let further = self.further.as_ref();
        match code {
            reason::RANGE_SOFT => self.range.as_ref().map(|range| range.rule),
            reason::ROC_SOFT => self.rate.as_ref().map(|rate| rate.rule),
            reason::UNKNOWN_ENUM => further?.allowed.as_ref().map(|allowed| allowed.rule),
            reason::SPIKE => further?.spike.as_ref().map(|spike| spike.rule),
            reason::FLATLINE => further?.flatline.as_ref().map(|flatline| flatline.rule),
            reason::CROSS_TAG => further?.condition.as_ref().map(|condition| condition.rule),
            _ => None,
        }
    }
}

/// The validator's settings, prepared.
#[derive(Debug)]
pub struct Plan {
    /// Those that name their tags more exactly first (per-point over template).
    rules: Vec<Rule>,
    unknown_points: UnknownPoints,
    known: Option<Known>,
    /// Parameters some expression reads.
    operands: BTreeSet<Box<str>>,
    profiles: Vec<Checks>,
    by_rules: HashMap<Key, u32>,
}

/// The points there are: those with a name of their own are many, globs are few.
#[derive(Debug)]
struct Known {
    exact: HashSet<Box<str>, foldhash::fast::RandomState>,
    globs: Vec<PointGlob>,
}

impl Known {
    fn new(points: &[PointGlob]) -> Self {
        let is_exact = |point: &&PointGlob| !point.asset.contains('*') && !point.parameter.contains('*');
        let (exact, globs): (Vec<&PointGlob>, Vec<&PointGlob>) = points.iter().partition(is_exact);
        let exact = exact.into_iter().map(|point| name(&point.asset, &point.parameter)).collect();
        Self { exact, globs: globs.into_iter().cloned().collect() }
    }

    fn holds(&self, asset: &str, parameter: &str) -> bool {
        let meets = |point: &PointGlob| matches(&point.asset, asset) && matches(&point.parameter, parameter);
        self.exact.contains(&name(asset, parameter)) || self.globs.iter().any(meets)
    }
}

fn name(asset: &str, parameter: &str) -> Box<str> {
    format!("{asset}\n{parameter}").into()
}

/// Rule of each check, and whether the point is unknown.
type Key = ([Option<usize>; CHECKS.len()], bool);

/// The checks a rule may hold.
const CHECKS: [fn(&Rule) -> bool; 9] = [
    |rule| rule.range.is_some(),
    |rule| rule.rate.is_some(),
    |rule| rule.expected_interval_ms.is_some(),
    |rule| rule.value_type.is_some(),
    |rule| rule.unit.is_some(),
    |rule| rule.allowed.is_some(),
    |rule| rule.spike.is_some(),
    |rule| rule.flatline.is_some(),
    |rule| rule.cross_check.is_some(),
];

impl Plan {
    pub fn new(settings: &Validation) -> Self {
        let mut rules = settings.rules.clone();
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.exactness())); // stable: the first of equals stays first
        let expressions = rules
            .iter()
            .flat_map(|rule| rule.enabled_when.iter().chain(rule.cross_check.iter().map(|check| &check.condition)));
        let operands = all_operands(expressions);
        Self {
            rules,
            unknown_points: settings.unknown_points,
            known: settings.known_points.as_deref().map(Known::new),
            operands,
            profiles: Vec::new(),
            by_rules: HashMap::new(),
        }
    }

    /// The configured rule behind a finding.
    pub fn rule(&self, rule: u32) -> Option<&Rule> {
        self.rules.get(rule as usize)
    }

    /// What happens to unknown points.
    pub(super) fn unknown_points(&self) -> UnknownPoints {
        self.unknown_points
    }

    /// True when some expression reads parameters of this name.
    pub(super) fn is_operand(&self, parameter: &str) -> bool {
        self.operands.contains(parameter)
    }

    fn is_unknown(&self, asset: &str, parameter: &str) -> bool {
        let Some(known) = &self.known else { return false };
        self.unknown_points != UnknownPoints::Pass && !known.holds(asset, parameter)
    }

    /// Number of the checks that apply to a point: of several matching rules the first that holds a check decides it.
    pub(super) fn profile(&mut self, asset: &str, parameter: &str) -> u32 {
        let matching: Vec<usize> =
            (0..self.rules.len()).filter(|rule| self.rules[*rule].matches(asset, parameter)).collect();
        let rules = CHECKS.map(|holds| matching.iter().copied().find(|rule| holds(&self.rules[*rule])));
        let key = (rules, self.is_unknown(asset, parameter));
        if let Some(profile) = self.by_rules.get(&key) {
            return *profile;
        }
        let checks = self.checks_of(&key);
        self.profiles.push(checks);
        let profile = number(self.profiles.len() - 1);
        self.by_rules.insert(key, profile);
        profile
    }

    fn checks_of(
        &self,
        ([range, rate, interval, value_type, unit, allowed, spike, flatline, cross], unknown): &Key,
    ) -> Checks {
        let rule = |place: &Option<usize>| place.map(|place| (number(place), &self.rules[place]));
        let expected_interval =
            rule(interval).and_then(|(_, rule)| rule.expected_interval_ms).map(|ms| ms.saturating_mul(1000));
        let mut further = Further {
            value_type: rule(value_type).and_then(|(_, rule)| rule.value_type),
            type_rule: rule(value_type).map_or(0, |(at, _)| at),
            unit: rule(unit).and_then(|(at, rule)| Some(Expected::new(at, rule.unit.as_ref()?))),
            allowed: rule(allowed).and_then(|(at, rule)| Some(Allowed::new(at, rule.allowed.as_ref()?))),
            spike: rule(spike).and_then(|(at, rule)| Some(Spike::new(at, rule.spike.as_ref()?))),
            flatline: rule(flatline).and_then(|(at, rule)| Some(Flatline::new(at, rule.flatline.as_ref()?))),
            condition: rule(cross).and_then(|(at, rule)| Some(Condition::new(at, rule.cross_check.as_ref()?))),
            gates: Vec::new(),
        };
        let used: BTreeSet<usize> =
            [range, rate, value_type, unit, allowed, spike, flatline, cross].into_iter().flatten().copied().collect();
        let gate = |place: usize| Some((number(place), self.rules[place].enabled_when.clone()?));
        further.gates = used.into_iter().filter_map(gate).collect();
        Checks {
            range: rule(range).and_then(|(at, rule)| Some(Range::new(at, &rule.range?))),
            rate: rule(rate).and_then(|(at, rule)| Some(Rate::new(at, &rule.rate?, expected_interval))),
            expected_interval,
            unknown: *unknown,
            further: (further != Further::default()).then(|| Box::new(further)),
        }
    }

    pub(super) fn checks(&self, profile: u32) -> &Checks {
        &self.profiles[profile as usize]
    }
}

fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::rules::{Limits, RateLimits};

    fn rule(id: &str, asset: &str, parameter: &str) -> Rule {
        Rule { id: id.to_owned(), asset: asset.to_owned(), parameter: parameter.to_owned(), ..Rule::default() }
    }

    fn limits(hard_hi: f64) -> Limits {
        Limits { hard_hi: Some(hard_hi), ..Limits::default() }
    }

    #[test]
    fn the_first_rule_that_holds_a_check_decides_it() {
        let rate = Some(RateLimits { soft_per_s: None, hard_per_s: Some(5.0) });
        let rules = vec![
            Rule { rate, ..rule("rates", "pump_*", "*") },
            Rule { range: Some(limits(10.0)), ..rule("pumps", "pump_*", "*") },
            Rule { range: Some(limits(99.0)), expected_interval_ms: Some(1000), ..rule("all", "*", "*") },
        ];
        let mut plan = Plan::new(&Validation { rules, ..Validation::default() });
        let pump = plan.profile("pump_1", "t");
        assert_eq!(plan.profile("pump_2", "p"), pump, "points with the same rules share their checks");
        let press = plan.profile("press_1", "t");
        let checks = plan.checks(pump);
        assert_eq!(plan.rule(checks.range.as_ref().unwrap().rule).unwrap().id, "pumps");
        assert_eq!(plan.rule(checks.rate.as_ref().unwrap().rule).unwrap().id, "rates");
        assert_eq!(checks.expected_interval, Some(1_000_000));
        assert!(checks.further.is_none() && !checks.unknown);
        assert_eq!(plan.rule(plan.checks(press).range.as_ref().unwrap().rule).unwrap().id, "all");
        assert!(plan.checks(press).rate.is_none());
    }

    #[test]
    fn a_points_own_rule_goes_before_templates_wherever_it_stands() {
        // VAL-25
        let rules = vec![
            Rule { range: Some(limits(1.0)), ..rule("all", "*", "*") },
            Rule { range: Some(limits(2.0)), ..rule("temperatures", "*", "temperature") },
            Rule { range: Some(limits(3.0)), ..rule("pump", "pump_1", "*") },
            Rule { range: Some(limits(4.0)), ..rule("own", "pump_1", "temperature") },
        ];
        let mut plan = Plan::new(&Validation { rules, ..Validation::default() });
        let mut decides = |asset: &str, parameter: &str| {
            let profile = plan.profile(asset, parameter);
            plan.rule(plan.checks(profile).range.as_ref().unwrap().rule).unwrap().id.clone()
        };
        assert_eq!(decides("pump_1", "temperature"), "own");
        assert_eq!(decides("pump_1", "flow"), "pump");
        assert_eq!(decides("pump_2", "temperature"), "temperatures");
        assert_eq!(decides("press", "force"), "all");
    }
}
