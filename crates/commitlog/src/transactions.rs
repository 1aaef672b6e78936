//! Transactions, as far as bytes and offsets go: which are open, how far readers of committed records may go, and which
//! stretches were taken back.
//!
//! Who may open and end a transaction is the caller's business. A transaction opens with its producer's first
//! transactional batch and ends with that producer's marker. Open ones belong to the producers' state
//! (`producers.rs`); the aborted ones lie in the index of the segment that holds their marker.
//! Invariant: all of it is a function of the stored batches, so that recovery (index + scan) gets it back.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::Error;
use crate::log::{Log, State, lock};
use crate::segment::Segment;

/// Aborted transactions whose markers one segment may hold; on reaching it the segment is closed. Bounds what the active
/// segment keeps in memory.
pub const ABORTED_PER_SEGMENT_MAX: usize = 16_384;

/// A transaction that was taken back: its producer's records from `first_offset` to the marker do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aborted {
    /// The producer.
    pub producer_id: i64,
    /// Offset of its first record.
    pub first_offset: i64,
    /// Offset of the marker that ended it.
    pub marker_offset: i64,
    /// Offset below which, once the marker was stored, nothing was undecided any more. No later transaction began below.
    pub stable_offset: i64,
}

/// A transaction that ended with an append, committed or aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
    pub(crate) marker_offset: i64,
    pub(crate) aborted: bool,
}

impl Ended {
    /// What the index has to remember; `first_open` is the start of the oldest transaction still open.
    pub(crate) fn aborted(&self, first_open: Option<i64>) -> Option<Aborted> {
        let Ended { producer_id, first_offset, marker_offset, aborted } = *self;
        let stable_offset = first_open.unwrap_or(marker_offset + 1);
        aborted.then_some(Aborted { producer_id, first_offset, marker_offset, stable_offset })
    }
}

/// Transactions whose markers readers cannot see yet, because they are not durable.
#[derive(Debug, Default)]
pub(crate) struct Unseen(VecDeque<Ended>);

impl Unseen {
    /// Adds one, and drops those that lie below `durable`: so it holds no more than a sync takes.
    pub(crate) fn push(&mut self, ended: Ended, durable: i64) {
        while self.0.front().is_some_and(|first| first.marker_offset < durable) {
            self.0.pop_front();
        }
        self.0.push_back(ended);
    }

    /// Start of the oldest transaction whose marker is not below `visible_end`.
    fn first(&self, visible_end: i64) -> Option<i64> {
        let unseen = self.0.iter().filter(|ended| ended.marker_offset >= visible_end);
        unseen.map(|ended| ended.first_offset).min()
    }
}

impl Log {
    /// The end of what readers of committed records may see, if others may see everything below `visible_end`: nothing
    /// below it is undecided.
    pub fn last_stable_offset(&self, visible_end: i64) -> i64 {
        self.state().last_stable_offset(visible_end)
    }

    /// The aborted transactions that readers of the offsets from `from` to below `to` have to know, in the order of their
    /// markers.
    pub fn aborted_transactions(&self, from: i64, to: i64) -> Result<Vec<Aborted>, Error> {
        let (closed, active) = {
            let state = self.state();
            let first = state.closed.partition_point(|segment| segment.footer.next <= from);
            let closed = state.closed.range(first..).filter(|segment| segment.footer.aborted > 0);
            let active = state.active.as_ref().map(|active| active.meta.aborted.clone());
            (closed.map(Arc::clone).collect::<Vec<_>>(), active.unwrap_or_default())
        };
        let mut found = Vec::new();
        for segment in closed {
            if collect(&self.aborted_of(&segment)?, from, to, &mut found) {
                return Ok(found);
            }
        }
        collect(&active, from, to, &mut found);
        Ok(found)
    }

    pub(crate) fn aborted_of(&self, segment: &Segment) -> Result<Arc<Vec<Aborted>>, Error> {
        if let Some(unsettled) = lock(&segment.unsettled).as_ref() {
            return Ok(Arc::clone(&unsettled.aborted));
        }
        Ok(self.open_segment(segment)?.aborted)
    }
}

/// Adds what overlaps; true when nothing behind can.
fn collect(aborted: &[Aborted], from: i64, to: i64, found: &mut Vec<Aborted>) -> bool {
    for one in aborted {
        if one.marker_offset >= from && one.first_offset < to {
            found.push(*one);
        }
        if one.stable_offset >= to {
            return true;
        }
    }
    false
}

impl State {
    pub(crate) fn last_stable_offset(&self, visible_end: i64) -> i64 {
        let undecided = [self.producers.first_open(), self.unseen.first(visible_end)];
        let stable = undecided.into_iter().flatten().fold(visible_end, i64::min);
        stable.max(self.start.min(visible_end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aborted(first_offset: i64, marker_offset: i64, stable_offset: i64) -> Aborted {
        Aborted { producer_id: 1, first_offset, marker_offset, stable_offset }
    }

    #[test]
    fn only_what_overlaps_is_collected_and_the_search_ends() {
        let list = [aborted(0, 5, 3), aborted(3, 9, 10), aborted(12, 20, 21), aborted(30, 31, 32)];
        let mut found = Vec::new();
        assert!(collect(&list, 6, 15, &mut found));
        assert_eq!(found, [list[1], list[2]]);
        found.clear();
        assert!(!collect(&list, 25, 50, &mut found));
        assert_eq!(found, [list[3]]);
    }

    #[test]
    fn what_is_not_durable_stays_undecided() {
        let mut unseen = Unseen::default();
        let ended = |first_offset, marker_offset| Ended { producer_id: 1, first_offset, marker_offset, aborted: false };
        unseen.push(ended(3, 8), 0);
        unseen.push(ended(5, 9), 0);
        assert_eq!((unseen.first(8), unseen.first(9), unseen.first(10)), (Some(3), Some(5), None));
        unseen.push(ended(10, 11), 9);
        assert_eq!(unseen.0.len(), 2, "what is durable is dropped");
    }
}
