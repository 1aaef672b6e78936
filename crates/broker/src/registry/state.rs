//! What the registry knows: subjects, versions, ids, levels and modes. Pure: changed only by [`State::apply`].

use std::collections::{BTreeMap, HashMap};

use super::error::ApiError;
use super::record::{Change, Reference, SchemaValue};

/// Longest name of a subject in bytes; longer ones are refused.
const SUBJECT_BYTES_MAX: usize = 512;

/// How new schemas of a subject must relate to older ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    /// The new schema reads what the old ones wrote.
    pub(super) backward: bool,
    /// The old schemas read what the new one writes.
    pub(super) forward: bool,
    /// All old versions count, not only the newest.
    pub(super) transitive: bool,
}

impl Level {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_uppercase();
        let (kind, transitive) = match name.strip_suffix("_TRANSITIVE") {
            Some(kind) => (kind, true),
            None => (name.as_str(), false),
        };
        let (backward, forward) = match kind {
            "BACKWARD" => (true, false),
            "FORWARD" => (false, true),
            "FULL" => (true, true),
            "NONE" if !transitive => (false, false),
            _ => return None,
        };
        Some(Self { backward, forward, transitive })
    }
}

/// The level of subjects that have none of their own, until it is set.
pub(super) const DEFAULT_LEVEL: &str = "BACKWARD";
const DEFAULT_MODE: &str = "READWRITE";

/// A version of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) id: i32,
    pub(super) deleted: bool,
}

/// A schema, whoever uses it.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) text: String,
    pub(super) references: Vec<Reference>,
}

/// A version number as a client gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VersionName {
    Latest,
    Number(i32),
}

