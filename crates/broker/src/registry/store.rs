//! The registry's changes: decided on the state, written to `_schemas`, made durable, applied, answered. In that order.
//!
//! Invariant: one change at a time, so ids and versions are handed out once.

use std::sync::{Arc, PoisonError, RwLock};

use commitlog::{Clock, Log};
use kafka::protocol::records::{self, Record};
use tokio::sync::Mutex;

use super::avro::{self, Parsed};
use super::error::ApiError;
use super::record::{Change, Reference, SchemaValue};
use super::state::{Level, State, VersionName, check_subject};
use crate::Error;
use crate::commit::Committer;
use crate::replay::replay;
use crate::topics::SCHEMAS_TOPIC;

/// Schemas, subjects and their settings, backed by a log.
#[derive(Debug)]
pub(crate) struct Registry {
    log: Arc<Log>,
    committer: Committer,
    clock: Arc<dyn Clock>,
    state: RwLock<State>,
    writing: Mutex<()>,
}

/// A schema as a client sends it.
#[derive(Debug, Clone)]
pub(super) struct Submitted {
    pub(super) text: String,
    pub(super) references: Vec<Reference>,
}

/// A version as a client sees it.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) subject: String,
    pub(super) version: i32,
    pub(super) id: i32,
    pub(super) text: String,
    pub(super) references: Vec<Reference>,
}

impl Registry {
    /// Rebuilds the state from the log.
    pub(crate) fn open(log: Arc<Log>, committer: Committer, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let mut state = State::default();
        replay(&log, SCHEMAS_TOPIC, |stored| {
            if let Some(change) = Change::decode(stored.record.key, stored.record.value) {
                state.apply(change);
            }
        })?;
        Ok(Self { log, committer, clock, state: RwLock::new(state), writing: Mutex::new(()) })
    }

    /// Looks at the state.
    pub(super) fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn write(&self, changes: Vec<Change>) -> Result<(), ApiError> {
        let encoded: Vec<_> = changes.iter().map(Change::encode).collect();
        for (key, value) in &encoded {
            let record = Record { key, value: value.as_deref() };
            let stored = records::encode(&[record], self.clock.now_ms()).map_err(|error| error.to_string());
            let stored =
                stored.and_then(|mut batch| self.log.append(&mut batch).map_err(|error| daemon::report(&error)));
            if let Err(error) = stored {
                tracing::error!(error, "cannot write a change of the schema registry");
                return Err(ApiError::store());
            }
        }
        let durable = self.committer.commit(vec![Arc::clone(&self.log)]).durable().await;
        if let Err(error) = durable {
            tracing::error!(%error, "a change of the schema registry is not durable");
            return Err(ApiError::store());
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            state.apply(change);
        }
        Ok(())
    }

    fn parse(state: &State, submitted: &Submitted) -> Result<Parsed, ApiError> {
        let references = state.resolve(&submitted.references)?;
        avro::parse(&submitted.text, &references).map_err(ApiError::invalid_schema)
    }

    /// Registers a schema under a subject; returns its id. The same schema twice is one version.
    pub(super) async fn register(&self, subject: &str, submitted: Submitted) -> Result<i32, ApiError> {
        check_subject(subject)?;
        let _one_at_a_time = self.writing.lock().await;
        let decided = self.read(|state| {
            let parsed = Self::parse(state, &submitted)?;
            if let Some(found) = find(state, subject, &parsed, &submitted.references, false) {
                return Ok(Err(found.id));
            }
            state.check_writable(subject)?;
            let messages = check(state, subject, &parsed, None)?;
            if !messages.is_empty() {
                return Err(ApiError::incompatible(&messages));
            }
            let known = state.id_of(&parsed.canonical, &submitted.references);
            // one id has one text: that of whoever came first
            let stored = known.and_then(|id| state.schema(id).ok());
            let schema = stored.map_or(parsed.text, |stored| stored.text.clone());
            let id = known.unwrap_or_else(|| state.next_id());
            Ok(Ok(SchemaValue {
                subject: subject.to_owned(),
                version: state.next_version(subject),
                id,
                references: submitted.references.clone(),
                schema,
                deleted: false,
                schema_type: None,
            }))
        })?;
        match decided {
            Err(id) => Ok(id),
            Ok(value) => {
                let id = value.id;
                tracing::info!(subject, id, version = value.version, "schema registered");
                self.write(vec![Change::Schema(value)]).await?;
                Ok(id)
            }
        }
    }

    /// The version of a subject that has this schema.
    pub(super) fn lookup(&self, subject: &str, submitted: &Submitted, deleted: bool) -> Result<Found, ApiError> {
        self.read(|state| {
            state.versions(subject, deleted)?;
            let parsed = Self::parse(state, submitted)?;
            find(state, subject, &parsed, &submitted.references, deleted).ok_or_else(ApiError::schema_not_found)
        })
    }

    pub(super) fn version(&self, subject: &str, name: VersionName, deleted: bool) -> Result<Found, ApiError> {
        self.read(|state| {
            let (version, entry) = state.version(subject, name, deleted)?;
            found(state, subject, version, entry.id)
        })
    }

    /// Why a schema could not be registered; empty when it could. `name` picks the version it is held against, `None`
    /// those that the level asks for.
    pub(super) fn check(
        &self,
        subject: &str,
        submitted: &Submitted,
        name: Option<VersionName>,
    ) -> Result<Vec<String>, ApiError> {
        self.read(|state| {
            state.versions(subject, false)?;
            let parsed = Self::parse(state, submitted)?;
            check(state, subject, &parsed, name)
        })
    }

