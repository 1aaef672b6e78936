//! What payloads are: JSON with fields, a number, a word, Sparkplug B, or something else.
//!
//! Pure. Guesses for a person who then decides; the adapter itself never guesses (MQ-13). Payloads of strangers: what is
//! looked at, and what is kept of it, is bounded.

use std::collections::BTreeMap;

use serde_json::Value;

use super::sparkplug::metric::value_type;
use super::sparkplug::payload::{datatype, decode};
use super::value::Conversion;
use crate::commission::text::shown;

/// Larger payloads are not looked into.
pub const LOOKED_INTO_MAX: usize = 256 * 1024;
/// Fields that are kept of a topic; further ones are counted.
pub const FIELDS_MAX: usize = 100;
/// A field whose path is longer is left out.
const PATH_MAX: usize = 256;
/// Elements of a list that are looked at.
const ELEMENTS_MAX: usize = 4;
/// Letters of an example.
const EXAMPLE_SHOWN: usize = 40;
/// Stamps are believed from 2015 to 2045.
const YEARS: std::ops::Range<i64> = 1_420_070_400..2_366_841_600;

/// What the payloads of a topic are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Json,
    Number,
    Boolean,
    Text,
    Sparkplug,
    /// No text, and nothing that is known.
    Bytes,
    /// The topics' payloads differ, or are too large to be looked into.
    Mixed,
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Text => "text",
            Self::Sparkplug => "sparkplug",
            Self::Bytes => "bytes",
            Self::Mixed => "mixed",
        }
    }
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    Float,
    Int,
    Bool,
    Text,
    /// A number in quotes; only with `coerce` it is one.
    NumberInText,
    /// Always null so far.
    Null,
    /// A stamp, in this format.
    Time(&'static str),
}

impl Holds {
    /// Type of the point.
    pub const fn type_name(self) -> Option<&'static str> {
        match self {
            Self::Float | Self::NumberInText => Some("float"),
            Self::Int => Some("int"),
            Self::Bool => Some("bool"),
            Self::Text => Some("string"),
            Self::Null | Self::Time(_) => None,
        }
    }

    /// For both of two messages.
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (one, two) if one == two => one,
            (Self::Null, one) | (one, Self::Null) => one,
            (Self::Time(_), Self::Int) | (Self::Int, Self::Time(_)) => Self::Int,
            (Self::Float, Self::Int | Self::Time(_)) | (Self::Int | Self::Time(_), Self::Float) => Self::Float,
            _ => Self::Text,
        }
    }
}

/// A place in the payload, or a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub holds: Holds,
    pub example: String,
    pub unit: Option<String>,
}

/// What is known of the payloads of a topic, or of several.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    pub kind: Kind,
    /// By JSON Pointer, or by the name of the metric.
    pub fields: BTreeMap<String, Field>,
    /// Fields beyond [`FIELDS_MAX`], or with a path that is too long.
    pub further: usize,
}

impl Shape {
    fn plain(kind: Kind) -> Self {
        Self { kind, fields: BTreeMap::new(), further: 0 }
    }

    /// Looks into a payload; none for one without content.
    pub fn of(topic: &str, payload: &[u8]) -> Option<Self> {
        if payload.is_empty() {
            return None;
        }
        if payload.len() > LOOKED_INTO_MAX {
            return Some(Self::plain(Kind::Mixed));
        }
        if topic.starts_with("spBv1.0/")
            && let Some(shape) = Self::sparkplug(payload)
        {
            return Some(shape);
        }
        let Ok(text) = std::str::from_utf8(payload) else { return Some(Self::plain(Kind::Bytes)) };
        let text = text.trim_start_matches('\u{FEFF}').trim();
        if text.starts_with(['{', '['])
            && let Ok(value) = serde_json::from_str::<Value>(text)
        {
            let mut shape = Self::plain(Kind::Json);
            shape.walk("", &value);
            return Some(shape);
        }
        let words = Conversion::default();
        let is_word = |words: &[String]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
        Some(Self::plain(if text.parse::<f64>().is_ok_and(f64::is_finite) {
            Kind::Number
        } else if is_word(&words.true_words) || is_word(&words.false_words) {
            Kind::Boolean
        } else if text.chars().any(|letter| letter.is_control() && !letter.is_whitespace()) {
            Kind::Bytes
        } else {
            Kind::Text
        }))
    }

