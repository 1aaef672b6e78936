//! What the stream says of itself: the numbers `prove.rs` compares. Gathered by `scan.rs`, judged by nobody here.

use serde::Serialize;

use super::marks::Hole;

/// Places that are named where there are many; the others are counted.
pub(super) const NAMED_MAX: usize = 20;

/// Everything known.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Only a part of the time was looked at: what lies before its beginning is not missing.
    pub(super) is_part: bool,
    pub(super) adapters: Vec<Adapter>,
    pub(super) topics: Vec<TopicFacts>,
    pub(super) readers: Vec<Reader>,
    pub(super) losses: Vec<Loss>,
}

/// An adapter: what it numbered, and what became of what arrived.
#[derive(Debug, Default, Clone)]
pub(super) struct Adapter {
    /// Its id; empty for records that name no adapter.
    pub(super) id: String,
    pub(super) epochs: Vec<Epoch>,
    pub(super) outcomes: Outcomes,
}

/// One start of an adapter.
#[derive(Debug, Default, Clone)]
pub(super) struct Epoch {
    pub(super) number: i64,
    /// First number expected, and the number after the highest one seen.
    pub(super) from: i64,
    pub(super) to: i64,
    /// Different numbers seen in `from..to`.
    pub(super) present: u64,
    /// Records whose number was there already: sent again after an acknowledgement got lost.
    pub(super) repeated: u64,
    /// Gateway time of the first and last record, milliseconds.
    pub(super) first_ms: i64,
    pub(super) last_ms: i64,
    pub(super) holes: Vec<(Hole, Fate)>,
}

/// What may be said of missing numbers from the state of the stream alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing.
    Open,
    /// They are older than what an evicted partition begins with.
    Evictable,
    /// They are so young that they may still be on their way.
    OnTheWay,
}

/// What became of the records of `telemetry.raw`.
#[derive(Debug, Default, Clone)]
pub(super) struct Outcomes {
    pub(super) records: u64,
    pub(super) clean: u64,
    pub(super) rejected: u64,
    /// Without an outcome, and equal to an earlier reading of the same point.
    pub(super) duplicates: u64,
    /// Without an outcome, and not yet committed by the validator.
    pub(super) pending: u64,
    /// Without an outcome, though the validator is past them.
    pub(super) without: u64,
    /// Where those are, at most [`NAMED_MAX`].
    pub(super) places: Vec<(i32, i64)>,
}

/// All partitions of a topic together, offsets within the range looked at.
#[derive(Debug, Default, Clone, Serialize)]
pub(super) struct TopicFacts {
    pub(super) topic: String,
    /// Offsets given out: every one was acknowledged.
    pub(super) acknowledged: u64,
    /// Offsets before the log's start.
    pub(super) evicted: u64,
    /// Offsets from start to end.
    pub(super) stored: u64,
    /// Records that were read, where the topic was read.
    pub(super) read: Option<u64>,
}

/// A consumer group on a topic.
#[derive(Debug, Default, Clone, Serialize)]
pub(super) struct Reader {
    pub(super) group: String,
    pub(super) topic: String,
    /// Stored records in the range looked at.
    pub(super) stored: u64,
    /// Of these, below the commit.
    pub(super) passed: u64,
    /// Of those, different ones that are dead letters.
    pub(super) dead_letters: u64,
    /// Of the stored, from the commit on.
    pub(super) pending: u64,
    /// Evicted before they were read: ranges from the commit to the log's start.
    pub(super) unread: Vec<Unread>,
    /// Commits behind the log's end: they speak of another log. Partition, commit, end.
    pub(super) beyond: Vec<(i32, i64, i64)>,
}

impl Reader {
    /// True when it delivers to somebody; others read for the gateway itself.
    pub(super) fn is_sink(&self) -> bool {
        self.group.starts_with("sf-sink-")
    }

    /// There was never anything to read.
    pub(super) fn is_idle(&self) -> bool {
        self.stored == 0 && self.unread.is_empty() && self.beyond.is_empty()
    }
}

/// Offsets `from..to` of a partition that were evicted behind a reader's commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Unread {
    pub(super) partition: i32,
    pub(super) from: i64,
    pub(super) to: i64,
}

/// A row of the loss ledger (OFF-30), as far as it says.
#[derive(Debug, Default, Clone, Serialize)]
pub(super) struct Loss {
    pub(super) id: String,
    /// When it was written.
    pub(super) at: String,
    pub(super) cause: String,
    /// Who lost: a module, a sink or an adapter.
    pub(super) who: String,
    pub(super) topic: Option<String>,
    pub(super) partition: Option<i32>,
    pub(super) epoch: Option<i64>,
    /// Offsets, or sequence numbers where there is an epoch; the end is not part.
    pub(super) from: Option<i64>,
    pub(super) to: Option<i64>,
    pub(super) count: u64,
    pub(super) exact: bool,
    pub(super) message: String,
}

impl Loss {
    /// How many of the sequence numbers of a hole this row tells.
    pub(super) fn tells_numbers(&self, adapter: &str, epoch: i64, hole: Hole) -> u64 {
        if self.who == adapter && self.epoch == Some(epoch) { self.overlap(hole.from, hole.to) } else { 0 }
    }

    /// How many of the offsets this row tells for a group.
    pub(super) fn tells_offsets(&self, group: &str, topic: &str, lost: Unread) -> u64 {
        let reader = group.strip_prefix("sf-sink-").or_else(|| group.strip_prefix("sf-")).unwrap_or(group);
        let same = (self.who == group || self.who == reader)
            && self.epoch.is_none()
            && self.topic.as_deref() == Some(topic)
            && self.partition == Some(lost.partition);
        if same { self.overlap(lost.from, lost.to) } else { 0 }
    }

    fn overlap(&self, from: i64, to: i64) -> u64 {
        let (Some(own_from), Some(own_to)) = (self.from, self.to) else { return 0 };
        (to.min(own_to) - from.max(own_from)).max(0).unsigned_abs()
    }
}
