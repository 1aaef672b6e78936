//! Samples on their way to the stream, bounded: 64 MiB, then the oldest go (OFF-26).
//!
//! The poller puts in and never waits; the pump takes out. What is dropped is counted, leaves a hole in the sequence
//! numbers, and the next sample of each tag concerned says `gap_before`. What the source still keeps, because it was
//! promised a receipt, is never dropped: the source bounds it (law 8 of [`crate::adapter::Adapter`]).
//!
//! The other way round the pump reports here which receipts are due, and the host which tags are new.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::{ClockState, Timestamp};
use tokio::sync::Notify;

use crate::adapter::{Receipt, Tag};
use crate::letter::Letter;
use crate::notice::Notice;
use crate::sample::Sample;

/// Memory for samples the stream has not taken; when full the oldest batch is dropped and counted.
pub const BYTES_MAX: usize = 64 * 1024 * 1024;
/// Ranges of dropped samples that wait to be told; beyond it the last one grows, whatever lies in between.
const LOST_MAX: usize = 64;

/// Samples that were complete at the same moment, in order; or a notice, or a letter, and no samples.
#[derive(Debug, Default)]
pub struct Batch {
    pub samples: Vec<Sample>,
    pub notice: Option<Box<Notice>>,
    pub letter: Option<Box<Letter>>,
    /// Due when this batch and all before it are durable.
    pub receipt: Option<Receipt>,
    /// The source has promised to keep it until it is settled, so it must not be dropped here.
    pub is_owed: bool,
    bytes: usize,
}

impl Batch {
    /// Of these samples.
    pub fn new(samples: Vec<Sample>) -> Self {
        let bytes = samples.iter().map(Sample::bytes).sum();
        Self { samples, bytes, ..Self::default() }
    }

    /// Of one notice.
    pub fn of(notice: Notice) -> Self {
        Self { bytes: notice.bytes(), notice: Some(Box::new(notice)), ..Self::default() }
    }

    /// Of one dead letter.
    pub fn of_letter(letter: Letter) -> Self {
        Self { bytes: letter.bytes(), letter: Some(Box::new(letter)), ..Self::default() }
    }

    /// With what is owed to the source for it.
    #[must_use]
    pub fn owed(self, is_owed: bool, receipt: Option<Receipt>) -> Self {
        Self { receipt, is_owed, ..self }
    }

    /// Memory it takes while it waits.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records it becomes.
    pub fn records(&self) -> usize {
        self.samples.len() + usize::from(self.notice.is_some()) + usize::from(self.letter.is_some())
    }

    /// Moves all times on by so much: they were stamped by a clock that was set since, to this state (OFF-04).
    pub fn correct(&mut self, micros: i64, state: ClockState) {
        for sample in &mut self.samples {
            if sample.is_stamped_here() {
                sample.device_time = sample.device_time.plus_micros(micros);
            }
            sample.gateway_time = sample.gateway_time.plus_micros(micros);
            sample.clock_state = state;
        }
        if let Some(notice) = &mut self.notice {
            notice.at = notice.at.plus_micros(micros);
            notice.clock_state = state;
            if let Some(point) = &mut notice.point {
                point.device_time = point.device_time.plus_micros(micros);
            }
            if let Some(source) = &mut notice.source
                && source.time_source == model::time_source::GATEWAY
            {
                source.device_time = source.device_time.plus_micros(micros);
            }
        }
        if let Some(letter) = &mut self.letter {
            letter.at = letter.at.plus_micros(micros);
            letter.clock_state = state;
        }
    }

    /// Keeps the first `count` samples and returns the others, with the receipt if there are any.
    #[must_use]
    pub fn split_off(&mut self, count: usize) -> Self {
        let receipt = if count < self.samples.len() { self.receipt.take() } else { None };
        let rest = Self::new(self.samples.split_off(count)).owed(self.is_owed, receipt);
        self.bytes -= rest.bytes;
        rest
    }
}

/// Samples that had to go, oldest first, so without a hole among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Sequence numbers of the first and the last.
    pub from_seq: i64,
    pub to_seq: i64,
    pub count: u64,
    /// Device times of the first and the last.
    pub first: Timestamp,
    pub last: Timestamp,
    /// Of the clock that stamped the last.
    pub clock_state: ClockState,
}

