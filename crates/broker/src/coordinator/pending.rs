//! Offsets committed inside a transaction: pending until its producer's marker comes, then the group's, or gone.
//!
//! They are batches of the transaction in `__consumer_offsets`, and the marker ends them there as it ends records in
//! other topics; so a restart finds the same. Kept by producer: one producer has one transaction at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use commitlog::batch::{Marker, end_of_transaction};
use kafka::protocol::records::Record;
use kafka_protocol::error::ResponseError;

use super::offset_records::{decode_key, decode_value, encode_key, encode_value};
use super::offsets::{Committed, Inner, Offsets};
use crate::commit::Ticket;
use crate::limits::GROUP_OFFSETS_MAX;

/// Group, topic, partition.
type Key = (String, String, i32);

/// What one open transaction would commit.
#[derive(Debug, Default)]
pub(super) struct Pending {
    epoch: i16,
    offsets: BTreeMap<Key, Committed>,
}

/// By producer id. Bounded by the transactions that may be open, and by [`GROUP_OFFSETS_MAX`] for each.
pub(super) type PendingByProducer = BTreeMap<i64, Pending>;

impl Offsets {
    /// Writes offsets of one group as part of a producer's transaction; they are pending when the ticket says so.
    pub(crate) fn commit_pending(
        &self,
        group: &str,
        producer: (i64, i16),
        offsets: Vec<(String, i32, Committed)>,
    ) -> Result<Option<Ticket>, ResponseError> {
        if offsets.is_empty() {
            return Ok(None);
        }
        let (producer_id, epoch) = producer;
        let mut inner = self.lock();
        let have = inner.pending.get(&producer_id).map_or(0, |pending| pending.offsets.len());
        if have + offsets.len() > GROUP_OFFSETS_MAX {
            return Err(ResponseError::InvalidCommitOffsetSize);
        }
        let offsets: BTreeMap<Key, Committed> = offsets
            .into_iter()
            .map(|(topic, partition, committed)| ((group.to_owned(), topic, partition), committed))
            .collect();
        self.append_pending(&mut inner, producer_id, epoch, &offsets)?;
        let pending = inner.pending.entry(producer_id).or_default();
        pending.epoch = epoch;
        pending.offsets.extend(offsets);
        drop(inner);
        Ok(Some(self.committer.commit(vec![Arc::clone(&self.log)])))
    }

    fn append_pending(
        &self,
        inner: &mut Inner,
        producer_id: i64,
        epoch: i16,
        offsets: &BTreeMap<Key, Committed>,
    ) -> Result<(), ResponseError> {
        let encoded: Vec<(Vec<u8>, Vec<u8>)> = offsets
            .iter()
            .map(|((group, topic, partition), committed)| {
                (encode_key(group, topic, *partition), encode_value(committed))
            })
            .collect();
        let entries: Vec<Record<'_>> = encoded.iter().map(|(key, value)| Record { key, value: Some(value) }).collect();
        self.append(inner, &entries, Some((producer_id, epoch)))
    }

    /// Part of a rewrite: what is pending now.
    pub(super) fn rewrite_pending(&self, inner: &mut Inner) -> Result<(), ResponseError> {
        let pending = std::mem::take(&mut inner.pending);
        let mut pairs = pending.iter();
        let written = pairs.try_for_each(|(producer_id, Pending { epoch, offsets })| {
            self.append_pending(inner, *producer_id, *epoch, offsets)
        });
        inner.pending = pending;
        written
    }

    /// Ends a producer's transaction in the log of offsets; its pending offsets are the groups' now, or gone. Harmless to
    /// repeat. It is done when the ticket says so.
    pub(crate) fn end_transaction(
        &self,
        producer_id: i64,
        epoch: i16,
        marker: Marker,
    ) -> Result<Ticket, commitlog::Error> {
        let mut inner = self.lock();
        let mut batch = end_of_transaction(producer_id, epoch, marker, self.clock.now_ms());
        match self.log.append(&mut batch) {
            Ok(appended) => {
                inner.since_rewrite += u64::try_from(appended.bytes).unwrap_or(u64::MAX);
                inner.settle(producer_id, marker);
            }
            // a later producer of the same id has come: this marker was written before
            Err(commitlog::Error::InvalidProducerEpoch { .. }) => {}
            Err(error) => return Err(error),
        }
        drop(inner);
        Ok(self.committer.commit(vec![Arc::clone(&self.log)]))
    }

    /// Whether an open transaction would change this offset.
    pub(crate) fn is_pending(&self, group: &str, topic: &str, partition: i32) -> bool {
        let inner = self.lock();
        if inner.pending.is_empty() {
            return false;
        }
        let key = (group.to_owned(), topic.to_owned(), partition);
        inner.pending.values().any(|pending| pending.offsets.contains_key(&key))
    }
}

impl Inner {
    /// Takes over a record of a transaction, as the log holds it.
    pub(super) fn apply_pending(&mut self, record: &Record<'_>, producer_id: i64, epoch: i16) {
        let Some(key) = decode_key(record.key) else { return };
        let Some(committed) = record.value.and_then(decode_value) else { return };
        let pending = self.pending.entry(producer_id).or_default();
        pending.epoch = epoch;
        pending.offsets.insert((key.group, key.topic, key.partition), committed);
    }

    /// Takes over a marker, as the log holds it: its key is version 0 and the kind.
    pub(super) fn settle_stored(&mut self, producer_id: i64, key: &[u8]) {
        match key {
            [0, 0, 0, 0] => self.settle(producer_id, Marker::Abort),
            [0, 0, 0, 1] => self.settle(producer_id, Marker::Commit),
            _ => {} // other control records end nothing
        }
    }

    /// Ends what a producer has pending.
    pub(super) fn settle(&mut self, producer_id: i64, marker: Marker) {
        let Some(pending) = self.pending.remove(&producer_id) else { return };
        if marker == Marker::Commit {
            for ((group, topic, partition), committed) in pending.offsets {
                self.groups.entry(group).or_default().insert((topic, partition), committed);
            }
        }
    }
}