    pub(super) async fn delete_subject(&self, subject: &str, permanent: bool) -> Result<Vec<i32>, ApiError> {
        let _one_at_a_time = self.writing.lock().await;
        let (changes, numbers) = self.read(|state| {
            state.check_writable(subject)?;
            let all = state.versions(subject, true)?;
            let live: Vec<i32> =
                all.iter().filter(|(_, version)| !version.deleted).map(|(number, _)| *number).collect();
            if live.iter().any(|number| !state.referenced_by(subject, *number).is_empty()) {
                return Err(ApiError::referenced());
            }
            if permanent {
                if !live.is_empty() {
                    return Err(ApiError::subject_not_soft_deleted(subject));
                }
                let numbers: Vec<i32> = all.iter().map(|(number, _)| *number).collect();
                let purge = |version: &i32| Change::Purge { subject: subject.to_owned(), version: *version };
                return Ok((numbers.iter().map(purge).collect(), numbers));
            }
            let Some(last) = live.last() else { return Err(ApiError::subject_not_found(subject)) };
            let mut changes = vec![Change::DeleteSubject { subject: subject.to_owned(), version: *last }];
            if state.level_of(Some(subject)).is_some() {
                changes.push(Change::Level { subject: Some(subject.to_owned()), level: None });
            }
            Ok((changes, live))
        })?;
        self.write(changes).await?;
        tracing::info!(subject, permanent, "subject deleted");
        Ok(numbers)
    }

    pub(super) async fn delete_version(
        &self,
        subject: &str,
        name: VersionName,
        permanent: bool,
    ) -> Result<i32, ApiError> {
        let _one_at_a_time = self.writing.lock().await;
        let (change, version) = self.read(|state| {
            state.check_writable(subject)?;
            let (version, entry) = state.version(subject, name, permanent)?;
            if !state.referenced_by(subject, version).is_empty() {
                return Err(ApiError::referenced());
            }
            if permanent {
                if !entry.deleted {
                    return Err(ApiError::version_not_soft_deleted(subject, version));
                }
                return Ok((Change::Purge { subject: subject.to_owned(), version }, version));
            }
            let stored = state.schema(entry.id)?;
            let value = SchemaValue {
                subject: subject.to_owned(),
                version,
                id: entry.id,
                references: stored.references.clone(),
                schema: stored.text.clone(),
                deleted: true,
                schema_type: None,
            };
            Ok((Change::Schema(value), version))
        })?;
        self.write(vec![change]).await?;
        tracing::info!(subject, version, permanent, "version of a subject deleted");
        Ok(version)
    }

    /// Sets, or takes back, the level of a subject or of all.
    pub(super) async fn set_level(&self, subject: Option<&str>, level: Option<&str>) -> Result<(), ApiError> {
        let level = level.map(str::to_ascii_uppercase);
        if level.as_deref().is_some_and(|level| Level::parse(level).is_none()) {
            return Err(ApiError::invalid_level());
        }
        subject.map(check_subject).transpose()?;
        let _one_at_a_time = self.writing.lock().await;
        self.write(vec![Change::Level { subject: subject.map(str::to_owned), level }]).await
    }

    pub(super) async fn set_mode(&self, subject: Option<&str>, mode: Option<&str>) -> Result<(), ApiError> {
        let mode = mode.map(str::to_ascii_uppercase);
        if mode.as_deref().is_some_and(|mode| !matches!(mode, "READWRITE" | "READONLY")) {
            return Err(ApiError::invalid_mode());
        }
        subject.map(check_subject).transpose()?;
        let _one_at_a_time = self.writing.lock().await;
        self.write(vec![Change::Mode { subject: subject.map(str::to_owned), mode }]).await
    }
}

fn found(state: &State, subject: &str, version: i32, id: i32) -> Result<Found, ApiError> {
    let stored = state.schema(id)?;
    let (text, references) = (stored.text.clone(), stored.references.clone());
    Ok(Found { subject: subject.to_owned(), version, id, text, references })
}

/// The newest version of a subject with this schema.
fn find(state: &State, subject: &str, parsed: &Parsed, references: &[Reference], deleted: bool) -> Option<Found> {
    let id = state.id_of(&parsed.canonical, references)?;
    let versions = state.versions(subject, deleted).ok()?;
    let (version, _) = versions.into_iter().rev().find(|(_, version)| version.id == id)?;
    found(state, subject, version, id).ok()
}

/// Holds a schema against older versions: the one named, or those that the subject's level asks for.
fn check(state: &State, subject: &str, new: &Parsed, name: Option<VersionName>) -> Result<Vec<String>, ApiError> {
    let level = Level::parse(state.level(subject)).ok_or_else(ApiError::invalid_level)?;
    let mut versions = match name {
        Some(name) => vec![state.version(subject, name, false)?],
        None => state.versions(subject, false).unwrap_or_default(),
    };
    if name.is_none() && !level.transitive {
        versions = versions.pop().into_iter().collect();
    }
    let mut messages = Vec::new();
    for (number, version) in versions {
        let stored = state.schema(version.id)?;
        let old = avro::parse(&stored.text, &state.resolve(&stored.references)?).map_err(ApiError::invalid_schema)?;
        let mut say = |direction: &str, reasons: Vec<String>| {
            messages.extend(reasons.into_iter().map(|reason| format!("version {number}, {direction}: {reason}")));
        };
        if level.backward {
            say("read by the new schema", avro::can_read(&old, new));
        }
        if level.forward {
            say("reading the new schema", avro::can_read(new, &old));
        }
    }
    Ok(messages)
}