impl Lost {
    /// What was kept in between, because its source has a claim to it, begins a new range.
    fn add(ranges: &mut VecDeque<Self>, sample: &Sample) {
        let Sample { seq, device_time, clock_state, .. } = *sample;
        let adjacent = ranges.back().is_some_and(|last| (last.from_seq..=last.to_seq + 1).contains(&seq));
        if !adjacent && ranges.len() < LOST_MAX {
            ranges.push_back(Self {
                from_seq: seq,
                to_seq: seq,
                count: 0,
                first: device_time,
                last: device_time,
                clock_state,
            });
        }
        let Some(lost) = ranges.back_mut() else { return };
        (lost.from_seq, lost.to_seq) = (lost.from_seq.min(seq), lost.to_seq.max(seq));
        (lost.first, lost.last) = (lost.first.min(device_time), lost.last.max(device_time));
        lost.count += 1;
        lost.clock_state = clock_state;
    }
}

/// The queue. Shared by reference; all calls are short.
#[derive(Debug)]
pub struct Outbox {
    inner: Mutex<Inner>,
    changed: Notify,
    settled: Notify,
    bytes_max: usize,
}

#[derive(Debug)]
struct Inner {
    queue: VecDeque<Batch>,
    records: usize,
    bytes: usize,
    /// By tag: a sample of it was dropped and nobody was told yet.
    gaps: Vec<bool>,
    /// What was dropped and is not in the loss ledger yet.
    lost: VecDeque<Lost>,
    /// Tags the pump does not know yet.
    learned: Vec<Tag>,
    /// The newest receipt that is due, and was not handed out yet.
    settled: Option<Receipt>,
    closed: bool,
}

impl Outbox {
    /// For a number of tags.
    pub fn new(tags: usize) -> Self {
        Self::with_limit(tags, BYTES_MAX)
    }

    /// With another limit than [`BYTES_MAX`].
    pub fn with_limit(tags: usize, bytes_max: usize) -> Self {
        let inner = Inner {
            queue: VecDeque::new(),
            records: 0,
            bytes: 0,
            gaps: vec![false; tags],
            lost: VecDeque::new(),
            learned: Vec::new(),
            settled: None,
            closed: false,
        };
        Self { inner: Mutex::new(inner), changed: Notify::new(), settled: Notify::new(), bytes_max }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a batch; returns how many old records had to go.
    pub fn push(&self, batch: Batch) -> u64 {
        let mut dropped = 0;
        {
            let mut inner = self.lock();
            inner.bytes += batch.bytes;
            inner.records += batch.records();
            inner.queue.push_back(batch);
            while inner.bytes > self.bytes_max {
                // what is owed is little, and mostly at the front
                let Some(at) = inner.queue.iter().position(|batch| !batch.is_owed) else { break };
                let Some(oldest) = inner.queue.remove(at) else { break };
                inner.bytes -= oldest.bytes;
                inner.records -= oldest.records();
                dropped += oldest.records() as u64;
                for sample in &oldest.samples {
                    Lost::add(&mut inner.lost, sample);
                    if let Some(gap) = inner.gaps.get_mut(sample.tag) {
                        *gap = true;
                    }
                }
            }
        }
        self.changed.notify_one();
        dropped
    }

    /// Takes the oldest batch; samples after a gap are marked.
    pub fn pop(&self) -> Option<Batch> {
        let mut inner = self.lock();
        let mut batch = inner.queue.pop_front()?;
        inner.bytes -= batch.bytes;
        inner.records -= batch.records();
        for sample in &mut batch.samples {
            if let Some(gap) = inner.gaps.get_mut(sample.tag) {
                sample.gap_before |= std::mem::take(gap);
            }
        }
        Some(batch)
    }

    /// What was dropped since this was asked last: whoever asks tells it.
    pub fn take_lost(&self) -> Option<Lost> {
        self.lock().lost.pop_front()
    }

    /// Makes new tags known, before the first sample of any of them is put in.
    pub fn learn(&self, tags: &[Tag]) {
        let mut inner = self.lock();
        inner.learned.extend_from_slice(tags);
        let count = inner.gaps.len() + tags.len();
        inner.gaps.resize(count, false);
    }

    /// Tags that were learned since this was asked last.
    pub fn take_learned(&self) -> Vec<Tag> {
        std::mem::take(&mut self.lock().learned)
    }

    /// Everything up to this receipt is durable.
    pub fn settle(&self, receipt: Receipt) {
        self.lock().settled = Some(receipt);
        self.settled.notify_one();
    }

    /// The newest receipt that is due since this was asked last.
    pub fn take_settled(&self) -> Option<Receipt> {
        self.lock().settled.take()
    }

    /// Waits until a receipt is due. Cancel-safe.
    pub async fn settled(&self) {
        self.settled.notified().await;
    }

    /// Puts a batch back in front; it was taken out last and not delivered.
    pub fn put_back(&self, batch: Batch) {
        let mut inner = self.lock();
        inner.bytes += batch.bytes;
        inner.records += batch.records();
        inner.queue.push_front(batch);
    }

    /// Waits until a batch was put in or the outbox was closed. Cancel-safe.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// No more will come; what is there shall still go out.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// True after [`Outbox::close`].
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waiting records and their bytes.
    pub fn load(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.records, inner.bytes)
    }

