//! Sparse index of one segment and the footer that makes a closed segment trusted.
//!
//! One file per closed segment, `<base offset>.index`: a fixed header with the segment's vital figures under its own
//! checksum, then a body (index entries, aborted transactions, producer states at the end of the segment) under
//! another. Opening a log reads only the headers. Everything here can be rebuilt from the segment; losing it costs a
//! scan, never data.
//! Layout: `docs/specs/log-format.md`.

use crate::num::{to_u64, to_usize};
use crate::producers::Producers;
use crate::transactions::Aborted;

/// Bytes of the fixed header.
pub(crate) const FOOTER_BYTES: usize = 96;
const MAGIC: &[u8; 8] = b"SFLOGIX2";
/// What was written before there were transactions; read, no longer written.
const MAGIC_1: &[u8; 8] = b"SFLOGIX1";
const ENTRY_BYTES: usize = 24;
const ABORTED_BYTES: usize = 32;
/// Largest index file that is read back; a larger one is treated as damaged and rebuilt.
pub(crate) const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// One entry: where the batch with `offset` starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) offset: i64,
    pub(crate) position: u64,
    /// Largest timestamp of all batches before this one in the segment; `i64::MIN` for none.
    pub(crate) max_timestamp_before: i64,
}

/// Largest timestamp of a stretch of log and the batch that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MaxTimestamp {
    pub(crate) timestamp: i64,
    pub(crate) batch_offset: i64,
}

/// The vital figures of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) base: i64,
    pub(crate) next: i64,
    /// Bytes of valid batches.
    pub(crate) data_len: u64,
    /// Bytes of the file; larger than `data_len` where recovery cut a tail and left the bytes in place.
    pub(crate) file_len: u64,
    pub(crate) max: Option<MaxTimestamp>,
    pub(crate) created_ms: i64,
    /// Aborted transactions whose markers the segment holds.
    pub(crate) aborted: usize,
}

/// Entries, aborted transactions and producers, the part that is read on demand.
#[derive(Debug, Default)]
pub(crate) struct Body {
    pub(crate) entries: Vec<Entry>,
    pub(crate) aborted: Vec<Aborted>,
    pub(crate) producers: Producers,
}

/// Encodes a whole index file. `aborted` are as many as the footer says.
pub(crate) fn encode(footer: &Footer, entries: &[Entry], aborted: &[Aborted], producers: &Producers) -> Vec<u8> {
    let mut body = Vec::with_capacity(entries.len() * ENTRY_BYTES + aborted.len() * ABORTED_BYTES);
    for entry in entries {
        body.extend_from_slice(&entry.offset.to_be_bytes());
        body.extend_from_slice(&entry.position.to_be_bytes());
        body.extend_from_slice(&entry.max_timestamp_before.to_be_bytes());
    }
    for one in aborted {
        body.extend_from_slice(&one.producer_id.to_be_bytes());
        body.extend_from_slice(&one.first_offset.to_be_bytes());
        body.extend_from_slice(&one.marker_offset.to_be_bytes());
        body.extend_from_slice(&one.stable_offset.to_be_bytes());
    }
    producers.encode(&mut body);

    let (timestamp, batch_offset) = footer.max.map_or((i64::MIN, -1), |max| (max.timestamp, max.batch_offset));
    let mut out = Vec::with_capacity(FOOTER_BYTES + body.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&footer.base.to_be_bytes());
    out.extend_from_slice(&footer.next.to_be_bytes());
    out.extend_from_slice(&footer.data_len.to_be_bytes());
    out.extend_from_slice(&footer.file_len.to_be_bytes());
    out.extend_from_slice(&timestamp.to_be_bytes());
    out.extend_from_slice(&batch_offset.to_be_bytes());
    out.extend_from_slice(&footer.created_ms.to_be_bytes());
    out.extend_from_slice(&to_u64(entries.len()).to_be_bytes());
    out.extend_from_slice(&to_u64(body.len()).to_be_bytes());
    out.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
    out.extend_from_slice(&to_u64(aborted.len()).to_be_bytes());
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_be_bytes());
    out.extend_from_slice(&body);
    out
}

