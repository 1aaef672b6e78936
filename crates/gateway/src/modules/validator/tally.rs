//! Counts of one batch, added to the shared counters once per batch.

use model::{Quality, reason};

use crate::modules::ModuleState;
use crate::modules::state::{QualityLabel, Reason, ValidatorMeters};

/// Reasons that are counted under their own name; everything else a source may say is counted as `OTHER`, so that the
/// number of series is bounded.
const REASONS: [&str; 29] = [
    reason::COMM_FAIL,
    reason::TIMEOUT,
    reason::DEVICE_EXCEPTION,
    reason::ADDRESS_INVALID,
    reason::GATEWAY_TARGET_FAIL,
    reason::DEVICE_BUSY,
    reason::DECODE_ERROR,
    reason::INVALID_SENTINEL,
    reason::SENSOR_FAULT,
    reason::NAN_INF,
    reason::NO_VALUE,
    reason::TYPE_MISMATCH,
    reason::UNIT_MISMATCH,
    reason::RANGE_HARD,
    reason::ROC_HARD,
    reason::SCHEMA_ERROR,
    reason::UNKNOWN_ENUM,
    reason::UNCONFIGURED,
    super::letters::INTERNAL_ERROR,
    super::letters::TOO_LARGE,
    "SERVER_BAD",
    "SOURCE_OFFLINE",
    "CONFIG_ERROR",
    "NAMESPACE_UNKNOWN",
    "UNSUPPORTED_TYPE",
    "CARDINALITY_LIMIT",
    reason::CLOCK_UNSYNCED,
    reason::DEVICE_TIME_MISSING,
    OTHER,
];
const OTHER: &str = "OTHER";

/// What one batch did.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) records_in: u64,
    pub(super) events_out: u64,
    pub(super) duplicates: u64,
    pub(super) gaps: u64,
    pub(super) stale: u64,
    /// Points judged without memory.
    pub(super) without_memory: u64,
    pub(super) not_shown: u64,
    pub(super) panics: u64,
    forwarded: [u64; 3],
    letters: [u64; REASONS.len()],
}

impl Tally {
    pub(super) fn forwarded(&mut self, quality: Quality) {
        let place = match quality {
            Quality::Good => 0,
            Quality::Suspect => 1,
            Quality::Uncertain | Quality::Bad => 2,
        };
        self.forwarded[place] += 1;
    }

    pub(super) fn letter(&mut self, reason: &str) {
        let place = REASONS.iter().position(|known| *known == reason).unwrap_or(REASONS.len() - 1);
        self.letters[place] += 1;
    }

    /// Adds to the shared counters and starts over.
    pub(super) fn flush(&mut self, state: &ModuleState, meters: &ValidatorMeters) {
        if self.records_in == 0 && self.stale == 0 {
            return;
        }
        let tally = std::mem::take(self);
        for (quality, count) in ["GOOD", "SUSPECT", "UNCERTAIN"].into_iter().zip(tally.forwarded) {
            if count > 0 {
                meters.records.get_or_create(&QualityLabel { quality }).inc_by(count);
            }
        }
        for (reason, count) in REASONS.into_iter().zip(tally.letters) {
            if count > 0 {
                meters.dead_letters.get_or_create(&Reason { reason }).inc_by(count);
            }
        }
        if tally.duplicates > 0 {
            meters.discarded.get_or_create(&Reason { reason: "duplicate" }).inc_by(tally.duplicates);
            meters.duplicates.inc_by(tally.duplicates);
        }
        meters.gaps.inc_by(tally.gaps);
        meters.stale.inc_by(tally.stale);
        meters.panics.inc_by(tally.panics);
        meters.points_not_shown.inc_by(tally.not_shown);
        meters.points_without_memory.inc_by(tally.without_memory);
        let out = tally.forwarded.iter().sum::<u64>() + tally.events_out;
        state.count(tally.records_in, out, tally.letters.iter().sum());
    }
}
