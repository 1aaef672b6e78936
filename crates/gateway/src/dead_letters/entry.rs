//! One dead letter as the index knows it, its place in the stream, and what is asked of a selection.

use std::fmt;
use std::sync::Arc;

use model::Timestamp;
use pipeline::dead_letter::{GroupKey, Status, StatusRecord};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stream::Topic;

/// The topics that are read, in the order of [`Place::topic`].
pub(super) const TOPICS: [Topic; 3] = [Topic::DlqTelemetry, Topic::DlqEvents, Topic::DlqAlarms];

/// Where a letter lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    topic: u8,
    pub partition: i32,
    pub offset: i64,
}

impl Place {
    /// `None` for a topic that holds no letters.
    pub fn new(topic: &str, partition: i32, offset: i64) -> Option<Self> {
        let topic = TOPICS.iter().position(|known| known.name() == topic)?;
        Some(Self { topic: u8::try_from(topic).ok()?, partition, offset })
    }

    pub fn topic(self) -> Topic {
        TOPICS[usize::from(self.topic)]
    }
}

/// Order of the list: by time of the first failure, then by place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Microseconds since 1970.
    pub failed_at: i64,
    pub place: Place,
}

/// The text of a page's end, `time.topic.partition.offset`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { topic, partition, offset } = self.place;
        write!(f, "{}.{topic}.{partition}.{offset}", self.failed_at)
    }
}

impl Key {
    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let failed_at = parts.next()?.parse().ok()?;
        let topic: u8 = parts.next()?.parse().ok().filter(|topic| usize::from(*topic) < TOPICS.len())?;
        let place = Place { topic, partition: parts.next()?.parse().ok()?, offset: parts.next()?.parse().ok()? };
        parts.next().is_none().then_some(Self { failed_at, place })
    }
}

/// What is remembered of a letter; its bytes stay in the stream.
#[derive(Debug, Clone)]
pub struct Entry {
    pub id: Arc<str>,
    pub reason: Arc<str>,
    pub rule: Arc<str>,
    pub adapter: Arc<str>,
    pub asset: Arc<str>,
    pub parameter: Arc<str>,
    /// Its beginning, for people.
    pub value: Option<Box<str>>,
    /// Microseconds since 1970; none where the record could not be read.
    pub device_time: Option<i64>,
    /// As the letter itself says.
    pub attempts: i32,
    /// The newest decision.
    pub decided: Option<Box<StatusRecord>>,
}

impl Entry {
    pub fn status(&self) -> Status {
        self.decided.as_ref().map_or(Status::New, |decided| decided.status)
    }

    pub fn attempts(&self) -> i32 {
        self.decided.as_ref().map_or(self.attempts, |decided| decided.attempts)
    }

    pub fn group(&self) -> GroupKey<'_> {
        GroupKey { reason: &self.reason, rule: &self.rule, adapter: &self.adapter, asset: &self.asset }
    }

    pub fn json(&self, key: Key) -> Value {
        let time = |micros: i64| Timestamp::from_micros(micros).to_string();
        json!({
            "dlq_id": &*self.id, "status": self.status().as_str(), "reason": &*self.reason, "rule_id": some(&self.rule),
            "adapter_id": some(&self.adapter), "asset_id": some(&self.asset), "parameter": some(&self.parameter),
            "value": self.value, "device_time": self.device_time.map(time), "first_failed_at": time(key.failed_at),
            "attempts": self.attempts(), "topic": key.place.topic().name(), "partition": key.place.partition,
            "offset": key.place.offset.to_string(),
            "decision": self.decided.as_deref().map(|decided| json!({
                "by": decided.by, "at": time(decided.at), "comment": decided.comment,
                "command_id": decided.command_id, "reason": decided.reason,
            })),
        })
    }
}

/// Empty names are told as null.
pub(super) fn some(name: &str) -> Option<&str> {
    (!name.is_empty()).then_some(name)
}

/// Which letters; what is absent says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asset: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// A status, or `OPEN` for those somebody has to decide about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// First failure at or after this time, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// First failure before this time, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// Which status a letter must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Any,
    /// Those that are to be decided about.
    Open,
    One(Status),
}

/// A filter whose texts are understood.
#[derive(Debug, Clone)]
pub struct Match<'f> {
    filter: &'f Filter,
    status: Wanted,
    since: i64,
    until: i64,
}

impl Filter {
    /// Understands the texts, or says which one is wrong.
    pub fn compile(&self) -> Result<Match<'_>, String> {
        let time = |name: &str, text: &Option<String>, absent: i64| match text {
            None => Ok(absent),
            Some(text) => Timestamp::parse_rfc3339(text)
                .map(Timestamp::as_micros)
                .ok_or_else(|| format!("{name}: {text:?} is not a time; write 2026-01-31T12:00:00Z")),
        };
        let status = match self.status.as_deref() {
            None => Wanted::Any,
            Some("OPEN") => Wanted::Open,
            Some(name) => Wanted::One(Status::by_name(name).ok_or_else(|| {
                let names: Vec<&str> = Status::ALL.iter().map(|status| status.as_str()).collect();
                format!("status: {name:?} is not one of OPEN, {}", names.join(", "))
            })?),
        };
        let since = time("since", &self.since, i64::MIN)?;
        Ok(Match { filter: self, status, since, until: time("until", &self.until, i64::MAX)? })
    }
}

impl Match<'_> {
    pub fn holds(&self, key: Key, entry: &Entry) -> bool {
        let same = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
        let of_status = match self.status {
            Wanted::Any => true,
            Wanted::Open => entry.status().is_open(),
            Wanted::One(status) => entry.status() == status,
        };
        of_status
            && (self.since..self.until).contains(&key.failed_at)
            && same(&self.filter.reason, &entry.reason)
            && same(&self.filter.rule, &entry.rule)
            && same(&self.filter.adapter, &entry.adapter)
            && same(&self.filter.asset, &entry.asset)
            && same(&self.filter.parameter, &entry.parameter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_page_is_read_back_and_strange_text_is_none() {
        let key = Key { failed_at: -5, place: Place::new("dlq.events", 3, 77).unwrap() };
        assert_eq!(Key::parse(&key.to_string()), Some(key));
        for strange in ["", "1.2.3", "1.9.0.0", "1.0.0.0.0", "x.0.0.0"] {
            assert_eq!(Key::parse(strange), None, "{strange}");
        }
        assert_eq!(Place::new("telemetry.raw", 0, 0), None);
    }

    #[test]
    fn a_filter_that_says_something_else_is_refused_with_its_field() {
        let wrong = |filter: Filter| filter.compile().unwrap_err();
        let at = |text: &str| Some(text.to_owned());
        assert!(wrong(Filter { since: at("yesterday"), ..Filter::default() }).starts_with("since: "));
        assert!(wrong(Filter { status: at("new"), ..Filter::default() }).contains("OPEN, NEW"));
    }
}
