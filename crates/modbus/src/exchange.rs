//! Which reply belongs to which request, and what to do with one that belongs to none (MB-22).
//!
//! A reply that comes after its deadline must never be taken for the answer to the next request: that client would
//! be one answer behind for ever. So ids of abandoned requests are remembered, their late replies are thrown away
//! without complaint, and a reply nobody asked for is tolerated once; the second in a row closes the connection.
//!
//! Invariant: data is only ever handed out for a request that is outstanding, under its own transaction id, after
//! [`Read::decode`] found nothing wrong. The caller owns the deadlines and calls [`Exchange::abandon`].

use std::collections::VecDeque;

use crate::{Data, Error, Exception, Frame, Read};

/// Most requests on the wire at once; one more is refused.
pub const OUTSTANDING_MAX: usize = 16;
/// Abandoned ids remembered; the oldest is forgotten first. A later reply to a forgotten id counts as unattributable.
pub const ABANDONED_MAX: usize = 64;
/// Replies in a row that belong to no request before the connection is given up.
const UNATTRIBUTABLE_MAX: u32 = 2;

/// What to do with a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The answer to the request with this transaction id, or the reason why it is unusable.
    Reply {
        /// The request's id.
        transaction: u16,
        /// Data, the device's refusal, or what is wrong with the reply.
        outcome: Result<Result<Data, Exception>, Error>,
    },
    /// The reply to a request given up earlier: throw it away, keep waiting.
    Late {
        /// The abandoned request's id.
        transaction: u16,
    },
    /// A reply to nothing we asked: throw it away, keep waiting.
    Unattributable {
        /// The id it carries.
        transaction: u16,
    },
    /// The second such reply in a row: close the connection and start anew.
    Close {
        /// The id it carries.
        transaction: u16,
    },
}

/// The requests of one connection.
#[derive(Debug, Default)]
pub struct Exchange {
    last: u16,
    outstanding: Vec<(u16, Read)>,
    abandoned: VecDeque<u16>,
    unattributable: u32,
}

impl Exchange {
    /// For a new connection; the first transaction id is 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a request about to be sent and gives it the next transaction id (65535 is followed by 0).
    ///
    /// `None` if [`OUTSTANDING_MAX`] requests are on the wire already.
    pub fn begin(&mut self, read: Read) -> Option<u16> {
        if self.outstanding.len() >= OUTSTANDING_MAX {
            return None;
        }
        self.last = self.last.wrapping_add(1);
        let transaction = self.last;
        // After a full turn of the counter an old id is ours again; it no longer marks a late reply.
        self.abandoned.retain(|id| *id != transaction);
        self.outstanding.push((transaction, read));
        Some(transaction)
    }

    /// Gives up on a request after its deadline; its reply, should it still come, will be [`Verdict::Late`].
    pub fn abandon(&mut self, transaction: u16) {
        let Some(at) = self.outstanding.iter().position(|(id, _)| *id == transaction) else { return };
        self.outstanding.swap_remove(at);
        self.remember(transaction);
    }

    /// Number of requests waiting for their reply.
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Judges a frame that arrived.
    pub fn receive(&mut self, frame: &Frame<'_>) -> Verdict {
        let transaction = frame.transaction;
        if let Some(at) = self.outstanding.iter().position(|(id, _)| *id == transaction) {
            let (_, read) = self.outstanding.swap_remove(at);
            self.unattributable = 0;
            let outcome = read.decode(frame.unit, frame.pdu);
            if outcome.is_err() {
                // The device may still send the proper one; that must not look like a stranger's.
                self.remember(transaction);
            }
            return Verdict::Reply { transaction, outcome };
        }
        if let Some(at) = self.abandoned.iter().position(|id| *id == transaction) {
            self.abandoned.remove(at);
            self.unattributable = 0;
            return Verdict::Late { transaction };
        }
        self.unattributable += 1;
        if self.unattributable >= UNATTRIBUTABLE_MAX {
            return Verdict::Close { transaction };
        }
        Verdict::Unattributable { transaction }
    }

