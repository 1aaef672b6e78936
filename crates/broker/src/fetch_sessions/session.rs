//! What one fetch session remembers (KIP-227): which partitions its client reads and from where, what it was told about
//! each, and which of them may have something new to tell. Pure; `handlers/fetch.rs` reads the logs.
//!
//! A fetch without a session is one that is thrown away after its answer.
//! Invariant: a partition that is not due has nothing to tell. Its client waits at its end and knows its high watermark
//! and its start, and whoever holds the session hears when it changes. So idle partitions cost a fetch nothing.

use std::collections::{HashMap, VecDeque};

use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

/// A topic as the client calls it: by name, from version 13 on by id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum TopicRef {
    Name(StrBytes),
    Id(Uuid),
}

/// What the client wants from a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) offset: i64,
    pub(crate) max_bytes: i32,
    pub(crate) leader_epoch: i32,
}

/// What a look at a partition found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) high_watermark: i64,
    pub(crate) log_start: i64,
    /// Records go into the answer.
    pub(crate) records: bool,
    /// There is more than the client has asked for yet, whether it is in this answer or not.
    pub(crate) behind: bool,
    pub(crate) failed: bool,
}

/// A partition of a session; `H` is whatever its holder needs to read it.
#[derive(Debug)]
pub(crate) struct Entry<H> {
    pub(crate) topic: TopicRef,
    pub(crate) index: i32,
    pub(crate) asked: Asked,
    pub(crate) handle: H,
    /// High watermark and start that the client knows; -1 for none.
    told: (i64, i64),
}

/// The partitions of a session. A slot is a small number that stands for one of them as long as it is there.
#[derive(Debug)]
pub(crate) struct Session<H> {
    entries: Vec<Option<Entry<H>>>,
    free: Vec<usize>,
    slots: HashMap<(TopicRef, i32), usize>,
    /// Slots to look at; a slot that was forgotten meanwhile is passed over.
    due: VecDeque<usize>,
    /// By slot, whether it is in `due`.
    queued: Vec<bool>,
}

impl<H> Default for Session<H> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), slots: HashMap::new(), due: VecDeque::new(), queued: Vec::new() }
    }
}

