//! Listening to a broker for a while: which topics there are, how often they come, what is in them (MQTT page of ui 1.4).
//!
//! The session is clean and ends with the look; nothing is acknowledged that an adapter would miss, nothing is published.
//! Memory is bounded, whoever sends: topics, their names, and what is kept of each.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::codes;
use super::packet::Message;
use super::probe::payload;
use super::shape::{Kind, Shape};
use super::topic;
use super::visit::{Guest, Heard, Visit};
use crate::commission::stages::{Course, Report, Words};
use crate::commission::text::shown;

/// Topics that may be kept at most, whatever is asked for.
pub const TOPICS_MAX: usize = 10_000;
/// A topic with a longer name is counted and not kept.
const NAME_MAX: usize = 1024;
/// Fields of all topics together; on more the shapes of further topics are not looked into.
const FIELDS_TOTAL_MAX: usize = 50_000;
/// Messages of a topic that are looked into.
const LOOKED_INTO: u64 = 20;
/// Letters of the last payload that are kept.
const PAYLOAD_SHOWN: usize = 100;
/// Width of the tree.
const TREE_WIDTH: usize = 40;

/// What was heard.
#[derive(Debug)]
pub struct Listened {
    pub filter: String,
    pub time: Duration,
    pub version: &'static str,
    pub topics: BTreeMap<String, Topic>,
    limit: usize,
    /// Messages to topics that are not kept.
    pub beyond: u64,
    /// Messages larger than we take.
    pub too_large: u64,
    fields: usize,
    /// The broker hung up before the time was over.
    pub ended: Option<String>,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Topic {
    /// As they came; what the broker had kept is not among them.
    pub count: u64,
    pub retained: u64,
    pub last: String,
    pub shape: Option<Shape>,
}

/// Listens.
pub async fn listen(guest: &Guest, filter: &str, time: Duration, limit: usize) -> Result<Listened, Report> {
    let target = guest.plan.target();
    let mut quiet = |_: &_| {};
    let mut course = Course::new(&mut quiet);
    let fail = |name, words: Words, mut course: Course<'_>| {
        let _failed = course.fail(name, words);
        course.finish(&target)
    };
    if let Some(fault) = topic::fault_of_filter(filter) {
        let words = Words::new(format!("the filter {} {fault}", shown(filter, 200)));
        return Err(fail("filter", words.hint("+ stands for one level, # for everything below"), course));
    }
    let Ok(mut visit) = guest.enter(&mut course).await else { return Err(course.finish(&target)) };
    let mut listened = Listened::new(filter, time, visit.version.as_str(), limit);
    let heard = hear(&mut visit, filter, &mut listened).await;
    visit.leave().await;
    match heard {
        Ok(()) => Ok(listened),
        Err(words) => Err(fail("subscribe", words, course)),
    }
}

async fn hear(visit: &mut Visit, filter: &str, listened: &mut Listened) -> Result<(), Words> {
    visit.subscribe(filter, 0).map_err(|error| Words::new(daemon::report(&error)))?;
    let deadline = Instant::now() + listened.time;
    let mut granted = false;
    loop {
        match visit.next(deadline).await {
            Ok(Some(Heard::Message(message))) => listened.take(&message),
            Ok(Some(Heard::TooLarge { .. })) => listened.too_large += 1,
            Ok(Some(Heard::Subscribed(Ok(_)))) => granted = true,
            Ok(Some(Heard::Subscribed(Err(code)))) => {
                let words = Words::new(format!("{} is refused: {code}", shown(filter, 200)));
                return Err(words.hint(codes::subscription(&code)));
            }
            Ok(Some(Heard::Goodbye(reason))) => listened.ended = Some(shown(&reason, 200)),
            Ok(None) => return Ok(()),
            Err(error) if granted => {
                listened.ended.get_or_insert_with(|| daemon::report(&error));
                return Ok(());
            }
            Err(error) => {
                let hint = "some brokers hang up on a filter that the user may not read: look at the access list";
                return Err(Words::new(daemon::report(&error)).hint(hint));
            }
        }
    }
}

