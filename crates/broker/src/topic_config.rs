//! The settings of a topic: names, defaults, checks, and what the log makes of them.
//!
//! One table ([`KEYS`]) serves creation, alteration and description. A name that is not in it is refused, so that a
//! client never believes in a setting that has no effect.

use std::collections::BTreeMap;

use commitlog::LogOptions;

/// Bytes between two entries of a log's index.
const INDEX_INTERVAL_BYTES: u32 = 4_096;

/// Kind of a value, as DescribeConfigs tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Boolean = 1,
    Text = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

/// One setting.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) default: &'static str,
    pub(crate) kind: Kind,
    pub(crate) summary: &'static str,
    check: fn(&str) -> Result<(), &'static str>,
}

/// All settings of a topic. Defaults follow OFF-10: 45 days, 32 MiB segments that roll daily.
pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "cleanup.policy",
        default: "delete",
        kind: Kind::List,
        summary: "delete: old segments go by time and size; compact: of each key only the newest value stays",
        check: |value| match value {
            "delete" | "compact" | "compact,delete" | "delete,compact" => Ok(()),
            _ => Err("must be delete, compact, or both"),
        },
    },
    Key {
        name: "compression.type",
        default: "producer",
        kind: Kind::Text,
        summary: "batches stay as their producer compressed them",
        check: |value| {
            if value == "producer" {
                Ok(())
            } else {
                Err("only producer is supported: batches are stored as they come")
            }
        },
    },
    Key {
        name: "delete.retention.ms",
        default: "86400000",
        kind: Kind::Long,
        summary: "milliseconds for which a compacted topic keeps a tombstone after it was first compacted",
        check: |value| between(value, 0, i64::MAX, "must be 0 or more"),
    },
    Key {
        name: "max.message.bytes",
        default: "1048588",
        kind: Kind::Int,
        summary: "largest record batch in bytes",
        check: |value| between(value, 1_024, 33_554_432, "must be between 1024 and 33554432"),
    },
    Key {
        name: "message.timestamp.type",
        default: "CreateTime",
        kind: Kind::Text,
        summary: "records carry the time that their producer gave them",
        check: |value| {
            if value == "CreateTime" {
                Ok(())
            } else {
                Err("only CreateTime is supported: batches are stored as they come")
            }
        },
    },
    Key {
        name: "min.cleanable.dirty.ratio",
        default: "0.5",
        kind: Kind::Double,
        summary: "share of the closed segments that is new before a compacted topic is compacted again",
        check: |value| match value.parse::<f64>() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(()),
            _ => Err("must be between 0 and 1"),
        },
    },
    Key {
        name: "min.insync.replicas",
        default: "1",
        kind: Kind::Int,
        summary: "there is one broker, so one copy is all there can be",
        check: |value| if value == "1" { Ok(()) } else { Err("must be 1: there is one broker") },
    },
    Key {
        name: "retention.bytes",
        default: "-1",
        kind: Kind::Long,
        summary: "bytes of one partition beyond which its oldest segments are deleted; -1 is unlimited",
        check: |value| between(value, -1, i64::MAX, "must be -1 or more"),
    },
    Key {
        name: "retention.ms",
        default: "3888000000",
        kind: Kind::Long,
        summary: "age in milliseconds at which segments are deleted; -1 is for ever",
        check: |value| between(value, -1, i64::MAX, "must be -1 or more"),
    },
    Key {
        name: "segment.bytes",
        default: "33554432",
        kind: Kind::Int,
        summary: "bytes at which a segment is closed and a new one begun",
        check: |value| between(value, 65_536, 1_073_741_824, "must be between 65536 and 1073741824"),
    },
    Key {
        name: "segment.ms",
        default: "86400000",
        kind: Kind::Long,
        summary: "age in milliseconds at which a segment is closed and a new one begun",
        check: |value| between(value, 1_000, i64::MAX, "must be 1000 or more"),
    },
];

fn between(value: &str, least: i64, most: i64, reason: &'static str) -> Result<(), &'static str> {
    match value.parse::<i64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(()),
        _ => Err(reason),
    }
}

/// Why a setting was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("there is no topic setting {name} here")]
    Unknown { name: String },
    #[error("{name}={value}: {reason}")]
    Value { name: String, value: String, reason: &'static str },
    #[error("{name} is no list that values could be added to or taken from")]
    NotAList { name: String },
}

/// The settings given for one topic; all others have their defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TopicConfig {
    given: BTreeMap<String, String>,
}