impl VersionName {
    pub(super) fn parse(text: &str) -> Result<Self, ApiError> {
        match text {
            "latest" | "-1" => Ok(Self::Latest),
            number => match number.parse() {
                Ok(number @ 1..) => Ok(Self::Number(number)),
                _ => Err(ApiError::invalid_version(text)),
            },
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct State {
    schemas: BTreeMap<i32, Stored>,
    /// Canonical text and references to id.
    ids: HashMap<(String, Vec<Reference>), i32>,
    subjects: BTreeMap<String, BTreeMap<i32, Version>>,
    /// Versions are not used again, not even after a permanent deletion.
    last_versions: HashMap<String, i32>,
    last_id: i32,
    levels: BTreeMap<Option<String>, String>,
    modes: BTreeMap<Option<String>, String>,
}

/// Texts that differ in white space and the order of attributes only are one schema.
pub(super) fn canonical(text: &str) -> String {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) => value.to_string(),
        Err(_) => text.to_owned(),
    }
}

impl State {
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Schema(value) => self.apply_schema(value),
            Change::Purge { subject, version } => {
                if let Some(versions) = self.subjects.get_mut(&subject) {
                    versions.remove(&version);
                    if versions.is_empty() {
                        self.subjects.remove(&subject);
                    }
                }
            }
            Change::Level { subject, level } => set(&mut self.levels, subject, level),
            Change::Mode { subject, mode } => set(&mut self.modes, subject, mode),
            Change::DeleteSubject { subject, version: last } => {
                for (number, version) in self.subjects.entry(subject).or_default() {
                    version.deleted |= *number <= last;
                }
            }
        }
    }

    fn apply_schema(&mut self, value: SchemaValue) {
        let key = (canonical(&value.schema), value.references.clone());
        self.last_id = self.last_id.max(value.id);
        let last = self.last_versions.entry(value.subject.clone()).or_default();
        *last = (*last).max(value.version);
        let version = Version { id: value.id, deleted: value.deleted };
        self.subjects.entry(value.subject).or_default().insert(value.version, version);
        self.ids.entry(key).or_insert(value.id);
        self.schemas.insert(value.id, Stored { text: value.schema, references: value.references });
    }

    /// The id of a schema that is or was registered anywhere.
    pub(super) fn id_of(&self, canonical: &str, references: &[Reference]) -> Option<i32> {
        self.ids.get(&(canonical.to_owned(), references.to_vec())).copied()
    }

    pub(super) fn next_id(&self) -> i32 {
        self.last_id + 1
    }

    pub(super) fn next_version(&self, subject: &str) -> i32 {
        self.last_versions.get(subject).copied().unwrap_or_default() + 1
    }

    /// A schema that some version, deleted softly or not, still uses.
    pub(super) fn schema(&self, id: i32) -> Result<&Stored, ApiError> {
        let used = self.uses(id, true).next().is_some();
        self.schemas.get(&id).filter(|_| used).ok_or_else(ApiError::schema_not_found)
    }

    /// Subjects and versions that use an id.
    pub(super) fn uses(&self, id: i32, deleted: bool) -> impl Iterator<Item = (&str, i32)> {
        self.subjects.iter().flat_map(move |(subject, versions)| {
            let chosen = versions.iter().filter(move |(_, version)| version.id == id && (deleted || !version.deleted));
            chosen.map(move |(number, _)| (subject.as_str(), *number))
        })
    }

    /// Subjects that have a version.
    pub(super) fn subjects(&self, deleted: bool) -> impl Iterator<Item = &str> {
        let live =
            move |versions: &BTreeMap<i32, Version>| deleted || versions.values().any(|version| !version.deleted);
        self.subjects.iter().filter(move |(_, versions)| live(versions)).map(|(subject, _)| subject.as_str())
    }

    /// Versions of a subject; an error when there is none.
    pub(super) fn versions(&self, subject: &str, deleted: bool) -> Result<Vec<(i32, Version)>, ApiError> {
        let all = self.subjects.get(subject).into_iter().flatten();
        let chosen: Vec<(i32, Version)> = all
            .filter(|(_, version)| deleted || !version.deleted)
            .map(|(number, version)| (*number, version.clone()))
            .collect();
        if chosen.is_empty() { Err(ApiError::subject_not_found(subject)) } else { Ok(chosen) }
    }

    pub(super) fn version(&self, subject: &str, name: VersionName, deleted: bool) -> Result<(i32, Version), ApiError> {
        let versions = self.versions(subject, deleted)?;
        let found = match name {
            VersionName::Latest => versions.last(),
            VersionName::Number(wanted) => versions.iter().find(|(number, _)| *number == wanted),
        };
        let name = match name {
            VersionName::Latest => "latest".to_owned(),
            VersionName::Number(number) => number.to_string(),
        };
        found.cloned().ok_or_else(|| ApiError::version_not_found(&name))
    }

    /// Texts of all schemas that the references lead to, innermost first.
    pub(super) fn resolve(&self, references: &[Reference]) -> Result<Vec<String>, ApiError> {
        let mut texts = Vec::new();
        self.resolve_into(references, &mut texts, 0)?;
        Ok(texts)
    }

    fn resolve_into(&self, references: &[Reference], texts: &mut Vec<String>, depth: usize) -> Result<(), ApiError> {
        const DEPTH_MAX: usize = 16;
        if depth > DEPTH_MAX {
            return Err(ApiError::invalid_schema("references are nested too deeply"));
        }
        for reference in references {
            let missing = |_| {
                let Reference { name, subject, version } = reference;
                ApiError::invalid_schema(format!("reference {name} to version {version} of {subject} leads nowhere"))
            };
            let name = VersionName::Number(reference.version);
            let (_, version) = self.version(&reference.subject, name, true).map_err(missing)?;
            let stored = self.schema(version.id).map_err(missing)?;
            self.resolve_into(&stored.references, texts, depth + 1)?;
            if !texts.contains(&stored.text) {
                texts.push(stored.text.clone());
            }
        }
        Ok(())
    }

    /// Ids of schemas that refer to this version.
    pub(super) fn referenced_by(&self, subject: &str, version: i32) -> Vec<i32> {
        let refers = |stored: &Stored| {
            stored.references.iter().any(|reference| reference.subject == subject && reference.version == version)
        };
        let found =
            self.schemas.iter().filter(|(id, stored)| refers(stored) && self.uses(**id, false).next().is_some());
        found.map(|(id, _)| *id).collect()
    }

    /// The level set for a subject, or globally for `None`.
    pub(super) fn level_of(&self, subject: Option<&str>) -> Option<&str> {
        let found = self.levels.get(&subject.map(str::to_owned)).map(String::as_str);
        if subject.is_none() { found.or(Some(DEFAULT_LEVEL)) } else { found }
    }

    /// The level in force.
    pub(super) fn level(&self, subject: &str) -> &str {
        self.level_of(Some(subject)).or_else(|| self.level_of(None)).unwrap_or(DEFAULT_LEVEL)
    }

    pub(super) fn mode_of(&self, subject: Option<&str>) -> Option<&str> {
        let found = self.modes.get(&subject.map(str::to_owned)).map(String::as_str);
        if subject.is_none() { found.or(Some(DEFAULT_MODE)) } else { found }
    }

    /// Refuses changes where the mode says so.
    pub(super) fn check_writable(&self, subject: &str) -> Result<(), ApiError> {
        let mode = self.mode_of(Some(subject)).or_else(|| self.mode_of(None)).unwrap_or(DEFAULT_MODE);
        if mode == DEFAULT_MODE {
            return Ok(());
        }
        Err(ApiError::not_permitted(&format!("Subject {subject} is in read-only mode")))
    }
}

