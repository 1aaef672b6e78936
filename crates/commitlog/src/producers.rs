//! Producers with an id: which sequence numbers have been stored, so that a retry is acknowledged instead of repeated,
//! and which transactions are open.
//!
//! The rules are Kafka's: an unknown producer may start anywhere, a known one continues where it stopped, a higher
//! epoch starts at zero, and the five newest batches are remembered to recognise retries. A transactional batch opens its
//! producer's transaction, a marker ends it; in between only transactional batches are taken from that producer.
//! Invariant: the state is a function of the stored batches, so that recovery (footer snapshot + scan) gets it back.

use std::collections::{BTreeSet, HashMap};

use crate::batch::{Header, Marker};
use crate::error::Error;
use crate::transactions::{Aborted, Ended};

/// Batches remembered per producer; clients keep at most five requests in flight.
pub const BATCHES_REMEMBERED: usize = 5;
/// Producers remembered per partition. On reaching it the one that was silent longest is forgotten: its next batch is
/// taken as that of an unknown producer. One with an open transaction is never forgotten; when all have one, a further
/// transaction is refused.
pub const PRODUCERS_MAX: usize = 4_096;
/// A producer silent for longer than this is forgotten, unless its transaction is open.
pub const PRODUCER_EXPIRY_MS: i64 = 7 * 24 * 3_600 * 1_000;

/// One stored batch of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerBatch {
    /// Sequence number of its first record.
    pub first_sequence: i32,
    /// Sequence number of its last record.
    pub last_sequence: i32,
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset of its last record.
    pub last_offset: i64,
    /// Largest timestamp in the batch, milliseconds.
    pub timestamp_ms: i64,
}

/// What is known about one producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerState {
    /// Its id.
    pub producer_id: i64,
    /// Newest epoch seen.
    pub epoch: i16,
    /// Wall clock of its last batch (of recovery, for batches found by scanning), milliseconds.
    pub last_seen_ms: i64,
    /// Offset of the first record of its open transaction.
    pub transaction_start: Option<i64>,
    /// Up to five newest batches, oldest first. Transactional batches without sequence numbers are not among them.
    pub batches: Vec<ProducerBatch>,
}

/// The producers of one partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Producers {
    by_id: HashMap<i64, ProducerState>,
    /// Start and producer of every open transaction.
    open: BTreeSet<(i64, i64)>,
}

/// Changes that an append would make; applied once its bytes are written.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    states: Vec<ProducerState>,
    ended: Option<Ended>,
}

/// The stored batch that a retry repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Duplicate {
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
}

fn next_sequence(sequence: i32) -> i32 {
    sequence.checked_add(1).unwrap_or(0)
}

impl ProducerState {
    fn new(producer_id: i64, epoch: i16) -> Self {
        let batches = Vec::with_capacity(BATCHES_REMEMBERED);
        Self { producer_id, epoch, last_seen_ms: 0, transaction_start: None, batches }
    }

    fn record(&mut self, header: &Header, base_offset: i64, now_ms: i64) {
        self.hear(header.producer_epoch, now_ms);
        if header.transactional() {
            self.transaction_start.get_or_insert(base_offset);
        }
        if header.base_sequence < 0 {
            return;
        }
        if self.batches.len() == BATCHES_REMEMBERED {
            self.batches.remove(0);
        }
        self.batches.push(ProducerBatch {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset,
            last_offset: base_offset + i64::from(header.last_offset_delta),
            timestamp_ms: header.max_timestamp,
        });
    }

    fn hear(&mut self, epoch: i16, now_ms: i64) {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
        self.last_seen_ms = now_ms;
    }

    /// Ends the open transaction, if there is one.
    fn end(&mut self, header: &Header, marker: Marker, marker_offset: i64, now_ms: i64) -> Option<Ended> {
        self.hear(header.producer_epoch, now_ms);
        let first_offset = self.transaction_start.take()?;
        let aborted = marker == Marker::Abort;
        Some(Ended { producer_id: self.producer_id, first_offset, marker_offset, aborted })
    }

