//! The records of the `_schemas` topic, in Confluent's form: JSON keys with a `keytype`, JSON values, null to delete.
//!
//! Keys are written byte for byte as Confluent writes them, so that compaction takes both for one key. Records of other
//! registries are read with whatever else they carry; what says nothing to us is left out.
//! One kind is ours: a NOOP record whose value remembers ids and versions that no other record shows any more. Other
//! registries read no values of NOOP records.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

/// A schema that another one uses by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Reference {
    pub(super) name: String,
    pub(super) subject: String,
    pub(super) version: i32,
}

/// Value of a SCHEMA record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SchemaValue {
    pub(super) subject: String,
    pub(super) version: i32,
    pub(super) id: i32,
    /// Only for other kinds than Avro.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) schema_type: Option<String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub(super) references: Vec<Reference>,
    /// Tags and rules, which clients act on; kept and served as they came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rule_set: Option<Value>,
    pub(super) schema: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) deleted: bool,
}

/// Settings of a subject, or of all without their own. What we do not know is kept as it came.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Config {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) normalize: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) compatibility_level: Option<String>,
    #[serde(flatten)]
    pub(super) other: Map<String, Value>,
}

/// The highest id, and the highest versions, that were given and that no other record shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Given {
    pub(super) last_id: i32,
    #[serde(default)]
    pub(super) last_versions: BTreeMap<String, i32>,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    Schema(SchemaValue),
    /// A version is gone for good.
    Purge {
        subject: String,
        version: i32,
    },
    /// `None` takes the settings back.
    Config {
        subject: Option<String>,
        config: Option<Config>,
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
    /// The soft-deleted versions of a subject, or of all, are gone for good.
    ClearSubject {
        subject: Option<String>,
    },
    Given(Given),
}

/// Keys in Confluent's order of fields.
#[derive(Serialize)]
struct SubjectKey<'a> {
    keytype: &'static str,
    subject: Option<&'a str>,
    magic: u8,
}

#[derive(Serialize)]
struct SchemaKey<'a> {
    keytype: &'static str,
    subject: &'a str,
    version: i32,
    magic: u8,
}

#[derive(Serialize)]
struct NoopKey {
    keytype: &'static str,
    magic: u8,
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("records have text keys and plain values")
}

fn subject_key(keytype: &'static str, subject: Option<&str>) -> Vec<u8> {
    bytes(&SubjectKey { keytype, subject, magic: 0 })
}

fn schema_key(subject: &str, version: i32) -> Vec<u8> {
    bytes(&SchemaKey { keytype: "SCHEMA", subject, version, magic: 1 })
}

impl Change {
    /// Key and value of the record.
    pub(super) fn encode(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        match self {
            Self::Schema(schema) => (schema_key(&schema.subject, schema.version), Some(bytes(schema))),
            Self::Purge { subject, version } => (schema_key(subject, *version), None),
            Self::Config { subject, config } => (subject_key("CONFIG", subject.as_deref()), config.as_ref().map(bytes)),
            Self::Mode { subject, mode } => {
                let value = mode.as_ref().map(|mode| bytes(&json!({ "mode": mode })));
                (subject_key("MODE", subject.as_deref()), value)
            }
            Self::DeleteSubject { subject, version } => {
                let value = json!({ "subject": subject, "version": version });
                (subject_key("DELETE_SUBJECT", Some(subject)), Some(bytes(&value)))
            }
            Self::ClearSubject { subject } => {
                let value = json!({ "subject": subject });
                (subject_key("CLEAR_SUBJECT", subject.as_deref()), Some(bytes(&value)))
            }
            Self::Given(given) => (bytes(&NoopKey { keytype: "NOOP", magic: 0 }), Some(bytes(given))),
        }
    }

