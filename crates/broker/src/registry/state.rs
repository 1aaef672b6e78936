//! What the registry knows: subjects, versions, ids, settings and modes. Pure: changed only by [`State::apply`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use aws_lc_rs::digest;
use serde_json::Value;
use uuid::Uuid;

use super::error::ApiError;
use super::json;
use super::names::{self, VersionName};
use super::record::{Change, Config, Given, Reference, SchemaValue};
use super::schema::{self, Kind};
use crate::limits::{REFERENCE_DEPTH_MAX, REFERENCES_MAX};

/// The level of subjects that have none of their own, until it is set.
pub(super) const DEFAULT_LEVEL: &str = "BACKWARD";
/// The mode of subjects that have none of their own, until it is set.
const DEFAULT_MODE: &str = "READWRITE";

/// A version of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) id: i32,
    pub(super) deleted: bool,
}

/// A schema, whoever uses it.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) kind: Kind,
    pub(super) text: String,
    pub(super) references: Vec<Reference>,
    pub(super) metadata: Option<Value>,
    pub(super) rule_set: Option<Value>,
    /// A name for the schema that does not depend on its id.
    pub(super) guid: Uuid,
}

/// What makes two schemas one: kind, canonical text, references, and what clients attached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    kind: Kind,
    canonical: String,
    references: Vec<Reference>,
    attached: String,
}

impl Identity {
    pub(super) fn new(
        kind: Kind,
        canonical: String,
        references: &[Reference],
        metadata: Option<&Value>,
        rule_set: Option<&Value>,
    ) -> Self {
        let mut attached = String::new();
        for value in [metadata, rule_set] {
            json::write_sorted(value.unwrap_or(&Value::Null), &mut attached);
        }
        Self { kind, canonical, references: references.to_vec(), attached }
    }