    fn check_epoch(&self, header: &Header) -> Result<(), Error> {
        if header.producer_epoch < self.epoch {
            return Err(Error::InvalidProducerEpoch {
                producer_id: self.producer_id,
                epoch: header.producer_epoch,
                current: self.epoch,
            });
        }
        Ok(())
    }

    /// Decides about the producer's next batch.
    fn check(&self, header: &Header) -> Result<Option<Duplicate>, Error> {
        self.check_epoch(header)?;
        if self.transaction_start.is_some() && !header.transactional() {
            return Err(Error::InsideTransaction { producer_id: self.producer_id });
        }
        if header.base_sequence < 0 {
            return Ok(None);
        }
        let out_of_order = |expected| Error::OutOfOrderSequence {
            producer_id: self.producer_id,
            sequence: header.base_sequence,
            expected,
        };
        if header.producer_epoch > self.epoch {
            return if header.base_sequence == 0 { Ok(None) } else { Err(out_of_order(0)) };
        }
        let repeated = self.batches.iter().find(|batch| {
            batch.first_sequence == header.base_sequence && batch.last_sequence == header.last_sequence()
        });
        if let Some(batch) = repeated {
            return Ok(Some(Duplicate { base_offset: batch.base_offset, last_offset: batch.last_offset }));
        }
        // no batches of this epoch: a marker brought it
        let expected = self.batches.last().map_or(0, |batch| next_sequence(batch.last_sequence));
        if expected == header.base_sequence { Ok(None) } else { Err(out_of_order(expected)) }
    }
}

fn tracked(header: &Header) -> bool {
    header.producer_id >= 0 && (header.base_sequence >= 0 || header.transactional()) && !header.control()
}

impl Producers {
    /// Decides about one batch of an append and stages what storing it at `base_offset` would change. `marker` says how
    /// the batch ends a transaction, if it does.
    pub(crate) fn stage(
        &self,
        staged: &mut Staged,
        header: &Header,
        marker: Option<Marker>,
        base_offset: i64,
        now_ms: i64,
    ) -> Result<Option<Duplicate>, Error> {
        if let Some(marker) = marker {
            return self.stage_end(staged, header, marker, base_offset, now_ms).map(|()| None);
        }
        if !tracked(header) {
            return Ok(None);
        }
        let position = staged.states.iter().position(|state| state.producer_id == header.producer_id);
        let mut state = match position {
            Some(index) => staged.states.swap_remove(index),
            None => match self.by_id.get(&header.producer_id) {
                Some(state) => state.clone(),
                None if header.transactional() && self.open.len() >= PRODUCERS_MAX => {
                    return Err(Error::TooManyTransactions { limit: PRODUCERS_MAX });
                }
                None => ProducerState::new(header.producer_id, header.producer_epoch),
            },
        };
        if (position.is_some() || self.by_id.contains_key(&header.producer_id))
            && let Some(duplicate) = state.check(header)?
        {
            return Ok(Some(duplicate));
        }
        state.record(header, base_offset, now_ms);
        staged.states.push(state);
        Ok(None)
    }

    /// A marker leaves no trace of a producer that is not known: there is nothing of it to end.
    fn stage_end(
        &self,
        staged: &mut Staged,
        header: &Header,
        marker: Marker,
        base_offset: i64,
        now_ms: i64,
    ) -> Result<(), Error> {
        let Some(state) = self.by_id.get(&header.producer_id) else { return Ok(()) };
        state.check_epoch(header)?;
        let mut state = state.clone();
        staged.ended = state.end(header, marker, base_offset, now_ms);
        staged.states.push(state);
        Ok(())
    }

    /// The answer to an append that repeats some stored batches and brings others: no client does that in good order.
    pub(crate) fn mixed_retry(&self, batches: &[u8]) -> Error {
        let header = Header::parse(batches).ok();
        let (producer_id, sequence) = header.map_or((-1, -1), |header| (header.producer_id, header.base_sequence));
        let last = self.by_id.get(&producer_id).and_then(|state| state.batches.last());
        let expected = last.map_or(0, |batch| next_sequence(batch.last_sequence));
        Error::OutOfOrderSequence { producer_id, sequence, expected }
    }