impl TopicConfig {
    /// Checks all of `given`; `None` values mean the default.
    pub(crate) fn parse<'a>(given: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for (name, value) in given {
            match value {
                Some(value) => config.set(name, value)?,
                None => config.reset(name)?,
            }
        }
        Ok(config)
    }

    fn key(name: &str) -> Result<&'static Key, ConfigError> {
        KEYS.iter().find(|key| key.name == name).ok_or_else(|| ConfigError::Unknown { name: name.to_owned() })
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let value = value.trim();
        let wrong = |reason| ConfigError::Value { name: name.to_owned(), value: value.to_owned(), reason };
        (Self::key(name)?.check)(value).map_err(wrong)?;
        self.given.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// Back to the default.
    pub(crate) fn reset(&mut self, name: &str) -> Result<(), ConfigError> {
        Self::key(name)?;
        self.given.remove(name);
        Ok(())
    }

    /// Adds values to a list, or takes them from it; several are separated by commas.
    pub(crate) fn amend(&mut self, name: &str, value: &str, add: bool) -> Result<(), ConfigError> {
        if Self::key(name)?.kind != Kind::List {
            return Err(ConfigError::NotAList { name: name.to_owned() });
        }
        let mut items: Vec<&str> = self.get(name).split(',').filter(|item| !item.is_empty()).collect();
        for value in value.split(',').map(str::trim).filter(|value| !value.is_empty()) {
            match items.iter().position(|item| *item == value) {
                Some(at) if !add => drop(items.remove(at)),
                None if add => items.push(value),
                _ => {}
            }
        }
        let joined = items.join(",");
        self.set(name, &joined)
    }

    /// The value in force.
    pub(crate) fn get(&self, name: &str) -> &str {
        match self.given.get(name) {
            Some(value) => value,
            None => KEYS.iter().find(|key| key.name == name).map_or("", |key| key.default),
        }
    }

    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// What was given, for the state file.
    pub(crate) fn given(&self) -> &BTreeMap<String, String> {
        &self.given
    }

    fn number(&self, name: &str) -> i64 {
        self.get(name).parse().unwrap_or(-1)
    }

    pub(crate) fn compacted(&self) -> bool {
        self.get("cleanup.policy").contains("compact")
    }

    fn compact_from_permille(&self) -> u16 {
        let ratio: f64 = self.get("min.cleanable.dirty.ratio").parse().unwrap_or(0.5);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1 when it was set")]
        let permille = (ratio * 1_000.0).round() as u16;
        permille
    }

    pub(crate) fn log_options(&self) -> LogOptions {
        let positive = |name: &str| u64::try_from(self.number(name)).ok();
        let deletes = self.get("cleanup.policy").contains("delete");
        let retention_ms = Some(self.number("retention.ms")).filter(|ms| *ms >= 0 && deletes);
        let retention_bytes = positive("retention.bytes").filter(|_| deletes);
        LogOptions {
            segment_bytes: positive("segment.bytes").unwrap_or(32 * 1024 * 1024),
            segment_ms: self.number("segment.ms"),
            index_interval_bytes: INDEX_INTERVAL_BYTES,
            retention_ms,
            retention_bytes,
            max_batch_bytes: usize::try_from(self.number("max.message.bytes")).unwrap_or(1024 * 1024),
            compact: self.compacted(),
            compact_from_permille: self.compact_from_permille(),
            delete_retention_ms: self.number("delete.retention.ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // OFF-10
    #[test]
    fn defaults_keep_45_days_in_segments_of_32_mib() {
        let options = TopicConfig::default().log_options();
        assert_eq!(options.retention_ms, Some(45 * 24 * 3600 * 1000));
        assert_eq!(options.retention_bytes, None);
        assert_eq!(options.segment_bytes, 32 << 20);
        assert_eq!(options.segment_ms, 24 * 3600 * 1000);
    }

    #[test]
    fn every_default_passes_its_own_check() {
        for key in KEYS {
            assert_eq!((key.check)(key.default), Ok(()), "{}", key.name);
        }
    }

    #[test]
    fn unknown_names_and_wrong_values_are_refused() {
        assert!(matches!(TopicConfig::parse([("flush.ms", Some("1"))]), Err(ConfigError::Unknown { .. })));
        assert!(matches!(TopicConfig::parse([("retention.ms", Some("soon"))]), Err(ConfigError::Value { .. })));
        assert!(matches!(TopicConfig::parse([("segment.bytes", Some("0"))]), Err(ConfigError::Value { .. })));
        assert!(matches!(TopicConfig::parse([("compression.type", Some("zstd"))]), Err(ConfigError::Value { .. })));
    }

    #[test]
    fn compacted_topics_are_not_deleted_by_age() {
        let config = TopicConfig::parse([("cleanup.policy", Some("compact")), ("retention.ms", Some("5"))]).unwrap();
        let options = config.log_options();
        assert_eq!((options.retention_ms, options.retention_bytes, options.compact), (None, None, true));
    }

    // STR-05
    #[test]
    fn a_share_of_new_bytes_makes_compaction_due() {
        let of = |given: Option<&str>| {
            TopicConfig::parse([("min.cleanable.dirty.ratio", given)])
                .map(|config| config.log_options().compact_from_permille)
        };
        assert_eq!([None, Some("0"), Some("0.125"), Some("1.0")].map(|given| of(given).unwrap()), [500, 0, 125, 1_000]);
        for wrong in ["-0.1", "1.1", "NaN", "half"] {
            assert!(matches!(of(Some(wrong)), Err(ConfigError::Value { .. })), "{wrong}");
        }
    }

    #[test]
    fn lists_are_amended() {
        let mut config = TopicConfig::default();
        config.amend("cleanup.policy", "compact", true).unwrap();
        assert_eq!(config.get("cleanup.policy"), "delete,compact");
        config.amend("cleanup.policy", "compact, delete", true).unwrap();
        assert_eq!(config.get("cleanup.policy"), "delete,compact", "what is there already stays where it is");
        config.amend("cleanup.policy", "delete", false).unwrap();
        assert_eq!(config.get("cleanup.policy"), "compact");
        assert!(config.amend("cleanup.policy", "compact", false).is_err());
        assert!(config.amend("retention.ms", "5", true).is_err());
    }
}
