//! From configured rules to the alarms of one point, decided once per point.
//!
//! Every point with a limit has a quality alarm, configured or not: a reading that the hard range rejects would
//! otherwise be silence (ALM-05, AC-104).

use std::collections::BTreeMap;

use config::alarms::{AlarmRule, Alarms, Detect, system};
use model::{AlarmKind, Severity};

/// The settings, prepared.
#[derive(Debug)]
pub(super) struct Plan {
    rules: Vec<Rule>,
    by_parameter: BTreeMap<String, Vec<u32>>,
    /// Rules that need to know a parameter.
    by_operand: BTreeMap<String, Vec<u32>>,
    of_devices: Vec<u32>,
    of_system: Vec<u32>,
    /// Alarms of the gateway itself that nobody configured, by condition.
    of_system_made: BTreeMap<&'static str, u32>,
    /// Of the conditions that sources keep.
    pub(super) of_conditions: u32,
    /// Quality alarms nobody configured: parameter, severity, area -> rule.
    made: BTreeMap<(String, Severity, u32), u32>,
    pub(super) groups: Vec<String>,
    pub(super) areas: Vec<String>,
    /// So many of the areas are named by rules that somebody wrote.
    pub(super) areas_written: usize,
    pub(super) shelve_max_ms: i64,
    pub(super) shelve_critical_max_ms: i64,
}

/// A rule and its numbers.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) settings: AlarmRule,
    pub(super) group: Option<u32>,
    pub(super) area: u32,
    /// Not configured. That of a point with limits comes only with readings rejected by a hard limit.
    pub(super) made: bool,
}

/// Name of the area of rules that name none.
const NO_AREA: &str = "unassigned";

/// Ends the name of a quality alarm nobody configured; a dot, which no configured name has.
const MADE_SUFFIX: &str = ".quality";