    /// True if nothing waits, not even a receipt.
    pub fn is_empty(&self) -> bool {
        self.lock().queue.is_empty()
    }

    /// Waiting bytes.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Value;
    use model::Timestamp;

    fn batch(tags: &[usize]) -> Batch {
        Batch::new(tags.iter().map(|tag| Sample::new(*tag, Value::Int(1), Timestamp::default())).collect())
    }

    // OFF-26
    #[test]
    fn full_means_the_oldest_go_and_the_next_says_so() {
        let one = size_of::<Sample>();
        let outbox = Outbox::with_limit(3, one * 4);
        assert_eq!(outbox.push(batch(&[0, 1])), 0);
        assert_eq!(outbox.push(batch(&[1, 2])), 0);
        assert_eq!(outbox.push(batch(&[0, 2])), 2);
        assert_eq!(outbox.take_lost().map(|lost| lost.count), Some(2), "for the ledger (OFF-30)");
        assert_eq!(outbox.take_lost(), None, "told once");
        assert_eq!(outbox.load(), (4, one * 4));
        let marks = |batch: Batch| batch.samples.iter().map(|s| (s.tag, s.gap_before)).collect::<Vec<_>>();
        assert_eq!(marks(outbox.pop().unwrap()), [(1, true), (2, false)]);
        assert_eq!(marks(outbox.pop().unwrap()), [(0, true), (2, false)]);
        assert!(outbox.pop().is_none());
        assert_eq!(outbox.bytes(), 0);
    }

    // MQ-05, OFF-26: what its source keeps is not the buffer's to drop
    #[test]
    fn what_is_owed_stays_and_the_ledger_is_exact_around_it() {
        let one = size_of::<Sample>();
        let outbox = Outbox::with_limit(3, one * 2);
        let with_seq =
            |seq: i64| Batch::new(vec![Sample { seq, ..Sample::new(0, Value::Int(1), Timestamp::default()) }]);
        outbox.push(with_seq(0));
        outbox.push(Batch { receipt: Some(1), is_owed: true, ..with_seq(1) });
        assert_eq!(outbox.push(with_seq(2)), 1);
        assert_eq!(outbox.push(with_seq(3)), 1);
        let lost: Vec<(i64, i64)> =
            std::iter::from_fn(|| outbox.take_lost()).map(|lost| (lost.from_seq, lost.to_seq)).collect();
        assert_eq!(lost, [(0, 0), (2, 2)]);
        outbox.push(Batch { receipt: Some(2), is_owed: true, ..with_seq(4) });
        outbox.push(Batch { receipt: Some(3), is_owed: true, ..with_seq(5) });
        let left: Vec<Option<u64>> = std::iter::from_fn(|| outbox.pop()).map(|batch| batch.receipt).collect();
        assert_eq!(left, [Some(1), Some(2), Some(3)], "beyond the limit rather than lost");
    }

    #[test]
    fn a_receipt_goes_with_the_last_part() {
        let mut whole = Batch { receipt: Some(7), is_owed: true, ..batch(&[0, 1, 2]) };
        let rest = whole.split_off(2);
        assert_eq!((whole.receipt, rest.receipt), (None, Some(7)));
        assert!(whole.is_owed && rest.is_owed);
        let mut whole = Batch { receipt: Some(8), is_owed: true, ..batch(&[0]) };
        assert_eq!(
            (whole.split_off(1).receipt, whole.receipt),
            (None, Some(8)),
            "nothing is left, nothing is owed for it"
        );
    }

    #[test]
    fn put_back_keeps_the_order() {
        let outbox = Outbox::new(3);
        outbox.push(batch(&[0, 1]));
        outbox.push(batch(&[2]));
        let mut first = outbox.pop().unwrap();
        let rest = first.split_off(1);
        outbox.put_back(rest);
        outbox.put_back(first);
        let order: Vec<usize> = std::iter::from_fn(|| outbox.pop()).flat_map(|b| b.samples).map(|s| s.tag).collect();
        assert_eq!(order, [0, 1, 2]);
    }
}
