//! Range: hard limits reject, soft limits mark; a value on a limit is inside.

use config::rules::Limits;
use model::{Quality, reason};

use crate::validate::Finding;

/// Limits in the point's own unit; those not configured are infinite.
#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    /// Index of the configured rule.
    pub rule: u32,
    hard_lo: f64,
    hard_hi: f64,
    soft_lo: f64,
    soft_hi: f64,
}

impl Range {
    pub fn new(rule: u32, limits: &Limits) -> Self {
        Self {
            rule,
            hard_lo: limits.hard_lo.unwrap_or(f64::NEG_INFINITY),
            hard_hi: limits.hard_hi.unwrap_or(f64::INFINITY),
            soft_lo: limits.soft_lo.unwrap_or(f64::NEG_INFINITY),
            soft_hi: limits.soft_hi.unwrap_or(f64::INFINITY),
        }
    }

    /// Finds a value outside the limits.
    pub fn check(&self, value: f64) -> Option<Finding> {
        let inner = value >= self.soft_lo && value <= self.soft_hi && value >= self.hard_lo && value <= self.hard_hi;
        if inner {
            return None;
        }
        let (quality, code, limit) = if value < self.hard_lo {
            (Quality::Bad, reason::RANGE_HARD, self.hard_lo)
        } else if value > self.hard_hi {
            (Quality::Bad, reason::RANGE_HARD, self.hard_hi)
        } else if value < self.soft_lo {
            (Quality::Suspect, reason::RANGE_SOFT, self.soft_lo)
        } else {
            (Quality::Suspect, reason::RANGE_SOFT, self.soft_hi)
        };
        Some(Finding { quality, code, rule: Some(self.rule), limit: Some(limit) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_inclusive_and_the_crossed_one_is_named() {
        // AC-067
        let range = Range::new(
            3,
            &Limits { hard_lo: Some(0.0), hard_hi: Some(100.0), soft_lo: Some(10.0), soft_hi: Some(90.0) },
        );
        let found = |value| range.check(value).map(|finding| (finding.quality, finding.code, finding.limit.unwrap()));
        assert_eq!(found(101.0), Some((Quality::Bad, reason::RANGE_HARD, 100.0)));
        assert_eq!(found(-0.1), Some((Quality::Bad, reason::RANGE_HARD, 0.0)));
        assert_eq!(found(100.0), Some((Quality::Suspect, reason::RANGE_SOFT, 90.0)));
        assert_eq!(found(9.9), Some((Quality::Suspect, reason::RANGE_SOFT, 10.0)));
        assert_eq!(found(90.0), None);
        let open = Range::new(0, &Limits { hard_hi: Some(100.0), ..Limits::default() });
        assert_eq!(open.check(100.0), None);
        assert_eq!(open.check(101.0).map(|finding| finding.code), Some(reason::RANGE_HARD), "without soft limits");
        assert_eq!(open.check(f64::MIN), None);
    }
}
