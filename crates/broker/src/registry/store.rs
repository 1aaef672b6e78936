//! The registry's changes: decided on the state, written to `_schemas`, made durable, applied, answered. In that order.
//!
//! Invariants: one change at a time, so ids and versions are handed out once; what was written is applied before the next
//! change is decided, also when its client went away in between.

use std::sync::{Arc, PoisonError, RwLock};

use commitlog::{Clock, Log};
use kafka::protocol::records::{self, Record};
use tokio::sync::{Mutex, Semaphore};
use uuid::Uuid;

use super::decide::{self, Against, Submitted};
use super::error::ApiError;
use super::names::VersionName;
use super::record::{Change, Config, Reference};
use super::schema::{self, Kind, Parsed};
use super::state::State;
use crate::Error;
use crate::commit::Committer;
use crate::limits::{REGISTRY_JUDGES_MAX, SCHEMAS_BATCH_BYTES_MAX};
use crate::replay::replay;
use crate::topics::SCHEMAS_TOPIC;

/// Schemas, subjects and their settings, backed by a log.
#[derive(Debug)]
pub(crate) struct Registry {
    log: Arc<Log>,
    committer: Committer,
    clock: Arc<dyn Clock>,
    /// What is durable.
    state: RwLock<State>,
    /// What is written and not yet known to be durable; held by whoever makes a change.
    writing: Mutex<Vec<Change>>,
    /// Parsing and comparing takes a processor for as long as it takes.
    judges: Arc<Semaphore>,
}

