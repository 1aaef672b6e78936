//! Events of a server and its conditions (OPC UA Part 9), from the notification to the record (UA-26 to UA-30).
//!
//! Read-only: nothing is acknowledged, shelved or written at the server. One method is called, `ConditionRefresh`, which
//! changes nothing there (G-01). Where to look next: [`settings`], [`filter`] for what is asked for, [`report`] for what
//! one notification says, [`condition`] for what is held and when something is news, [`refresh`] for when the server is
//! asked to tell everything again, [`record`] for what goes to the stream, `watch` for where they meet.

pub mod condition;
pub mod filter;
pub mod record;
pub mod refresh;
pub mod report;
pub mod settings;
mod watch;

use std::collections::{HashSet, VecDeque};

use tokio::time::Instant;

use self::condition::Conditions;
use self::refresh::Refresher;
use super::items::State;
use super::stack::NodeId;

/// Events remembered so that one that comes through two notifiers is told once; the oldest is forgotten.
const REMEMBERED_MAX: usize = 4096;

/// Everything the adapter keeps about events.
#[derive(Debug)]
pub struct Events {
    /// By event source of the settings.
    pub items: Vec<EventItem>,
    pub conditions: Conditions,
    pub recent: Recent,
    pub refresher: Refresher,
    /// Of the server that is spoken to; part of every condition's identity (UA-27).
    pub server_uri: String,
}

/// An event source at the server.
#[derive(Debug)]
pub struct EventItem {
    pub state: State,
    pub node: Option<NodeId>,
    /// Its place among the adapter's intervals.
    pub interval: usize,
    /// Why it is not there.
    pub error: Option<String>,
    pub tries: u32,
    /// How much of the filter the server did not take.
    pub filter: filter::Level,
    /// It was watched before: when it is made anew, something may be missing.
    pub was_watched: bool,
}

impl EventItem {
    pub fn new(interval: usize, now: Instant) -> Self {
        Self {
            state: State::Wanted(now),
            node: None,
            interval,
            error: None,
            tries: 0,
            filter: filter::Level::Full,
            was_watched: false,
        }
    }
}

/// The events told last, by their ids.
#[derive(Debug, Default)]
pub struct Recent {
    order: VecDeque<Box<[u8]>>,
    known: HashSet<Box<[u8]>>,
}

impl Recent {
    /// True the first time; always true for an event without an id.
    pub fn is_news(&mut self, id: &[u8]) -> bool {
        if id.is_empty() {
            return true;
        }
        if !self.known.insert(id.into()) {
            return false;
        }
        if self.order.len() >= REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(id.into());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // UA-27
    #[test]
    fn an_event_is_told_once_and_memory_is_bounded() {
        let mut recent = Recent::default();
        assert!(recent.is_news(b"a") && !recent.is_news(b"a"));
        assert!(recent.is_news(b"") && recent.is_news(b""), "without an id nobody can tell");
        for number in 0..REMEMBERED_MAX {
            assert!(recent.is_news(&number.to_le_bytes()));
        }
        assert_eq!((recent.order.len(), recent.known.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
        assert!(recent.is_news(b"a"), "forgotten");
    }
}