fn set(map: &mut BTreeMap<Option<String>, String>, subject: Option<String>, value: Option<String>) {
    match value {
        Some(value) => map.insert(subject, value),
        None => map.remove(&subject),
    };
}

pub(super) fn check_subject(subject: &str) -> Result<(), ApiError> {
    if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX || subject.chars().any(char::is_control) {
        return Err(ApiError::invalid_subject());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(subject: &str, version: i32, id: i32, text: &str) -> Change {
        Change::Schema(SchemaValue {
            subject: subject.to_owned(),
            version,
            id,
            references: vec![],
            schema: text.to_owned(),
            deleted: false,
            schema_type: None,
        })
    }

    #[test]
    fn one_text_has_one_id_and_versions_are_not_used_again() {
        let mut state = State::default();
        state.apply(schema("a", 1, 1, r#"{"type":"long","doc":"x"}"#));
        state.apply(schema("b", 1, 1, r#"{ "doc": "x", "type": "long" }"#));
        assert_eq!(state.id_of(&canonical(r#"{"doc":"x","type":"long"}"#), &[]), Some(1));
        assert_eq!(state.uses(1, false).count(), 2);
        state.apply(Change::DeleteSubject { subject: "a".to_owned(), version: 1 });
        assert!(state.versions("a", false).is_err());
        assert_eq!(state.versions("a", true).unwrap().len(), 1);
        state.apply(Change::Purge { subject: "a".to_owned(), version: 1 });
        assert_eq!(state.next_version("a"), 2);
        assert_eq!(state.next_id(), 2);
        state.apply(Change::Purge { subject: "b".to_owned(), version: 1 });
        assert!(state.schema(1).is_err());
    }

    #[test]
    fn levels() {
        assert_eq!(Level::parse("backward"), Some(Level { backward: true, forward: false, transitive: false }));
        assert_eq!(Level::parse("FULL_TRANSITIVE"), Some(Level { backward: true, forward: true, transitive: true }));
        assert_eq!(Level::parse("NONE"), Some(Level { backward: false, forward: false, transitive: false }));
        for wrong in ["NONE_TRANSITIVE", "SIDEWAYS", ""] {
            assert_eq!(Level::parse(wrong), None);
        }
        let mut state = State::default();
        assert_eq!(state.level("s"), "BACKWARD");
        state.apply(Change::Level { subject: Some("s".to_owned()), level: Some("NONE".to_owned()) });
        assert_eq!((state.level("s"), state.level("t")), ("NONE", "BACKWARD"));
    }
}