    /// Applies staged changes; returns the transaction that ended with them.
    pub(crate) fn apply(&mut self, staged: Staged) -> Option<Ended> {
        for state in staged.states {
            let before = self.by_id.get(&state.producer_id).and_then(|before| before.transaction_start);
            self.note(state.producer_id, before, state.transaction_start);
            self.by_id.insert(state.producer_id, state);
        }
        self.forget_the_quiet();
        staged.ended
    }

    /// Takes over a batch found in the log; what is stored is not judged again. Returns the aborted transaction whose
    /// marker it is.
    pub(crate) fn replay(&mut self, header: &Header, marker: Option<Marker>, now_ms: i64) -> Option<Aborted> {
        let (id, epoch) = (header.producer_id, header.producer_epoch);
        if let Some(marker) = marker {
            let ended = self.by_id.get_mut(&id)?.end(header, marker, header.base_offset, now_ms)?;
            self.note(id, Some(ended.first_offset), None);
            return ended.aborted(self.first_open());
        }
        if !tracked(header) {
            return None;
        }
        let state = self.by_id.entry(id).or_insert_with(|| ProducerState::new(id, epoch));
        let before = state.transaction_start;
        state.record(header, header.base_offset, now_ms);
        let after = state.transaction_start;
        self.note(id, before, after);
        self.forget_the_quiet();
        None
    }

    /// Keeps the set of open transactions in step with a producer's state.
    fn note(&mut self, producer_id: i64, before: Option<i64>, after: Option<i64>) {
        if before == after {
            return;
        }
        if let Some(start) = before {
            self.open.remove(&(start, producer_id));
        }
        if let Some(start) = after {
            self.open.insert((start, producer_id));
        }
    }

    /// Start of the oldest open transaction.
    pub(crate) fn first_open(&self) -> Option<i64> {
        self.open.first().map(|(start, _)| *start)
    }

