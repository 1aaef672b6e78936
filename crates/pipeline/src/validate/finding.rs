//! What a rule found, and the codes that end up in a reading's `reasons`.

use model::{Quality, reason};

/// One finding of one rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finding {
    /// BAD rejects the reading.
    pub quality: Quality,
    /// Stable code, see `model::reason`.
    pub code: &'static str,
    /// The configured rule behind it, an index for [`super::Plan::rule`]; `None` for checks that are always on.
    pub rule: Option<u32>,
    /// What was allowed, in the unit of the check.
    pub limit: Option<f64>,
}

impl Finding {
    /// A finding of a check that is always on.
    pub(super) fn always(quality: Quality, code: &'static str) -> Self {
        Self { quality, code, rule: None, limit: None }
    }
}

/// Every code that may be added to a reading that goes on, in the order of the checks.
const MARKS: [&str; 11] = [
    reason::UNCONFIGURED,
    reason::DEVICE_TIME_INVALID,
    reason::DEVICE_TIME_FUTURE,
    reason::CLOCK_UNSYNCED,
    reason::DUP_CONFLICT,
    reason::RANGE_SOFT,
    reason::UNKNOWN_ENUM,
    reason::ROC_SOFT,
    reason::SPIKE,
    reason::FLATLINE,
    reason::CROSS_TAG,
];

/// Codes of the findings, each once, in the order of the checks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Codes(u16);

impl Codes {
    pub(super) fn push(&mut self, code: &'static str) {
        let place = MARKS.iter().position(|known| *known == code);
        debug_assert!(place.is_some(), "{code} is not in the list of marks");
        self.0 |= place.map_or(0, |place| 1 << place);
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = &'static str> {
        MARKS.into_iter().enumerate().filter(move |(place, _)| self.0 & (1 << place) != 0).map(|(_, code)| code)
    }
}
