//! The settings every sink has: who it is, what it reads and where the stream is.

use config::{Kind, Object};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stream::Topic;

/// A reference to a secret: `{"secret": "name"}`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretReference {
    /// Name of the secret in the gateway's secret store.
    pub secret: String,
}

/// As read; the id is normalised already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Common {
    pub sink_id: String,
    pub topics: Vec<Topic>,
    /// `host:port[,host:port]`; handed in by whoever starts the process, so it may be absent in a document.
    pub kafka_bootstrap: Option<String>,
    pub schema_registry: Option<String>,
}

impl Common {
    /// Reads the common keys of a sink's settings; `allowed` are the topics this type of sink can write.
    pub fn read(object: &mut Object<'_>, allowed: &[Topic], defaults: &[Topic]) -> Self {
        let sink_id = match object.required_text(Kind::Sink.id_key()).map(model::ids::normalise) {
            Some(Ok(name)) => name,
            Some(Err(invalid)) => {
                object.problem(Kind::Sink.id_key(), "bad_name", invalid.reason, "");
                String::new()
            }
            None => String::new(),
        };
        object.required_text(Kind::Sink.type_key());
        let topics = topics(object, allowed).unwrap_or_else(|| defaults.to_vec());
        Self {
            sink_id,
            topics,
            kafka_bootstrap: object.text("kafka_bootstrap").map(str::to_owned),
            schema_registry: object.text("schema_registry").map(str::to_owned),
        }
    }
}

fn topics(object: &mut Object<'_>, allowed: &[Topic]) -> Option<Vec<Topic>> {
    let list = object.list("topics")?;
    let names: Vec<&str> = allowed.iter().map(|topic| topic.name()).collect();
    let mut topics = Vec::new();
    for (i, value) in list.iter().enumerate() {
        let key = format!("topics/{i}");
        let topic = value.as_str().and_then(Topic::by_name).filter(|topic| allowed.contains(topic));
        match topic {
            Some(topic) if topics.contains(&topic) => {
                report(object, &key, "duplicate", "is listed twice".to_owned(), String::new());
            }
            Some(topic) => topics.push(topic),
            None => {
                let hint = value.as_str().map(|text| config::read::suggest(text, &names)).unwrap_or_default();
                report(object, &key, "unknown_topic", format!("{value} is not one of {}", names.join(", ")), hint);
            }
        }
    }
    if list.is_empty() {
        object.problem("topics", "empty", "names no topic", "leave it out for the default");
    }
    Some(topics)
}

/// Like [`Object::problem`] for a place below a key: its slash must not be escaped.
fn report(object: &mut Object<'_>, path: &str, code: &'static str, message: String, hint: String) {
    let (key, rest) = path.split_once('/').unwrap_or((path, ""));
    let pointer = format!("{}/{rest}", object.at(key));
    object.extend([config::Problem::new(pointer, code, message, hint)]);
}

/// A whole number within `min..=max`, or the default.
pub fn limit<T: TryFrom<i64>>(object: &mut Object<'_>, key: &'static str, min: i64, max: i64, default: T) -> T {
    object.integer(key, min, max).and_then(|number| T::try_from(number).ok()).unwrap_or(default)
}

/// A reference to a secret, when there is one.
pub fn secret(object: &mut Object<'_>, key: &'static str) -> Option<String> {
    let value = object.value(key)?;
    match config::SecretRef::read(value, &object.at(key)) {
        Ok(reference) => Some(reference.0),
        Err(problem) => {
            object.extend([problem]);
            None
        }
    }
}