    /// `None` for records that say nothing to us (other kinds) or cannot be read.
    pub(super) fn decode(key: &[u8], value: Option<&[u8]>) -> Option<Self> {
        let key: Value = serde_json::from_slice(key).ok()?;
        let subject = key.get("subject").and_then(Value::as_str).map(str::to_owned);
        let number =
            |value: &Value, name: &str| value.get(name)?.as_i64().and_then(|number| i32::try_from(number).ok());
        let value: Option<Value> = match value {
            Some(value) => Some(serde_json::from_slice(value).ok()?),
            None => None,
        };
        Some(match (key.get("keytype")?.as_str()?, value) {
            ("SCHEMA", Some(value)) => Self::Schema(serde_json::from_value(value).ok()?),
            ("SCHEMA", None) => Self::Purge { subject: subject?, version: number(&key, "version")? },
            ("CONFIG", Some(value)) => Self::Config { subject, config: Some(serde_json::from_value(value).ok()?) },
            ("CONFIG", None) => Self::Config { subject, config: None },
            ("MODE", Some(value)) => Self::Mode { subject, mode: Some(value.get("mode")?.as_str()?.to_owned()) },
            ("MODE", None) => Self::Mode { subject, mode: None },
            ("DELETE_SUBJECT", Some(value)) => {
                Self::DeleteSubject { subject: subject?, version: number(&value, "version")? }
            }
            ("CLEAR_SUBJECT", Some(_)) => Self::ClearSubject { subject },
            ("NOOP", Some(value)) => Self::Given(serde_json::from_value(value).ok()?),
            _ => return None,
        })
    }
}

/// Null is what an absent field is.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
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
            schema_type: Some("JSON".to_owned()),
            references: vec![Reference { name: "n".to_owned(), subject: "r".to_owned(), version: 2 }],
            metadata: Some(json!({ "tags": {} })),
            rule_set: None,
            schema: "\"long\"".to_owned(),
            deleted: true,
        };
        let subject = "s".to_owned();
        let config = Config {
            normalize: Some(true),
            compatibility_level: Some("FULL".to_owned()),
            other: [("alias".to_owned(), json!("t"))].into_iter().collect(),
        };
        let given = Given { last_id: 9, last_versions: [(subject.clone(), 4)].into() };
        for change in [
            Change::Schema(schema),
            Change::Purge { subject: subject.clone(), version: 1 },
            Change::Config { subject: None, config: Some(config) },
            Change::Config { subject: Some(subject.clone()), config: None },
            Change::Mode { subject: Some(subject.clone()), mode: Some("READONLY".to_owned()) },
            Change::Mode { subject: None, mode: None },
            Change::DeleteSubject { subject: subject.clone(), version: 3 },
            Change::ClearSubject { subject: Some(subject) },
            Change::ClearSubject { subject: None },
            Change::Given(given),
        ] {
            let (key, value) = change.encode();
            assert_eq!(Change::decode(&key, value.as_deref()), Some(change));
        }
    }

    // STR-20: compaction must take our keys and Confluent's for the same
    #[test]
    fn keys_are_confluents_to_the_byte() {
        let key = |change: Change| String::from_utf8(change.encode().0).unwrap();
        let subject = "s".to_owned();
        assert_eq!(
            key(Change::Purge { subject: subject.clone(), version: 2 }),
            r#"{"keytype":"SCHEMA","subject":"s","version":2,"magic":1}"#
        );
        assert_eq!(
            key(Change::Config { subject: None, config: None }),
            r#"{"keytype":"CONFIG","subject":null,"magic":0}"#
        );
        assert_eq!(
            key(Change::DeleteSubject { subject, version: 2 }),
            r#"{"keytype":"DELETE_SUBJECT","subject":"s","magic":0}"#
        );
        assert_eq!(key(Change::Given(Given::default())), r#"{"keytype":"NOOP","magic":0}"#);
    }

    // STR-20: as Confluent's and Redpanda's registries wrote it
    #[test]
    fn records_of_other_registries_are_understood() {
        let key = br#"{"keytype":"SCHEMA","subject":"telemetry-value","version":2,"magic":1,"seq":4,"node":0}"#;
        let value = br#"{"subject":"telemetry-value","version":2,"id":5,"md5":"x","schemaType":null,"references":null,
            "metadata":null,"ruleSet":null,"schema":"\"string\"","deleted":false,"ts":1}"#;
        let Some(Change::Schema(schema)) = Change::decode(key, Some(value)) else { panic!() };
        assert_eq!((schema.id, schema.version, schema.schema_type), (5, 2, None));
        let key = br#"{"keytype":"CONFIG","magic":0,"seq":1,"node":0}"#;
        let Some(Change::Config { subject: None, config: Some(config) }) =
            Change::decode(key, Some(br#"{"compatibilityLevel":"FULL"}"#))
        else {
            panic!()
        };
        assert_eq!(config.compatibility_level.as_deref(), Some("FULL"));
        assert_eq!(Change::decode(br#"{"keytype":"NOOP","magic":0}"#, None), None);
        assert_eq!(Change::decode(br#"{"keytype":"CONTEXT","tenant":"default","context":".","magic":0}"#, None), None);
        assert_eq!(Change::decode(b"not json", None), None);
    }
}