impl Listened {
    pub fn new(filter: &str, time: Duration, version: &'static str, limit: usize) -> Self {
        Self {
            filter: filter.to_owned(),
            time,
            version,
            topics: BTreeMap::new(),
            limit: limit.clamp(1, TOPICS_MAX),
            beyond: 0,
            too_large: 0,
            fields: 0,
            ended: None,
        }
    }

    /// Takes a message into account.
    pub fn take(&mut self, message: &Message) {
        let is_new = !self.topics.contains_key(&message.topic);
        if is_new && (self.topics.len() >= self.limit || message.topic.len() > NAME_MAX) {
            self.beyond += 1;
            return;
        }
        let heard = self.topics.entry(message.topic.clone()).or_default();
        if message.retain {
            heard.retained += 1;
        } else {
            heard.count += 1;
        }
        heard.last = payload(&message.payload, PAYLOAD_SHOWN);
        if heard.count + heard.retained > LOOKED_INTO || self.fields >= FIELDS_TOTAL_MAX {
            return;
        }
        let Some(shape) = Shape::of(&message.topic, &message.payload) else { return };
        let before = heard.shape.as_ref().map_or(0, |shape| shape.fields.len());
        match &mut heard.shape {
            Some(known) => known.join(shape),
            None => heard.shape = Some(shape),
        }
        let after = heard.shape.as_ref().map_or(0, |shape| shape.fields.len());
        self.fields = (self.fields + after).saturating_sub(before);
    }

    /// Messages a second.
    fn rate(&self, topic: &Topic) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
        let count = topic.count as f64;
        count / self.time.as_secs_f64().max(0.001)
    }

    /// For scripts.
    pub fn to_json(&self) -> Value {
        let field = |(path, field): (&String, &super::shape::Field)| {
            json!({ "path": path, "type": field.holds.type_name(), "example": field.example, "unit": field.unit,
                "time": match field.holds { super::shape::Holds::Time(format) => Some(format), _ => None } })
        };
        let topic = |(name, topic): (&String, &Topic)| {
            let fields = topic.shape.iter().flat_map(|shape| shape.fields.iter().map(field));
            json!({
                "topic": name,
                "count": topic.count,
                "retained": topic.retained,
                "per_second": self.rate(topic),
                "last": topic.last,
                "payload": topic.shape.as_ref().map(|shape| shape.kind.as_str()),
                "fields": fields.collect::<Vec<_>>(),
            })
        };
        json!({
            "filter": self.filter,
            "seconds": self.time.as_secs(),
            "version": self.version,
            "topics": self.topics.iter().map(topic).collect::<Vec<_>>(),
            "beyond_limit": self.beyond,
            "too_large": self.too_large,
            "ended": self.ended,
        })
    }

    /// What a person should know beside the tree.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.topics.is_empty() {
            let (filter, seconds) = (shown(&self.filter, 200), self.time.as_secs());
            notes.push(format!(
                "no message to {filter} in {seconds} s: another filter, or nobody sends and nothing is retained"
            ));
        }
        if self.beyond > 0 {
            let (beyond, limit) = (self.beyond, self.limit);
            notes.push(format!("{beyond} messages to further topics: {limit} are kept; --topics takes up to {TOPICS_MAX}, or use a narrower filter"));
        }
        if self.too_large > 0 {
            notes.push(format!("{} messages were too large to be taken", self.too_large));
        }
        if self.fields >= FIELDS_TOTAL_MAX {
            notes.push(format!("{FIELDS_TOTAL_MAX} fields are known: further topics were not looked into"));
        }
        if let Some(why) = &self.ended {
            notes.push(format!("the broker ended the connection early: {why}"));
        }
        notes
    }
}

