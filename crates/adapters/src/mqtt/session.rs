//! The state of one connection: what is owed to the broker, in which order, and whether it is still there.
//!
//! Pure: it is handed packets and the time, and writes packets into a buffer. Invariants:
//! - An acknowledgement goes out only after [`Session::settle`], and in the order of receipt (MQ-04).
//! - What is owed dies with the session; a new connection begins with nothing owed (MQ-04).
//! - At most [`Session::receive_max`] messages are owed; then nothing more is read in version 3.1.1, which knows no other
//!   way to say so, while pings go on (MQ-05).

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use super::packet::{self, Ack, Incoming, Message, Version};
use crate::adapter::Receipt;

/// Payload bytes that may be owed; beyond it nothing is read until some are settled.
pub const OWED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Message ids of quality of service 2 that wait for their release; a broker that has more is out of step.
const UNRELEASED_MAX: usize = 65_535;

/// What a packet means for the adapter.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    Message(Message, Option<Receipt>),
    /// Over the limit; gone.
    Skipped {
        topic: String,
        bytes: usize,
        receipt: Option<Receipt>,
    },
    /// Answer to a subscription, by its place.
    Subscribed {
        place: usize,
        granted: Result<u8, String>,
    },
    Goodbye {
        taken_over: bool,
        reason: String,
    },
    Nothing,
}

/// The broker did not answer a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silent;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owed {
    receipt: Receipt,
    qos: u8,
    id: u16,
    bytes: usize,
}

/// One connection after its welcome.
#[derive(Debug)]
pub struct Session {
    version: Version,
    receive_max: usize,
    keep_alive: Option<Duration>,
    owed: VecDeque<Owed>,
    owed_bytes: usize,
    /// Received, acknowledged once, waiting to be released.
    unreleased: HashSet<u16>,
    /// Packet ids of subscriptions and their places.
    subscribing: Vec<(u16, usize)>,
    last_sent: Instant,
    pinged_at: Option<Instant>,
}

