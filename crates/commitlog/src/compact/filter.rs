//! Which records of a batch stay. Pure: bytes in, bytes out.
//!
//! Records are taken over byte for byte, since their deltas refer to a base offset and a base timestamp that do not
//! change; what changes in the header is length, count, largest timestamp and checksum.

use std::collections::HashMap;
use std::io;

use super::{Codec, UNPACKED_BYTES_MAX};
use crate::batch::{self, COMPRESSION, HEADER_BYTES, Header};
use crate::compact::rewrite::Output;

/// What the table spends on a key beside its bytes.
const KEY_OVERHEAD_BYTES: usize = 64;

/// One record of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record<'a> {
    /// All of it, its length included.
    bytes: &'a [u8],
    timestamp_delta: i64,
    offset_delta: i64,
    key: Option<&'a [u8]>,
    tombstone: bool,
}

/// The newest offset of each key.
#[derive(Debug, Default)]
pub(crate) struct Latest {
    offsets: HashMap<Box<[u8]>, i64>,
    bytes: usize,
}

impl Latest {
    /// Memory in use, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes note of the keys of a batch, unless it is one that stays as it is.
    pub(crate) fn add(&mut self, header: &Header, batch: &[u8], codec: &dyn Codec) {
        let Some(unpacked) = Unpacked::of(header, batch, codec) else { return };
        let Some(records) = unpacked.records(header) else { return };
        for record in records {
            let Some(key) = record.key else { continue };
            let offset = header.base_offset + record.offset_delta;
            match self.offsets.get_mut(key) {
                Some(newest) => *newest = offset.max(*newest),
                None => {
                    self.bytes += key.len() + KEY_OVERHEAD_BYTES;
                    self.offsets.insert(key.into(), offset);
                }
            }
        }
    }
}

/// Which records of a batch, counted from 0, have no key: no newer one could ever replace them. Of a batch that cannot be
/// read it is not known.
pub fn keyless(header: &Header, batch: &[u8], codec: &dyn Codec) -> Vec<i32> {
    let Some(unpacked) = Unpacked::open(header, batch, codec) else { return Vec::new() };
    let Some(records) = unpacked.records(header) else { return Vec::new() };
    (0..).zip(records).filter(|(_, record)| record.key.is_none()).map(|(index, _)| index).collect()
}

/// The records of a batch, unpacked where they were packed.
enum Unpacked<'a> {
    Plain(&'a [u8]),
    Packed(Vec<u8>),
}

impl<'a> Unpacked<'a> {
    /// `None` for a batch that is not looked into: of a transaction, a marker, or one that cannot be unpacked.
    fn of(header: &Header, batch: &'a [u8], codec: &dyn Codec) -> Option<Self> {
        if header.control() || header.transactional() { None } else { Self::open(header, batch, codec) }
    }

    /// `None` for a batch that cannot be unpacked.
    fn open(header: &Header, batch: &'a [u8], codec: &dyn Codec) -> Option<Self> {
        let body = batch.get(HEADER_BYTES..header.size())?;
        match header.attributes & COMPRESSION {
            0 => Some(Self::Plain(body)),
            compression => codec.unpack(compression, body, UNPACKED_BYTES_MAX).map(Self::Packed),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Packed(bytes) => bytes,
        }
    }

    /// `None` when the bytes are not exactly the records that the header announces.
    fn records(&self, header: &Header) -> Option<Vec<Record<'_>>> {
        let mut rest = self.bytes();
        let mut records = Vec::new();
        for _ in 0..header.count {
            let (record, behind) = record(rest)?;
            if !(0..=i64::from(header.last_offset_delta)).contains(&record.offset_delta) {
                return None;
            }
            records.push(record);
            rest = behind;
        }
        rest.is_empty().then_some(records)
    }
}

/// The record at the start of `bytes`, and what follows it.
fn record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (length, body) = batch::varint(bytes)?;
    let body_len = usize::try_from(length).ok()?;
    let (body, behind) = body.split_at_checked(body_len)?;
    let (timestamp_delta, rest) = batch::varint(body.get(1..)?)?;
    let (offset_delta, rest) = batch::varint(rest)?;
    let (key_len, rest) = batch::varint(rest)?;
    let (key, rest) = match key_len {
        -1 => (None, rest),
        len => rest.split_at_checked(usize::try_from(len).ok()?).map(|(key, rest)| (Some(key), rest))?,
    };
    let (value_len, _) = batch::varint(rest)?;
    let whole = &bytes[..bytes.len() - behind.len()];
    Some((Record { bytes: whole, timestamp_delta, offset_delta, key, tombstone: value_len == -1 }, behind))
}

