//! Readings that wait for the clock after the start of the process (OFF-04).
//!
//! They are complete but for their time: with each batch goes how far the wall clock was from the time since boot when it
//! was stamped, so that the right time is one addition away once the clock is set. The wait ends when it is, or when it
//! has lasted long enough; then the readings go as they are.

use std::collections::VecDeque;
use std::time::Duration;

use model::ClockState;
use tokio::time::Instant;

use crate::outbox::Batch;

/// Memory for batches that wait; when full the oldest goes out as it is.
pub const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Batches that wait; when full the oldest goes out as it is.
pub const BATCHES_MAX: usize = 20_000;

/// A batch and the wall clock less the time since boot of its stamps, microseconds.
pub type Held = (Batch, i64);

/// The waiting batches, oldest first.
#[derive(Debug)]
pub struct Hold {
    queue: VecDeque<Held>,
    bytes: usize,
    records: usize,
    bytes_max: usize,
    until: Instant,
}

impl Hold {
    /// Empty, for a time from `now` on.
    pub fn new(now: Instant, time: Duration) -> Self {
        Self::with_limit(now, time, BYTES_MAX)
    }

    /// With another limit than [`BYTES_MAX`].
    pub fn with_limit(now: Instant, time: Duration, bytes_max: usize) -> Self {
        Self { queue: VecDeque::new(), bytes: 0, records: 0, bytes_max, until: now + time }
    }

    /// True when nothing is to wait any longer.
    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// Readings and notices that wait.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Appends a batch; returns those there is no room for any more, oldest first.
    pub fn push(&mut self, batch: Batch, shift_us: i64) -> Vec<Held> {
        self.bytes += batch.bytes();
        self.records += batch.records();
        self.queue.push_back((batch, shift_us));
        let mut out = Vec::new();
        while self.bytes > self.bytes_max || self.queue.len() > BATCHES_MAX {
            let Some(oldest) = self.queue.pop_front() else { break };
            self.bytes -= oldest.0.bytes();
            self.records -= oldest.0.records();
            out.push(oldest);
        }
        out
    }

    /// All of them as they are.
    pub fn into_batches(self) -> impl Iterator<Item = Held> {
        self.queue.into_iter()
    }

    /// All of them with the time of a clock that is set.
    pub fn into_corrected(self, shift_us: i64, state: ClockState) -> impl Iterator<Item = Batch> {
        self.queue.into_iter().map(move |(mut batch, stamped)| {
            batch.correct(shift_us.saturating_sub(stamped), state);
            batch
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Sample, Value};
    use model::Timestamp;

    fn batch(seq: i64) -> Batch {
        let sample = Sample { seq, ..Sample::new(0, Value::Int(seq), Timestamp::from_micros(1_000 + seq)) };
        Batch::new(vec![Sample { clock_state: ClockState::Unsynced, ..sample }])
    }

    // OFF-04
    #[tokio::test(start_paused = true)]
    async fn full_means_the_oldest_go_as_they_are_and_the_others_are_corrected_each_by_its_own() {
        let one = batch(0).bytes();
        let mut hold = Hold::with_limit(Instant::now(), Duration::from_secs(60), one * 2);
        assert!(hold.push(batch(0), 0).is_empty());
        assert!(hold.push(batch(1), 0).is_empty());
        let out = hold.push(batch(2), 500);
        assert_eq!(out.iter().map(|(batch, _)| batch.samples[0].seq).collect::<Vec<_>>(), [0]);
        assert_eq!(out[0].0.samples[0].clock_state, ClockState::Unsynced);
        assert_eq!(hold.records(), 2);
        let corrected: Vec<Batch> = hold.into_corrected(10_000, ClockState::Synced).collect();
        let times: Vec<i64> = corrected.iter().map(|batch| batch.samples[0].device_time.as_micros()).collect();
        assert_eq!(times, [1_001 + 10_000, 1_002 + 9_500]);
        assert!(corrected.iter().all(|batch| batch.samples[0].clock_state == ClockState::Synced));
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_batches_is_bounded_also_when_they_are_small() {
        let mut hold = Hold::with_limit(Instant::now(), Duration::from_secs(60), usize::MAX);
        let mut out = 0;
        for seq in 0..i64::try_from(BATCHES_MAX).unwrap() + 3 {
            out += hold.push(batch(seq), 0).len();
        }
        assert_eq!((out, hold.records()), (3, BATCHES_MAX));
    }
}