impl Session {
    pub fn new(version: Version, receive_max: u16, keep_alive: Duration, now: Instant) -> Self {
        Self {
            version,
            receive_max: receive_max.into(),
            keep_alive: (!keep_alive.is_zero()).then_some(keep_alive),
            owed: VecDeque::new(),
            owed_bytes: 0,
            unreleased: HashSet::new(),
            subscribing: Vec::new(),
            last_sent: now,
            pinged_at: None,
        }
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// Messages received and not settled.
    pub fn owed(&self) -> usize {
        self.owed.len()
    }

    /// The next packet id for a subscription of this place, counted from 1.
    pub fn subscribing(&mut self, place: usize) -> u16 {
        let id = u16::try_from(self.subscribing.len() + 1).unwrap_or(u16::MAX);
        self.subscribing.push((id, place));
        id
    }

    /// False while nothing more is to be read.
    pub fn may_read(&self) -> bool {
        let full = self.version == Version::V311 && self.owed.len() >= self.receive_max;
        !full && self.owed_bytes < OWED_BYTES_MAX
    }

    /// Takes a packet in; `next` numbers what is owed.
    pub fn receive(&mut self, incoming: Incoming, next: &mut Receipt, out: &mut BytesMut) -> Event {
        match incoming {
            Incoming::Message(message) => {
                if message.qos == 2 && self.is_known(message.id, out) {
                    return Event::Nothing;
                }
                let receipt = self.owe(message.qos, message.id, message.payload.len(), next);
                Event::Message(message, receipt)
            }
            Incoming::Skipped { topic, id, qos, bytes } => {
                if qos == 2 && self.is_known(id, out) {
                    return Event::Nothing;
                }
                Event::Skipped { topic, bytes, receipt: self.owe(qos, id, 0, next) }
            }
            Incoming::Release { id } => {
                self.unreleased.remove(&id);
                packet::ack(Ack::Complete, id, out);
                Event::Nothing
            }
            Incoming::Subscribed { id, granted } => match self.subscribing.iter().find(|(known, _)| *known == id) {
                Some((_, place)) => Event::Subscribed { place: *place, granted },
                None => Event::Nothing,
            },
            Incoming::Pong => {
                self.pinged_at = None;
                Event::Nothing
            }
            Incoming::Goodbye { taken_over, reason } => Event::Goodbye { taken_over, reason },
            Incoming::Welcome(_) | Incoming::Other => Event::Nothing,
        }
    }

    /// True for a message of quality of service 2 that is here already: it is not handed on twice.
    fn is_known(&mut self, id: u16, out: &mut BytesMut) -> bool {
        if self.unreleased.contains(&id) {
            packet::ack(Ack::Received2, id, out);
            return true;
        }
        self.owed.iter().any(|owed| owed.qos == 2 && owed.id == id)
    }

    fn owe(&mut self, qos: u8, id: u16, bytes: usize, next: &mut Receipt) -> Option<Receipt> {
        if qos == 0 {
            return None;
        }
        *next += 1;
        self.owed.push_back(Owed { receipt: *next, qos, id, bytes });
        self.owed_bytes += bytes;
        Some(*next)
    }

    /// Acknowledges everything up to a receipt, in the order in which it came.
    pub fn settle(&mut self, upto: Receipt, out: &mut BytesMut) {
        while let Some(first) = self.owed.front().copied().filter(|owed| owed.receipt <= upto) {
            self.owed.pop_front();
            self.owed_bytes -= first.bytes;
            if first.qos == 2 {
                if self.unreleased.len() < UNRELEASED_MAX {
                    self.unreleased.insert(first.id);
                }
                packet::ack(Ack::Received2, first.id, out);
            } else {
                packet::ack(Ack::Received1, first.id, out);
            }
        }
    }

    /// Something was sent, so that no ping is needed for a while.
    pub fn sent(&mut self, now: Instant) {
        self.last_sent = now;
    }

    /// When [`Session::tick`] has something to do.
    pub fn timer(&self) -> Option<Instant> {
        let keep_alive = self.keep_alive?;
        let ping = self.last_sent + keep_alive;
        Some(match self.pinged_at {
            // while nothing is read no answer can come
            Some(at) if self.may_read() => ping.min(at + keep_alive / 2),
            _ => ping,
        })
    }

    /// Pings when it is time, and says when the last ping was not answered.
    pub fn tick(&mut self, now: Instant, out: &mut BytesMut) -> Result<(), Silent> {
        let Some(keep_alive) = self.keep_alive else { return Ok(()) };
        if !self.may_read() && self.pinged_at.is_some() {
            self.pinged_at = Some(now);
        }
        if self.pinged_at.is_some_and(|at| now >= at + keep_alive / 2) {
            return Err(Silent);
        }
        if now >= self.last_sent + keep_alive {
            packet::ping(out);
            self.last_sent = now;
            self.pinged_at.get_or_insert(now);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u16, qos: u8) -> Incoming {
        Incoming::Message(Message {
            topic: "t".to_owned(),
            payload: vec![0; 10].into(),
            qos,
            id,
            dup: false,
            retain: false,
            content_type: None,
            user: Vec::new(),
            subscriptions: Vec::new(),
        })
    }

    fn session(version: Version) -> Session {
        Session::new(version, 3, Duration::from_secs(30), Instant::now())
    }

    // MQ-04, AC-047
    #[tokio::test(start_paused = true)]
    async fn nothing_is_acknowledged_before_it_is_settled_and_then_in_order_of_receipt() {
        let mut session = session(Version::V5);
        let (mut next, mut out) = (0, BytesMut::new());
        for (id, qos) in [(7, 1), (3, 2), (9, 1), (1, 0)] {
            session.receive(message(id, qos), &mut next, &mut out);
        }
        assert!(out.is_empty() && session.owed() == 3 && next == 3);
        session.settle(2, &mut out);
        assert_eq!(&out[..], [0x40, 2, 0, 7, 0x50, 2, 0, 3]);
        out.clear();
        session.settle(2, &mut out);
        assert!(out.is_empty(), "once only");
        // the broker did not see the answer, and asks again; it is not handed on twice
        assert_eq!(session.receive(message(3, 2), &mut next, &mut out), Event::Nothing);
        session.receive(Incoming::Release { id: 3 }, &mut next, &mut out);
        assert_eq!(&out[..], [0x50, 2, 0, 3, 0x70, 2, 0, 3]);
        out.clear();
        session.settle(99, &mut out);
        assert_eq!(&out[..], [0x40, 2, 0, 9]);
    }

    // MQ-05
    #[tokio::test(start_paused = true)]
    async fn full_stops_reading_and_pings_go_on() {
        let mut session = session(Version::V311);
        let (mut next, mut out) = (0, BytesMut::new());
        for id in 1..=3 {
            assert!(session.may_read());
            session.receive(message(id, 1), &mut next, &mut out);
        }
        assert!(!session.may_read());
        let start = Instant::now();
        for second in 1..300 {
            session.tick(start + Duration::from_secs(second), &mut out).unwrap();
        }
        assert_eq!(out.len() / 2, 9, "a ping each 30 s, and no answer expected");
        session.settle(1, &mut out);
        assert!(session.may_read());
        let end = start + Duration::from_secs(320);
        assert_eq!(session.tick(end, &mut out), Err(Silent));
        assert!(Session::new(Version::V5, 3, Duration::from_secs(30), start).may_read());
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_does_not_answer_is_gone() {
        let mut session = session(Version::V5);
        let (mut next, mut out, start) = (0, BytesMut::new(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(session.timer(), Some(at(30)));
        session.tick(at(30), &mut out).unwrap();
        session.receive(Incoming::Pong, &mut next, &mut out);
        session.tick(at(60), &mut out).unwrap();
        assert_eq!(session.timer(), Some(at(75)));
        assert_eq!(session.tick(at(75), &mut out), Err(Silent));
    }
}