/// The decisions of one pass; batches must be shown to it from the start of the log on.
pub(crate) struct Filter<'a> {
    latest: &'a Latest,
    /// What stands at or behind this offset stays.
    end: i64,
    /// Tombstones below this offset have been kept long enough.
    droppable: i64,
    codec: &'a dyn Codec,
}

impl<'a> Filter<'a> {
    pub(crate) fn new(latest: &'a Latest, end: i64, droppable: i64, codec: &'a dyn Codec) -> Self {
        Self { latest, end, droppable, codec }
    }

    /// Whether nothing of the batch goes.
    pub(crate) fn stays_whole(&mut self, header: &Header, batch: &[u8]) -> bool {
        if header.base_offset >= self.end || header.count == 0 {
            return true;
        }
        let Some(unpacked) = Unpacked::of(header, batch, self.codec) else { return self.unread(header) };
        let Some(records) = unpacked.records(header) else { return self.unread(header) };
        records.iter().all(|record| self.stays(header, record))
    }

    /// Hands what stays of the batch to `output`; `keep_header` where a producer is known by this batch.
    pub(crate) fn apply(
        &mut self,
        header: &Header,
        batch: &[u8],
        keep_header: bool,
        output: &mut Output,
    ) -> io::Result<()> {
        if header.count == 0 && !header.control() && !keep_header {
            return output.skip(header.base_offset, header.last_offset());
        }
        if self.stays_whole(header, batch) {
            return output.put(header, batch);
        }
        let Some(unpacked) = Unpacked::of(header, batch, self.codec) else { return output.put(header, batch) };
        let Some(records) = unpacked.records(header) else { return output.put(header, batch) };
        let staying: Vec<&Record<'_>> = records.iter().filter(|record| self.stays(header, record)).collect();
        if staying.is_empty() && !keep_header {
            return output.skip(header.base_offset, header.last_offset());
        }
        let shorter = self.without_the_rest(header, batch, &staying);
        let header = Header::parse(&shorter).map_err(io::Error::other)?;
        output.put(&header, &shorter)
    }

    fn stays(&self, header: &Header, record: &Record<'_>) -> bool {
        let offset = header.base_offset + record.offset_delta;
        // Records without a key have no successor.
        let Some(key) = record.key else { return true };
        if offset >= self.end {
            return true;
        }
        if self.latest.offsets.get(key).is_some_and(|newest| *newest > offset) {
            return false;
        }
        !record.tombstone || offset >= self.droppable
    }

    /// A batch nobody looked into may hold an old value of any key: the tombstones behind it must stay, or that value
    /// would come back.
    fn unread(&mut self, header: &Header) -> bool {
        self.droppable = self.droppable.min(header.base_offset);
        true
    }

    /// The batch with these records only: same place, same span of offsets, same producer.
    fn without_the_rest(&self, header: &Header, batch: &[u8], staying: &[&Record<'_>]) -> Vec<u8> {
        let plain = staying.iter().map(|record| record.bytes).collect::<Vec<_>>().concat();
        let compression = header.attributes & COMPRESSION;
        let packed = match compression {
            0 => None,
            _ if staying.is_empty() => None,
            compression => self.codec.pack(compression, &plain),
        };
        let attributes = if packed.is_some() { header.attributes } else { header.attributes & !COMPRESSION };
        let records = packed.unwrap_or(plain);
        let times = staying.iter().map(|record| header.base_timestamp.saturating_add(record.timestamp_delta));
        let max_timestamp = match times.max() {
            None => -1,
            Some(_) if header.log_append_time() => header.max_timestamp,
            Some(max) => max,
        };
        batch::rewritten(batch, attributes, max_timestamp, staying.len(), &records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compact::Uncompressed;

    // Bytes cut or changed anywhere are refused or read, and never panic.
    #[test]
    fn damaged_records_are_unread_and_harmless() {
        let bytes = batch::Builder::new(5).keyed(5, Some(b"key"), Some(b"value")).keyed(6, None, None).build();
        let header = Header::parse(&bytes).unwrap();
        let count = |bytes: &[u8]| {
            let unpacked = Unpacked::of(&header, bytes, &Uncompressed)?;
            unpacked.records(&header).map(|records| records.len())
        };
        assert_eq!(count(&bytes), Some(2));
        for index in HEADER_BYTES..bytes.len() {
            assert_eq!(count(&bytes[..index]), None, "cut at {index}");
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[index] ^= flip;
                assert!(count(&changed).is_none_or(|count| count == 2));
            }
        }
        let mut huge = Vec::new();
        batch::put_varint(&mut huge, i64::MAX);
        assert_eq!(record(&huge), None);
    }
}
