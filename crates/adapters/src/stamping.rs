//! Times on readings: the gateway's own, what it is worth, and whether it was set since the point's last one.
//!
//! Invariants:
//! - A reading stamped by the gateway is never later than the moment it was complete; where the clock was set back
//!   meanwhile the duration is none, and counted (OFF-02).
//! - What goes out UNSYNCED is remembered as a range of sequence numbers, until the clock is set and one
//!   `clock.correction` tells by how much they were wrong (OFF-04). Stored records are not rewritten.
//! - On a machine whose clock is set at the start nothing is held and nothing copied.

use std::sync::Arc;
use std::time::Duration;

use daemon::clock::state::STEP_MIN_US;
use daemon::clock::{Stamp, Watch};
use model::{ClockState, Timestamp};
use tokio::time::Instant;

use crate::hold::{Held, Hold};
use crate::notice::{CLOCK_CORRECTION, CLOCK_STEP, Notice};
use crate::outbox::Batch;
use crate::sample::Sample;

/// Ranges of sequence numbers that wait for a correction; on more the newest one grows, and its figure is that of its
/// first reading.
const RANGES_MAX: usize = 16;

/// Consecutive readings that were published with the same wrong clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    from: i64,
    to: i64,
    shift_us: i64,
}

/// What may go out now, in this order.
#[derive(Debug, Default)]
pub struct Released {
    pub batches: Vec<Batch>,
    pub notices: Vec<Notice>,
}

/// Stamps the readings of one adapter.
#[derive(Debug)]
pub struct Stamper {
    watch: Arc<Watch>,
    epoch: i64,
    /// At the start of the poll.
    began: Stamp,
    /// By tag: the number of steps its last record knew of.
    told: Vec<u64>,
    /// Steps that were made a notice.
    noticed: u64,
    unsynced: Vec<Range>,
    hold: Option<Hold>,
}

impl Stamper {
    /// For a number of tags. Readings are held for up to `hold` if the clock is not set now.
    pub fn new(watch: Arc<Watch>, epoch: i64, tags: usize, hold: Duration) -> Self {
        let began = watch.stamp();
        let waits = began.state == ClockState::Unsynced && !hold.is_zero();
        if waits {
            tracing::warn!(hold_s = hold.as_secs(), "the clock is not set: readings are held back until it is");
        }
        Self {
            told: vec![began.steps; tags],
            noticed: began.steps,
            unsynced: Vec::new(),
            hold: waits.then(|| Hold::new(Instant::now(), hold)),
            watch,
            epoch,
            began,
        }
    }

    /// Readings and notices that wait for the clock.
    pub fn held(&self) -> usize {
        self.hold.as_ref().map_or(0, Hold::records)
    }

    /// A poll begins.
    pub fn begin(&mut self) {
        self.began = self.watch.stamp();
    }

    /// When the poll began, for one that pauses.
    pub fn began(&self) -> Stamp {
        self.began
    }

    /// The poll that paused goes on.
    pub fn resume(&mut self, began: Stamp) {
        self.began = began;
    }

    /// The time of a batch that is complete.
    pub fn stamp(&self) -> Stamp {
        self.watch.stamp()
    }

    /// There are that many tags now; new ones know of all steps so far.
    pub fn grow(&mut self, tags: usize) {
        let steps = self.watch.stamp().steps;
        self.told.resize(tags.max(self.told.len()), steps);
    }

    /// Counts durations that were negative.
    pub fn count_backwards(&self, count: u64) {
        if count > 0 {
            self.watch.count_backwards(count);
        }
    }

    /// Stamps a sample that is to be written; true when its duration was negative.
    pub fn mark(&mut self, sample: &mut Sample, stamp: &Stamp) -> bool {
        let backwards = sample.is_stamped_here() && {
            let (time, backwards) = acquired(sample.device_time, &self.began, stamp);
            sample.device_time = time;
            backwards
        };
        sample.gateway_time = stamp.wall;
        sample.clock_state = stamp.state;
        if let Some(told) = self.told.get_mut(sample.tag) {
            sample.clock_step = *told != stamp.steps;
            *told = stamp.steps;
        }
        backwards
    }

    /// Takes a stamped batch on its way; what is to go out now comes back.
    pub fn pass(&mut self, batch: Batch, stamp: &Stamp) -> Vec<Batch> {
        let out = match &mut self.hold {
            None => vec![(batch, stamp.shift_us)],
            Some(hold) => hold.push(batch, stamp.shift_us),
        };
        self.as_they_are(out)
    }

