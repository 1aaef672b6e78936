//! What a broker knows: sessions with what waits in them, and what it keeps for those who subscribe later.
//!
//! Pure: it is handed packets and hands out packets, and knows no socket and no time. Invariants:
//! - A message of quality of service 1 stays in its session until it is acknowledged; after a reconnect it is sent again
//!   under its old id, marked as a duplicate.
//! - Everything is bounded by a constant; what is refused there is counted in [`Counters`].

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use mqtt311::mqttbytes::v4::{LastWill, Packet, Publish};
use mqtt311::mqttbytes::{QoS, matches};
use tokio::sync::Notify;

/// Sessions, with or without a connection; a client more is refused.
pub const SESSIONS_MAX: usize = 1_000;
/// Filters of one session; a further one is refused by its SUBACK code.
pub const FILTERS_MAX: usize = 1_000;
/// Messages that wait in one session; the newest is dropped and counted.
pub const QUEUE_MAX: usize = 10_000;
/// Payload bytes that wait in one session; the newest is dropped and counted.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Messages sent and not yet acknowledged; the others wait in the queue.
pub const IN_FLIGHT_MAX: usize = 100;
/// Kept messages; for a further topic none is kept, and that is counted.
pub const RETAINED_MAX: usize = 10_000;
/// Ids of quality of service 2 that wait for their release; a client that has more is disconnected.
pub const UNRELEASED_MAX: usize = 1_000;

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub topic: String,
    /// Its bytes.
    pub payload: Bytes,
    /// Quality of service it was published with; 2 is carried on as 1.
    pub qos: u8,
    /// Published as one to keep.
    pub retain: bool,
}

/// What was done and what was not, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Connections accepted.
    pub connections: u64,
    /// Messages taken from clients.
    pub received: u64,
    /// Messages sent to subscribers, repetitions too.
    pub sent: u64,
    /// Messages a session had no room for.
    pub dropped: u64,
    /// Messages that were not kept because too many topics are.
    pub not_kept: u64,
    /// Wills published.
    pub wills: u64,
    /// Times a fault struck.
    pub faults: u64,
}

#[derive(Debug, Clone)]
struct InFlight {
    id: u16,
    message: Message,
    retained: bool,
    /// Written to the present connection.
    sent: bool,
    /// Written to some connection.
    dup: bool,
}

/// A message that waits, and whether it comes from what was kept.
#[derive(Debug, Clone)]
struct Waiting {
    message: Message,
    qos: u8,
    retained: bool,
    /// To be sent a second time at once, as if its acknowledgement had been lost.
    twice: bool,
}

#[derive(Debug, Default)]
struct Session {
    clean: bool,
    /// Number of the connection that speaks for it.
    connection: Option<u64>,
    wake: Arc<Notify>,
    filters: Vec<(String, u8)>,
    queue: VecDeque<Waiting>,
    queue_bytes: usize,
    in_flight: VecDeque<InFlight>,
    last_id: u16,
    unreleased: HashSet<u16>,
    will: Option<LastWill>,
}

/// All of a broker's knowledge.
#[derive(Debug, Default)]
pub struct State {
    sessions: BTreeMap<String, Session>,
    retained: BTreeMap<String, Message>,
    /// What happened so far.
    pub counters: Counters,
    last_connection: u64,
}

/// What came of a greeting.
#[derive(Debug)]
pub struct Admitted {
    /// Number of the connection.
    pub connection: u64,
    /// Its session was there already.
    pub present: bool,
    /// Woken when there is something to send, or when the connection is of no use any more.
    pub wake: Arc<Notify>,
}