/// A version as a client sees it.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) subject: String,
    pub(super) version: i32,
    pub(super) id: i32,
    pub(super) kind: Kind,
    pub(super) text: String,
    pub(super) references: Vec<Reference>,
    pub(super) metadata: Option<serde_json::Value>,
    pub(super) rule_set: Option<serde_json::Value>,
    pub(super) guid: Uuid,
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
        Ok(Self {
            log,
            committer,
            clock,
            state: RwLock::new(state),
            writing: Mutex::default(),
            judges: Arc::new(Semaphore::new(REGISTRY_JUDGES_MAX)),
        })
    }

    /// Looks at the state.
    pub(super) fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until what was written is durable, and applies it.
    async fn settle(&self, written: &mut Vec<Change>) -> Result<(), ApiError> {
        if written.is_empty() {
            return Ok(());
        }
        let durable = self.committer.commit(vec![Arc::clone(&self.log)]).durable().await;
        if let Err(error) = durable {
            tracing::error!(%error, "a change of the schema registry is not durable");
            return Err(ApiError::store());
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for change in written.drain(..) {
            state.apply(change);
        }
        Ok(())
    }

    /// Decides on the state, writes what was decided, and returns when it is durable and applied.
    async fn change<T>(
        &self,
        written: &mut Vec<Change>,
        decide: impl FnOnce(&State) -> Result<(Vec<Change>, T), ApiError>,
    ) -> Result<T, ApiError> {
        self.settle(written).await?;
        let (changes, answer) = self.read(decide)?;
        let encoded: Vec<_> = changes.iter().map(Change::encode).collect();
        let size = |(key, value): &(Vec<u8>, Option<Vec<u8>>)| key.len() + value.as_ref().map_or(0, Vec::len) + 64;
        if encoded.iter().any(|record| size(record) > SCHEMAS_BATCH_BYTES_MAX) {
            return Err(ApiError::schema_too_large());
        }
        let (mut changes, mut rest) = (changes.into_iter(), encoded.as_slice());
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|record| {
                bytes += size(record);
                bytes <= SCHEMAS_BATCH_BYTES_MAX
            });
            let (batch, more) = rest.split_at(fits.count().max(1));
            self.append(batch)?;
            written.extend(changes.by_ref().take(batch.len()));
            rest = more;
        }
        self.settle(written).await?;
        Ok(answer)
    }

    /// One batch: all of it is there after a crash, or nothing.
    fn append(&self, encoded: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), ApiError> {
        let records: Vec<Record<'_>> =
            encoded.iter().map(|(key, value)| Record { key, value: value.as_deref() }).collect();
        let batch = records::encode(&records, self.clock.now_ms()).map_err(|error| error.to_string());
        let stored = batch.and_then(|mut batch| self.log.append(&mut batch).map_err(|error| daemon::report(&error)));
        stored.map(drop).map_err(|error| {
            tracing::error!(error, "cannot write a change of the schema registry");
            ApiError::store()
        })
    }

    /// Runs something that takes a processor away from the threads that serve.
    async fn aside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        let permit = Arc::clone(&self.judges).acquire_owned().await.map_err(|_| ApiError::store())?;
        let worked = tokio::task::spawn_blocking(move || {
            let _until_done = permit; // also when the client has gone
            work()
        });
        worked.await.map_err(|error| {
            tracing::error!(%error, "judging a schema failed");
            ApiError::store()
        })
    }

    async fn parse(&self, subject: &str, submitted: &Submitted, normalize: bool) -> Result<Parsed, ApiError> {
        let (references, normalize) = self.read(|state| {
            let references = state.resolve(&submitted.references)?;
            let references: Vec<String> = references.into_iter().map(str::to_owned).collect();
            Ok::<_, ApiError>((references, normalize || state.normalizes(Some(subject)).unwrap_or(false)))
        })?;
        let (kind, text) = (submitted.kind, submitted.text.clone());
        let parsed = self.aside(move || {
            let references: Vec<&str> = references.iter().map(String::as_str).collect();
            schema::parse(kind, &text, &references)
        });
        let mut parsed = parsed.await?.map_err(ApiError::invalid_schema)?;
        if normalize {
            parsed.text.clone_from(&parsed.canonical);
        }
        Ok(parsed)
    }

    async fn judge(&self, subject: &str, parsed: &Parsed, against: Against) -> Result<Vec<String>, ApiError> {
        let (level, name, older) = self.read(|state| decide::older(state, subject, against))?;
        if older.is_empty() {
            return Ok(Vec::new());
        }
        let parsed = parsed.clone();
        self.aside(move || decide::judge(&parsed, level, &name, &older)).await
    }

    /// Registers a schema under a subject; returns its id. The same schema twice is one version.
    pub(super) async fn register(
        &self,
        subject: &str,
        mut submitted: Submitted,
        normalize: bool,
    ) -> Result<i32, ApiError> {
        if normalize {
            submitted.references.sort();
        }
        let parsed = self.parse(subject, &submitted, normalize).await?;
        let mut written = self.writing.lock().await;
        self.settle(&mut written).await?;
        let found = self.read(|state| decide::find(state, subject, &submitted, &parsed, false));
        if let Some((_, id)) = found
            && submitted.id.is_none()
            && submitted.version.is_none()
        {
            return Ok(id); // in whatever mode: nothing changes
        }
        self.read(|state| decide::may_register(state, subject, &submitted))?;
        if submitted.id.is_none() {
            let messages = self.judge(subject, &parsed, Against::Level).await?;
            if !messages.is_empty() {
                return Err(ApiError::incompatible(subject, &messages));
            }
        }
        self.change(&mut written, |state| {
            decide::may_register(state, subject, &submitted)?;
            state.resolve(&submitted.references)?; // they may have gone in the meantime
            match decide::register(state, subject, &submitted, &parsed)? {
                Err(id) => Ok((Vec::new(), id)),
                Ok(value) => {
                    tracing::info!(subject, id = value.id, version = value.version, "schema registered");
                    let id = value.id;
                    Ok((vec![Change::Schema(value)], id))
                }
            }
        })
        .await
    }

    /// The version of a subject that has this schema.
    pub(super) async fn lookup(
        &self,
        subject: &str,
        submitted: &Submitted,
        normalize: bool,
        deleted: bool,
    ) -> Result<Found, ApiError> {
        self.read(|state| state.versions(subject, deleted))?;
        let parsed = self.parse(subject, submitted, normalize).await?;
        self.read(|state| {
            let found = decide::find(state, subject, submitted, &parsed, deleted);
            let (version, id) = found.ok_or_else(ApiError::schema_not_found)?;
            self::found(state, subject, version, id)
        })
    }

    pub(super) fn version(&self, subject: &str, name: VersionName, deleted: bool) -> Result<Found, ApiError> {
        self.read(|state| {
            let (version, entry) = state.version(subject, name, deleted)?;
            found(state, subject, version, entry.id)
        })
    }

    /// Why a schema could not be registered; empty when it could.
    pub(super) async fn check(
        &self,
        subject: &str,
        submitted: &Submitted,
        normalize: bool,
        against: Against,
    ) -> Result<Vec<String>, ApiError> {
        self.read(|state| decide::older(state, subject, against)).map(drop)?;
        let parsed = self.parse(subject, submitted, normalize).await?;
        self.judge(subject, &parsed, against).await
    }

    pub(super) async fn delete_subject(&self, subject: &str, permanent: bool) -> Result<Vec<i32>, ApiError> {
        let mut written = self.writing.lock().await;
        let numbers = self.change(&mut written, |state| decide::delete_subject(state, subject, permanent)).await?;
        tracing::info!(subject, permanent, "subject deleted");
        Ok(numbers)
    }

    pub(super) async fn delete_version(
        &self,
        subject: &str,
        name: VersionName,
        permanent: bool,
    ) -> Result<i32, ApiError> {
        let mut written = self.writing.lock().await;
        let version =
            self.change(&mut written, |state| decide::delete_version(state, subject, name, permanent)).await?;
        tracing::info!(subject, version, permanent, "version of a subject deleted");
        Ok(version)
    }

    /// Changes the settings of a subject or of all, or takes them back.
    pub(super) async fn set_config(&self, subject: Option<&str>, config: Option<Config>) -> Result<(), ApiError> {
        let mut written = self.writing.lock().await;
        self.change(&mut written, |state| Ok((decide::set_config(state, subject, config)?, ()))).await
    }

    pub(super) async fn set_mode(
        &self,
        subject: Option<&str>,
        mode: Option<&str>,
        force: bool,
    ) -> Result<(), ApiError> {
        let mut written = self.writing.lock().await;
        self.change(&mut written, |state| Ok((decide::set_mode(state, subject, mode, force)?, ()))).await
    }
}

/// A version with its schema.
pub(super) fn found(state: &State, subject: &str, version: i32, id: i32) -> Result<Found, ApiError> {
    let stored = state.schema(id)?.clone();
    let (kind, text, references) = (stored.kind, stored.text, stored.references);
    let (metadata, rule_set, guid) = (stored.metadata, stored.rule_set, stored.guid);
    Ok(Found { subject: subject.to_owned(), version, id, kind, text, references, metadata, rule_set, guid })
}