    /// Looks whether something changed; called once a second and before a batch is passed.
    pub fn look(&mut self) -> Released {
        let stamp = self.watch.stamp();
        let mut released = Released::default();
        if self.noticed != stamp.steps {
            released
                .notices
                .extend(self.watch.steps_after(self.noticed).into_iter().map(|step| stepped(step.delta_ms())));
            self.noticed = stamp.steps;
        }
        let set = stamp.state != ClockState::Unsynced;
        match self.hold.take() {
            Some(hold) if set => {
                tracing::info!(records = hold.records(), "the clock is set: what was held is stamped and goes out");
                released.batches.extend(hold.into_corrected(stamp.shift_us, stamp.state));
            }
            Some(hold) if hold.is_over(Instant::now()) => {
                tracing::warn!(records = hold.records(), "the clock is still not set: what was held goes out as it is");
                released.batches = self.as_they_are(hold.into_batches());
            }
            other => self.hold = other,
        }
        if set {
            let boot = self.watch.boot();
            let ranges = std::mem::take(&mut self.unsynced);
            released.notices.extend(ranges.into_iter().map(|range| corrected(range, stamp.shift_us, boot, self.epoch)));
        }
        released
    }

    /// Nothing waits any longer: the process ends.
    pub fn end(&mut self) -> Vec<Batch> {
        let hold = self.hold.take();
        self.as_they_are(hold.into_iter().flat_map(Hold::into_batches))
    }

    /// Remembers what goes out with a wrong time.
    fn as_they_are(&mut self, held: impl IntoIterator<Item = Held>) -> Vec<Batch> {
        let mut batches = Vec::new();
        for (batch, shift_us) in held {
            let unsynced = batch.samples.iter().filter(|sample| sample.clock_state == ClockState::Unsynced);
            for sample in unsynced {
                self.remember(sample.seq, shift_us);
            }
            batches.push(batch);
        }
        batches
    }

    fn remember(&mut self, seq: i64, shift_us: i64) {
        let full = self.unsynced.len() >= RANGES_MAX;
        match self.unsynced.last_mut() {
            Some(last) if full || (last.shift_us - shift_us).abs() <= STEP_MIN_US => last.to = seq,
            _ => self.unsynced.push(Range { from: seq, to: seq, shift_us }),
        }
    }
}

/// When an answer was complete, by the clock of the stamp; true if that would be after the batch was. `time` was read
/// between `began` and `stamp`, before or after each step of the clock between the two.
fn acquired(time: Timestamp, began: &Stamp, stamp: &Stamp) -> (Timestamp, bool) {
    let delta_us = stamp.shift_us.saturating_sub(began.shift_us);
    let moved = time.plus_micros(delta_us);
    let stepped = began.steps != stamp.steps;
    // set forward: still before the end when moved along, so it was read before the step; set back: after the end
    let before_step = stepped && if delta_us > 0 { moved <= stamp.wall } else { time > stamp.wall };
    let time = if before_step { moved } else { time };
    (time.min(stamp.wall), time > stamp.wall)
}

fn stepped(delta_ms: i64) -> Notice {
    let direction = if delta_ms < 0 { "back" } else { "forward" };
    let message = format!("the gateway's clock was set {direction} by {} ms", delta_ms.unsigned_abs());
    Notice { details: vec![("delta_ms", delta_ms.to_string())], ..Notice::new(CLOCK_STEP, message) }
}

fn corrected(range: Range, shift_us: i64, boot: &str, epoch: i64) -> Notice {
    let offset_ms = shift_us.saturating_sub(range.shift_us) / 1000;
    let (from, to) = (range.from, range.to);
    let message = format!("the readings {from} to {to} were stamped by a clock that was not set: add {offset_ms} ms");
    let details = vec![
        ("boot", boot.to_owned()),
        ("epoch", epoch.to_string()),
        ("seq_from", from.to_string()),
        ("seq_to", to.to_string()),
        ("offset_ms", offset_ms.to_string()),
    ];
    Notice { details, ..Notice::new(CLOCK_CORRECTION, message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(wall: i64, shift_us: i64, steps: u64) -> Stamp {
        Stamp { wall: Timestamp::from_micros(wall), shift_us, state: ClockState::Synced, steps }
    }

    fn at(time: i64, began: Stamp, end: Stamp) -> (i64, bool) {
        let (time, backwards) = acquired(Timestamp::from_micros(time), &began, &end);
        (time.as_micros(), backwards)
    }

    // OFF-02: a poll during which the clock was set; answers read before the step are moved along with it
    #[test]
    fn an_answer_from_before_the_step_is_moved_with_the_clock() {
        let day = 86_400_000_000;
        let (began, end) = (stamp(1_000, 0, 0), stamp(day + 5_000, day, 1));
        assert_eq!(at(2_000, began, end), (day + 2_000, false));
        assert_eq!(at(day + 4_000, began, end), (day + 4_000, false));
        let (began, end) = (stamp(day + 1_000, day, 3), stamp(5_000, 0, 4));
        assert_eq!(at(day + 2_000, began, end), (2_000, false));
        assert_eq!(at(4_000, began, end), (4_000, false));
    }

    // OFF-02: a small correction backwards is no step, and no negative duration either
    #[test]
    fn a_negative_duration_is_none_and_counts() {
        assert_eq!(at(2_000, stamp(1_000, 0, 0), stamp(1_500, -700, 0)), (1_500, true));
        assert_eq!(at(1_500, stamp(1_000, 0, 0), stamp(1_500, 0, 0)), (1_500, false));
    }
}