    /// Forgets producers that have been silent for longer than [`PRODUCER_EXPIRY_MS`].
    pub(crate) fn expire(&mut self, now_ms: i64) {
        self.by_id.retain(|_, state| {
            state.transaction_start.is_some() || now_ms.saturating_sub(state.last_seen_ms) <= PRODUCER_EXPIRY_MS
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// All states, by id.
    pub(crate) fn snapshot(&self) -> Vec<ProducerState> {
        let mut states: Vec<ProducerState> = self.by_id.values().cloned().collect();
        states.sort_unstable_by_key(|state| state.producer_id);
        states
    }

    fn forget_the_quiet(&mut self) {
        while self.by_id.len() > PRODUCERS_MAX {
            let idle = self.by_id.values().filter(|state| state.transaction_start.is_none());
            let quietest = idle.min_by_key(|state| (state.last_seen_ms, state.producer_id));
            let Some(id) = quietest.map(|state| state.producer_id) else { return };
            self.by_id.remove(&id);
        }
    }

    /// Appends the encoded states: count, then per producer id, epoch, last seen, start of the open transaction or -1,
    /// batch count and batches.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let states = self.snapshot();
        out.extend_from_slice(&u32::try_from(states.len()).expect("bounded by PRODUCERS_MAX").to_be_bytes());
        for state in states {
            out.extend_from_slice(&state.producer_id.to_be_bytes());
            out.extend_from_slice(&state.epoch.to_be_bytes());
            out.extend_from_slice(&state.last_seen_ms.to_be_bytes());
            out.extend_from_slice(&state.transaction_start.unwrap_or(-1).to_be_bytes());
            out.push(u8::try_from(state.batches.len()).expect("at most five batches"));
            for batch in &state.batches {
                out.extend_from_slice(&batch.first_sequence.to_be_bytes());
                out.extend_from_slice(&batch.last_sequence.to_be_bytes());
                out.extend_from_slice(&batch.base_offset.to_be_bytes());
                out.extend_from_slice(&batch.last_offset.to_be_bytes());
                out.extend_from_slice(&batch.timestamp_ms.to_be_bytes());
            }
        }
    }

    /// Decodes what [`Producers::encode`] wrote, or wrote before it knew transactions; `None` when the bytes are not
    /// exactly that.
    pub(crate) fn decode(bytes: &[u8], with_transactions: bool) -> Option<Producers> {
        let mut input = Input { bytes };
        let mut producers = Producers::default();
        let count = u32::from_be_bytes(input.take()?);
        for _ in 0..count {
            let mut state = ProducerState::new(i64::from_be_bytes(input.take()?), i16::from_be_bytes(input.take()?));
            state.last_seen_ms = i64::from_be_bytes(input.take()?);
            if with_transactions {
                let start = i64::from_be_bytes(input.take()?);
                state.transaction_start = Some(start).filter(|start| *start >= 0);
            }
            let batches = u8::from_be_bytes(input.take()?);
            for _ in 0..batches {
                state.batches.push(ProducerBatch {
                    first_sequence: i32::from_be_bytes(input.take()?),
                    last_sequence: i32::from_be_bytes(input.take()?),
                    base_offset: i64::from_be_bytes(input.take()?),
                    last_offset: i64::from_be_bytes(input.take()?),
                    timestamp_ms: i64::from_be_bytes(input.take()?),
                });
            }
            producers.note(state.producer_id, None, state.transaction_start);
            producers.by_id.insert(state.producer_id, state);
        }
        input.bytes.is_empty().then_some(producers)
    }
}

struct Input<'a> {
    bytes: &'a [u8],
}

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.bytes.split_first_chunk::<N>()?;
        self.bytes = rest;
        Some(*head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Builder;

    fn header(epoch: i16, sequence: i32) -> Header {
        Header::parse(&Builder::new(1).producer(9, epoch, sequence).record(1, b"x").build()).unwrap()
    }

    fn store(producers: &mut Producers, epoch: i16, sequence: i32, offset: i64) -> Result<Option<Duplicate>, Error> {
        let mut staged = Staged::default();
        let duplicate = producers.stage(&mut staged, &header(epoch, sequence), None, offset, 0)?;
        producers.apply(staged);
        Ok(duplicate)
    }

    // STR-11: duplicates are acknowledged with the original offset, gaps are refused.
    #[test]
    fn sequences() {
        let mut producers = Producers::default();
        for sequence in 0..7 {
            assert_eq!(store(&mut producers, 0, sequence, i64::from(sequence)).unwrap(), None);
        }
        let repeated = store(&mut producers, 0, 4, 99).unwrap().unwrap();
        assert_eq!(repeated.base_offset, 4);
        assert!(matches!(store(&mut producers, 0, 1, 99), Err(Error::OutOfOrderSequence { expected: 7, .. })));
        assert!(matches!(store(&mut producers, 0, 8, 99), Err(Error::OutOfOrderSequence { expected: 7, .. })));
        assert!(matches!(store(&mut producers, 1, 3, 99), Err(Error::OutOfOrderSequence { expected: 0, .. })));
        assert_eq!(store(&mut producers, 1, 0, 7).unwrap(), None);
        assert!(matches!(store(&mut producers, 0, 7, 99), Err(Error::InvalidProducerEpoch { current: 1, .. })));
    }

    #[test]
    fn unknown_producer_may_start_anywhere_and_then_wraps() {
        let mut producers = Producers::default();
        assert_eq!(store(&mut producers, 3, i32::MAX, 0).unwrap(), None);
        assert_eq!(store(&mut producers, 3, 0, 1).unwrap(), None);
    }

    #[test]
    fn round_trip_and_expiry() {
        let mut producers = Producers::default();
        store(&mut producers, 0, 0, 5).unwrap();
        let mut bytes = Vec::new();
        producers.encode(&mut bytes);
        let mut read = Producers::decode(&bytes, true).unwrap();
        assert_eq!(read.snapshot(), producers.snapshot());
        bytes.push(0);
        assert!(Producers::decode(&bytes, true).is_none());
        read.expire(PRODUCER_EXPIRY_MS);
        assert_eq!(read.snapshot().len(), 1);
        read.expire(PRODUCER_EXPIRY_MS + 1);
        assert_eq!(read.snapshot().len(), 0);
    }
}
