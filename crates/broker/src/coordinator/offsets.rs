//! Committed offsets: in memory for reading, in a log of their own for ever. The log holds what must be known of groups
//! and their members as well; `groups.rs` writes that through here.
//!
//! Every commit is a batch in `__consumer_offsets`, durable before it is acknowledged. When enough has been appended,
//! all live records are written anew and everything before them is dropped, so the log stays within a few segments.
//! Invariant: a rewrite is built and appended under the same lock as commits, so it never holds an older record than
//! one that precedes it in the log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use commitlog::{Clock, Log};
use kafka::protocol::records::{self, Record};
use kafka_protocol::error::ResponseError;

use super::offset_records::{decode_key, decode_value, encode_key, encode_value};
use super::pending::PendingByProducer;
use crate::Error;
use crate::commit::{Committer, Ticket};
use crate::core::log_error_code;
use crate::limits::{GROUP_OFFSETS_MAX, GROUPS_MAX};
use crate::replay::replay;
use crate::topics::OFFSETS_TOPIC;

/// Bytes of one batch of a rewrite, roughly; below the log's limit for a batch.
const REWRITE_BATCH_BYTES: usize = 256 * 1024;

/// One committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
    pub(crate) time_ms: i64,
}

/// Key and value of a record that is not an offset; a record without value takes the one of before back.
pub(super) type Entry = (Vec<u8>, Option<Vec<u8>>);

type GroupOffsets = BTreeMap<(String, i32), Committed>;

/// All committed offsets.
#[derive(Debug)]
pub(crate) struct Offsets {
    pub(super) log: Arc<Log>,
    pub(super) committer: Committer,
    pub(super) clock: Arc<dyn Clock>,
    rewrite_bytes: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) groups: BTreeMap<String, GroupOffsets>,
    /// What open transactions would commit.
    pub(super) pending: PendingByProducer,
    /// Records of groups and members, and those of kinds that are not known here.
    kept: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Bytes appended since the last rewrite, or found at the start.
    pub(super) since_rewrite: u64,
    /// Bytes of the last rewrite.
    rewritten: u64,
}

