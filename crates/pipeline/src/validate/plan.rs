//! From configured rules to the checks of one point, decided once per point.

use std::collections::HashMap;

use config::rules::{Rule, Validation};

use super::rules::{range::Range, rate::Rate};

/// The checks of a point. Many points share one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Checks {
    pub(super) range: Option<Range>,
    pub(super) rate: Option<Rate>,
    /// Microseconds.
    pub(super) expected_interval: Option<i64>,
}

/// The validator's settings, prepared.
#[derive(Debug)]
pub struct Plan {
    rules: Vec<Rule>,
    profiles: Vec<Checks>,
    /// Rule of the range, the rate and the interval -> profile.
    by_rules: HashMap<[Option<usize>; 3], u32>,
}

impl Plan {
    pub fn new(settings: &Validation) -> Self {
        Self { rules: settings.rules.clone(), profiles: Vec::new(), by_rules: HashMap::new() }
    }

    /// The configured name behind a finding.
    pub fn rule_id(&self, rule: u32) -> Option<&str> {
        self.rules.get(rule as usize).map(|rule| rule.id.as_str())
    }

    /// Number of the checks that apply to a point: of several matching rules the first that holds a check decides it.
    pub(super) fn profile(&mut self, asset: &str, parameter: &str) -> u32 {
        let first =
            |holds: fn(&Rule) -> bool| self.rules.iter().position(|rule| holds(rule) && rule.matches(asset, parameter));
        let key = [
            first(|rule| rule.range.is_some()),
            first(|rule| rule.rate.is_some()),
            first(|rule| rule.expected_interval_ms.is_some()),
        ];
        if let Some(profile) = self.by_rules.get(&key) {
            return *profile;
        }
        let number = |rule: usize| u32::try_from(rule).unwrap_or(u32::MAX);
        let interval = key[2].and_then(|rule| self.rules[rule].expected_interval_ms).map(|ms| ms.saturating_mul(1000));
        let checks = Checks {
            range: key[0].and_then(|rule| Some(Range::new(number(rule), &self.rules[rule].range?))),
            rate: key[1].and_then(|rule| Some(Rate::new(number(rule), &self.rules[rule].rate?, interval))),
            expected_interval: interval,
        };
        self.profiles.push(checks);
        let profile = number(self.profiles.len() - 1);
        self.by_rules.insert(key, profile);
        profile
    }

    pub(super) fn checks(&self, profile: u32) -> &Checks {
        &self.profiles[profile as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::rules::{Limits, RateLimits};

    #[test]
    fn the_first_rule_that_holds_a_check_decides_it() {
        let rule = |id: &str, asset: &str| Rule {
            id: id.to_owned(),
            asset: asset.to_owned(),
            parameter: "*".to_owned(),
            range: None,
            rate: None,
            expected_interval_ms: None,
        };
        let limits = |hard_hi| Some(Limits { hard_hi: Some(hard_hi), ..Limits::default() });
        let rate = Some(RateLimits { soft_per_s: None, hard_per_s: Some(5.0) });
        let rules = vec![
            Rule { rate, ..rule("rates", "pump_*") },
            Rule { range: limits(10.0), ..rule("pumps", "pump_*") },
            Rule { range: limits(99.0), expected_interval_ms: Some(1000), ..rule("all", "*") },
        ];
        let mut plan = Plan::new(&Validation { rules });
        let pump = plan.profile("pump_1", "t");
        assert_eq!(plan.profile("pump_2", "p"), pump, "points with the same rules share their checks");
        let press = plan.profile("press_1", "t");
        let checks = plan.checks(pump);
        assert_eq!(checks.range.as_ref().unwrap().rule, 1);
        assert_eq!(checks.rate.as_ref().unwrap().rule, 0);
        assert_eq!(checks.expected_interval, Some(1_000_000));
        assert_eq!(plan.checks(press).range.as_ref().unwrap().rule, 2);
        assert!(plan.checks(press).rate.is_none());
        assert_eq!(plan.rule_id(2), Some("all"));
    }
}