    fn remember(&mut self, transaction: u16) {
        if self.abandoned.len() == ABANDONED_MAX {
            self.abandoned.pop_front();
        }
        self.abandoned.push_back(transaction);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Table;

    fn read() -> Read {
        Read::new(1, Table::HoldingRegister, 0, 1).unwrap()
    }

    fn frame(transaction: u16, pdu: &[u8]) -> Frame<'_> {
        Frame { transaction, unit: 1, pdu }
    }

    fn data(verdict: &Verdict) -> Option<u16> {
        match verdict {
            Verdict::Reply { outcome: Ok(Ok(Data::Registers(registers))), .. } => Some(registers[0]),
            _ => None,
        }
    }

    // AC-016: the reply to request n comes before reply n+1; no shift over 1000 polls.
    #[test]
    fn late_replies_never_shift_the_answers() {
        let mut exchange = Exchange::new();
        for n in 0..1000u16 {
            let [high, low] = n.to_be_bytes();
            let late = exchange.begin(read()).unwrap();
            exchange.abandon(late);
            let next = exchange.begin(read()).unwrap();
            assert_eq!(exchange.receive(&frame(late, &[3, 2, 0xDE, 0xAD])), Verdict::Late { transaction: late });
            assert_eq!(data(&exchange.receive(&frame(next, &[3, 2, high, low]))), Some(n));
        }
    }

    // AC-017, option off: every reply carries the id plus one.
    #[test]
    fn second_stranger_in_a_row_closes() {
        let mut exchange = Exchange::new();
        let first = exchange.begin(read()).unwrap();
        assert!(matches!(exchange.receive(&frame(first + 1, &[3, 2, 0, 1])), Verdict::Unattributable { .. }));
        exchange.abandon(first);
        let second = exchange.begin(read()).unwrap();
        assert!(matches!(exchange.receive(&frame(second + 1, &[3, 2, 0, 1])), Verdict::Close { .. }));
    }

    // MB-22: one stranger is discarded and the request goes on.
    #[test]
    fn one_stranger_is_tolerated() {
        let mut exchange = Exchange::new();
        for _ in 0..10 {
            let id = exchange.begin(read()).unwrap();
            assert!(matches!(exchange.receive(&frame(0x7777, &[3, 2, 0, 1])), Verdict::Unattributable { .. }));
            assert_eq!(data(&exchange.receive(&frame(id, &[3, 2, 0, 5]))), Some(5));
        }
    }

    // AC-018 at this level: a bad reply fails its request, the proper one after it is merely late.
    #[test]
    fn bad_reply_is_not_data() {
        let mut exchange = Exchange::new();
        let id = exchange.begin(read()).unwrap();
        let verdict = exchange.receive(&frame(id, &[3, 0]));
        assert!(matches!(verdict, Verdict::Reply { outcome: Err(Error::ByteCount { .. }), .. }));
        assert!(matches!(exchange.receive(&frame(id, &[3, 2, 0, 1])), Verdict::Late { .. }));
    }

    #[test]
    fn ids_wrap_and_several_may_be_outstanding() {
        let mut exchange = Exchange { last: 65534, ..Exchange::default() };
        assert_eq!(exchange.begin(read()), Some(65535));
        assert_eq!(exchange.begin(read()), Some(0));
        assert_eq!(data(&exchange.receive(&frame(0, &[3, 2, 0, 2]))), Some(2));
        assert_eq!(data(&exchange.receive(&frame(65535, &[3, 2, 0, 1]))), Some(1));
        for _ in 0..OUTSTANDING_MAX {
            assert!(exchange.begin(read()).is_some());
        }
        assert_eq!(exchange.begin(read()), None);
    }

    #[test]
    fn memory_of_abandoned_ids_is_bounded() {
        let mut exchange = Exchange::new();
        for _ in 0..70_000u32 {
            let id = exchange.begin(read()).unwrap();
            exchange.abandon(id);
        }
        assert_eq!(exchange.abandoned.len(), ABANDONED_MAX);
    }
}
