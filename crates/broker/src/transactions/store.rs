//! The durable side of the coordinator: the newest state of every transactional id in `__transaction_state`.
//!
//! Every decision is a record; when enough has been appended all live states are written anew and everything before them
//! is dropped, as with group offsets.
//! Invariant: records of one transactional id lie in the order of its decisions, because the caller holds its lock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use commitlog::{Clock, Log};
use kafka::protocol::records::{self, Record};
use kafka_protocol::error::ResponseError;

use super::records::{decode_key, decode_value, encode_key, encode_value};
use super::state::Transaction;
use crate::Error;
use crate::commit::{Committer, Ticket};
use crate::replay::replay;
use crate::topics::TRANSACTIONS_TOPIC;

/// Bytes of one batch of a rewrite, roughly; below the log's limit for a batch.
const REWRITE_BATCH_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Store {
    log: Arc<Log>,
    committer: Committer,
    clock: Arc<dyn Clock>,
    rewrite_bytes: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Encoded key and value of every transactional id.
    live: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Bytes appended since the last rewrite, or found at the start.
    since_rewrite: u64,
    /// Bytes of the last rewrite.
    rewritten: u64,
}

impl Store {
    /// Replays the log; returns what it holds.
    pub(super) fn open(
        log: Arc<Log>,
        committer: Committer,
        clock: Arc<dyn Clock>,
        rewrite_bytes: u64,
    ) -> Result<(Self, Vec<(String, Transaction)>), Error> {
        let mut inner = Inner { since_rewrite: log.size_bytes(), ..Inner::default() };
        replay(&log, TRANSACTIONS_TOPIC, |stored| {
            let key = stored.record.key.to_vec();
            match stored.record.value {
                Some(value) => inner.live.insert(key, value.to_vec()),
                None => inner.live.remove(&key),
            };
        })?;
        let read = |(key, value): (&Vec<u8>, &Vec<u8>)| Some((decode_key(key)?, decode_value(value)?));
        let known: Vec<_> = inner.live.iter().filter_map(read).collect();
        if known.len() < inner.live.len() {
            let count = inner.live.len() - known.len();
            tracing::warn!(count, "states of transactions that are not understood are left out");
        }
        Ok((Self { log, committer, clock, rewrite_bytes, inner: Mutex::new(inner) }, known))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a new state, or that the transactional id is forgotten. It counts when a later [`Store::commit`] says so.
    pub(super) fn put(&self, id: &str, transaction: Option<&Transaction>) -> Result<(), ResponseError> {
        let (key, value) = (encode_key(id), transaction.map(encode_value));
        let mut inner = self.lock();
        self.append(&mut inner, &[Record { key: &key, value: value.as_deref() }])?;
        match value {
            Some(value) => inner.live.insert(key, value),
            None => inner.live.remove(&key),
        };
        Ok(())
    }

    /// Begins to make all that was put durable.
    pub(super) fn commit(&self) -> Ticket {
        self.committer.commit(vec![Arc::clone(&self.log)])
    }

    fn append(&self, inner: &mut Inner, entries: &[Record<'_>]) -> Result<(), ResponseError> {
        let mut batch = records::encode(entries, self.clock.now_ms()).map_err(|error| {
            tracing::error!(%error, "cannot encode the state of a transaction");
            ResponseError::UnknownServerError
        })?;
        let appended = self.log.append(&mut batch).map_err(|error| {
            tracing::error!(error = %daemon::report(&error), "cannot write the state of a transaction");
            ResponseError::CoordinatorNotAvailable
        })?;
        inner.since_rewrite += u64::try_from(appended.bytes).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Writes all states anew when enough has piled up, and drops what was before. Returns whether it did.
    pub(super) async fn rewrite_if_due(&self) -> Result<bool, commitlog::Error> {
        let (ticket, start) = {
            let mut inner = self.lock();
            if inner.since_rewrite < self.rewrite_bytes.max(2 * inner.rewritten) {
                return Ok(false);
            }
            let start = self.log.end_offset();
            let live = std::mem::take(&mut inner.live);
            inner.since_rewrite = 0;
            let written = self.append_all(&mut inner, &live);
            inner.live = live;
            inner.rewritten = inner.since_rewrite;
            inner.since_rewrite = 0;
            if written.is_err() {
                return Ok(false); // said already; the next time comes when as much has piled up again
            }
            (self.commit(), start)
        };
        if ticket.durable().await.is_err() {
            return Ok(false);
        }
        self.log.delete_records_before(start)?;
        Ok(true)
    }

    fn append_all(&self, inner: &mut Inner, live: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<(), ResponseError> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for (key, value) in live {
            bytes += key.len() + value.len() + 32;
            if bytes > REWRITE_BATCH_BYTES && !batch.is_empty() {
                self.append(inner, &batch)?;
                batch.clear();
                bytes = 0;
            }
            batch.push(Record { key, value: Some(value) });
        }
        if batch.is_empty() { Ok(()) } else { self.append(inner, &batch) }
    }
}
