//! Are the records of an uncompressed batch what its header says?
//!
//! A consumer that meets a record it cannot read stops there for good, so a batch that lies must not be stored. The walk
//! costs a few nanoseconds a record: lengths are followed, keys and values are not looked at. Compressed batches are
//! taken at their header's word: to look inside would cost more than everything else about an append, and would give
//! whoever sends a bomb the memory that it asks for.

use crate::batch::BatchError;

/// Longest record count that a batch may claim for its bytes: the smallest record takes seven of them.
const RECORD_BYTES_MIN: usize = 7;

/// Walks over `count` records; `bytes` must end with the last of them.
pub(crate) fn check(bytes: &[u8], count: i32) -> Result<(), BatchError> {
    let mut rest = bytes;
    let wrong = |index| BatchError::Record { index };
    let records = usize::try_from(count).map_err(|_| wrong(0))?;
    if records > bytes.len() / RECORD_BYTES_MIN {
        return Err(wrong(0));
    }
    for index in 0..count {
        rest = one(rest, index).ok_or(wrong(index))?;
    }
    if rest.is_empty() { Ok(()) } else { Err(wrong(count)) }
}

/// Walks over one record whose offset is `index` behind that of the batch; returns what follows it.
fn one(bytes: &[u8], index: i32) -> Option<&[u8]> {
    let (length, rest) = varint(bytes)?;
    let (mut record, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    record = record.get(1..)?; // attributes, unused
    record = timestamp(record)?;
    let (offset_delta, rest) = varint(record)?;
    if offset_delta != index {
        return None;
    }
    record = nullable(nullable(rest)?)?; // key and value
    let (headers, mut record) = varint(record)?;
    // every header takes two bytes at least
    if usize::try_from(headers).ok()? > record.len() / 2 {
        return None;
    }
    for _ in 0..headers {
        let (length, rest) = varint(record)?;
        record = nullable(rest.get(usize::try_from(length).ok()?..)?)?;
    }
    record.is_empty().then_some(after)
}

/// Skips bytes behind their length, where -1 stands for none.
fn nullable(bytes: &[u8]) -> Option<&[u8]> {
    match varint(bytes)? {
        (-1, rest) => Some(rest),
        (length, rest) => rest.get(usize::try_from(length).ok()?..),
    }
}

/// A zigzag number of at most five bytes.
fn varint(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let mut value = 0_u32;
    for (index, shift) in [0, 7, 14, 21, 28].into_iter().enumerate() {
        let byte = *bytes.get(index)?;
        if shift == 28 && byte > 0x0f {
            return None;
        }
        value |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            let magnitude = (value >> 1).cast_signed();
            return Some((magnitude ^ -(value & 1).cast_signed(), &bytes[index + 1..]));
        }
    }
    None
}

/// Skips a number of at most ten bytes. Times may go back, so its value is nobody's business.
fn timestamp(bytes: &[u8]) -> Option<&[u8]> {
    let last = bytes.iter().take(10).position(|byte| *byte < 0x80)?;
    Some(&bytes[last + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Builder, HEADER_BYTES, verify};

    fn records() -> Vec<u8> {
        let batch = Builder::new(1_000).record(1_000, b"one").record(500, b"").record(i64::MAX, &[7; 300]).build();
        verify(&batch).unwrap();
        batch[HEADER_BYTES..].to_vec()
    }

    #[test]
    fn records_as_clients_write_them_pass() {
        assert_eq!(check(&records(), 3), Ok(()));
        // a key, no value, and two headers, one of them without value
        let record = [36, 0, 0, 0, 2, b'k', 1, 4, 2, b'a', 2, b'x', 2, b'b', 1];
        let mut bytes = record.to_vec();
        bytes[0] = u8::try_from((record.len() - 1) * 2).unwrap();
        assert_eq!(check(&bytes, 1), Ok(()));
    }

    // security 40: count != records, offset jump, negative deltas
    #[test]
    fn records_that_do_not_match_their_header_are_found() {
        let bytes = records();
        for count in [-1, 0, 1, 2, 4, i32::MAX] {
            assert!(check(&bytes, count).is_err(), "{count}");
        }
        for delta in [1, 3, 4, 200] {
            let mut lies = bytes.clone();
            assert_eq!(lies[3], 0, "the offset delta of the first record");
            lies[3] = delta;
            assert!(check(&lies, 3).is_err(), "{delta}");
        }
        assert!(check(&[bytes.clone(), vec![0]].concat(), 3).is_err(), "something follows");
    }

    #[test]
    fn no_cut_and_no_changed_length_passes_or_panics() {
        let bytes = records();
        for length in 0..bytes.len() {
            assert!(check(&bytes[..length], 3).is_err(), "{length}");
        }
        for index in 0..bytes.len() {
            for value in [0, 1, 2, 0x7f, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[index] = value;
                assert!(check(&changed, 3).is_err() || check(&changed, 4).is_err(), "two counts for the same bytes");
            }
        }
    }

    #[test]
    fn numbers_that_do_not_end_are_refused() {
        assert_eq!(varint(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Some((i32::MIN, &[][..])));
        assert_eq!(varint(&[0xfe, 0xff, 0xff, 0xff, 0x0f]), Some((i32::MAX, &[][..])));
        assert_eq!(varint(&[0xff, 0xff, 0xff, 0xff, 0x1f]), None);
        assert_eq!(varint(&[0x80; 5]), None);
        assert_eq!(timestamp(&[0x80; 11]), None);
    }
}
