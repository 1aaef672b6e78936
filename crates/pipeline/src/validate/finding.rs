//! What a rule found, and the codes that end up in a reading's `reasons`.

use model::Quality;

/// Most findings one reading can collect: device time, duplicate, range, rate.
const CODES_MAX: usize = 4;

/// One finding of one rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finding {
    /// BAD rejects the reading.
    pub quality: Quality,
    /// Stable code, see `model::reason`.
    pub code: &'static str,
    /// The configured rule behind it, an index for [`super::Plan::rule_id`]; `None` for checks that are always on.
    pub rule: Option<u32>,
    /// What was allowed, in the unit of the check.
    pub limit: Option<f64>,
}

/// Codes of the findings in the order they were made.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Codes {
    codes: [&'static str; CODES_MAX],
    length: usize,
}

impl Codes {
    pub(super) fn push(&mut self, code: &'static str) {
        self.codes[self.length] = code;
        self.length += 1;
    }

    pub fn as_slice(&self) -> &[&'static str] {
        &self.codes[..self.length]
    }
}
