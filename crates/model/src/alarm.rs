//! Alarms: the words of their life, and one transition as it travels on `alarms.clean`.
//!
//! The states follow ISA-18.2 (ALM-01). On the wire the words are texts, so that a new one is no schema break; that is
//! why [`Alarm`] holds texts and the enums here read and write them. Detection lives in `pipeline`, the codec in `stream`.

use crate::{Quality, TextList, TextMap, Timestamp, Value};

macro_rules! words {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type { $($(#[$variant_doc])* $variant),+ }

        impl $type {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word in records, tables and configuration.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The reverse of `as_str`.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|word| word.as_str() == text)
            }
        }
    };
}

words! {
    /// How bad it is when nobody acts. Ordered: `Low < Critical`.
    Severity { Low = "LOW", Medium = "MEDIUM", High = "HIGH", Critical = "CRITICAL" }
}

words! {
    /// What an alarm looks at.
    AlarmKind {
        HiHi = "HIHI",
        Hi = "HI",
        Lo = "LO",
        LoLo = "LOLO",
        /// Distance from a setpoint.
        Deviation = "DEVIATION",
        /// Change per second.
        Rate = "RATE",
        /// A state that is not the expected one.
        Discrete = "DISCRETE",
        /// A point whose readings are BAD for a reason of its own.
        Quality = "QUALITY",
        /// A point that does not report.
        Stale = "STALE",
        /// A device that does not answer.
        Comm = "COMM",
        /// A condition the source keeps itself, OPC UA.
        Condition = "CONDITION",
        /// The gateway's own: disk, clock, certificate, sink.
        System = "SYSTEM",
    }
}

words! {
    /// What an operator sees; derived from the flags (ALM-01).
    AlarmState { Active = "ACTIVE", Acknowledged = "ACKNOWLEDGED", Cleared = "CLEARED", Suppressed = "SUPPRESSED" }
}

words! {
    /// States of ISA-18.2.
    IsaState {
        /// Normal.
        A = "A",
        /// Unacknowledged.
        B = "B",
        /// Acknowledged.
        C = "C",
        /// Returned to normal, unacknowledged.
        D = "D",
        /// Latched, unacknowledged.
        E = "E",
        /// Latched, acknowledged.
        F = "F",
        /// Shelved.
        G = "G",
        /// Suppressed by design.
        H = "H",
        /// Out of service, or disabled.
        I = "I",
    }
}

words! {
    /// Why an alarm is SUPPRESSED; of several the first in this order is told.
    SuppressionKind {
        Shelved = "shelved",
        ByDesign = "by_design",
        /// A more severe alarm of the same point hides it (ALM-09).
        Subsumed = "subsumed",
        OutOfService = "out_of_service",
        Disabled = "disabled",
    }
}

/// Flags of an alarm record.
pub mod alarm_flag {
    /// A person is to be told.
    pub const ANNUNCIATE: &str = "annunciate";
    /// The point is BAD or stale, the state is held (ALM-07).
    pub const QUALITY: &str = "quality";
    /// Cleared within seconds, unacknowledged (ALM-15).
    pub const FLEETING: &str = "fleeting";
    /// The record speaks of an earlier occurrence, not of the alarm's state now (ALM-19).
    pub const PAST_OCCURRENCE: &str = "past_occurrence";
}

/// What changed, why, and by whom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AlarmChange<'a> {
    /// Words of [`AlarmState`].
    pub from: &'a str,
    pub to: &'a str,
    pub cause: &'a str,
    pub actor: Option<&'a str>,
    pub actor_role: Option<&'a str>,
    pub comment: Option<&'a str>,
    pub command_id: Option<&'a str>,
}

/// One transition of one alarm with the state after it; field rules in `contracts/avro/alarm.v1.avsc`.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, as the contract has them (ALM-01)")]
pub struct Alarm<'a> {
    /// `gateway/asset/alarm`, stable (ALM-03).
    pub alarm_key: &'a str,
    /// One activation; acknowledgements and comments name it.
    pub occurrence_id: &'a str,
    /// Counts the records of this key.
    pub seq: i64,
    /// A word of [`AlarmKind`].
    pub kind: &'a str,
    /// A word of [`Severity`].
    pub severity: &'a str,
    pub priority: Option<i32>,
    pub asset_id: &'a str,
    pub asset_path: Option<&'a str>,
    /// `None` for the alarm of a device.
    pub parameter: Option<&'a str>,
    pub value: Value<'a>,
    pub limit: Option<f64>,
    pub unit: Option<&'a str>,
    pub quality: Quality,
    pub condition_active: bool,
    pub acked: bool,
    pub latched: bool,
    pub suppressed_by_design: bool,
    pub out_of_service: bool,
    pub enabled: bool,
    /// A word of [`AlarmState`].
    pub state: &'a str,
    /// A word of [`IsaState`].
    pub isa_state: &'a str,
    /// A word of [`SuppressionKind`].
    pub suppression_kind: Option<&'a str>,
    /// For a person: what it is, what follows, what to do.
    pub message: &'a str,
    pub consequence: Option<&'a str>,
    pub action: Option<&'a str>,
    /// First-out group and the place in it (ALM-14).
    pub group: Option<&'a str>,
    pub first_out_rank: Option<i32>,
    pub chattering: bool,
    pub change: AlarmChange<'a>,
    pub activated_at: Option<Timestamp>,
    /// When the operator pressed, not when the gateway heard of it (ALM-21).
    pub acked_at: Option<Timestamp>,
    pub cleared_at: Option<Timestamp>,
    pub shelved_until: Option<Timestamp>,
    /// Of the newest reading the alarm was judged by.
    pub device_time: Timestamp,
    pub gateway_time: Timestamp,
    /// See [`alarm_flag`].
    pub flags: TextList<'a>,
    pub config_revision: Option<&'a str>,
    /// `gateway_id`, `acked_by`, `ack_applied_at` and others.
    pub metadata: TextMap<'a>,
    pub tags: TextMap<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back_and_severities_are_ordered() {
        // ALM-01, ALM-04
        assert!(AlarmKind::ALL.iter().all(|kind| AlarmKind::parse(kind.as_str()) == Some(*kind)));
        assert!(IsaState::ALL.iter().all(|state| IsaState::parse(state.as_str()) == Some(*state)));
        assert!(Severity::Low < Severity::Medium && Severity::High < Severity::Critical);
        assert_eq!(Severity::parse("high"), None);
    }
}
