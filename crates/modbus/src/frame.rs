//! The TCP envelope: a seven-byte header before each request and reply (MB-20).
//!
//! TCP may cut or join frames anywhere, so reading is incremental: [`Deframer`] takes whatever arrived and hands out
//! whole frames. Invariant: the buffer never holds more than was given to it, and one frame never exceeds 260 bytes.

use crate::{Error, Read};

/// Bytes before the function code: transaction id, protocol id, length, unit id.
const HEADER: usize = 7;
/// Smallest legal length field: unit id and function code.
const LENGTH_MIN: u16 = 2;
/// Largest legal length field: unit id and a PDU of 253 bytes.
const LENGTH_MAX: u16 = 254;
/// Largest whole frame on the wire.
pub const FRAME_MAX: usize = 6 + 254;

/// One frame, borrowed from the buffer it arrived in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Transaction id, echoed by a correct device.
    pub transaction: u16,
    /// Unit id.
    pub unit: u8,
    /// Function code and what follows it; never empty.
    pub pdu: &'a [u8],
}

/// Looks for one frame at the start of `bytes`; also returns how many bytes it takes up.
///
/// `None` means more bytes are needed. An error means framing is lost and the connection must be closed; it is
/// reported as soon as the header shows it, not only when the frame would be complete.
pub fn parse(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Error> {
    if let [_, _, high, low, ..] = *bytes {
        let protocol = u16::from_be_bytes([high, low]);
        if protocol != 0 {
            return Err(Error::ProtocolId { protocol });
        }
    }
    let &[transaction_high, transaction_low, _, _, length_high, length_low, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    let length = u16::from_be_bytes([length_high, length_low]);
    if !(LENGTH_MIN..=LENGTH_MAX).contains(&length) {
        return Err(Error::FrameLength { length });
    }
    let Some((&unit, pdu)) = rest.get(..usize::from(length)).and_then(<[u8]>::split_first) else {
        return Ok(None);
    };
    let transaction = u16::from_be_bytes([transaction_high, transaction_low]);
    Ok(Some((Frame { transaction, unit, pdu }, 6 + usize::from(length))))
}

/// Appends one frame to `out`.
///
/// # Panics
/// If `pdu` is empty or longer than 253 bytes; every encoder of this crate stays within that.
pub fn encode(transaction: u16, unit: u8, pdu: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(pdu.len() + 1).expect("a PDU has at most 253 bytes");
    assert!((LENGTH_MIN..=LENGTH_MAX).contains(&length), "a PDU has 1 to 253 bytes, not {}", pdu.len());
    out.reserve(HEADER + pdu.len());
    out.extend_from_slice(&transaction.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&length.to_be_bytes());
    out.push(unit);
    out.extend_from_slice(pdu);
}

/// Appends the frame of a read request to `out`.
pub fn encode_read(transaction: u16, read: &Read, out: &mut Vec<u8>) {
    encode(transaction, read.unit(), &read.pdu(), out);
}

/// Collects bytes as they arrive and hands out whole frames.
#[derive(Debug, Default)]
pub struct Deframer {
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that were handed out already.
    taken: usize,
}

impl Deframer {
    /// An empty one, for a new connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes as they came from the connection.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if it has arrived. An error means framing is lost: close the connection.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, Error> {
        let Some((frame, used)) = parse(&self.buffer[self.taken..])? else { return Ok(None) };
        self.taken += used;
        Ok(Some(frame))
    }

    /// Bytes waiting for the rest of their frame.
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len() - self.taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Location, Table};

    // AC-001
    #[test]
    fn request_on_the_wire() {
        let wire = [0x00, 0x01, 0x00, 0x00, 0x00, 0x06, 0x01, 0x03, 0x00, 0x00, 0x00, 0x02];
        for location in
            [Location::parse("40001"), Location::parse("400001"), Location::from_offset(Table::HoldingRegister, 0)]
        {
            let location = location.unwrap();
            let mut out = Vec::new();
            encode_read(1, &Read::new(1, location.table, location.offset, 2).unwrap(), &mut out);
            assert_eq!(out, wire);
        }
    }

    // AC-019: single bytes, and two frames at once.
    #[test]
    fn split_and_joined_frames() {
        let mut wire = Vec::new();
        encode(7, 1, &[3, 2, 0, 42], &mut wire);
        encode(8, 1, &[3, 2, 0, 43], &mut wire);

        let mut joined = Deframer::new();
        joined.push(&wire);
        assert_eq!(joined.next_frame().unwrap().unwrap().transaction, 7);
        assert_eq!(joined.next_frame().unwrap().unwrap().pdu, [3, 2, 0, 43]);
        assert_eq!(joined.next_frame(), Ok(None));
        assert_eq!(joined.pending_bytes(), 0);

        let mut split = Deframer::new();
        let mut seen = Vec::new();
        for byte in wire {
            split.push(&[byte]);
            while let Some(frame) = split.next_frame().unwrap() {
                seen.push((frame.transaction, frame.unit, frame.pdu.to_vec()));
            }
        }
        assert_eq!(seen, [(7, 1, vec![3, 2, 0, 42]), (8, 1, vec![3, 2, 0, 43])]);
    }

    // MB-20
    #[test]
    fn lost_framing_is_seen_at_once() {
        assert_eq!(parse(&[0, 1, 0, 9]), Err(Error::ProtocolId { protocol: 9 }));
        assert_eq!(parse(&[0, 1, 0, 0, 0, 1]), Err(Error::FrameLength { length: 1 }));
        assert_eq!(parse(&[0, 1, 0, 0, 0, 255]), Err(Error::FrameLength { length: 255 }));
        assert_eq!(parse(&[0, 1, 0, 0, 0, 254]), Ok(None));
        assert!(parse(&[0, 1, 0, 9]).unwrap_err().loses_framing());
    }

    proptest! {
        // AC-102
        #[test]
        fn no_bytes_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let mut deframer = Deframer::new();
            for chunk in chunks {
                deframer.push(&chunk);
                loop {
                    match deframer.next_frame() {
                        Ok(Some(frame)) => prop_assert!(!frame.pdu.is_empty()),
                        Ok(None) => break,
                        Err(_) => return Ok(()),
                    }
                }
            }
        }

        #[test]
        fn frames_survive_any_cut(
            frames in prop::collection::vec((any::<u16>(), any::<u8>(), prop::collection::vec(any::<u8>(), 1..=253)), 1..5),
            cut in 1usize..50,
        ) {
            let mut wire = Vec::new();
            for (transaction, unit, pdu) in &frames {
                encode(*transaction, *unit, pdu, &mut wire);
            }
            let mut deframer = Deframer::new();
            let mut seen = Vec::new();
            for chunk in wire.chunks(cut) {
                deframer.push(chunk);
                while let Some(frame) = deframer.next_frame().unwrap() {
                    seen.push((frame.transaction, frame.unit, frame.pdu.to_vec()));
                }
            }
            prop_assert_eq!(seen, frames);
        }
    }
}
