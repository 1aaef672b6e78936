//! The serial envelope: unit id before, checksum behind each request and reply (MB-31, MB-33).
//!
//! A reply is recognised by the length its own bytes announce and by its checksum. Silence only decides where the
//! length cannot be known: user space cannot see the 1.5 characters of the standard, and USB adapters deliver in
//! pieces with gaps of 16 ms. Invariant: a frame is only handed out after its checksum was right.

use crate::{Error, Read};

/// Longest frame of the standard.
pub const FRAME_MAX: usize = 256;
/// Unit id, function, exception code, checksum.
const EXCEPTION_LENGTH: usize = 5;
/// Unit id, function, byte count, checksum.
const REPLY_OVERHEAD: usize = 5;
/// A read request: unit id, five bytes, checksum.
pub const REQUEST_LENGTH: usize = 8;

/// One frame, borrowed from the bytes it was found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Unit id.
    pub unit: u8,
    /// Function code and what follows it, without the checksum.
    pub pdu: &'a [u8],
}

/// What the bytes received so far are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look<'a> {
    /// Not yet a whole frame; of how many bytes it will be, where that is known.
    More {
        /// Bytes of the whole frame.
        length: Option<usize>,
    },
    /// A whole frame.
    Whole(Frame<'a>),
    /// As many bytes as a frame, but the checksum is wrong.
    WrongChecksum,
}

/// The checksum: CRC-16 with polynomial A001h reflected, beginning with FFFFh.
pub fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |sum, byte| (sum >> 8) ^ TABLE[usize::from((sum ^ u16::from(*byte)) & 0xFF)])
}

const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let mut sum = index as u16;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0xA001 } else { sum >> 1 };
            bit += 1;
        }
        table[index] = sum;
        index += 1;
    }
    table
};

/// Appends one frame to `out`; the low byte of the checksum goes first.
pub fn encode(unit: u8, pdu: &[u8], out: &mut Vec<u8>) {
    let begin = out.len();
    out.push(unit);
    out.extend_from_slice(pdu);
    let sum = checksum(&out[begin..]);
    out.extend_from_slice(&sum.to_le_bytes());
}

/// Appends the frame of a read request to `out`.
pub fn encode_read(read: &Read, out: &mut Vec<u8>) {
    encode(read.unit(), &read.pdu(), out);
}

/// Bytes of the reply to a read when the device does not refuse.
pub fn reply_length(read: &Read) -> usize {
    REPLY_OVERHEAD + read.reply_bytes()
}

/// Looks at the bytes of a reply as they have come in so far.
///
/// Bytes behind a whole frame are not looked at: they belong to nothing that was asked.
pub fn look(bytes: &[u8]) -> Look<'_> {
    let length = match *bytes {
        [] | [_] | [_, 1..=4] => return Look::More { length: None },
        [_, 1..=4, count, ..] => REPLY_OVERHEAD + usize::from(count),
        [_, function, ..] if function & 0x80 != 0 => EXCEPTION_LENGTH,
        // A function nobody asked for: only silence tells where it ends.
        [_, _, ..] => return Look::More { length: None },
    };
    match bytes.get(..length) {
        None => Look::More { length: Some(length) },
        Some(frame) => whole(frame).map_or(Look::WrongChecksum, Look::Whole),
    }
}

/// All bytes up to a silence as one frame, if their checksum is right.
pub fn whole(bytes: &[u8]) -> Option<Frame<'_>> {
    if bytes.len() < 4 {
        return None;
    }
    let (body, sum) = bytes.split_at(bytes.len() - 2);
    let (&unit, pdu) = body.split_first()?;
    (checksum(body).to_le_bytes() == sum).then_some(Frame { unit, pdu })
}

