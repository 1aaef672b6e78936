//! How each point is aggregated: the configuration, looked up once per point.

use std::sync::Arc;

use config::Aggregation;
use config::aggregation::{Averaging, PointRule};
use model::{Kind, Quality, Resolution, Value};

use super::level::Limits;

/// What is done with the readings of a point. Times in microseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// By the type of the value when `None`.
    kind: Option<Kind>,
    pub(super) averaging: Averaging,
    pub(super) hold: i64,
    /// Time one reading of a `sample` point stands for.
    pub(super) interval: Option<i64>,
    pub(super) modulus: Option<f64>,
    /// Fastest believable counting per microsecond.
    pub(super) rate: Option<f64>,
}

/// The plans of all points. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Plans {
    /// The last one is of points that no rule speaks of.
    rules: Arc<[(PointRule, Plan)]>,
    /// Whether SUSPECT and UNCERTAIN readings count.
    suspect_counts: bool,
    uncertain_counts: bool,
    /// Late data changes windows that ended up to this long ago.
    pub(super) revise_for: i64,
    /// Memory for closed windows, all resolutions together, in bytes.
    late_bytes: usize,
}

impl Plans {
    pub fn new(settings: &Aggregation) -> Self {
        let plan = |rule: &PointRule| Plan {
            kind: rule.kind,
            averaging: rule.averaging,
            hold: rule.max_hold_ms.saturating_mul(1000),
            interval: rule.expected_interval_ms.map(|interval| interval.saturating_mul(1000)),
            modulus: rule.modulus,
            rate: rule.max_rate_per_s.map(|rate| rate / 1e6),
        };
        let other = PointRule::default();
        Self {
            rules: settings.points.iter().chain([&other]).map(|rule| (rule.clone(), plan(rule))).collect(),
            suspect_counts: !settings.exclude.contains(&Quality::Suspect),
            uncertain_counts: !settings.exclude.contains(&Quality::Uncertain),
            revise_for: settings.revise_for_h.saturating_mul(3_600_000_000),
            late_bytes: usize::try_from(settings.late_memory_mb).unwrap_or(0).saturating_mul(1 << 20),
        }
    }

    /// What a resolution may hold: of the memory for late data, seconds get three fifths, minutes and hours one each.
    pub fn limits(&self, resolution: Resolution) -> Limits {
        let fifths = if resolution == Resolution::Second { 3 } else { 1 };
        Limits { kept_bytes_max: self.late_bytes / 5 * fifths, ..Limits::default() }
    }

    /// The number of a point's plan.
    pub(super) fn find(&self, asset: &str, parameter: &str) -> u16 {
        let place = self.rules.iter().position(|(rule, _)| rule.matches(asset, parameter));
        u16::try_from(place.unwrap_or(self.rules.len() - 1)).unwrap_or(0)
    }

    pub(super) fn get(&self, number: u16) -> &Plan {
        &self.rules[usize::from(number).min(self.rules.len() - 1)].1
    }

    /// Whether readings of this quality count (AGG-03).
    #[inline]
    pub(super) fn counts(&self, quality: Quality) -> bool {
        match quality {
            Quality::Good => true,
            Quality::Suspect => self.suspect_counts,
            Quality::Uncertain => self.uncertain_counts,
            Quality::Bad => false,
        }
    }
}

impl Plan {
    /// What the point is, as its value has it; `None` for a value that its kind cannot take.
    #[inline]
    pub(super) fn kind(&self, value: &Value<'_>) -> Option<Kind> {
        match (self.kind, value) {
            (_, Value::Null) => None,
            (None, Value::Float(_) | Value::Int(_)) => Some(Kind::Value),
            (None, Value::Text(_)) | (Some(Kind::Enum), _) => Some(Kind::Enum),
            (Some(kind), Value::Float(_) | Value::Int(_)) => Some(kind),
            (None | Some(Kind::Bool), Value::Bool(_)) => Some(Kind::Bool),
            (Some(_), Value::Bool(_) | Value::Text(_)) => None,
        }
    }

    /// Whether windows of this kind are about time, and the value before a window matters to it.
    #[inline]
    pub(super) fn is_timed(&self, kind: Kind) -> bool {
        match kind {
            Kind::Value => self.averaging != Averaging::Sample,
            Kind::Angle => false,
            Kind::Counter | Kind::Bool | Kind::Enum => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_decides_and_types_decide_the_rest() {
        let rule = |asset: &str, kind| PointRule { asset: asset.to_owned(), kind, ..PointRule::default() };
        let points = vec![rule("pump_*", Some(Kind::Counter)), rule("*", None)];
        let plans = Plans::new(&Aggregation { points, exclude: vec![Quality::Suspect], ..Aggregation::default() });
        let kind = |asset, value: Value<'_>| plans.get(plans.find(asset, "p")).kind(&value);
        assert_eq!(kind("pump_1", Value::Int(1)), Some(Kind::Counter));
        assert_eq!(kind("pump_1", Value::Text("x")), None, "a text cannot be counted");
        assert_eq!(kind("press", Value::Float(1.0)), Some(Kind::Value));
        assert_eq!(kind("press", Value::Bool(true)), Some(Kind::Bool));
        assert_eq!(kind("press", Value::Text("run")), Some(Kind::Enum));
        assert!(plans.counts(Quality::Uncertain) && !plans.counts(Quality::Suspect) && !plans.counts(Quality::Bad));
    }
}