impl State {
    /// Attaches a connection to the session of a client; whoever had it before is disconnected. `None` when there is no
    /// room for another session.
    pub fn admit(&mut self, client: &str, clean: bool, will: Option<LastWill>) -> Option<Admitted> {
        if !self.sessions.contains_key(client) && self.sessions.len() >= SESSIONS_MAX {
            return None;
        }
        self.detach_for_another(client);
        self.last_connection += 1;
        let connection = self.last_connection;
        if clean {
            self.sessions.remove(client);
        }
        let present = self.sessions.contains_key(client);
        let session = self.sessions.entry(client.to_owned()).or_default();
        session.clean = clean;
        session.connection = Some(connection);
        session.will = will;
        // the old connection may still listen to the old bell
        session.wake = Arc::new(Notify::new());
        for one in &mut session.in_flight {
            one.sent = false;
        }
        self.counters.connections += 1;
        Some(Admitted { connection, present, wake: Arc::clone(&session.wake) })
    }

    fn detach_for_another(&mut self, client: &str) {
        let Some(session) = self.sessions.get_mut(client) else { return };
        session.wake.notify_one();
        let will = if session.connection.take().is_some() { session.will.take() } else { None };
        if let Some(will) = will {
            self.publish_will(&will);
        }
    }

    /// True while that connection speaks for the client.
    pub fn is_attached(&self, client: &str, connection: u64) -> bool {
        self.sessions.get(client).is_some_and(|session| session.connection == Some(connection))
    }

    /// The connection ended. Without a goodbye its will is published; a clean session ends with it.
    pub fn leave(&mut self, client: &str, connection: u64, said_goodbye: bool) {
        if !self.is_attached(client, connection) {
            return;
        }
        let Some(session) = self.sessions.get_mut(client) else { return };
        session.connection = None;
        let will = session.will.take();
        if session.clean {
            self.sessions.remove(client);
        }
        if let Some(will) = will.filter(|_| !said_goodbye) {
            self.publish_will(&will);
        }
    }

    fn publish_will(&mut self, will: &LastWill) {
        self.counters.wills += 1;
        let message = Message {
            topic: will.topic.clone(),
            payload: will.message.clone(),
            qos: will.qos as u8,
            retain: will.retain,
        };
        self.route(&message);
    }

    /// Cuts the connections of clients whose name begins so; their wills are published.
    pub fn cut(&mut self, client: &str) {
        let attached = |(name, session): (&String, &Session)| {
            session.connection.filter(|_| name.starts_with(client)).map(|connection| (name.clone(), connection))
        };
        let found: Vec<(String, u64)> = self.sessions.iter().filter_map(attached).collect();
        for (name, connection) in found {
            if let Some(session) = self.sessions.get(&name) {
                session.wake.notify_one();
            }
            self.leave(&name, connection, false);
        }
    }

    /// Forgets the session of a client, as a broker does that lost its disk.
    pub fn forget(&mut self, client: &str) {
        if let Some(session) = self.sessions.remove(client) {
            session.wake.notify_one();
        }
    }

    /// Names of clients that are connected.
    pub fn clients(&self) -> Vec<String> {
        let connected = self.sessions.iter().filter(|(_, session)| session.connection.is_some());
        connected.map(|(name, _)| name.clone()).collect()
    }

    /// Adds a filter and queues what is kept for it. `None` when there are too many.
    pub fn subscribe(&mut self, client: &str, filter: &str, qos: u8) -> Option<u8> {
        let granted = qos.min(1);
        let session = self.sessions.get_mut(client)?;
        let full = session.filters.len() >= FILTERS_MAX;
        match session.filters.iter_mut().find(|(known, _)| known == filter) {
            Some((_, known)) => *known = granted,
            None if full => return None,
            None => session.filters.push((filter.to_owned(), granted)),
        }
        for message in self.retained.values().filter(|message| matches(&message.topic, filter)) {
            let waiting =
                Waiting { message: message.clone(), qos: message.qos.min(granted), retained: true, twice: false };
            if !session.enqueue(waiting) {
                self.counters.dropped += 1;
            }
        }
        Some(granted)
    }

