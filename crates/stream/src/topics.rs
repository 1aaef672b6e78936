//! The table of topics: name, schema, partitions, retention, priority. One row per topic, used by everybody.

use kafka::client::admin::TopicPlan;

use crate::Schema;

/// Partitions of every data topic; never changed on a live gateway, since key placement and order would break (REC-10).
pub const PARTITIONS: i32 = 12;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// Who is evicted first when the disk fills (the document's overflow table).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    Low,
    Medium,
    High,
    Critical,
}

/// Every topic of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    TelemetryRaw,
    TelemetryClean,
    Telemetry1s,
    Telemetry1min,
    Telemetry1hour,
    EventsRaw,
    EventsClean,
    AlarmsRaw,
    AlarmsClean,
    DlqTelemetry,
    DlqEvents,
    DlqAlarms,
    /// Messages about alarms that nobody got.
    DlqAlerts,
    Audit,
    ControlCommands,
    ControlResults,
}

impl Topic {
    pub const ALL: [Self; 16] = [
        Self::TelemetryRaw,
        Self::TelemetryClean,
        Self::Telemetry1s,
        Self::Telemetry1min,
        Self::Telemetry1hour,
        Self::EventsRaw,
        Self::EventsClean,
        Self::AlarmsRaw,
        Self::AlarmsClean,
        Self::DlqTelemetry,
        Self::DlqEvents,
        Self::DlqAlarms,
        Self::DlqAlerts,
        Self::Audit,
        Self::ControlCommands,
        Self::ControlResults,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::TelemetryRaw => "telemetry.raw",
            Self::TelemetryClean => "telemetry.clean",
            Self::Telemetry1s => "telemetry.1s",
            Self::Telemetry1min => "telemetry.1min",
            Self::Telemetry1hour => "telemetry.1hour",
            Self::EventsRaw => "events.raw",
            Self::EventsClean => "events.clean",
            Self::AlarmsRaw => "alarms.raw",
            Self::AlarmsClean => "alarms.clean",
            Self::DlqTelemetry => "dlq.telemetry",
            Self::DlqEvents => "dlq.events",
            Self::DlqAlarms => "dlq.alarms",
            Self::DlqAlerts => "dlq.alerts",
            Self::Audit => "audit",
            Self::ControlCommands => "control.commands",
            Self::ControlResults => "control.results",
        }
    }

    /// The topic with this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.name() == name)
    }

    /// What its records are.
    pub const fn schema(self) -> Schema {
        match self {
            Self::TelemetryRaw | Self::TelemetryClean => Schema::Telemetry,
            Self::Telemetry1s | Self::Telemetry1min | Self::Telemetry1hour => Schema::Aggregate,
            Self::EventsRaw | Self::EventsClean | Self::Audit | Self::ControlCommands | Self::ControlResults => {
                Schema::Event
            }
            Self::AlarmsRaw | Self::AlarmsClean => Schema::Alarm,
            Self::DlqTelemetry | Self::DlqEvents | Self::DlqAlarms | Self::DlqAlerts => Schema::DeadLetter,
        }
    }

    /// The registry's subject (REC-04).
    pub fn subject(self) -> String {
        format!("{}-value", self.name())
    }

    pub const fn priority(self) -> Priority {
        match self {
            Self::TelemetryRaw | Self::TelemetryClean => Priority::Low,
            Self::Telemetry1s => Priority::Medium,
            Self::Telemetry1min | Self::Telemetry1hour | Self::EventsRaw | Self::EventsClean => Priority::High,
            Self::AlarmsRaw
            | Self::AlarmsClean
            | Self::DlqTelemetry
            | Self::DlqEvents
            | Self::DlqAlarms
            | Self::DlqAlerts
            | Self::Audit
            | Self::ControlCommands
            | Self::ControlResults => Priority::Critical,
        }
    }

    /// How long records are kept at least; `None` is for ever (OFF-10).
    pub const fn retention_ms(self) -> Option<i64> {
        match self {
            Self::TelemetryRaw => Some(7 * DAY_MS),
            Self::AlarmsRaw | Self::AlarmsClean | Self::Audit => None,
            _ => Some(45 * DAY_MS),
        }
    }

    /// The settings it is created with.
    pub fn plan(self) -> TopicPlan {
        let setting = |key: &str, value: String| (key.to_owned(), value);
        TopicPlan {
            name: self.name().to_owned(),
            partitions: PARTITIONS,
            config: vec![
                setting("cleanup.policy", "delete".to_owned()),
                setting("retention.ms", self.retention_ms().unwrap_or(-1).to_string()),
                setting("segment.ms", DAY_MS.to_string()),
                setting("segment.bytes", (32 * 1024 * 1024).to_string()),
            ],
        }
    }
}

/// Topics of the runtime's own memory: compacted, so that the newest record of every key stays (REC-09).
///
/// What is in them is nobody else's business and no contract; they have no schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateTopic {
    /// What the validator and the alarms remember, by asset.
    Validator,
    /// What became of every dead letter somebody decided about (VAL-41).
    DeadLetters,
}

impl StateTopic {
    pub const ALL: [Self; 2] = [Self::Validator, Self::DeadLetters];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Validator => "_sf.state.validator",
            Self::DeadLetters => "_sf.state.dlq",
        }
    }

    /// The settings it is created with.
    pub fn plan(self) -> TopicPlan {
        let setting = |key: &str, value: String| (key.to_owned(), value);
        TopicPlan {
            name: self.name().to_owned(),
            partitions: PARTITIONS,
            config: vec![
                setting("cleanup.policy", "compact".to_owned()),
                setting("segment.ms", DAY_MS.to_string()),
                setting("segment.bytes", (16 * 1024 * 1024).to_string()),
            ],
        }
    }
}

/// Every topic a gateway creates.
pub fn plans() -> Vec<TopicPlan> {
    Topic::ALL.iter().map(|topic| topic.plan()).chain(StateTopic::ALL.iter().map(|topic| topic.plan())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_is_found_by_its_name_once() {
        for topic in Topic::ALL {
            assert_eq!(Topic::by_name(topic.name()), Some(topic));
        }
    }

    #[test]
    fn alarms_and_audit_are_kept_for_ever_and_go_last() {
        // OFF-10, the document's overflow table
        for topic in [Topic::AlarmsClean, Topic::Audit] {
            assert_eq!(topic.retention_ms(), None);
            assert_eq!(topic.priority(), Priority::Critical);
        }
        assert!(Topic::TelemetryRaw.priority() < Topic::Telemetry1s.priority());
    }
}