impl Offsets {
    /// Replays the log.
    pub(crate) fn open(
        log: Arc<Log>,
        committer: Committer,
        clock: Arc<dyn Clock>,
        rewrite_bytes: u64,
    ) -> Result<Self, Error> {
        let mut inner = Inner::default();
        replay(&log, OFFSETS_TOPIC, |stored| inner.apply_stored(&stored))?;
        inner.since_rewrite = log.size_bytes();
        Ok(Self { log, committer, clock, rewrite_bytes, inner: Mutex::new(inner) })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes offsets of one group; they count when the ticket says so.
    pub(crate) fn commit(
        &self,
        group: &str,
        offsets: Vec<(String, i32, Committed)>,
    ) -> Result<Option<Ticket>, ResponseError> {
        if offsets.is_empty() {
            return Ok(None);
        }
        let encoded: Vec<(Vec<u8>, Vec<u8>)> = offsets
            .iter()
            .map(|(topic, partition, committed)| (encode_key(group, topic, *partition), encode_value(committed)))
            .collect();
        let entries: Vec<Record<'_>> = encoded.iter().map(|(key, value)| Record { key, value: Some(value) }).collect();
        let mut inner = self.lock();
        let have = inner.groups.get(group);
        if have.is_none() && inner.groups.len() >= GROUPS_MAX {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        let is_new =
            |topic: &str, partition: i32| have.is_none_or(|have| !have.contains_key(&(topic.to_owned(), partition)));
        let new = offsets.iter().filter(|(topic, partition, _)| is_new(topic, *partition)).count();
        if have.map_or(0, BTreeMap::len) + new > GROUP_OFFSETS_MAX {
            return Err(ResponseError::InvalidCommitOffsetSize);
        }
        self.append(&mut inner, &entries, None)?;
        let stored = inner.groups.entry(group.to_owned()).or_default();
        for (topic, partition, committed) in offsets {
            stored.insert((topic, partition), committed);
        }
        drop(inner);
        Ok(Some(self.committer.commit(vec![Arc::clone(&self.log)])))
    }

    /// Takes offsets back: those of one group that `chosen` picks. `None` when there were none.
    pub(crate) fn remove(
        &self,
        group: &str,
        chosen: impl Fn(&str, i32) -> bool,
    ) -> Result<Option<Ticket>, ResponseError> {
        let mut inner = self.lock();
        let Some(stored) = inner.groups.get(group) else { return Ok(None) };
        let gone: Vec<(String, i32)> =
            stored.keys().filter(|(topic, partition)| chosen(topic, *partition)).cloned().collect();
        if gone.is_empty() {
            return Ok(None);
        }
        let keys: Vec<Vec<u8>> = gone.iter().map(|(topic, partition)| encode_key(group, topic, *partition)).collect();
        let entries: Vec<Record<'_>> = keys.iter().map(|key| Record { key, value: None }).collect();
        self.append(&mut inner, &entries, None)?;
        if let Some(stored) = inner.groups.get_mut(group) {
            stored.retain(|key, _| !gone.contains(key));
            if stored.is_empty() {
                inner.groups.remove(group);
            }
        }
        drop(inner);
        Ok(Some(self.committer.commit(vec![Arc::clone(&self.log)])))
    }

    /// Writes what is new about a group. Returns the end of the log behind it; see [`Offsets::when_durable`].
    pub(super) fn keep(&self, entries: Vec<Entry>) -> Result<i64, ResponseError> {
        let mut inner = self.lock();
        let news = |(key, value): &Entry| value.is_some() || inner.kept.contains_key(key);
        let entries: Vec<Entry> = entries.into_iter().filter(news).collect();
        let records: Vec<Record<'_>> =
            entries.iter().map(|(key, value)| Record { key, value: value.as_deref() }).collect();
        self.append(&mut inner, &records, None)?;
        for (key, value) in entries {
            match value {
                Some(value) => drop(inner.kept.insert(key, value)),
                None => drop(inner.kept.remove(&key)),
            }
        }
        Ok(self.log.end_offset())
    }

    /// What [`Offsets::keep`] has written and not taken back, sorted by key.
    pub(super) fn kept(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.lock().kept.clone()
    }

    /// Calls `then` when the log is durable up to `end`: at once if it is, else from the thread that syncs it, and never
    /// if it cannot become so.
    pub(super) fn when_durable(&self, end: i64, then: impl FnOnce() + Send + 'static) {
        if self.log.durable_offset() >= end {
            return then();
        }
        self.committer.commit_then(vec![Arc::clone(&self.log)], move |result| {
            if result.is_ok() {
                then();
            }
        });
    }

    /// The time of day that records are stamped with.
    pub(super) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Begins to make everything durable that was written so far.
    pub(crate) fn sync(&self) -> Ticket {
        self.committer.commit(vec![Arc::clone(&self.log)])
    }

    /// Takes back what all groups have committed for a topic that was deleted.
    pub(crate) fn forget_topic(&self, name: &str) {
        for group in self.groups() {
            if let Err(code) = self.remove(&group, |topic, _| topic == name) {
                tracing::warn!(group, topic = name, ?code, "cannot take back the offsets of a deleted topic");
            }
        }
    }

    /// Appends entries, of a producer's transaction or of none.
    pub(super) fn append(
        &self,
        inner: &mut Inner,
        entries: &[Record<'_>],
        transaction: Option<(i64, i16)>,
    ) -> Result<(), ResponseError> {
        for chunk in chunks(entries) {
            let now_ms = self.clock.now_ms();
            let encoded = match transaction {
                None => records::encode(chunk, now_ms),
                Some((producer_id, epoch)) => records::encode_in_transaction(chunk, now_ms, producer_id, epoch),
            };
            let mut batch = encoded.map_err(|error| {
                tracing::error!(%error, "cannot encode group offsets");
                ResponseError::UnknownServerError
            })?;
            let appended = self.log.append(&mut batch).map_err(|error| {
                tracing::error!(error = %daemon::report(&error), "cannot write group offsets");
                match log_error_code(&error) {
                    ResponseError::NotEnoughReplicas => ResponseError::CoordinatorNotAvailable,
                    code => code,
                }
            })?;
            inner.since_rewrite += u64::try_from(appended.bytes).unwrap_or(u64::MAX);
        }
        Ok(())
    }

    pub(crate) fn get(&self, group: &str, topic: &str, partition: i32) -> Option<Committed> {
        self.lock().groups.get(group)?.get(&(topic.to_owned(), partition)).cloned()
    }

    /// All offsets of a group.
    pub(crate) fn of_group(&self, group: &str) -> Vec<((String, i32), Committed)> {
        let inner = self.lock();
        let stored = inner.groups.get(group).into_iter().flatten();
        stored.map(|(key, committed)| (key.clone(), committed.clone())).collect()
    }

    /// The time of day of a group's newest commit.
    pub(super) fn newest_ms(&self, group: &str) -> Option<i64> {
        self.lock().groups.get(group)?.values().map(|committed| committed.time_ms).max()
    }

    /// Groups that have offsets.
    pub(crate) fn groups(&self) -> Vec<String> {
        self.lock().groups.keys().cloned().collect()
    }

    pub(crate) fn has_group(&self, group: &str) -> bool {
        self.lock().groups.contains_key(group)
    }

    /// Writes all records anew when enough has piled up, and drops what was before. Returns whether it did.
    pub(crate) async fn rewrite_if_due(&self) -> Result<bool, commitlog::Error> {
        let (ticket, start) = {
            let mut inner = self.lock();
            if inner.since_rewrite < self.rewrite_bytes.max(2 * inner.rewritten) {
                return Ok(false);
            }
            let start = self.log.end_offset();
            let encoded: Vec<(Vec<u8>, Vec<u8>)> = inner
                .groups
                .iter()
                .flat_map(|(group, stored)| stored.iter().map(move |entry| (group, entry)))
                .map(|(group, ((topic, partition), committed))| {
                    (encode_key(group, topic, *partition), encode_value(committed))
                })
                .collect();
            let kept = inner.kept.clone();
            let entries: Vec<Record<'_>> = encoded
                .iter()
                .map(|(key, value)| (key, value))
                .chain(&kept)
                .map(|(key, value)| Record { key, value: Some(value) })
                .collect();
            inner.since_rewrite = 0;
            let written = self.append(&mut inner, &entries, None).and_then(|()| self.rewrite_pending(&mut inner));
            inner.rewritten = inner.since_rewrite;
            inner.since_rewrite = 0;
            if written.is_err() {
                return Ok(false); // said already; the next time comes when as much has piled up again
            }
            (self.committer.commit(vec![Arc::clone(&self.log)]), start)
        };
        if ticket.durable().await.is_err() {
            return Ok(false);
        }
        self.log.delete_records_before(start)?;
        Ok(true)
    }
}

impl Inner {
    fn apply_stored(&mut self, stored: &records::Stored<'_>) {
        match stored.transaction {
            Some((producer_id, _)) if stored.control => self.settle_stored(producer_id, stored.record.key),
            Some((producer_id, epoch)) => self.apply_pending(&stored.record, producer_id, epoch),
            None => self.apply(&stored.record),
        }
    }

    fn apply(&mut self, record: &Record<'_>) {
        let Some(key) = decode_key(record.key) else {
            match record.value {
                Some(value) => drop(self.kept.insert(record.key.to_vec(), value.to_vec())),
                None => drop(self.kept.remove(record.key)),
            }
            return;
        };
        match record.value.map(decode_value) {
            Some(Some(committed)) => {
                self.groups.entry(key.group).or_default().insert((key.topic, key.partition), committed);
            }
            Some(None) => {}
            None => {
                if let Some(stored) = self.groups.get_mut(&key.group) {
                    stored.remove(&(key.topic, key.partition));
                    if stored.is_empty() {
                        self.groups.remove(&key.group);
                    }
                }
            }
        }
    }
}

/// Cuts records into batches of bounded size.
pub(super) fn chunks<'a, 'b>(entries: &'a [Record<'b>]) -> impl Iterator<Item = &'a [Record<'b>]> {
    let mut rest = entries;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let mut fits = 0;
        for entry in rest {
            bytes += entry.key.len() + entry.value.map_or(0, <[u8]>::len) + 32;
            if fits > 0 && bytes > REWRITE_BATCH_BYTES {
                break;
            }
            fits += 1;
        }
        let (chunk, after) = rest.split_at(fits);
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}
