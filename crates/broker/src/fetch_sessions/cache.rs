//! Which fetch sessions there are, and which one has to go when there is no room (KIP-227). Pure; time is a parameter.
//!
//! The rules are Kafka's: a session that nobody used for [`IDLE_MS`] makes room for any other, one that is older than
//! that makes room for one with more partitions. Who gets no session is served all the same, with all of its partitions
//! each time.
//! Invariants: never more than `sessions_max` sessions, and never more than `partitions_max` partitions in all of them.

use std::collections::{BTreeSet, HashMap};

/// Time without a fetch after which a session may be evicted, milliseconds.
pub(crate) const IDLE_MS: i64 = 120_000;

#[derive(Debug)]
struct Cached<S> {
    session: S,
    partitions: usize,
    created_ms: i64,
    used_ms: i64,
}

/// Sessions by id.
#[derive(Debug)]
pub(crate) struct Cache<S> {
    sessions_max: usize,
    partitions_max: usize,
    sessions: HashMap<i32, Cached<S>>,
    /// When each was used last.
    by_use: BTreeSet<(i64, i32)>,
    partitions: usize,
}

impl<S: Clone> Cache<S> {
    pub(crate) fn new(sessions_max: usize, partitions_max: usize) -> Self {
        Self { sessions_max, partitions_max, sessions: HashMap::new(), by_use: BTreeSet::new(), partitions: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Partitions of all sessions.
    pub(crate) fn partitions(&self) -> usize {
        self.partitions
    }

    pub(crate) fn has(&self, id: i32) -> bool {
        self.sessions.contains_key(&id)
    }

    /// Keeps a session under an id that is free. Returns what was evicted for it, or `Err` when there is no room.
    pub(crate) fn admit(&mut self, id: i32, session: S, partitions: usize, now_ms: i64) -> Result<Vec<S>, S> {
        let mut evicted = Vec::new();
        while self.sessions.len() >= self.sessions_max || self.partitions + partitions > self.partitions_max {
            let chosen = if partitions > self.partitions_max { None } else { self.weakest(partitions, now_ms) };
            match chosen.and_then(|id| self.remove(id)) {
                Some(session) => evicted.push(session),
                None => return Err(session),
            }
        }
        self.by_use.insert((now_ms, id));
        self.partitions += partitions;
        self.sessions.insert(id, Cached { session, partitions, created_ms: now_ms, used_ms: now_ms });
        Ok(evicted)
    }

    /// The session that a new one with so many partitions may replace.
    fn weakest(&self, partitions: usize, now_ms: i64) -> Option<i32> {
        let (used_ms, id) = self.by_use.first()?;
        if now_ms - used_ms > IDLE_MS {
            return Some(*id);
        }
        let old = self.sessions.iter().filter(|(_, cached)| now_ms - cached.created_ms > IDLE_MS);
        let (id, smallest) = old.min_by_key(|(id, cached)| (cached.partitions, **id))?;
        (smallest.partitions < partitions).then_some(*id)
    }

    /// The session with this id, which is in use now.
    pub(crate) fn take_up(&mut self, id: i32, now_ms: i64) -> Option<S> {
        let cached = self.sessions.get_mut(&id)?;
        self.by_use.remove(&(cached.used_ms, id));
        cached.used_ms = now_ms;
        self.by_use.insert((now_ms, id));
        Some(cached.session.clone())
    }

    /// Notes how many partitions a session has now; false when that is too many, and it has to go.
    pub(crate) fn resize(&mut self, id: i32, partitions: usize) -> bool {
        let Some(cached) = self.sessions.get_mut(&id) else { return false };
        let all = self.partitions - cached.partitions + partitions;
        if all > self.partitions_max {
            return false;
        }
        cached.partitions = partitions;
        self.partitions = all;
        true
    }

    pub(crate) fn remove(&mut self, id: i32) -> Option<S> {
        let cached = self.sessions.remove(&id)?;
        self.by_use.remove(&(cached.used_ms, id));
        self.partitions -= cached.partitions;
        Some(cached.session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> Cache<&'static str> {
        Cache::new(2, 100)
    }

    // STR-11, KIP-227: the cache is limited
    #[test]
    fn without_room_there_is_no_session() {
        let mut cache = cache();
        assert_eq!(cache.admit(1, "a", 10, 0), Ok(vec![]));
        assert_eq!(cache.admit(2, "b", 10, 0), Ok(vec![]));
        assert_eq!(cache.admit(3, "c", 10, 1), Err("c"));
        assert_eq!(cache.admit(3, "c", 50, 1), Err("c"), "the others are too young");
        cache.remove(1);
        assert_eq!(cache.admit(3, "c", 10, 1), Ok(vec![]));
        assert_eq!((cache.len(), cache.partitions()), (2, 20));
    }

    #[test]
    fn the_one_unused_for_longest_makes_room() {
        let mut cache = cache();
        cache.admit(1, "a", 50, 0).unwrap();
        cache.admit(2, "b", 10, 0).unwrap();
        assert_eq!(cache.take_up(1, IDLE_MS), Some("a"));
        assert_eq!(cache.admit(3, "c", 1, IDLE_MS + 1), Ok(vec!["b"]));
        assert_eq!(cache.take_up(2, IDLE_MS + 1), None);
        assert!(cache.has(1) && cache.has(3));
    }

    #[test]
    fn a_larger_one_replaces_a_smaller_one_that_is_not_young() {
        let mut cache = cache();
        cache.admit(1, "a", 50, 0).unwrap();
        cache.admit(2, "b", 10, 0).unwrap();
        let now = IDLE_MS + 1;
        cache.take_up(1, now);
        cache.take_up(2, now);
        assert_eq!(cache.admit(3, "c", 10, now), Err("c"), "it is not larger");
        assert_eq!(cache.admit(3, "c", 11, now), Ok(vec!["b"]));
    }

    #[test]
    fn partitions_are_limited_in_all() {
        let mut cache = cache();
        assert_eq!(cache.admit(1, "huge", 101, 0), Err("huge"));
        cache.admit(1, "a", 60, 0).unwrap();
        assert_eq!(cache.admit(2, "b", 41, 0), Err("b"));
        assert!(cache.resize(1, 100));
        assert!(!cache.resize(1, 101));
        assert_eq!(cache.partitions(), 100);
        assert!(!cache.resize(9, 1), "a session that is gone");
        assert_eq!(cache.admit(2, "b", 41, IDLE_MS + 1), Ok(vec!["a"]));
        cache.remove(2);
        assert_eq!((cache.len(), cache.partitions(), cache.by_use.len()), (0, 0, 0));
    }
}
