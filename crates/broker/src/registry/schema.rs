//! A schema of any kind: its texts, and how it differs from another.
//!
//! Avro is judged in full. JSON Schema and Protobuf are stored, served and looked up; whether one may follow the other
//! is not judged, only a change of the kind of schema is a difference.

use serde_json::{Value, json};

use super::avro::{self, Avro};
use super::{json, protobuf};

/// The language of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Avro,
    Json,
    Protobuf,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Json, Self::Protobuf, Self::Avro];

    /// The name in requests, answers and records; none is Avro.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Json => "JSON",
            Self::Protobuf => "PROTOBUF",
        }
    }

    pub(super) fn parse(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("") => Some(Self::Avro),
            Some(name) => Self::ALL.into_iter().find(|kind| kind.name() == name),
        }
    }
}

/// A valid schema in the forms that are needed.
#[derive(Debug, Clone)]
pub(super) struct Parsed {
    pub(super) kind: Kind,
    /// The text as it is stored and served: as registered, without the white space between JSON's tokens.
    pub(super) text: String,
    /// Equal for texts that mean the same schema.
    pub(super) canonical: String,
    avro: Option<Avro>,
}

/// Parses a schema together with the texts of the schemas it refers to, innermost first.
pub(super) fn parse(kind: Kind, text: &str, references: &[&str]) -> Result<Parsed, String> {
    match kind {
        Kind::Avro => {
            let value = json::parse(text)?;
            let avro = avro::parse(&value, references)?;
            let canonical = avro::canonical(&value);
            Ok(Parsed { kind, text: json::compact(text), canonical, avro: Some(avro) })
        }
        Kind::Json => match json::parse(text)? {
            value @ (Value::Object(_) | Value::Bool(_)) => {
                let mut canonical = String::new();
                json::write_sorted(&value, &mut canonical);
                Ok(Parsed { kind, text: json::compact(text), canonical, avro: None })
            }
            _ => Err("a JSON Schema is an object or a boolean".to_owned()),
        },
        Kind::Protobuf => {
            let canonical = protobuf::canonical(text)?;
            Ok(Parsed { kind, text: text.to_owned(), canonical, avro: None })
        }
    }
}

/// What makes texts of a stored schema equal; the text itself where it cannot be read.
pub(super) fn canonical(kind: Kind, text: &str) -> String {
    let canonical = match kind {
        Kind::Avro => json::parse(text).map(|value| avro::canonical(&value)),
        Kind::Json => json::parse(text).map(|value| {
            let mut canonical = String::new();
            json::write_sorted(&value, &mut canonical);
            canonical
        }),
        Kind::Protobuf => protobuf::canonical(text),
    };
    canonical.unwrap_or_else(|_| text.to_owned())
}

/// One thing that a reader cannot read: what kind of thing, where in the reader's schema, and the particulars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) kind: &'static str,
    pub(super) place: String,
    pub(super) info: String,
}

impl Difference {
    /// For people, in the form that Confluent's registry uses. `reader` and `writer` are "new" and "old" or the reverse.
    pub(super) fn describe(&self, reader: &str, writer: &str) -> String {
        let Self { kind, place, info } = self;
        let description = match *kind {
            "NAME_MISMATCH" => format!("The name of the schema has changed (path '{place}')"),
            "TYPE_MISMATCH" => format!(
                "The type (path '{place}') of a field in the {reader} schema does not match with the {writer} schema"
            ),
            "FIXED_SIZE_MISMATCH" => format!(
                "The size of FIXED type field at path '{place}' in the {reader} schema does not match with the {writer} \
                 schema"
            ),
            "MISSING_ENUM_SYMBOLS" => {
                format!("The {reader} schema is missing enum symbols '{info}' at path '{place}' in the {writer} schema")
            }
            "MISSING_UNION_BRANCH" => format!(
                "The {reader} schema is missing a type inside a union field at path '{place}' in the {writer} schema"
            ),
            "READER_FIELD_MISSING_DEFAULT_VALUE" => format!(
                "The field '{info}' at path '{place}' in the {reader} schema has no default value and is missing in the \
                 {writer} schema"
            ),
            "LOGICAL_TYPE_CHANGED" => format!(
                "The logical type at path '{place}' in the {reader} schema does not match with the {writer} schema"
            ),
            "SCHEMA_TYPE_CHANGED" => format!("The {reader} schema is of another type than the {writer} schema"),
            _ => format!("The {reader} schema cannot be held against the {writer} schema (path '{place}')"),
        };
        format!("{{errorType:'{kind}', description:'{description}', additionalInfo:'{info}'}}")
    }
}

/// What of the writer's values the reader cannot read.
pub(super) fn differences(writer: &Parsed, reader: &Parsed) -> Vec<Difference> {
    match (&writer.avro, &reader.avro) {
        (Some(writer), Some(reader)) => avro::differences(writer, reader),
        _ if writer.kind != reader.kind => {
            let info = format!("{} and {}", writer.kind.name(), reader.kind.name());
            vec![Difference { kind: "SCHEMA_TYPE_CHANGED", place: "/".to_owned(), info }]
        }
        _ => Vec::new(),
    }
}

/// The kind as clients see it: named in bodies unless it is Avro.
pub(super) fn with_kind(mut body: Value, kind: Kind) -> Value {
    if kind != Kind::Avro {
        body["schemaType"] = json!(kind.name());
    }
    body
}