    /// Removes a filter.
    pub fn unsubscribe(&mut self, client: &str, filter: &str) {
        if let Some(session) = self.sessions.get_mut(client) {
            session.filters.retain(|(known, _)| known != filter);
        }
    }

    /// Keeps the message if it is to be kept, and puts it into every session that wants it.
    pub fn route(&mut self, message: &Message) {
        self.route_times(message, false);
    }

    /// The same; `twice` has it sent a second time, marked as a duplicate.
    pub fn route_times(&mut self, message: &Message, twice: bool) {
        if message.retain {
            if message.payload.is_empty() {
                self.retained.remove(&message.topic);
            } else if self.retained.len() < RETAINED_MAX || self.retained.contains_key(&message.topic) {
                self.retained.insert(message.topic.clone(), message.clone());
            } else {
                self.counters.not_kept += 1;
            }
        }
        for session in self.sessions.values_mut() {
            let wanted = session.filters.iter().filter(|(filter, _)| matches(&message.topic, filter));
            let Some(granted) = wanted.map(|(_, granted)| *granted).max() else { continue };
            let qos = message.qos.min(granted);
            if qos == 0 && session.connection.is_none() {
                continue; // never promised to somebody who is away
            }
            if !session.enqueue(Waiting { message: message.clone(), qos, retained: false, twice }) {
                self.counters.dropped += 1;
            }
        }
    }

    /// Remembers an id of quality of service 2. True if its message is new; `None` when there are too many.
    pub fn hold(&mut self, client: &str, id: u16) -> Option<bool> {
        let session = self.sessions.get_mut(client)?;
        if session.unreleased.len() >= UNRELEASED_MAX && !session.unreleased.contains(&id) {
            return None;
        }
        Some(session.unreleased.insert(id))
    }

    /// The client may use the id again.
    pub fn release(&mut self, client: &str, id: u16) {
        if let Some(session) = self.sessions.get_mut(client) {
            session.unreleased.remove(&id);
        }
    }

    /// The client has it.
    pub fn acknowledge(&mut self, client: &str, id: u16) {
        if let Some(session) = self.sessions.get_mut(client) {
            session.in_flight.retain(|one| one.id != id);
        }
    }

    /// The next packet for the connection of a client.
    pub fn next_for(&mut self, client: &str) -> Option<Packet> {
        let session = self.sessions.get_mut(client)?;
        let packet = session.next_packet()?;
        self.counters.sent += 1;
        Some(Packet::Publish(packet))
    }

    /// Messages that wait for a client, sent ones included.
    pub fn waiting(&self, client: &str) -> usize {
        self.sessions.get(client).map_or(0, |session| session.queue.len() + session.in_flight.len())
    }
}

impl Session {
    fn enqueue(&mut self, waiting: Waiting) -> bool {
        let bytes = self.queue_bytes + waiting.message.payload.len();
        if self.queue.len() >= QUEUE_MAX || bytes > QUEUE_BYTES_MAX {
            return false;
        }
        self.queue_bytes = bytes;
        self.queue.push_back(waiting);
        self.wake.notify_one();
        true
    }

    fn next_packet(&mut self) -> Option<Publish> {
        if let Some(again) = self.in_flight.iter_mut().find(|one| !one.sent) {
            again.sent = true;
            let packet = publish(&again.message, 1, again.id, again.retained, again.dup);
            again.dup = true;
            return Some(packet);
        }
        let next = self.queue.front()?;
        if next.qos > 0 && self.in_flight.len() >= IN_FLIGHT_MAX {
            return None;
        }
        let next = self.queue.pop_front()?;
        self.queue_bytes -= next.message.payload.len();
        if next.qos == 0 {
            return Some(publish(&next.message, 0, 0, next.retained, false));
        }
        let id = self.free_id();
        let packet = publish(&next.message, 1, id, next.retained, false);
        let Waiting { message, retained, twice, .. } = next;
        self.in_flight.push_back(InFlight { id, message, retained, sent: !twice, dup: true });
        Some(packet)
    }

