//! Quality of a reading and the stable reason codes behind it.
//!
//! Codes are plain strings on the wire, so that a new one is no schema break; they are added, never renamed.

/// How far a reading can be trusted. Ordered by badness: `Good < Suspect < Uncertain < Bad`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Quality {
    /// Passed all checks.
    Good,
    /// Anomalous but valid; forwarded with its reason.
    Suspect,
    /// Low confidence, for example a missing device time; forwarded with its reason.
    #[default]
    Uncertain,
    /// Failed; goes to the dead letters, never to `telemetry.clean`.
    Bad,
}

impl Quality {
    /// The symbol used in Avro, JSON and SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "GOOD",
            Self::Suspect => "SUSPECT",
            Self::Uncertain => "UNCERTAIN",
            Self::Bad => "BAD",
        }
    }

    /// The reverse of [`Quality::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "GOOD" => Self::Good,
            "SUSPECT" => Self::Suspect,
            "UNCERTAIN" => Self::Uncertain,
            "BAD" => Self::Bad,
            _ => return None,
        })
    }

    /// The worse of two qualities; no stage may improve one.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        self.max(other)
    }
}

/// Reason codes; the quality each belongs to is the section it stands in.
pub mod reason {
    // BAD
    pub const COMM_FAIL: &str = "COMM_FAIL";
    pub const TIMEOUT: &str = "TIMEOUT";
    pub const DEVICE_EXCEPTION: &str = "DEVICE_EXCEPTION";
    pub const ADDRESS_INVALID: &str = "ADDRESS_INVALID";
    pub const GATEWAY_TARGET_FAIL: &str = "GATEWAY_TARGET_FAIL";
    pub const DEVICE_BUSY: &str = "DEVICE_BUSY";
    pub const DECODE_ERROR: &str = "DECODE_ERROR";
    pub const INVALID_SENTINEL: &str = "INVALID_SENTINEL";
    pub const SENSOR_FAULT: &str = "SENSOR_FAULT";
    pub const NAN_INF: &str = "NAN_INF";
    pub const NO_VALUE: &str = "NO_VALUE";
    pub const TYPE_MISMATCH: &str = "TYPE_MISMATCH";
    pub const UNIT_MISMATCH: &str = "UNIT_MISMATCH";
    pub const RANGE_HARD: &str = "RANGE_HARD";
    pub const ROC_HARD: &str = "ROC_HARD";
    pub const SCHEMA_ERROR: &str = "SCHEMA_ERROR";
    /// The source said that it, or what it speaks for, is gone.
    pub const SOURCE_OFFLINE: &str = "SOURCE_OFFLINE";
    /// The source itself calls its value bad.
    pub const SERVER_BAD: &str = "SERVER_BAD";
    /// The server does not have the namespace of the point any more.
    pub const NAMESPACE_UNKNOWN: &str = "NAMESPACE_UNKNOWN";
    pub const UNSUPPORTED_TYPE: &str = "UNSUPPORTED_TYPE";
    pub const CONFIG_ERROR: &str = "CONFIG_ERROR";
    pub const CARDINALITY_LIMIT: &str = "CARDINALITY_LIMIT";
    // UNCERTAIN
    pub const DEVICE_TIME_MISSING: &str = "DEVICE_TIME_MISSING";
    /// The stamp cannot be a real time: before 2000 or too long ago.
    pub const DEVICE_TIME_INVALID: &str = "DEVICE_TIME_INVALID";
    /// The stamp lies too far ahead.
    pub const DEVICE_TIME_FUTURE: &str = "DEVICE_TIME_FUTURE";
    /// A local time that a change of the clock made mean two moments, or none.
    pub const TIME_AMBIGUOUS: &str = "TIME_AMBIGUOUS";
    /// A message the source's broker had kept, of which nobody knows how old it is.
    pub const RETAINED_NO_TIME: &str = "RETAINED_NO_TIME";
    /// The last value the source has; it has heard nothing since.
    pub const LAST_KNOWN: &str = "LAST_KNOWN";
    /// What the source begins with, not measured.
    pub const INITIAL_VALUE: &str = "INITIAL_VALUE";
    /// The source itself doubts its value.
    pub const SERVER_UNCERTAIN: &str = "SERVER_UNCERTAIN";
    pub const STALE: &str = "STALE";
    pub const CLOCK_UNSYNCED: &str = "CLOCK_UNSYNCED";
    // SUSPECT
    pub const RANGE_SOFT: &str = "RANGE_SOFT";
    pub const ROC_SOFT: &str = "ROC_SOFT";
    pub const SPIKE: &str = "SPIKE";
    pub const FLATLINE: &str = "FLATLINE";
    pub const CROSS_TAG: &str = "CROSS_TAG";
    pub const OPERATOR_APPROVED: &str = "OPERATOR_APPROVED";
    pub const OUT_OF_SPAN: &str = "OUT_OF_SPAN";
    pub const UNKNOWN_ENUM: &str = "UNKNOWN_ENUM";
    pub const PRECISION_LOSS: &str = "PRECISION_LOSS";
    /// Set by a person at the source instead of measured.
    pub const LOCAL_OVERRIDE: &str = "LOCAL_OVERRIDE";
    /// Put there by the source instead of measured.
    pub const SUBSTITUTED: &str = "SUBSTITUTED";
    pub const CLAMPED: &str = "CLAMPED";
    pub const DUP_CONFLICT: &str = "DUP_CONFLICT";
    pub const UNCONFIGURED: &str = "UNCONFIGURED";
}

/// Flags: facts about a reading that say nothing of its quality.
pub mod flag {
    pub const INITIAL: &str = "initial";
    pub const RETAINED: &str = "retained";
    pub const HISTORICAL: &str = "historical";
    pub const BACKFILL: &str = "backfill";
    pub const LATE: &str = "late";
    pub const OVERFLOW: &str = "overflow";
    pub const GAP_BEFORE: &str = "gap_before";
    pub const REPROCESSED: &str = "reprocessed";
    pub const CLOCK_STEP: &str = "clock_step";
    /// The source says that the value is not worth storing for long.
    pub const TRANSIENT: &str = "transient";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn badness_is_ordered() {
        // 0.3: BAD > UNCERTAIN > SUSPECT > GOOD
        assert_eq!(Quality::Suspect.worse(Quality::Uncertain), Quality::Uncertain);
        assert_eq!(Quality::Bad.worse(Quality::Good), Quality::Bad);
        for quality in [Quality::Good, Quality::Suspect, Quality::Uncertain, Quality::Bad] {
            assert_eq!(Quality::parse(quality.as_str()), Some(quality));
        }
    }
}