    /// The same for the same schema at all times; the text counts as it stands.
    fn guid(&self, text: &str) -> Uuid {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut add = |part: &str| {
            // lengths keep parts apart
            context.update(&u64::try_from(part.len()).unwrap_or_default().to_be_bytes());
            context.update(part.as_bytes());
        };
        add(self.kind.name());
        add(text);
        add(&self.attached);
        for Reference { name, subject, version } in &self.references {
            for part in [name, subject, &version.to_string()] {
                add(part);
            }
        }
        let hash = context.finish();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.as_ref()[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct State {
    schemas: BTreeMap<i32, Stored>,
    ids: HashMap<Identity, i32>,
    identities: HashMap<i32, Identity>,
    subjects: BTreeMap<String, BTreeMap<i32, Version>>,
    /// Versions that have an id.
    uses: HashMap<i32, BTreeSet<(String, i32)>>,
    guids: HashMap<Uuid, i32>,
    /// Ids of the schemas that refer to a version of a subject.
    referrers: HashMap<(String, i32), BTreeSet<i32>>,
    /// The highest version ever given in a subject: it is not given again.
    last_versions: HashMap<String, i32>,
    last_id: i32,
    /// Up to which version the newest deletion of a subject went.
    deletions: HashMap<String, i32>,
    /// What only a record of its own remembers.
    given: Given,
    configs: BTreeMap<Option<String>, Config>,
    modes: BTreeMap<Option<String>, String>,
    text_bytes: usize,
}

impl State {
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Schema(value) => self.apply_schema(value),
            Change::Purge { subject, version } => self.remove(&subject, version),
            Change::Config { subject, config } => set(&mut self.configs, subject, config),
            Change::Mode { subject, mode } => set(&mut self.modes, subject, mode),
            Change::DeleteSubject { subject, version: last } => {
                for (number, version) in self.subjects.get_mut(&subject).into_iter().flatten() {
                    version.deleted |= *number <= last;
                }
                self.remember(&subject, last);
                self.deletions.insert(subject, last);
            }
            Change::ClearSubject { subject } => {
                for (subject, version) in self.deleted_versions(subject.as_deref()) {
                    self.remove(&subject, version);
                }
            }
            Change::Given(given) => {
                self.last_id = self.last_id.max(given.last_id);
                for (subject, version) in &given.last_versions {
                    self.remember(subject, *version);
                }
                self.given = given;
            }
        }
    }

    fn apply_schema(&mut self, value: SchemaValue) {
        let SchemaValue { subject, version, id, schema_type, references, metadata, rule_set, schema: text, deleted } =
            value;
        // a kind that we do not know is kept as text
        let kind = Kind::parse(schema_type.as_deref()).unwrap_or(Kind::Json);
        self.last_id = self.last_id.max(id);
        self.remember(&subject, version);
        if self.subjects.get(&subject).and_then(|versions| versions.get(&version)).is_some_and(|old| old.id != id) {
            self.remove(&subject, version);
        }
        self.uses.entry(id).or_default().insert((subject.clone(), version));
        self.subjects.entry(subject).or_default().insert(version, Version { id, deleted });
        if self.schemas.contains_key(&id) {
            return; // one id has one text for as long as it is used
        }
        let canonical = schema::canonical(kind, &text);
        let identity = Identity::new(kind, canonical, &references, metadata.as_ref(), rule_set.as_ref());
        for reference in &references {
            self.referrers.entry((reference.subject.clone(), reference.version)).or_default().insert(id);
        }
        let guid = identity.guid(&text);
        self.guids.entry(guid).or_insert(id);
        self.ids.entry(identity.clone()).or_insert(id);
        self.identities.insert(id, identity);
        self.text_bytes += text.len();
        self.schemas.insert(id, Stored { kind, text, references, metadata, rule_set, guid });
    }

    /// Removes a version, and its schema when it was the last one to use it.
    fn remove(&mut self, subject: &str, version: i32) {
        self.remember(subject, version);
        let Some(versions) = self.subjects.get_mut(subject) else { return };
        let Some(Version { id, .. }) = versions.remove(&version) else { return };
        if versions.is_empty() {
            self.subjects.remove(subject);
        }
        let Some(uses) = self.uses.get_mut(&id) else { return };
        uses.remove(&(subject.to_owned(), version));
        if !uses.is_empty() {
            return;
        }
        self.uses.remove(&id);
        if let Some(identity) = self.identities.remove(&id)
            && self.ids.get(&identity) == Some(&id)
        {
            self.ids.remove(&identity);
        }
        let Some(stored) = self.schemas.remove(&id) else { return };
        self.text_bytes -= stored.text.len();
        if self.guids.get(&stored.guid) == Some(&id) {
            self.guids.remove(&stored.guid);
        }
        for reference in stored.references {
            let key = (reference.subject, reference.version);
            if let Some(ids) = self.referrers.get_mut(&key) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.referrers.remove(&key);
                }
            }
        }
    }

    fn remember(&mut self, subject: &str, version: i32) {
        match self.last_versions.get_mut(subject) {
            Some(last) => *last = (*last).max(version),
            None => drop(self.last_versions.insert(subject.to_owned(), version)),
        }
    }

    /// Soft-deleted versions of a subject, or of all.
    pub(super) fn deleted_versions(&self, subject: Option<&str>) -> Vec<(String, i32)> {
        let chosen = self.subjects.iter().filter(|(name, _)| subject.is_none_or(|subject| subject == *name));
        let deleted = chosen.flat_map(|(name, versions)| {
            versions.iter().filter(|(_, version)| version.deleted).map(move |(number, _)| (name.clone(), *number))
        });
        deleted.collect()
    }

    /// The id of a schema that is registered anywhere.
    pub(super) fn id_of(&self, identity: &Identity) -> Option<i32> {
        self.ids.get(identity).copied()
    }

    pub(super) fn last_id(&self) -> i32 {
        self.last_id
    }

    pub(super) fn next_version(&self, subject: &str) -> i32 {
        self.last_versions.get(subject).copied().unwrap_or_default().saturating_add(1)
    }

    /// The newest deletion of a subject went up to here.
    pub(super) fn deletion(&self, subject: &str) -> i32 {
        self.deletions.get(subject).copied().unwrap_or_default()
    }

    pub(super) fn given(&self) -> &Given {
        &self.given
    }

    /// A schema that some version, deleted softly or not, still uses.
    pub(super) fn schema(&self, id: i32) -> Result<&Stored, ApiError> {
        self.schemas.get(&id).ok_or_else(|| ApiError::id_not_found(&id.to_string()))
    }

    /// The id of the schema with this name.
    pub(super) fn id_of_guid(&self, guid: &str) -> Result<i32, ApiError> {
        let found = Uuid::parse_str(guid).ok().and_then(|guid| self.guids.get(&guid).copied());
        found.ok_or_else(|| ApiError::id_not_found(&guid.chars().take(80).collect::<String>()))
    }

    /// Subjects and versions that use an id.
    pub(super) fn uses(&self, id: i32, deleted: bool) -> impl Iterator<Item = (&str, i32)> {
        let all = self.uses.get(&id).into_iter().flatten();
        let live = move |subject: &str, version: &i32| {
            self.subjects
                .get(subject)
                .and_then(|versions| versions.get(version))
                .is_some_and(|version| !version.deleted)
        };
        all.filter(move |(subject, version)| deleted || live(subject, version))
            .map(|(subject, version)| (subject.as_str(), *version))
    }

    /// All versions of all subjects, by name and number.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, i32, Version)> {
        self.subjects.iter().flat_map(|(subject, versions)| {
            versions.iter().map(|(number, version)| (subject.as_str(), *number, *version))
        })
    }

    /// Subjects, with whether they have a version that is not deleted.
    pub(super) fn subjects(&self) -> impl Iterator<Item = (&str, bool)> {
        self.subjects
            .iter()
            .map(|(subject, versions)| (subject.as_str(), versions.values().any(|version| !version.deleted)))
    }

    pub(super) fn is_known(&self, subject: &str) -> bool {
        self.subjects.contains_key(subject)
    }

    pub(super) fn subject_count(&self) -> usize {
        self.subjects.len()
    }

    /// Names ever used.
    pub(super) fn remembered_count(&self) -> usize {
        self.last_versions.len()
    }

    pub(super) fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    /// Versions of a subject; an error when there is none.
    pub(super) fn versions(&self, subject: &str, deleted: bool) -> Result<Vec<(i32, Version)>, ApiError> {
        let all = self.subjects.get(subject).into_iter().flatten();
        let chosen =
            all.filter(|(_, version)| deleted || !version.deleted).map(|(number, version)| (*number, *version));
        let chosen: Vec<(i32, Version)> = chosen.collect();
        if chosen.is_empty() { Err(ApiError::subject_not_found(subject)) } else { Ok(chosen) }
    }

    pub(super) fn version(&self, subject: &str, name: VersionName, deleted: bool) -> Result<(i32, Version), ApiError> {
        let versions = self.versions(subject, deleted)?;
        let found = match name {
            VersionName::Latest => versions.last(),
            VersionName::Number(wanted) => versions.iter().find(|(number, _)| *number == wanted),
        };
        found.copied().ok_or_else(|| ApiError::version_not_found(&name.to_string()))
    }

    /// All schemas that the references lead to, once each, innermost first.
    pub(super) fn resolve(&self, references: &[Reference]) -> Result<Vec<&str>, ApiError> {
        let (mut texts, mut seen) = (Vec::new(), HashSet::new());
        self.resolve_into(references, &mut texts, &mut seen, 0)?;
        Ok(texts)
    }

    fn resolve_into<'s>(
        &'s self,
        references: &[Reference],
        texts: &mut Vec<&'s str>,
        seen: &mut HashSet<i32>,
        depth: usize,
    ) -> Result<(), ApiError> {
        if depth > REFERENCE_DEPTH_MAX {
            return Err(ApiError::invalid_schema(format!("more than {REFERENCE_DEPTH_MAX} references in a row")));
        }
        for reference in references {
            let name = VersionName::Number(reference.version);
            let found = self.version(&reference.subject, name, true).map_err(|_| ApiError::dangling(reference))?;
            let stored = self.schema(found.1.id).map_err(|_| ApiError::dangling(reference))?;
            if !seen.insert(found.1.id) {
                continue;
            }
            if seen.len() > REFERENCES_MAX {
                return Err(ApiError::invalid_schema(format!("it refers to more than {REFERENCES_MAX} schemas")));
            }
            self.resolve_into(&stored.references, texts, seen, depth + 1)?;
            texts.push(&stored.text);
        }
        Ok(())
    }

    /// Ids of schemas that refer to this version.
    pub(super) fn referenced_by(&self, subject: &str, version: i32, deleted: bool) -> Vec<i32> {
        let all = self.referrers.get(&(subject.to_owned(), version)).into_iter().flatten();
        all.copied().filter(|id| self.uses(*id, deleted).next().is_some()).collect()
    }

    /// Settings of a subject, or those of all for `None`.
    pub(super) fn config(&self, subject: Option<&str>) -> Option<&Config> {
        self.configs.get(&subject.map(str::to_owned))
    }

    /// The level in force.
    pub(super) fn level(&self, subject: Option<&str>) -> &str {
        let of = |scope: Option<&str>| self.config(scope)?.compatibility_level.as_deref();
        scopes(subject).find_map(of).unwrap_or(DEFAULT_LEVEL)
    }

    /// Is the subject to hold normalised texts?
    pub(super) fn normalizes(&self, subject: Option<&str>) -> Option<bool> {
        scopes(subject).find_map(|scope| self.config(scope)?.normalize)
    }

    /// The mode set for a subject, or that of all for `None`.
    pub(super) fn mode_of(&self, subject: Option<&str>) -> Option<&str> {
        let found = self.modes.get(&subject.map(str::to_owned)).map(String::as_str);
        if subject.is_none() { found.or(Some(DEFAULT_MODE)) } else { found }
    }

    /// The mode in force.
    pub(super) fn mode(&self, subject: Option<&str>) -> &str {
        match self.mode_of(None).unwrap_or(DEFAULT_MODE) {
            all @ "READONLY_OVERRIDE" => all,
            all => scopes(subject).find_map(|scope| self.mode_of(scope)).unwrap_or(all),
        }
    }
}

