//! What the router keeps of an alarm record, and what the record means to people.

use model::{Alarm, AlarmState, Severity, Timestamp, Value, alarm_flag};
use serde::{Deserialize, Serialize};

/// Causes with which a condition comes; any other announcement speaks of an occurrence that was announced before.
const COMING: [&str; 9] =
    ["limit", "deviation", "rate", "mismatch", "quality", "stale", "communication", "condition", "system"];

/// What happened to an alarm, as routes ask for it (RTE-01).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    Activated,
    /// The same occurrence is announced again: it was off the shelf, or nobody acknowledged it.
    Repeated,
    Acked,
    Cleared,
    /// Nobody acknowledged it in time; the router's own.
    Escalated,
    Shelved,
}

impl Transition {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Activated => "activated",
            Self::Repeated => "repeated",
            Self::Acked => "acked",
            Self::Cleared => "cleared",
            Self::Escalated => "escalated",
            Self::Shelved => "shelved",
        }
    }

    /// Is somebody called, rather than told how it went on?
    pub const fn is_call(self) -> bool {
        matches!(self, Self::Activated | Self::Repeated | Self::Escalated)
    }

    /// The transition that an alarm record tells people about; `None` for one that only the journal needs.
    pub fn of(alarm: &Alarm<'_>) -> Option<Self> {
        let has = |flag: &str| alarm.flags.iter().any(|own| own == flag);
        let change = alarm.change;
        if has(alarm_flag::ANNUNCIATE) {
            return Some(if COMING.contains(&change.cause) { Self::Activated } else { Self::Repeated });
        }
        match change.cause {
            "ack" => Some(Self::Acked),
            "shelve" | "suppress" => Some(Self::Shelved),
            _ if has(alarm_flag::PAST_OCCURRENCE) => None,
            _ => (change.to == AlarmState::Cleared.as_str() && change.from != change.to).then_some(Self::Cleared),
        }
    }
}

/// An alarm as messages show it. Times are microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    pub key: String,
    pub occurrence: String,
    pub seq: i64,
    pub kind: String,
    #[serde(with = "severity_word")]
    pub severity: Severity,
    pub asset: String,
    pub path: Option<String>,
    pub area: Option<String>,
    pub parameter: Option<String>,
    pub value: serde_json::Value,
    pub limit: Option<f64>,
    pub unit: Option<String>,
    pub quality: String,
    pub state: String,
    /// Speaks of an earlier occurrence; says nothing about the alarm now.
    pub past: bool,
    pub acked: bool,
    pub message: String,
    pub consequence: Option<String>,
    pub action: Option<String>,
    pub group: Option<String>,
    pub chattering: bool,
    pub cause: String,
    pub actor: Option<String>,
    pub comment: Option<String>,
    pub activated_at: Option<i64>,
    pub acked_at: Option<i64>,
    pub acked_by: Option<String>,
    pub cleared_at: Option<i64>,
    pub shelved_until: Option<i64>,
    /// When the gateway wrote the record.
    pub at: i64,
    /// Where the record stands in `alarms.clean`.
    pub partition: i32,
    pub offset: i64,
}

impl Notice {
    /// From a record at its place in `alarms.clean`.
    pub fn of(alarm: &Alarm<'_>, partition: i32, offset: i64) -> Self {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let micros = |at: Option<Timestamp>| at.map(Timestamp::as_micros);
        let named = |map: &model::TextMap<'_>, name: &str| {
            map.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        };
        Self {
            key: alarm.alarm_key.to_owned(),
            occurrence: alarm.occurrence_id.to_owned(),
            seq: alarm.seq,
            kind: alarm.kind.to_owned(),
            // an unknown word is a newer one: better called too often than not at all
            severity: Severity::parse(alarm.severity).unwrap_or(Severity::Critical),
            asset: alarm.asset_id.to_owned(),
            path: owned(alarm.asset_path),
            area: named(&alarm.tags, "area"),
            parameter: owned(alarm.parameter),
            value: json_value(alarm.value),
            limit: alarm.limit,
            unit: owned(alarm.unit),
            quality: alarm.quality.as_str().to_owned(),
            state: alarm.state.to_owned(),
            past: alarm.flags.iter().any(|flag| flag == alarm_flag::PAST_OCCURRENCE),
            acked: alarm.acked,
            message: alarm.message.to_owned(),
            consequence: owned(alarm.consequence),
            action: owned(alarm.action),
            group: owned(alarm.group),
            chattering: alarm.chattering,
            cause: alarm.change.cause.to_owned(),
            actor: owned(alarm.change.actor),
            comment: owned(alarm.change.comment),
            activated_at: micros(alarm.activated_at),
            acked_at: micros(alarm.acked_at),
            acked_by: named(&alarm.metadata, "acked_by"),
            cleared_at: micros(alarm.cleared_at),
            shelved_until: micros(alarm.shelved_until),
            at: alarm.gateway_time.as_micros(),
            partition,
            offset,
        }
    }

    /// The condition stands, or is latched, and nobody hides it.
    pub fn is_standing(&self) -> bool {
        let words = [AlarmState::Active.as_str(), AlarmState::Acknowledged.as_str()];
        !self.past && words.contains(&self.state.as_str())
    }

    pub fn is_suppressed(&self) -> bool {
        self.state == AlarmState::Suppressed.as_str()
    }

    /// Areas of the plant for globs and grouping: the asset's path, or the area of the rule.
    pub fn place(&self) -> &str {
        self.path.as_deref().or(self.area.as_deref()).unwrap_or_default()
    }

    /// Fields that messages are grouped by; empty for one that the alarm does not have.
    pub fn field(&self, name: &str) -> &str {
        match name {
            "area" => self.place(),
            "asset" => &self.asset,
            "parameter" => self.parameter.as_deref().unwrap_or_default(),
            "group" => self.group.as_deref().unwrap_or_default(),
            "severity" => self.severity.as_str(),
            "type" => &self.kind,
            _ => "",
        }
    }

    /// Fields that [`Notice::field`] knows.
    pub const FIELDS: [&'static str; 6] = ["area", "asset", "parameter", "group", "severity", "type"];
}

fn json_value(value: Value<'_>) -> serde_json::Value {
    stream::message::json::value(value)
}

mod severity_word {
    use model::Severity;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
    pub(super) fn serialize<S: Serializer>(severity: &Severity, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(severity.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Severity, D::Error> {
        let word = String::deserialize(from)?;
        Severity::parse(&word).ok_or_else(|| serde::de::Error::custom(format!("{word:?} is not a severity")))
    }
}
