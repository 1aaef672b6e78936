//! The judgement of one reading: what happens to it, and everything that is to be told because of it.

use model::{Quality, Reading, Timestamp};

use super::finding::{Codes, Finding};
use super::point::Change;
use super::rules::{gap, share, skew};

/// What happens to a reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Goes on; see [`Judgement::is_changed`].
    Forward,
    /// Was told before: dropped and counted.
    Duplicate,
    /// Goes to the dead letters.
    Reject(Rejection),
    /// Was judged before the state was saved that this run began with: nothing is to be done.
    Past,
}

/// Why a reading is rejected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rejection {
    /// It came as BAD; the reason is its own.
    Source,
    Found(Finding),
}

/// The judgement of one reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    pub verdict: Verdict,
    /// Never better than what the reading came with.
    pub quality: Quality,
    /// The worst finding's code, when it is worse than what the reading came with.
    pub reason: Option<&'static str>,
    /// Codes to add to `reasons`.
    pub codes: Codes,
    /// The reading's own, or the gateway's when that one cannot be used.
    pub device_time: Timestamp,
    /// The value in the expected unit, when it came in another one.
    pub converted: Option<f64>,
    /// To be flagged `late`.
    pub late: bool,
    /// The reading came in the order of device times, so that it stands for its point now.
    pub in_order: bool,
    /// To be flagged `gap_before`, and told as an event.
    pub gap: Option<gap::Gap>,
    /// To be told as an event.
    pub change: Option<Change>,
    /// Too many of the point's readings are rejected; to be told as an event (VAL-26).
    pub trouble: Option<share::Trouble>,
    /// The source's clock; to be told as an event.
    pub skew: Option<skew::Told>,
    /// The point, for [`super::Validator::handle_mut`]; `None` when the table was full.
    pub point: Option<u32>,
}

impl Judgement {
    /// True when the reading cannot be forwarded byte for byte.
    pub fn is_changed(&self) -> bool {
        !self.codes.is_empty() || self.late || self.gap.is_some() || self.converted.is_some()
    }

    /// Nothing found yet.
    #[inline]
    pub fn new(reading: &Reading<'_>) -> Self {
        Self {
            verdict: Verdict::Forward,
            quality: reading.quality,
            reason: None,
            codes: Codes::default(),
            device_time: reading.device_time,
            converted: None,
            late: false,
            in_order: false,
            gap: None,
            change: None,
            trouble: None,
            skew: None,
            point: None,
        }
    }

    /// Takes a finding in; the worst one decides quality and reason.
    pub(super) fn add(&mut self, finding: Finding) {
        self.codes.push(finding.code);
        if finding.quality > self.quality {
            self.quality = finding.quality;
            self.reason = Some(finding.code);
        }
    }

    pub(super) fn reject(&mut self, finding: Finding) {
        self.quality = Quality::Bad;
        self.reason = Some(finding.code);
        self.verdict = Verdict::Reject(Rejection::Found(finding));
    }
}