fn word(bytes: &[u8], at: usize) -> [u8; 8] {
    bytes[at..at + 8].try_into().expect("a slice of eight bytes")
}

/// Decodes the fixed header; `None` when it is short, foreign, damaged or contradicts itself.
pub(crate) fn decode_footer(bytes: &[u8]) -> Option<Footer> {
    let header = bytes.get(..FOOTER_BYTES)?;
    let stored = u32::from_be_bytes(header[FOOTER_BYTES - 4..].try_into().expect("four bytes"));
    if ![MAGIC, MAGIC_1].iter().any(|magic| header.starts_with(*magic))
        || crc32c::crc32c(&header[..FOOTER_BYTES - 4]) != stored
    {
        return None;
    }
    let timestamp = i64::from_be_bytes(word(header, 40));
    let batch_offset = i64::from_be_bytes(word(header, 48));
    let footer = Footer {
        base: i64::from_be_bytes(word(header, 8)),
        next: i64::from_be_bytes(word(header, 16)),
        data_len: u64::from_be_bytes(word(header, 24)),
        file_len: u64::from_be_bytes(word(header, 32)),
        max: (timestamp != i64::MIN).then_some(MaxTimestamp { timestamp, batch_offset }),
        created_ms: i64::from_be_bytes(word(header, 56)),
        aborted: to_usize(u64::from_be_bytes(word(header, 84))), // zero before there were transactions
    };
    (footer.data_len <= footer.file_len && footer.base <= footer.next).then_some(footer)
}

/// Decodes header and body of a whole index file.
pub(crate) fn decode(bytes: &[u8]) -> Option<(Footer, Body)> {
    let footer = decode_footer(bytes)?;
    let entry_count = u64::from_be_bytes(word(bytes, 64));
    let body_len = u64::from_be_bytes(word(bytes, 72));
    let body_crc = u32::from_be_bytes(bytes[80..84].try_into().expect("four bytes"));
    let body = &bytes[FOOTER_BYTES..];
    if to_u64(body.len()) != body_len || crc32c::crc32c(body) != body_crc {
        return None;
    }
    let entries_len = to_usize(entry_count.checked_mul(to_u64(ENTRY_BYTES)).filter(|len| *len <= body_len)?);
    let (entry_bytes, rest) = body.split_at(entries_len);
    let (aborted_bytes, producer_bytes) = rest.split_at_checked(footer.aborted.checked_mul(ABORTED_BYTES)?)?;
    let entries = entry_bytes
        .chunks_exact(ENTRY_BYTES)
        .map(|chunk| Entry {
            offset: i64::from_be_bytes(word(chunk, 0)),
            position: u64::from_be_bytes(word(chunk, 8)),
            max_timestamp_before: i64::from_be_bytes(word(chunk, 16)),
        })
        .collect();
    let aborted = aborted_bytes
        .chunks_exact(ABORTED_BYTES)
        .map(|chunk| Aborted {
            producer_id: i64::from_be_bytes(word(chunk, 0)),
            first_offset: i64::from_be_bytes(word(chunk, 8)),
            marker_offset: i64::from_be_bytes(word(chunk, 16)),
            stable_offset: i64::from_be_bytes(word(chunk, 24)),
        })
        .collect();
    let producers = Producers::decode(producer_bytes, bytes.starts_with(MAGIC))?;
    Some((footer, Body { entries, aborted, producers }))
}

/// The entry from which a search for `offset` starts; `None` means the start of the segment.
pub(crate) fn floor_offset(entries: &[Entry], offset: i64) -> Option<Entry> {
    let after = entries.partition_point(|entry| entry.offset <= offset);
    after.checked_sub(1).map(|index| entries[index])
}