    /// Never 0, and never one that is still unacknowledged.
    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.wrapping_add(1).max(1);
            if self.in_flight.iter().all(|one| one.id != self.last_id) {
                return self.last_id;
            }
        }
    }
}

fn publish(message: &Message, qos: u8, id: u16, retained: bool, dup: bool) -> Publish {
    let qos = if qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
    let mut packet = Publish::from_bytes(message.topic.clone(), qos, message.payload.clone());
    packet.pkid = id;
    packet.retain = retained;
    packet.dup = dup;
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, payload: &str, retain: bool) -> Message {
        Message { topic: topic.to_owned(), payload: Bytes::copy_from_slice(payload.as_bytes()), qos: 1, retain }
    }

    fn next(state: &mut State, client: &str) -> Option<(String, u16, bool, bool)> {
        let Some(Packet::Publish(publish)) = state.next_for(client) else { return None };
        let text = String::from_utf8(publish.payload.to_vec()).unwrap();
        Some((text, publish.pkid, publish.dup, publish.retain))
    }

    #[test]
    fn what_is_unacknowledged_comes_again_and_what_is_kept_comes_first() {
        let mut state = State::default();
        state.route(&message("a/kept", "old", true));
        let first = state.admit("c", false, None).unwrap();
        assert!(!first.present);
        assert_eq!(state.subscribe("c", "a/#", 2), Some(1));
        state.route(&message("a/b", "1", false));
        assert_eq!(next(&mut state, "c"), Some(("old".into(), 1, false, true)));
        assert_eq!(next(&mut state, "c"), Some(("1".into(), 2, false, false)));
        assert_eq!(next(&mut state, "c"), None);
        state.acknowledge("c", 1);
        state.leave("c", first.connection, true);
        state.route(&message("a/b", "2", false));
        assert!(state.admit("c", false, None).unwrap().present);
        assert_eq!(next(&mut state, "c"), Some(("1".into(), 2, true, false)));
        assert_eq!(next(&mut state, "c"), Some(("2".into(), 3, false, false)));
        assert_eq!(state.waiting("c"), 2);
        assert!(!state.admit("c", true, None).unwrap().present, "a clean session forgets");
        assert_eq!(state.waiting("c"), 0);
    }

    #[test]
    fn a_will_is_published_unless_goodbye_was_said() {
        let mut state = State::default();
        state.admit("watcher", true, None).unwrap();
        state.subscribe("watcher", "+/status", 1);
        let will = || Some(LastWill::new("c/status", "gone", QoS::AtLeastOnce, false));
        let polite = state.admit("c", true, will()).unwrap();
        state.leave("c", polite.connection, true);
        assert_eq!(next(&mut state, "watcher"), None);
        let first = state.admit("c", true, will()).unwrap();
        let second = state.admit("c", true, will()).unwrap();
        assert!(next(&mut state, "watcher").is_some(), "somebody else took its name");
        state.leave("c", first.connection, false);
        assert_eq!(next(&mut state, "watcher"), None, "it had nothing to say any more");
        state.leave("c", second.connection, false);
        assert!(next(&mut state, "watcher").is_some());
        assert_eq!(state.counters.wills, 2);
    }

    // G-05
    #[test]
    fn a_session_without_a_reader_is_bounded() {
        let mut state = State::default();
        let gone = state.admit("c", false, None).unwrap();
        state.subscribe("c", "#", 1);
        state.leave("c", gone.connection, false);
        for _ in 0..QUEUE_MAX + 5 {
            state.route(&message("a", "x", false));
        }
        assert_eq!((state.waiting("c"), state.counters.dropped), (QUEUE_MAX, 5));
        state.admit("c", false, None).unwrap();
        let mut sent = 0;
        while state.next_for("c").is_some() {
            sent += 1;
        }
        assert_eq!(sent, IN_FLIGHT_MAX, "the others wait for acknowledgements");
    }
}