    fn sparkplug(payload: &[u8]) -> Option<Self> {
        let payload = decode(payload).ok()?;
        let mut shape = Self::plain(Kind::Sparkplug);
        for metric in &payload.metrics {
            // what has no name has only an alias, which means nothing without its birth
            let (Some(name), Some(kind)) = (metric.name, metric.datatype) else { continue };
            let holds = match value_type(kind) {
                Some(model::ValueType::Float) => Holds::Float,
                Some(model::ValueType::Int) if kind == datatype::DATE_TIME => Holds::Time("epoch_ms"),
                Some(model::ValueType::Int) => Holds::Int,
                Some(model::ValueType::Bool) => Holds::Bool,
                Some(_) => Holds::Text,
                None => continue,
            };
            let unit = metric.unit.map(|unit| unit.chars().take(32).collect());
            shape.put(name.to_owned(), Field { holds, example: String::new(), unit });
        }
        Some(shape)
    }

    fn put(&mut self, path: String, field: Field) {
        let is_new = !self.fields.contains_key(&path);
        if path.len() > PATH_MAX || (is_new && self.fields.len() >= FIELDS_MAX) {
            self.further += 1;
            return;
        }
        match self.fields.get_mut(&path) {
            Some(known) => {
                known.holds = known.holds.with(field.holds);
                known.unit = field.unit.or(known.unit.take());
                known.example = field.example;
            }
            None => drop(self.fields.insert(path, field)),
        }
    }

    fn walk(&mut self, path: &str, value: &Value) {
        // neither deep nor broad nonsense is walked to its end
        if path.len() > PATH_MAX || self.further > 10 * FIELDS_MAX {
            self.further += 1;
            return;
        }
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    // such a key would be read as the place in a list
                    if key == "*" || key.parse::<usize>().is_ok() {
                        self.further += 1;
                        continue;
                    }
                    self.walk(&format!("{path}/{}", key.replace('~', "~0").replace('/', "~1")), value);
                }
            }
            Value::Array(list) => {
                for (place, value) in list.iter().take(ELEMENTS_MAX).enumerate() {
                    self.walk(&format!("{path}/{place}"), value);
                }
                self.further += list.len().saturating_sub(ELEMENTS_MAX);
            }
            leaf => {
                let example = match leaf {
                    Value::String(text) => shown(text, EXAMPLE_SHOWN),
                    other => shown(&other.to_string(), EXAMPLE_SHOWN),
                };
                self.put(path.to_owned(), Field { holds: holds(path, leaf), example, unit: None });
            }
        }
    }

    /// Takes another message of the topic, or another topic, into account.
    pub fn join(&mut self, other: Self) {
        self.further = self.further.max(other.further);
        if self.kind == other.kind {
            for (path, field) in other.fields {
                self.put(path, field);
            }
            return;
        }
        self.kind = match (self.kind, other.kind) {
            // 0 and 1 are words as well as numbers
            (Kind::Number, Kind::Boolean) | (Kind::Boolean, Kind::Number) => Kind::Number,
            (Kind::Number | Kind::Boolean | Kind::Text, Kind::Number | Kind::Boolean | Kind::Text) => Kind::Text,
            _ => Kind::Mixed,
        };
        self.fields.clear();
    }
}

/// What a value is, with a guess whether it is a stamp: by its size, and by what it is called.
fn holds(path: &str, value: &Value) -> Holds {
    let name = path.rsplit('/').next().unwrap_or_default().to_lowercase();
    let is_called_so = ["time", "stamp", "date", "epoch"].iter().any(|word| name.contains(word))
        || ["ts", "t", "at", "when", "_ts"].iter().any(|word| name == *word || name.ends_with("_ts"));
    match value {
        Value::Null => Holds::Null,
        Value::Bool(_) => Holds::Bool,
        Value::Number(number) => match number.as_i64() {
            Some(whole) => match epoch(whole).filter(|_| is_called_so) {
                Some(format) => Holds::Time(format),
                None => Holds::Int,
            },
            None if number.is_u64() => Holds::Int,
            None => Holds::Float,
        },
        Value::String(text) if chrono::DateTime::parse_from_rfc3339(text).is_ok() => Holds::Time("rfc3339"),
        Value::String(text) if text.trim().parse::<f64>().is_ok_and(f64::is_finite) => Holds::NumberInText,
        _ => Holds::Text,
    }
}

