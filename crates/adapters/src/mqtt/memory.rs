//! What came before, so that a message that comes again is not a second reading (MQ-04, MQ-07).
//!
//! Bounded. A broker repeats what it holds to be unacknowledged, with a mark and the same id; and after each subscription
//! what it keeps by topic. Only marked messages are held against the memory: two equal readings in a row are two.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, Hash, RandomState};
use std::time::Duration;

use model::Timestamp;
use tokio::time::Instant;

use super::packet::Message;

/// Messages that are remembered by their id.
const MESSAGES_MAX: usize = 20_000;
/// Readings that are remembered by their own time.
const STAMPS_MAX: usize = 50_000;
/// Topics whose newest payload is remembered; when there are more, all are forgotten and begin anew.
const TOPICS_MAX: usize = 100_000;
/// A repeated message without a time of its own is one for so long after a reconnect; later ids mean other messages.
const REPEATED_WITHIN: Duration = Duration::from_secs(60);

/// Keys in the order they came, found by hash.
#[derive(Debug, Default)]
struct Ring {
    order: VecDeque<u64>,
    known: HashSet<u64>,
}

impl Ring {
    fn add(&mut self, key: u64, max: usize) {
        if !self.known.insert(key) {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > max
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// The memory of one adapter; outlives its connections.
#[derive(Debug, Default)]
pub struct Memory {
    hasher: RandomState,
    messages: Ring,
    stamps: Ring,
    newest: HashMap<u64, u64>,
    reconnected_at: Option<Instant>,
}

impl Memory {
    /// A connection was made.
    pub fn connected(&mut self, now: Instant) {
        self.reconnected_at = Some(now);
    }

    fn hash(&self, what: impl Hash) -> u64 {
        self.hasher.hash_one(what)
    }

    /// True for a message that was here before; remembers it.
    pub fn is_repeated(&mut self, message: &Message, now: Instant) -> bool {
        let (topic, payload) = (self.hash(&message.topic), self.hash(&message.payload));
        if message.retain && self.newest.get(&topic) == Some(&payload) {
            return true;
        }
        if self.newest.len() >= TOPICS_MAX && !self.newest.contains_key(&topic) {
            self.newest.clear();
        }
        self.newest.insert(topic, payload);
        if message.qos == 0 {
            return false;
        }
        let key = self.hash((topic, message.id, payload));
        let recent = self.reconnected_at.is_some_and(|at| now.saturating_duration_since(at) <= REPEATED_WITHIN);
        let repeated = message.dup && recent && self.messages.known.contains(&key);
        self.messages.add(key, MESSAGES_MAX);
        repeated
    }

    /// True for a reading with a time of its own that was here before; remembers it. Only asked of messages that are
    /// marked, or may be marked when they come again.
    pub fn is_known(&mut self, tag: usize, time: Timestamp, is_marked: bool) -> bool {
        let key = self.hash((tag, time.as_micros()));
        let known = is_marked && self.stamps.known.contains(&key);
        self.stamps.add(key, STAMPS_MAX);
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u16, dup: bool, payload: &'static [u8]) -> Message {
        Message {
            topic: "t".to_owned(),
            payload: payload.into(),
            qos: 1,
            id,
            dup,
            retain: false,
            content_type: None,
            user: Vec::new(),
            subscriptions: Vec::new(),
        }
    }

    // MQ-04
    #[tokio::test(start_paused = true)]
    async fn a_marked_message_is_known_for_a_minute_and_an_equal_one_is_news() {
        let (mut memory, start) = (Memory::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        memory.connected(start);
        assert!(!memory.is_repeated(&message(1, false, b"7"), start));
        assert!(!memory.is_repeated(&message(2, false, b"7"), start), "equal, but another message");
        memory.connected(at(100));
        assert!(memory.is_repeated(&message(1, true, b"7"), at(130)));
        assert!(!memory.is_repeated(&message(1, true, b"8"), at(130)));
        assert!(!memory.is_repeated(&message(2, true, b"7"), at(161)), "ids are used again");
    }

    // MQ-07
    #[tokio::test(start_paused = true)]
    async fn what_a_broker_keeps_is_taken_once() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        let kept = |payload| Message { retain: true, qos: 0, ..message(0, false, payload) };
        assert!(!memory.is_repeated(&kept(b"1"), now));
        assert!(memory.is_repeated(&kept(b"1"), now));
        assert!(!memory.is_repeated(&message(3, false, b"2"), now));
        assert!(memory.is_repeated(&kept(b"2"), now), "it was heard live");
        assert!(!memory.is_repeated(&kept(b"3"), now));
    }

    #[tokio::test(start_paused = true)]
    async fn readings_by_their_own_time() {
        let mut memory = Memory::default();
        let time = Timestamp::from_millis(5);
        assert!(!memory.is_known(1, time, false));
        assert!(memory.is_known(1, time, true));
        assert!(!memory.is_known(1, time, false), "not marked: the validator's business");
        assert!(!memory.is_known(2, time, true));
        for tag in 10..10 + STAMPS_MAX {
            memory.is_known(tag, time, false);
        }
        assert!(!memory.is_known(1, time, true), "forgotten, not kept for ever");
    }
}