/// Whose settings count for a subject, the nearest first: its own, its context's, those of all.
fn scopes(subject: Option<&str>) -> impl Iterator<Item = Option<&str>> {
    let context = subject.and_then(names::context_subject);
    subject.map(Some).into_iter().chain(context.map(Some)).chain([None])
}

fn set<T>(map: &mut BTreeMap<Option<String>, T>, subject: Option<String>, value: Option<T>) {
    match value {
        Some(value) => map.insert(subject, value),
        None => map.remove(&subject),
    };
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
            metadata: None,
            rule_set: None,
        })
    }

    fn id_of(state: &State, text: &str) -> Option<i32> {
        state.id_of(&Identity::new(Kind::Avro, schema::canonical(Kind::Avro, text), &[], None, None))
    }

    // STR-20
    #[test]
    fn one_text_has_one_id_and_versions_are_not_used_again() {
        let mut state = State::default();
        state.apply(schema("a", 1, 1, r#"{"type":"long","doc":"x"}"#));
        state.apply(schema("b", 1, 1, r#"{ "doc": "x", "type": "long" }"#));
        assert_eq!(id_of(&state, r#"{"doc":"x","type":"long"}"#), Some(1));
        assert_eq!(state.uses(1, false).count(), 2);
        state.apply(Change::DeleteSubject { subject: "a".to_owned(), version: 1 });
        assert!(state.versions("a", false).is_err());
        assert_eq!(state.versions("a", true).unwrap().len(), 1);
        state.apply(Change::Purge { subject: "a".to_owned(), version: 1 });
        assert_eq!((state.next_version("a"), state.last_id()), (2, 1));
        state.apply(Change::Purge { subject: "b".to_owned(), version: 1 });
        assert!(state.schema(1).is_err() && id_of(&state, r#"{"doc":"x","type":"long"}"#).is_none());
        assert_eq!((state.text_bytes(), state.last_id()), (0, 1));
        assert!(state.guids.is_empty());
    }

    // STR-20: a schema keeps its name when it comes back under another id
    #[test]
    fn names_of_schemas_depend_on_what_they_say() {
        let mut state = State::default();
        for (version, text) in [(1, "\"int\""), (2, "\"long\"")] {
            state.apply(schema("a", version, version, text));
        }
        let guid = |state: &State, id: i32| state.schema(id).unwrap().guid.to_string();
        let (one, other) = (guid(&state, 1), guid(&state, 2));
        assert_ne!(one, other);
        assert_eq!(state.id_of_guid(&one).unwrap(), 1);
        state.apply(Change::Purge { subject: "a".to_owned(), version: 1 });
        assert!(state.id_of_guid(&one).is_err() && state.id_of_guid("no guid").is_err());
        state.apply(schema("b", 1, 3, "\"int\""));
        assert_eq!(guid(&state, 3), one);
    }

    #[test]
    fn settings_of_a_subject_go_before_those_of_all() {
        let mut state = State::default();
        let level = |level: &str| Config { compatibility_level: Some(level.to_owned()), ..Config::default() };
        assert_eq!(state.level(Some("s")), "BACKWARD");
        state.apply(Change::Config { subject: Some("s".to_owned()), config: Some(level("NONE")) });
        state.apply(Change::Config { subject: None, config: Some(level("FULL")) });
        assert_eq!((state.level(Some("s")), state.level(Some("t"))), ("NONE", "FULL"));
        state.apply(Change::Config { subject: Some(":.site:".to_owned()), config: Some(level("FORWARD")) });
        assert_eq!((state.level(Some(":.site:s")), state.level(Some(":.other:s"))), ("FORWARD", "FULL"));
        state.apply(Change::Mode { subject: Some("s".to_owned()), mode: Some("IMPORT".to_owned()) });
        assert_eq!((state.mode(Some("s")), state.mode(Some("t"))), ("IMPORT", "READWRITE"));
        state.apply(Change::Mode { subject: None, mode: Some("READONLY_OVERRIDE".to_owned()) });
        assert_eq!(state.mode(Some("s")), "READONLY_OVERRIDE");
    }

    // STR-20: a cleared subject of another registry
    #[test]
    fn clearing_takes_the_soft_deleted_versions() {
        let mut state = State::default();
        for (version, text) in [(1, "\"int\""), (2, "\"long\"")] {
            state.apply(schema("a", version, version, text));
        }
        state.apply(Change::DeleteSubject { subject: "a".to_owned(), version: 1 });
        state.apply(Change::ClearSubject { subject: Some("a".to_owned()) });
        assert_eq!(state.versions("a", true).unwrap().len(), 1);
        state.apply(Change::ClearSubject { subject: None });
        assert_eq!(state.versions("a", true).unwrap().len(), 1);
        assert!(state.schema(1).is_err());
    }
}