/// Takes a request apart that a master sent: unit id and PDU of the first one, and the bytes it takes up.
///
/// `None` until it is there. For simulators, which know reading requests only; all of them are of one length.
pub fn request(bytes: &[u8]) -> Option<(Result<Frame<'_>, Error>, usize)> {
    let frame = bytes.get(..REQUEST_LENGTH)?;
    let found = whole(frame).ok_or(Error::ReplyLength { expected: REQUEST_LENGTH, actual: bytes.len() });
    Some((found, REQUEST_LENGTH))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Data, Table};

    fn read(count: u16) -> Read {
        Read::new(1, Table::HoldingRegister, 0, count).unwrap()
    }

    // MB-31
    #[test]
    fn request_of_the_standard() {
        let mut out = Vec::new();
        encode_read(&read(10), &mut out);
        assert_eq!(out, [0x01, 0x03, 0x00, 0x00, 0x00, 0x0A, 0xC5, 0xCD]);
        assert_eq!(out.len(), REQUEST_LENGTH);
        assert_eq!(request(&out[..7]), None);
        let (frame, used) = request(&out).unwrap();
        assert_eq!((frame.unwrap().pdu, used), (&out[1..6], 8));
    }

    // AC-024
    #[test]
    fn reply_in_pieces_and_a_broken_one() {
        let mut reply = vec![0x01, 0x03, 0x04, 0x42, 0xAA, 0xCC, 0xCD, 0x5A, 0xFE];
        assert_eq!(reply.len(), reply_length(&read(2)));
        for length in 0..reply.len() {
            assert!(matches!(look(&reply[..length]), Look::More { .. }), "{length}");
        }
        assert_eq!(look(&reply[..3]), Look::More { length: Some(9) });
        let Look::Whole(frame) = look(&reply) else { panic!("whole") };
        let data = read(2).decode(frame.unit, frame.pdu).unwrap().unwrap();
        assert_eq!(data, Data::Registers(vec![0x42AA, 0xCCCD]));
        reply[8] = 0xFF;
        assert_eq!(look(&reply), Look::WrongChecksum);
    }

    // AC-025: the echo of a request is no reply to it, whatever it asks for.
    #[test]
    fn an_echo_is_no_reply() {
        for function in 1..=4 {
            let table = Table::from_function(function).unwrap();
            for (offset, count) in [(0, 1), (1, 2), (0x0200, 3), (0x0400, 16), (255, 125), (0xFF00, 8)] {
                let read = Read::new(17, table, offset, count).unwrap();
                let mut out = Vec::new();
                encode_read(&read, &mut out);
                if let Look::Whole(frame) = look(&out) {
                    assert!(read.decode(frame.unit, frame.pdu).is_err(), "{read:?}");
                }
            }
        }
    }

    #[test]
    fn refusals_and_strangers() {
        let mut out = Vec::new();
        encode(9, &[0x83, 2], &mut out);
        assert_eq!(look(&out), Look::Whole(Frame { unit: 9, pdu: &[0x83, 2] }));
        out.clear();
        encode(9, &[0x2B, 1, 2, 3], &mut out);
        assert_eq!(look(&out), Look::More { length: None });
        assert_eq!(whole(&out), Some(Frame { unit: 9, pdu: &[0x2B, 1, 2, 3] }));
        assert_eq!(whole(&out[..3]), None);
    }

    proptest! {
        // AC-102
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Look::Whole(frame) = look(&bytes) {
                prop_assert!(!frame.pdu.is_empty() && frame.pdu.len() + 3 <= bytes.len());
            }
            let _ignored = (whole(&bytes), request(&bytes));
        }

        #[test]
        fn one_wrong_bit_is_always_seen(words in prop::collection::vec(any::<u16>(), 1..=125), place: usize, bit in 0u8..8) {
            let mut out = Vec::new();
            encode(1, &crate::server::registers(Table::HoldingRegister, &words), &mut out);
            prop_assert!(matches!(look(&out), Look::Whole(_)));
            let place = place % out.len();
            out[place] ^= 1 << bit;
            prop_assert!(!matches!(look(&out), Look::Whole(_)));
        }
    }
}