impl fmt::Display for Listened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.time.as_secs();
        write!(f, "{} topics in {seconds} s (version {})", self.topics.len(), self.version)?;
        let mut above: Vec<&str> = Vec::new();
        for (name, topic) in &self.topics {
            let levels: Vec<&str> = name.split('/').collect();
            let common = above.iter().zip(&levels).take_while(|(one, two)| one == two).count();
            let common = common.min(levels.len() - 1);
            for (depth, level) in levels.iter().enumerate().skip(common) {
                let name = format!("{:indent$}{}", "", shown(level, 60), indent = 2 * depth);
                if depth + 1 < levels.len() {
                    write!(f, "\n{name}/")?;
                    continue;
                }
                let kept = if topic.retained > 0 { " retained" } else { "" };
                let kind = topic.shape.as_ref().map_or("empty", |shape| shape.kind.as_str());
                let count = format!("x{}", topic.count + topic.retained);
                let rate = format!("{:.1}/s", self.rate(topic));
                write!(f, "\n{name:TREE_WIDTH$} {count:>7} {rate:>8}  {kind:9}{kept}  {}", topic.last)?;
            }
            above = levels;
        }
        Ok(())
    }
}

/// True for what a topic of these can be configured from.
pub fn is_mappable(topic: &Topic) -> bool {
    let kind = topic.shape.as_ref().map(|shape| shape.kind);
    matches!(kind, Some(Kind::Json | Kind::Number | Kind::Boolean | Kind::Text))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use bytes::Bytes;

    pub(crate) fn message(topic: &str, payload: &[u8], retain: bool) -> Message {
        Message {
            topic: topic.to_owned(),
            payload: Bytes::copy_from_slice(payload),
            qos: 0,
            id: 0,
            dup: false,
            retain,
            content_type: None,
            user: Vec::new(),
            subscriptions: Vec::new(),
        }
    }

    // ui 1.4; G-11
    #[test]
    fn topics_are_a_tree_with_counts_and_rates() {
        let mut listened = Listened::new("#", Duration::from_secs(10), "5", 100);
        for _ in 0..25 {
            listened.take(&message("plant/press/t", b"21.5", false));
        }
        listened.take(&message("plant/press/state", b"{\"on\":true}", true));
        listened.take(&message("a\u{1b}[2J", b"\x1b", false));
        let text = listened.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "3 topics in 10 s (version 5)");
        assert!(lines[1].starts_with("a\\u001b[2J ") && lines[1].ends_with("\\u001b"), "{text}");
        assert_eq!((lines[2], lines[3]), ("plant/", "  press/"));
        assert!(
            lines[4].starts_with("    state ") && lines[4].contains("json") && lines[4].contains("retained"),
            "{text}"
        );
        assert!(lines[5].starts_with("    t ") && lines[5].contains("x25    2.5/s  number"), "{text}");
        assert_eq!(listened.to_json()["topics"][2]["per_second"], 2.5);
    }

    // G-05: the limit is named when it is reached
    #[test]
    fn a_flood_of_topics_is_counted_and_not_kept() {
        let mut listened = Listened::new("#", Duration::from_secs(1), "5", 50);
        for number in 0..1000 {
            listened.take(&message(&format!("t/{number}"), b"1", false));
        }
        listened.take(&message(&"x".repeat(NAME_MAX + 1), b"1", false));
        assert_eq!((listened.topics.len(), listened.beyond), (50, 951));
        let notes = listened.notes().join("\n");
        assert!(notes.contains("951 messages to further topics: 50 are kept; --topics"), "{notes}");
        let fields: Vec<String> = (0..=super::super::shape::FIELDS_MAX).map(|n| format!("\"k{n}\":1")).collect();
        let payload = format!("{{{}}}", fields.join(","));
        let mut listened = Listened::new("#", Duration::from_secs(1), "5", TOPICS_MAX);
        for number in 0..600 {
            listened.take(&message(&format!("t/{number}"), payload.as_bytes(), false));
        }
        let known: usize =
            listened.topics.values().flat_map(|topic| &topic.shape).map(|shape| shape.fields.len()).sum();
        assert_eq!(known, FIELDS_TOTAL_MAX);
        assert!(listened.notes()[0].contains("were not looked into"), "{:?}", listened.notes());
    }
}