impl<H> Session<H> {
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Adds a partition, or changes what is wanted of it.
    pub(crate) fn ask(&mut self, topic: TopicRef, index: i32, asked: Asked, open: impl FnOnce(usize) -> H) {
        let key = (topic, index);
        if let Some(slot) = self.slots.get(&key).copied() {
            if let Some(entry) = self.entries[slot].as_mut() {
                entry.asked = asked;
            }
            self.changed(slot);
            return;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.queued.push(false);
            self.entries.len() - 1
        });
        let topic = key.0.clone();
        self.entries[slot] = Some(Entry { topic, index, asked, handle: open(slot), told: (-1, -1) });
        self.slots.insert(key, slot);
        self.changed(slot);
    }

    /// Takes a partition out.
    pub(crate) fn forget(&mut self, topic: TopicRef, index: i32) {
        if let Some(slot) = self.slots.remove(&(topic, index)) {
            self.entries[slot] = None;
            self.free.push(slot);
        }
    }

    /// Has the next look include this partition.
    pub(crate) fn changed(&mut self, slot: usize) {
        if self.entry(slot).is_some() && !self.queued[slot] {
            self.queued[slot] = true;
            self.due.push_back(slot);
        }
    }

    /// The partitions to look at, in the order in which they should get what an answer has room for.
    pub(crate) fn due(&self) -> impl Iterator<Item = (usize, &Entry<H>)> {
        self.due.iter().filter_map(|slot| Some((*slot, self.entries[*slot].as_ref()?)))
    }

    pub(crate) fn entry(&self, slot: usize) -> Option<&Entry<H>> {
        self.entries.get(slot)?.as_ref()
    }

    /// Calls `visit` with every partition; those for which it says so are due afterwards.
    pub(crate) fn review(&mut self, mut visit: impl FnMut(usize, &mut Entry<H>) -> bool) {
        for slot in 0..self.entries.len() {
            if self.entries[slot].as_mut().is_some_and(|entry| visit(slot, entry)) {
                self.changed(slot);
            }
        }
    }

    /// Decides what of a look goes into the answer, and remembers that the client knows it. `seen` is the front of
    /// [`Session::due`], in its order; a full answer holds all of it, an incremental one what is news to the client.
    ///
    /// Whoever got records goes behind those who wait for theirs.
    pub(crate) fn answer(&mut self, seen: &[(usize, Seen)], full: bool) -> Vec<bool> {
        let mut served = Vec::new();
        let mut included = Vec::with_capacity(seen.len());
        for (slot, seen) in seen {
            while let Some(front) = self.due.pop_front() {
                self.queued[front] = false;
                if front == *slot {
                    break;
                }
            }
            let Some(entry) = self.entries[*slot].as_mut() else { continue };
            let found = (seen.high_watermark, seen.log_start);
            included.push(full || seen.records || seen.failed || entry.told != found);
            // after an error the client is told everything again
            entry.told = if seen.failed { (-1, -1) } else { found };
            if seen.behind && seen.records {
                served.push(*slot);
            } else if seen.behind || seen.failed {
                self.changed(*slot);
            }
        }
        for slot in served {
            self.changed(slot);
        }
        included
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &'static str) -> TopicRef {
        TopicRef::Name(StrBytes::from_static_str(name))
    }

    fn from(offset: i64) -> Asked {
        Asked { offset, max_bytes: 1_000, leader_epoch: -1 }
    }

    /// A session on partitions `0..count` of a topic, all asked for from offset 0.
    fn session(count: i32) -> Session<()> {
        let mut session = Session::default();
        for index in 0..count {
            session.ask(topic("t"), index, from(0), |_| ());
        }
        session
    }

    /// A client at the end of a partition whose log holds `0..end`.
    fn idle(end: i64) -> Seen {
        Seen { high_watermark: end, log_start: 0, records: false, behind: false, failed: false }
    }

    fn grown(end: i64) -> Seen {
        Seen { records: true, behind: true, ..idle(end) }
    }

    /// Looks at all due partitions and answers; returns the partitions of the answer.
    fn round(session: &mut Session<()>, full: bool, look: impl Fn(i32) -> Seen) -> Vec<i32> {
        let seen: Vec<(usize, Seen)> = session.due().map(|(slot, entry)| (slot, look(entry.index))).collect();
        let included = session.answer(&seen, full);
        let chosen = seen.iter().zip(included).filter(|(_, included)| *included);
        chosen.map(|((slot, _), _)| session.entry(*slot).unwrap().index).collect()
    }

    // STR-11, KIP-227: an incremental answer leaves out what has not changed
    #[test]
    fn a_full_answer_holds_everything_and_the_next_one_nothing() {
        let mut session = session(3);
        assert_eq!(round(&mut session, true, |_| idle(0)), [0, 1, 2]);
        assert_eq!(session.due().count(), 0, "idle partitions are not even looked at");
        assert!(round(&mut session, false, |_| idle(0)).is_empty());
    }

    #[test]
    fn a_partition_that_grew_is_answered_until_its_client_moves_on() {
        let mut session = session(3);
        round(&mut session, true, |_| idle(0));
        session.changed(1);
        assert_eq!(round(&mut session, false, |_| grown(5)), [1]);
        assert_eq!(
            round(&mut session, false, |_| grown(5)),
            [1],
            "the client has not asked for more, so it is sent again"
        );
        session.ask(topic("t"), 1, from(5), |_| ());
        assert!(round(&mut session, false, |_| idle(5)).is_empty());
        assert_eq!(session.due().count(), 0);
    }

    #[test]
    fn a_new_high_watermark_or_start_is_told_without_records() {
        let mut session = session(2);
        round(&mut session, true, |_| idle(7));
        session.changed(0);
        session.changed(1);
        let moved = |index| if index == 0 { Seen { log_start: 3, ..idle(7) } } else { idle(8) };
        assert_eq!(round(&mut session, false, moved), [0, 1]);
        session.changed(0);
        session.changed(1);
        assert!(round(&mut session, false, moved).is_empty(), "told once");
    }

    #[test]
    fn errors_are_repeated_and_their_end_is_told() {
        let failed = Seen { high_watermark: -1, log_start: -1, failed: true, ..idle(0) };
        let mut session = session(1);
        round(&mut session, true, |_| idle(4));
        session.changed(0);
        assert_eq!(round(&mut session, false, |_| failed), [0]);
        assert_eq!(round(&mut session, false, |_| failed), [0]);
        assert_eq!(round(&mut session, false, |_| idle(4)), [0], "that it is well again is news");
        assert!(round(&mut session, false, |_| idle(4)).is_empty());
    }

    #[test]
    fn who_got_records_stands_behind_those_who_wait() {
        let mut session = session(3);
        let look = |index| Seen { records: index == 0, ..grown(9) };
        round(&mut session, true, look);
        let order: Vec<i32> = session.due().map(|(_, entry)| entry.index).collect();
        assert_eq!(order, [1, 2, 0]);
    }

    #[test]
    fn a_look_that_stopped_early_goes_on_where_it_stopped() {
        let mut session = session(3);
        let front: Vec<(usize, Seen)> = session.due().take(1).map(|(slot, _)| (slot, grown(9))).collect();
        assert_eq!(session.answer(&front, false), [true]);
        let order: Vec<i32> = session.due().map(|(_, entry)| entry.index).collect();
        assert_eq!(order, [1, 2, 0]);
    }

    #[test]
    fn forgotten_partitions_are_gone_and_their_slots_used_again() {
        let mut session = session(3);
        session.forget(topic("t"), 1);
        session.forget(topic("t"), 1);
        session.forget(topic("other"), 0);
        assert_eq!(session.len(), 2);
        assert_eq!(round(&mut session, true, |_| idle(0)), [0, 2]);
        session.ask(topic("t"), 7, from(0), |slot| assert_eq!(slot, 1));
        assert_eq!(round(&mut session, false, |_| idle(0)), [7], "a new partition is told in full");
        for index in [0, 2, 7] {
            session.forget(topic("t"), index);
        }
        assert!(session.is_empty());
        session.changed(1);
        assert_eq!(session.due().count(), 0, "a late change of a free slot is nobody's");
    }

    #[test]
    fn names_and_ids_are_different_topics() {
        let mut session: Session<()> = Session::default();
        session.ask(TopicRef::Id(Uuid::from_u128(1)), 0, from(0), |_| ());
        session.ask(TopicRef::Id(Uuid::from_u128(2)), 0, from(0), |_| ());
        session.ask(topic("t"), 0, from(0), |_| ());
        assert_eq!(session.len(), 3);
    }

    // 1,200 partitions, three of them busy: the work of a fetch is three looks
    #[test]
    fn the_work_grows_with_what_changed_and_not_with_what_there_is() {
        let mut session = session(1_200);
        round(&mut session, true, |_| idle(0));
        for offset in 1..50 {
            for slot in [3, 500, 1_199] {
                session.changed(slot);
            }
            assert_eq!(session.due().count(), 3);
            assert_eq!(round(&mut session, false, |_| grown(offset)).len(), 3);
            for index in [3, 500, 1_199] {
                session.ask(topic("t"), index, from(offset), |_| ());
            }
            assert!(round(&mut session, false, |_| idle(offset)).is_empty());
        }
    }
}