fn number(list: &mut Vec<String>, name: &str) -> u32 {
    let at = list.iter().position(|known| known == name).unwrap_or_else(|| {
        list.push(name.to_owned());
        list.len() - 1
    });
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl Plan {
    pub(super) fn new(settings: &Alarms) -> Self {
        let mut plan = Self {
            rules: Vec::new(),
            by_parameter: BTreeMap::new(),
            by_operand: BTreeMap::new(),
            of_devices: Vec::new(),
            of_system: Vec::new(),
            of_system_made: BTreeMap::new(),
            of_conditions: 0,
            made: BTreeMap::new(),
            groups: Vec::new(),
            areas: Vec::new(),
            areas_written: 0,
            shelve_max_ms: settings.shelve_max_ms,
            shelve_critical_max_ms: settings.shelve_critical_max_ms,
        };
        for rule in &settings.rules {
            let n = plan.add(rule.clone(), false);
            match rule.detect {
                Detect::Comm { .. } => plan.of_devices.push(n),
                Detect::System { .. } => plan.of_system.push(n),
                _ => plan.by_parameter.entry(rule.parameter.clone()).or_default().push(n),
            }
            for operand in rule.operands() {
                plan.by_operand.entry(operand.to_owned()).or_default().push(n);
            }
        }
        plan.areas_written = plan.areas.len();
        for condition in &system::CONDITIONS {
            let n = plan.add(system::rule_of(condition), true);
            plan.of_system_made.insert(condition.name, n);
        }
        plan.of_conditions = plan.add(super::kept::rule(), true);
        plan
    }

    fn add(&mut self, settings: AlarmRule, made: bool) -> u32 {
        let group = settings.group.as_deref().map(|group| number(&mut self.groups, group));
        let area = number(&mut self.areas, settings.area.as_deref().unwrap_or(NO_AREA));
        self.rules.push(Rule { settings, group, area, made });
        u32::try_from(self.rules.len() - 1).unwrap_or(u32::MAX)
    }

    pub(super) fn rule(&self, rule: u32) -> &Rule {
        &self.rules[rule as usize]
    }

    /// Whether some rule looks at this point, or needs to know it.
    pub(super) fn wants(&self, asset: &str, parameter: &str) -> bool {
        let any = |rules: Option<&Vec<u32>>, holds: &dyn Fn(&AlarmRule) -> bool| {
            rules.is_some_and(|rules| rules.iter().any(|rule| holds(&self.rule(*rule).settings)))
        };
        any(self.by_parameter.get(parameter), &|rule| rule.matches(asset, parameter))
            || any(self.by_operand.get(parameter), &|rule| rule.matches(asset, &rule.parameter))
    }

    /// The alarms of a point, in the order they are judged: first those that may hide others.
    pub(super) fn rules_of(&mut self, asset: &str, parameter: &str) -> Vec<u32> {
        let all = self.by_parameter.get(parameter).map(Vec::as_slice).unwrap_or_default();
        let mut rules: Vec<u32> =
            all.iter().copied().filter(|rule| self.rule(*rule).settings.matches(asset, parameter)).collect();
        rules.sort_by_key(|rule| !self.rule(*rule).settings.subsume);
        let of_kind = |kind: AlarmKind| rules.iter().any(|rule| self.rule(*rule).settings.detect.kind() == kind);
        if !rules.is_empty() && !of_kind(AlarmKind::Quality) {
            rules.push(self.quality_rule(parameter, &rules));
        }
        rules
    }

    /// The alarms of a device.
    pub(super) fn rules_of_device(&self, adapter: &str, device: &str) -> Vec<u32> {
        let matches = |rule: &u32| self.rule(*rule).settings.matches_device(adapter, device);
        self.of_devices.iter().copied().filter(matches).collect()
    }

    /// The alarms of a part of the gateway: those of the rules that speak of it, else the one that is always there.
    pub(super) fn rules_of_system(&self, part: &str, condition: &str) -> Vec<u32> {
        let matches = |rule: &u32| self.rule(*rule).settings.matches_system(part, condition);
        let written: Vec<u32> = self.of_system.iter().copied().filter(matches).collect();
        if written.is_empty() { self.of_system_made.get(condition).copied().into_iter().collect() } else { written }
    }

    /// The parameter that an alarm of this asset looks at.
    pub(super) fn parameter_of(&self, asset: &str, alarm_id: &str) -> Option<String> {
        if let Some(parameter) = alarm_id.strip_suffix(MADE_SUFFIX) {
            return Some(parameter.to_owned());
        }
        let rule = self.rules.iter().find(|rule| !rule.made && rule.settings.id == alarm_id)?;
        rule.settings.matches(asset, &rule.settings.parameter).then(|| rule.settings.parameter.clone())
    }

    /// The most severe of a point's limits; of all its alarms when it has no limit.
    pub(super) fn severest(&self, rules: &[u32]) -> Option<u32> {
        let key = |rule: &u32| {
            let settings = &self.rule(*rule).settings;
            (matches!(settings.detect, Detect::Level { .. }), settings.severity)
        };
        // of equal ones the first, so that the answer does not depend on how ties are broken
        rules.iter().copied().rev().max_by_key(key)
    }

    fn quality_rule(&mut self, parameter: &str, rules: &[u32]) -> u32 {
        let severest = self.severest(rules).unwrap_or(0);
        let model = self.rule(severest);
        let key = (parameter.to_owned(), model.settings.severity, model.area);
        if let Some(rule) = self.made.get(&key) {
            return *rule;
        }
        let settings = AlarmRule {
            id: format!("{parameter}{MADE_SUFFIX}"),
            parameter: parameter.to_owned(),
            detect: Detect::Quality { reasons: Vec::new() },
            on_delay_ms: 0,
            off_delay_ms: 0,
            priority: None,
            message: format!(
                "readings of {parameter} are rejected: outside the hard range, or faster than it can change"
            ),
            consequence: Some("the alarms of this parameter cannot see what happens".to_owned()),
            action: Some("look at the plant and at the sensor".to_owned()),
            group: None,
            latching: false,
            subsume: false,
            re_alarm_ms: None,
            enabled: true,
            suppress_when: None,
            ..model.settings.clone()
        };
        let rule = self.add(settings, true);
        self.made.insert(key, rule);
        rule
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "
version: 1
gateway_id: gw-1
alarms:
  rules:
    - {id: h, parameter: t, type: hi, limit: 90, severity: LOW, message: m}
    - {id: hh, parameter: t, type: hihi, limit: 95, severity: HIGH, message: m, subsume: true}
    - {id: s, parameter: t, type: stale, severity: CRITICAL, message: m}
";

    #[test]
    fn a_point_with_a_limit_has_a_quality_alarm_of_its_highest_severity() {
        // ALM-05, AC-104
        let document = config::parse(RULES, &config::Catalog::new([])).expect("a good document");
        let mut plan = Plan::new(&document.alarms);
        let rules = plan.rules_of("a", "t");
        let ids: Vec<&str> = rules.iter().map(|rule| plan.rule(*rule).settings.id.as_str()).collect();
        assert_eq!(ids, ["hh", "h", "s", "t.quality"], "what hides comes first");
        let quality = &plan.rule(rules[3]).settings;
        assert_eq!((quality.severity, plan.rule(rules[3]).made), (Severity::High, true));
        assert_eq!(plan.rules_of("b", "t"), rules, "made once");
        assert!(plan.wants("a", "t") && !plan.wants("a", "u"));
        assert!(plan.rules_of("a", "u").is_empty());
    }
}
