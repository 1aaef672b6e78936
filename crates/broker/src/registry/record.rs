//! The records of the `_schemas` topic, in Confluent's form: JSON keys with a `keytype`, JSON values, null to delete.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A schema that another one uses by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Reference {
    pub(super) name: String,
    pub(super) subject: String,
    pub(super) version: i32,
}

/// Value of a SCHEMA record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SchemaValue {
    pub(super) subject: String,
    pub(super) version: i32,
    pub(super) id: i32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) references: Vec<Reference>,
    pub(super) schema: String,
    #[serde(default)]
    pub(super) deleted: bool,
    /// Only for other kinds than Avro.
    #[serde(default, rename = "schemaType", skip_serializing_if = "Option::is_none")]
    pub(super) schema_type: Option<String>,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Schema(SchemaValue),
    /// A version is gone for good.
    Purge {
        subject: String,
        version: i32,
    },
    /// The compatibility level of a subject, or of all without one of their own. `None` takes it back.
    Level {
        subject: Option<String>,
        level: Option<String>,
    },
    Mode {
        subject: Option<String>,
        mode: Option<String>,
    },
    /// All versions up to this one are soft-deleted.
    DeleteSubject {
        subject: String,
        version: i32,
    },
}

impl Change {
    /// Key and value of the record.
    pub(super) fn encode(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        let (key, value) = match self {
            Self::Schema(schema) => (schema_key(&schema.subject, schema.version), serde_json::to_value(schema).ok()),
            Self::Purge { subject, version } => (schema_key(subject, *version), None),
            Self::Level { subject, level } => (
                json!({ "keytype": "CONFIG", "subject": subject, "magic": 0 }),
                level.as_ref().map(|level| json!({ "compatibilityLevel": level })),
            ),
            Self::Mode { subject, mode } => (
                json!({ "keytype": "MODE", "subject": subject, "magic": 0 }),
                mode.as_ref().map(|mode| json!({ "mode": mode })),
            ),
            Self::DeleteSubject { subject, version } => (
                json!({ "keytype": "DELETE_SUBJECT", "subject": subject, "magic": 0 }),
                Some(json!({ "subject": subject, "version": version })),
            ),
        };
        (key.to_string().into_bytes(), value.map(|value| value.to_string().into_bytes()))
    }

    /// `None` for records that say nothing to us (NOOP, other kinds) or cannot be read.
    pub(super) fn decode(key: &[u8], value: Option<&[u8]>) -> Option<Self> {
        let key: Value = serde_json::from_slice(key).ok()?;
        let subject = key.get("subject").and_then(Value::as_str).map(str::to_owned);
        let value: Option<Value> = value.and_then(|value| serde_json::from_slice(value).ok());
        let text = |name: &str| value.as_ref().and_then(|value| value.get(name)?.as_str()).map(str::to_owned);
        match key.get("keytype")?.as_str()? {
            "SCHEMA" => match value {
                Some(value) => serde_json::from_value(value).ok().map(Self::Schema),
                None => Some(Self::Purge { subject: subject?, version: number(&key, "version")? }),
            },
            "CONFIG" => Some(Self::Level { subject, level: text("compatibilityLevel") }),
            "MODE" => Some(Self::Mode { subject, mode: text("mode") }),
            "DELETE_SUBJECT" => {
                Some(Self::DeleteSubject { subject: subject?, version: number(value.as_ref()?, "version")? })
            }
            _ => None,
        }
    }
}

fn schema_key(subject: &str, version: i32) -> Value {
    json!({ "keytype": "SCHEMA", "subject": subject, "version": version, "magic": 1 })
}

fn number(value: &Value, name: &str) -> Option<i32> {
    value.get(name)?.as_i64().and_then(|number| i32::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_written() {
        let schema = SchemaValue {
            subject: "s".to_owned(),
            version: 1,
            id: 7,
            references: vec![],
            schema: "\"long\"".to_owned(),
            deleted: false,
            schema_type: None,
        };
        let subject = "s".to_owned();
        for change in [
            Change::Schema(schema),
            Change::Purge { subject: subject.clone(), version: 1 },
            Change::Level { subject: None, level: Some("FULL".to_owned()) },
            Change::Level { subject: Some(subject.clone()), level: None },
            Change::Mode { subject: Some(subject.clone()), mode: Some("READONLY".to_owned()) },
            Change::DeleteSubject { subject, version: 3 },
        ] {
            let (key, value) = change.encode();
            assert_eq!(Change::decode(&key, value.as_deref()), Some(change));
        }
    }

    // STR-20: as another registry wrote it
    #[test]
    fn records_of_another_registry_are_understood() {
        let key = br#"{"keytype":"SCHEMA","subject":"telemetry-value","version":2,"magic":1}"#;
        let value = br#"{"subject":"telemetry-value","version":2,"id":5,"schema":"\"string\"","deleted":false}"#;
        let Some(Change::Schema(schema)) = Change::decode(key, Some(value)) else { panic!() };
        assert_eq!((schema.id, schema.version), (5, 2));
        assert_eq!(Change::decode(br#"{"keytype":"NOOP","magic":0}"#, None), None);
        assert_eq!(Change::decode(b"not json", None), None);
    }
}
