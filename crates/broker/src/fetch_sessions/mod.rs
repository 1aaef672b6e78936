//! Incremental fetch sessions (KIP-227): a client names its partitions once, afterwards only what changed.
//!
//! Sessions belong to the broker, not to a connection: whoever names the id and the epoch that is next goes on with it.
//! `session.rs` is what one session remembers, `cache.rs` which sessions there are; both are pure. Here they meet the
//! partitions. Locks: a session's may be held while the cache's is taken, never the other way round.

mod cache;
mod session;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kafka_protocol::error::ResponseError;
use tokio::time::Instant;

use self::cache::Cache;
pub(crate) use self::session::{Asked, Seen, Session, TopicRef};
use crate::limits::{FETCH_SESSION_PARTITIONS_MAX, FETCH_SESSIONS_MAX};
use crate::partition::Partition;
use crate::random;
use crate::topics::{Topic, Topics};
use crate::waiters::{Inbox, Registration, Waiters};

/// Epoch of a fetch that wants a new session, and of one that wants none.
pub(crate) const NEW: i32 = 0;
pub(crate) const NONE: i32 = -1;

/// The epoch behind this one; zero is never used again.
pub(crate) fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

/// A partition as a session holds it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) partition: Result<Arc<Partition>, ResponseError>,
    registration: Option<Registration>,
}

/// A session and what wakes it.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) session: Session<Place>,
    pub(crate) inbox: Arc<Inbox>,
    /// The epoch that its next fetch has to name.
    pub(crate) epoch: i32,
    /// Whether its client calls topics by id.
    pub(crate) by_id: bool,
    /// State of the topics at which the places were found.
    generation: u64,
    /// Whether changes of its partitions are noted in the inbox.
    watched: bool,
}

impl Live {
    pub(crate) fn new(topics: &Topics, by_id: bool) -> Self {
        let inbox = Arc::new(Inbox::default());
        let epoch = next_epoch(NEW);
        Self { session: Session::default(), inbox, epoch, by_id, generation: topics.generation(), watched: false }
    }

    /// Adds partitions of a topic, or changes what is wanted of them.
    pub(crate) fn ask(&mut self, topics: &Topics, named: TopicRef, partitions: impl Iterator<Item = (i32, Asked)>) {
        let topic = find(topics, &named);
        // a name of our own: the client's would keep its whole frame in memory
        let named = match (&topic, named) {
            (Ok(topic), TopicRef::Name(_)) => TopicRef::Name(topic.name.clone()),
            (Err(_), TopicRef::Name(name)) => TopicRef::Name(super::handlers::text(&*name)),
            (_, id) => id,
        };
        for (index, asked) in partitions {
            let (inbox, watched) = (&self.inbox, self.watched);
            self.session.ask(named.clone(), index, asked, |slot| {
                let partition = place(topic.as_ref(), index);
                let registration = watched.then(|| register(&partition, inbox, slot)).flatten();
                Place { partition, registration }
            });
        }
    }

    /// Has changes noted from now on; true when they were not before. Then everything is due again, so that nothing is
    /// missed between a look and this.
    pub(crate) fn watch(&mut self) -> bool {
        if std::mem::replace(&mut self.watched, true) {
            return false;
        }
        let inbox = &self.inbox;
        self.session.review(|slot, entry| {
            entry.handle.registration = register(&entry.handle.partition, inbox, slot);
            true
        });
        true
    }

    /// Takes in what changed since the last look.
    pub(crate) fn refresh(&mut self, topics: &Topics) {
        let Self { session, inbox, watched, .. } = self;
        inbox.empty(|slot| session.changed(slot));
        let generation = topics.generation();
        if self.generation == generation {
            return;
        }
        self.generation = generation;
        session.review(|slot, entry| {
            let found = place(find(topics, &entry.topic).as_ref(), entry.index);
            let same = match (&found, &entry.handle.partition) {
                (Ok(found), Ok(known)) => Arc::ptr_eq(found, known),
                (Err(found), Err(known)) => found == known,
                _ => false,
            };
            if !same {
                let registration = watched.then(|| register(&found, inbox, slot)).flatten();
                entry.handle = Place { partition: found, registration };
            }
            !same
        });
    }
}

/// The topic that a client means.
fn find(topics: &Topics, named: &TopicRef) -> Result<Arc<Topic>, ResponseError> {
    match named {
        TopicRef::Name(name) => topics.get(name).ok_or(ResponseError::UnknownTopicOrPartition),
        TopicRef::Id(id) => topics.by_id(*id).ok_or(ResponseError::UnknownTopicId),
    }
}

fn place(topic: Result<&Arc<Topic>, &ResponseError>, index: i32) -> Result<Arc<Partition>, ResponseError> {
    let partition = topic.map_err(|error| *error)?.partition(index);
    partition.map(Arc::clone).ok_or(ResponseError::UnknownTopicOrPartition)
}

fn register(
    partition: &Result<Arc<Partition>, ResponseError>,
    inbox: &Arc<Inbox>,
    slot: usize,
) -> Option<Registration> {
    partition.as_ref().ok().map(|partition| Waiters::register(&partition.waiters, inbox, slot))
}

/// A session that more than one request may hold, one after the other.
pub(crate) type Shared = Arc<Mutex<Live>>;

/// All sessions.
#[derive(Debug)]
pub(crate) struct FetchSessions {
    cache: Mutex<Cache<Shared>>,
    started: Instant,
}

impl FetchSessions {
    pub(crate) fn new() -> Self {
        let cache = Mutex::new(Cache::new(FETCH_SESSIONS_MAX, FETCH_SESSION_PARTITIONS_MAX));
        Self { cache, started: Instant::now() }
    }

    fn lock(&self) -> MutexGuard<'_, Cache<Shared>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Keeps a session; its id, or zero when there is no room for it.
    pub(crate) fn admit(&self, session: &Shared, partitions: usize) -> i32 {
        let now_ms = self.now_ms();
        let mut cache = self.lock();
        let mut id = random::positive();
        while cache.has(id) {
            id = random::positive();
        }
        let admitted = cache.admit(id, Arc::clone(session), partitions, now_ms);
        drop(cache); // what was evicted is dropped without the lock: it has to sign off at all of its partitions
        admitted.map_or(0, |_| id)
    }

    pub(crate) fn take_up(&self, id: i32) -> Option<Shared> {
        let now_ms = self.now_ms();
        self.lock().take_up(id, now_ms)
    }

    /// Notes how many partitions a session has; false when that is too many and it has to be closed.
    pub(crate) fn resize(&self, id: i32, partitions: usize) -> bool {
        self.lock().resize(id, partitions)
    }

    pub(crate) fn close(&self, id: i32) {
        let closed = self.lock().remove(id);
        drop(closed);
    }

    /// How many sessions there are, and how many partitions they hold.
    pub(crate) fn size(&self) -> (usize, usize) {
        let cache = self.lock();
        (cache.len(), cache.partitions())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_count_from_one_and_never_come_to_zero_again() {
        assert_eq!(next_epoch(NEW), 1);
        assert_eq!(next_epoch(41), 42);
        assert_eq!(next_epoch(i32::MAX), 1);
    }
}