/// The entry from which a search for the first record at or after `timestamp` starts.
pub(crate) fn floor_timestamp(entries: &[Entry], timestamp: i64) -> Option<Entry> {
    let after = entries.partition_point(|entry| entry.max_timestamp_before < timestamp);
    after.checked_sub(1).map(|index| entries[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Footer, Vec<Entry>) {
        let footer = Footer {
            base: 100,
            next: 250,
            data_len: 9_000,
            file_len: 9_100,
            max: Some(MaxTimestamp { timestamp: 77, batch_offset: 120 }),
            created_ms: 5,
            aborted: 2,
        };
        let entry = |offset, position, before| Entry { offset, position, max_timestamp_before: before };
        (footer, vec![entry(110, 1_000, 50), entry(150, 4_000, 77), entry(200, 7_000, 77)])
    }

    fn aborted() -> [Aborted; 2] {
        let one = |first_offset, marker_offset| Aborted {
            producer_id: 7,
            first_offset,
            marker_offset,
            stable_offset: marker_offset + 1,
        };
        [one(90, 130), one(150, 199)]
    }

    #[test]
    fn round_trip() {
        let (footer, entries) = sample();
        let bytes = encode(&footer, &entries, &aborted(), &Producers::default());
        let (read, body) = decode(&bytes).unwrap();
        assert_eq!(read, footer);
        assert_eq!(body.entries, entries);
        assert_eq!(body.aborted, aborted());
    }

    // The file that an earlier release wrote for one entry and one producer with one batch.
    #[test]
    fn files_from_before_transactions_are_read() {
        let mut body = Vec::new();
        for word in [110_i64, 1_000, 50] {
            body.extend_from_slice(&word.to_be_bytes());
        }
        body.extend_from_slice(&1_u32.to_be_bytes());
        body.extend_from_slice(&9_i64.to_be_bytes());
        body.extend_from_slice(&3_i16.to_be_bytes());
        body.extend_from_slice(&77_i64.to_be_bytes());
        body.push(1);
        body.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 4]);
        for word in [100_i64, 104, 70] {
            body.extend_from_slice(&word.to_be_bytes());
        }
        let mut bytes = b"SFLOGIX1".to_vec();
        for word in [100_i64, 250, 9_000, 9_100, 77, 120, 5, 1, i64::try_from(body.len()).unwrap()] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        bytes.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
        bytes.extend_from_slice(&body);
        let (footer, read) = decode(&bytes).unwrap();
        assert_eq!(footer, Footer { aborted: 0, ..sample().0 });
        assert_eq!((read.entries.len(), read.aborted.len()), (1, 0));
        let states = read.producers.snapshot();
        assert_eq!((states[0].producer_id, states[0].epoch, states[0].last_seen_ms), (9, 3, 77));
        assert_eq!((states[0].transaction_start, states[0].batches[0].last_offset), (None, 104));
    }

    // STR-04: a footer is trusted by its checksum, so no single flipped byte may pass.
    #[test]
    fn every_flipped_byte_is_noticed() {
        let (footer, entries) = sample();
        let bytes = encode(&footer, &entries, &aborted(), &Producers::default());
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1;
            assert!(decode(&damaged).is_none(), "byte {index}");
        }
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_none(), "length {len}");
        }
    }

    #[test]
    fn floors() {
        let (_, entries) = sample();
        assert_eq!(floor_offset(&entries, 109), None);
        assert_eq!(floor_offset(&entries, 150).unwrap().offset, 150);
        assert_eq!(floor_offset(&entries, 9_999).unwrap().offset, 200);
        assert_eq!(floor_timestamp(&entries, 50), None);
        assert_eq!(floor_timestamp(&entries, 51).unwrap().offset, 110);
        assert_eq!(floor_timestamp(&entries, 78).unwrap().offset, 200);
    }
}