/// The format of a number that may be a stamp (MQ-13).
fn epoch(number: i64) -> Option<&'static str> {
    [("epoch_s", 1), ("epoch_ms", 1000), ("epoch_us", 1_000_000), ("epoch_ns", 1_000_000_000)]
        .into_iter()
        .find(|(_, unit)| YEARS.contains(&(number / unit)))
        .map(|(format, _)| format)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(payload: &str) -> Kind {
        Shape::of("t", payload.as_bytes()).unwrap().kind
    }

    // MQ-14
    #[test]
    fn what_a_payload_is() {
        assert_eq!(kind(" 23.5\n"), Kind::Number);
        assert_eq!(
            (kind("ON"), kind("hello"), kind("{\"a\":1}"), kind("{torn")),
            (Kind::Boolean, Kind::Text, Kind::Json, Kind::Text)
        );
        assert_eq!((kind("NaN"), kind("a\u{1b}b")), (Kind::Text, Kind::Bytes));
        assert_eq!(Shape::of("t", b""), None);
        assert_eq!(Shape::of("t", &[0xFF, 0]).unwrap().kind, Kind::Bytes);
        assert_eq!(Shape::of("t", &vec![b'1'; LOOKED_INTO_MAX + 1]).unwrap().kind, Kind::Mixed);
    }

    // MQ-12, MQ-13
    #[test]
    fn fields_with_types_and_stamps() {
        let text = r#"{"ts":1769680800123,"when":"2026-01-29T10:00:00Z","t":21.5,"n":3,"on":true,"s":"x","q":"7.5",
            "nil":null,"a/b":{"c~d":1},"list":[{"v":1},{"v":2}],"id":1769680800}"#;
        let shape = Shape::of("t", text.as_bytes()).unwrap();
        let holds = |path: &str| shape.fields[path].holds;
        assert_eq!((holds("/ts"), holds("/when")), (Holds::Time("epoch_ms"), Holds::Time("rfc3339")));
        assert_eq!(
            (holds("/t"), holds("/n"), holds("/on"), holds("/s")),
            (Holds::Float, Holds::Int, Holds::Bool, Holds::Text)
        );
        assert_eq!((holds("/q"), holds("/nil")), (Holds::NumberInText, Holds::Null));
        assert_eq!((holds("/a~1b/c~0d"), holds("/list/1/v")), (Holds::Int, Holds::Int));
        assert_eq!(holds("/id"), Holds::Int, "a number is a stamp only if it is called so");
        for path in shape.fields.keys() {
            assert!(super::super::json::path(path).is_ok(), "{path}");
        }
        assert_eq!(epoch(1_769_680_800), Some("epoch_s"));
        assert_eq!((epoch(1_769_680_800_123_456), epoch(12)), (Some("epoch_us"), None));
    }

    // G-05
    #[test]
    fn what_is_kept_of_a_payload_is_bounded() {
        let many: Vec<String> = (0..5000).map(|n| format!("\"k{n}\":{n}")).collect();
        let shape = Shape::of("t", format!("{{{}}}", many.join(",")).as_bytes()).unwrap();
        assert_eq!(shape.fields.len(), FIELDS_MAX);
        assert!(shape.further > 0);
        let deep = format!("{}1{}", "{\"long_key\":".repeat(100), "}".repeat(100));
        assert!(Shape::of("t", deep.as_bytes()).unwrap().fields.is_empty());
    }

    #[test]
    fn messages_of_a_topic_are_joined() {
        let mut shape = Shape::of("t", br#"{"v":1,"n":null}"#).unwrap();
        shape.join(Shape::of("t", br#"{"v":1.5,"n":"x","w":true}"#).unwrap());
        let holds = |path: &str| shape.fields[path].holds;
        assert_eq!((holds("/v"), holds("/n"), holds("/w")), (Holds::Float, Holds::Text, Holds::Bool));
        let mut number = Shape::of("t", b"1").unwrap();
        number.join(Shape::of("t", b"off").unwrap());
        assert_eq!(number.kind, Kind::Number);
        number.join(Shape::of("t", b"{\"a\":1}").unwrap());
        assert_eq!(number.kind, Kind::Mixed);
    }
}
