//! A schema of any kind: its texts, and how it differs from another.
//!
//! All kinds are judged by what their readers do: `avro/` resolves, `protobuf/` follows the wire, `jsonschema.rs` proves
//! what it can and takes the rest for different.

use serde_json::{Value, json};

use super::avro::{self, Avro};
use super::json;
use super::jsonschema::{self, JsonSchema};
use super::protobuf::{self, Protobuf};

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
    model: Model,
}

/// What two schemas are compared by.
#[derive(Debug, Clone)]
enum Model {
    Avro(Avro),
    Json(JsonSchema),
    Protobuf(Protobuf),
}

/// Parses a schema together with the texts of the schemas it refers to, innermost first.
pub(super) fn parse(kind: Kind, text: &str, references: &[&str]) -> Result<Parsed, String> {
    match kind {
        Kind::Avro => {
            let value = json::parse(text)?;
            let avro = avro::parse(&value, references)?;
            let canonical = avro::canonical(&value);
            Ok(Parsed { kind, text: json::compact(text), canonical, model: Model::Avro(avro) })
        }
        Kind::Json => {
            let model = Model::Json(jsonschema::parse(text, references)?);
            let mut canonical = String::new();
            json::write_sorted(&json::parse(text)?, &mut canonical);
            Ok(Parsed { kind, text: json::compact(text), canonical, model })
        }
        Kind::Protobuf => {
            let model = Model::Protobuf(protobuf::parse(text, references)?);
            let canonical = protobuf::canonical(text)?;
            Ok(Parsed { kind, text: text.to_owned(), canonical, model })
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
            "FIELD_KIND_CHANGED"
            | "FIELD_SCALAR_KIND_CHANGED"
            | "FIELD_NAMED_TYPE_CHANGED"
            | "FIELD_NUMERIC_LABEL_CHANGED" => {
                format!(
                    "The field at path '{place}' in the {reader} schema is of another kind than in the {writer} schema"
                )
            }
            "MESSAGE_REMOVED" | "REQUIRED_FIELD_REMOVED" | "ONEOF_FIELD_REMOVED" => {
                format!("The {reader} schema has no '{info}' (path '{place}'), and the {writer} schema has it")
            }
            "MULTIPLE_FIELDS_MOVED_TO_ONEOF" => {
                format!("Several fields at path '{place}' have moved into the oneof '{info}' in the {reader} schema")
            }
            "REQUIRED_FIELD_ADDED" | "REQUIRED_ATTRIBUTE_ADDED" => {
                format!("The {reader} schema requires '{info}' at path '{place}', and the {writer} schema does not")
            }
            "PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL" => format!(
                "The {reader} schema describes the property '{info}' at path '{place}', which the {writer} schema allows \
                 with any value"
            ),
            "PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL" => format!(
                "The {reader} schema does not allow the property '{info}' at path '{place}', and the {writer} schema does"
            ),
            "TYPE_NARROWED"
            | "CONSTRAINT_NARROWED"
            | "ADDITIONAL_PROPERTIES_NARROWED"
            | "COMBINED_TYPE_SUBSCHEMAS_CHANGED" => {
                format!("The {reader} schema allows less than the {writer} schema at path '{place}'")
            }
            "NOT_JUDGED" => {
                format!("Whether the {reader} schema allows all of the {writer} schema cannot be told (path '{place}')")
            }
            "SCHEMA_TYPE_CHANGED" => format!("The {reader} schema is of another type than the {writer} schema"),
            _ => format!("The {reader} schema cannot be held against the {writer} schema (path '{place}')"),
        };
        format!("{{errorType:'{kind}', description:'{description}', additionalInfo:'{info}'}}")
    }
}

/// What of the writer's values the reader cannot read.
pub(super) fn differences(writer: &Parsed, reader: &Parsed) -> Vec<Difference> {
    match (&writer.model, &reader.model) {
        (Model::Avro(writer), Model::Avro(reader)) => avro::differences(writer, reader),
        (Model::Json(writer), Model::Json(reader)) => jsonschema::differences(writer, reader),
        (Model::Protobuf(writer), Model::Protobuf(reader)) => protobuf::differences(writer, reader),
        _ => {
            let info = format!("{} and {}", writer.kind.name(), reader.kind.name());
            vec![Difference { kind: "SCHEMA_TYPE_CHANGED", place: "/".to_owned(), info }]
        }
    }
}

/// The kind as clients see it: named in bodies unless it is Avro.
pub(super) fn with_kind(mut body: Value, kind: Kind) -> Value {
    if kind != Kind::Avro {
        body["schemaType"] = json!(kind.name());
    }
    body
}
