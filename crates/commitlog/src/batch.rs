//! Record batches of magic 2, as bytes: header view, checksum, iteration, and a small encoder.
//!
//! A batch is stored as it came, but for two header fields that its CRC does not cover: the base offset and the
//! partition leader epoch. Everything else, records and compression included, is the client's business.
//! Invariant: nothing here allocates for a length it has read; lengths are only compared with the bytes at hand.

use crate::records;

/// Bytes of a batch header; the records follow.
pub const HEADER_BYTES: usize = 61;
/// Bytes before the part that `batch_length` counts: base offset and the length itself.
const LENGTH_PREFIX: usize = 12;
/// Where the checksummed part starts.
const CRC_START: usize = 21;
/// Leader epoch of a single-node log; written into every batch and required when reading back.
pub const LEADER_EPOCH: i32 = 0;
/// The only record format that is stored.
const MAGIC: i8 = 2;
/// Attribute bits of a batch that belongs to a transaction, and of one that ends it.
const TRANSACTIONAL: i16 = 0b1_0000;
const CONTROL: i16 = 0b10_0000;
/// Attribute bits of the compression.
pub(crate) const COMPRESSION: i16 = 0b111;

/// What is wrong with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("{have} bytes where {need} are needed")]
    Truncated {
        /// Bytes the batch claims.
        need: u64,
        /// Bytes there are.
        have: u64,
    },
    /// The length field is smaller than a header.
    #[error("length field of {length}")]
    Length {
        /// The field.
        length: i32,
    },
    /// Another record format.
    #[error("magic {magic}, only 2 is stored")]
    Magic {
        /// The field.
        magic: i8,
    },
    /// The checksum does not match.
    #[error("checksum {stored:08x}, computed {computed:08x}")]
    Crc {
        /// As written in the batch.
        stored: u32,
        /// As it should be.
        computed: u32,
    },
    /// Record count and last offset delta contradict each other.
    #[error("{count} records with a last offset delta of {last_offset_delta}")]
    Count {
        /// Number of records.
        count: i32,
        /// Offset of the last record relative to the base.
        last_offset_delta: i32,
    },
    /// Records and header contradict each other, or a record is not one.
    #[error("record {index} of the batch is not what its header says")]
    Record {
        /// The first record that is wrong, counted from zero.
        index: i32,
    },
    /// Stored batch that is not the one expected at this place (recycled or foreign bytes).
    #[error("base offset {found} where {expected} was expected")]
    Offset {
        /// As found.
        found: i64,
        /// As it should be.
        expected: i64,
    },
    /// Stored batch with a leader epoch this log never wrote.
    #[error("leader epoch {epoch}")]
    Epoch {
        /// As found.
        epoch: i32,
    },
}

/// The header of a batch, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes after this field's own end.
    pub batch_length: i32,
    /// Epoch of the leader that stored it.
    pub leader_epoch: i32,
    /// CRC32C over everything from the attributes on.
    pub crc: u32,
    /// Compression (bits 0-2), timestamp type (3), transactional (4), control (5).
    pub attributes: i16,
    /// Offset of the last record relative to the base.
    pub last_offset_delta: i32,
    /// Timestamp the records' deltas refer to, milliseconds.
    pub base_timestamp: i64,
    /// Largest timestamp of the batch, milliseconds; -1 for none.
    pub max_timestamp: i64,
    /// Idempotent producer, or -1.
    pub producer_id: i64,
    /// Its epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// Number of records.
    pub count: i32,
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes")
}

impl Header {
    /// Decodes the header at the start of `bytes`. Needs 61 bytes; looks neither at the records nor at the checksum.
    pub fn parse(bytes: &[u8]) -> Result<Header, BatchError> {
        if bytes.len() < HEADER_BYTES {
            let (need, have) = (crate::num::to_u64(HEADER_BYTES), crate::num::to_u64(bytes.len()));
            return Err(BatchError::Truncated { need, have });
        }
        let batch_length = i32::from_be_bytes(field(bytes, 8));
        let magic = i8::from_be_bytes(field(bytes, 16));
        if magic != MAGIC {
            return Err(BatchError::Magic { magic });
        }
        if to_size(batch_length) < HEADER_BYTES {
            return Err(BatchError::Length { length: batch_length });
        }
        let header = Header {
            base_offset: i64::from_be_bytes(field(bytes, 0)),
            batch_length,
            leader_epoch: i32::from_be_bytes(field(bytes, 12)),
            crc: u32::from_be_bytes(field(bytes, 17)),
            attributes: i16::from_be_bytes(field(bytes, 21)),
            last_offset_delta: i32::from_be_bytes(field(bytes, 23)),
            base_timestamp: i64::from_be_bytes(field(bytes, 27)),
            max_timestamp: i64::from_be_bytes(field(bytes, 35)),
            producer_id: i64::from_be_bytes(field(bytes, 43)),
            producer_epoch: i16::from_be_bytes(field(bytes, 51)),
            base_sequence: i32::from_be_bytes(field(bytes, 53)),
            count: i32::from_be_bytes(field(bytes, 57)),
        };
        if header.last_offset_delta < 0 {
            return Err(BatchError::Count { count: header.count, last_offset_delta: header.last_offset_delta });
        }
        Ok(header)
    }

    /// Bytes of the whole batch.
    pub fn size(&self) -> usize {
        to_size(self.batch_length)
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Offset behind the last record.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Sequence number of the last record; wraps from `i32::MAX` to 0 as clients count.
    pub fn last_sequence(&self) -> i32 {
        let sum = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        i32::try_from(sum % (i64::from(i32::MAX) + 1)).expect("a remainder below 2^31")
    }

    /// Whether the records are compressed.
    pub fn compressed(&self) -> bool {
        self.attributes & 0b111 != 0
    }

    /// Whether every record carries the time of appending instead of the client's.
    pub fn log_append_time(&self) -> bool {
        self.attributes & 0b1000 != 0
    }

    /// Whether the records belong to a transaction of their producer.
    pub fn transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether this is a control batch (a transaction marker).
    pub fn control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Checks what a stored batch must satisfy beyond its checksum: the place in the log and our own epoch.
    pub(crate) fn expect_at(&self, offset: i64) -> Result<(), BatchError> {
        if self.base_offset != offset {
            return Err(BatchError::Offset { found: self.base_offset, expected: offset });
        }
        if self.leader_epoch != LEADER_EPOCH {
            return Err(BatchError::Epoch { epoch: self.leader_epoch });
        }
        Ok(())
    }
}

/// Size of a batch whose length field has been found to be positive.
fn to_size(batch_length: i32) -> usize {
    LENGTH_PREFIX + usize::try_from(batch_length).unwrap_or_default()
}

/// Computes the CRC32C of a whole batch and compares it with the stored one.
pub fn verify_crc(batch: &[u8]) -> Result<(), BatchError> {
    let header = Header::parse(batch)?;
    let computed = crc32c::crc32c(&batch[CRC_START..header.size().min(batch.len())]);
    if computed == header.crc { Ok(()) } else { Err(BatchError::Crc { stored: header.crc, computed }) }
}

/// First byte that the checksum covers.
pub(crate) const fn crc_start() -> usize {
    CRC_START
}

/// Checks a batch that a client wants to have stored: whole, intact, and counted right. `batch` holds all of it.
pub fn verify(batch: &[u8]) -> Result<Header, BatchError> {
    let header = Header::parse(batch)?;
    verify_crc(batch)?;
    if header.count < 1 || header.count - 1 != header.last_offset_delta {
        return Err(BatchError::Count { count: header.count, last_offset_delta: header.last_offset_delta });
    }
    if !header.compressed() {
        records::check(&batch[HEADER_BYTES..header.size()], header.count)?;
    }
    Ok(header)
}

/// Puts a batch in its place in the log: base offset and leader epoch, neither of which the checksum covers.
pub fn place(batch: &mut [u8], base_offset: i64) {
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&LEADER_EPOCH.to_be_bytes());
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// Its records do not count.
    Abort,
    /// Its records count.
    Commit,
}

/// Bytes of the key of a marker: version and kind.
const MARKER_KEY_BYTES: usize = 4;

/// How a control batch ends its producer's transaction; `None` for any other batch.
pub fn marker(batch: &[u8]) -> Option<Marker> {
    let header = Header::parse(batch).ok().filter(Header::control)?;
    let (length, rest) = varint(batch.get(HEADER_BYTES..header.size())?)?;
    let record = rest.get(..usize::try_from(length).ok()?)?;
    let (_, rest) = varint(record.get(1..)?)?;
    let (_, rest) = varint(rest)?;
    let (key_length, key) = varint(rest)?;
    if usize::try_from(key_length) != Ok(MARKER_KEY_BYTES) {
        return None;
    }
    match i16::from_be_bytes(field(key.get(..MARKER_KEY_BYTES)?, 2)) {
        0 => Some(Marker::Abort),
        1 => Some(Marker::Commit),
        _ => None, // other control records end nothing
    }
}

/// Encodes the control batch that ends a transaction, as Kafka writes it: key is version 0 and the kind, value version
/// 0 and the epoch of the coordinator, of which there has been one.
pub fn end_of_transaction(producer_id: i64, epoch: i16, marker: Marker, timestamp_ms: i64) -> Vec<u8> {
    let kind: i16 = match marker {
        Marker::Abort => 0,
        Marker::Commit => 1,
    };
    let mut builder = Builder::new(timestamp_ms).producer(producer_id, epoch, -1);
    builder.attributes = TRANSACTIONAL | CONTROL;
    let key = [0_i16.to_be_bytes(), kind.to_be_bytes()].concat();
    builder.keyed(timestamp_ms, Some(&key), Some(&[0; 6])).build()
}

/// Walks the batches in a byte slice. Ends after the first error; a partial batch at the end is an error.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Batches<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Byte at which the next batch starts.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<(Header, &'a [u8]), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.position..];
        if rest.is_empty() {
            return None;
        }
        let item = Header::parse(rest).and_then(|header| match rest.get(..header.size()) {
            Some(batch) => Ok((header, batch)),
            None => Err(BatchError::Truncated {
                need: crate::num::to_u64(header.size()),
                have: crate::num::to_u64(rest.len()),
            }),
        });
        match &item {
            Ok((header, _)) => self.position += header.size(),
            Err(_) => self.position = self.bytes.len(),
        }
        Some(item)
    }
}

/// Zigzag varint, up to ten bytes.
pub(crate) fn varint(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut value: u64 = 0;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(u32::try_from(index * 7).ok()?)?;
        if byte & 0x80 == 0 {
            let magnitude = i64::try_from(value >> 1).ok()?;
            let decoded = if value & 1 == 0 { magnitude } else { -magnitude - 1 };
            return Some((decoded, &bytes[index + 1..]));
        }
    }
    None
}

/// Encodes one uncompressed batch; for tools and tests, clients bring their own.
#[derive(Debug, Clone)]
pub struct Builder {
    timestamp_ms: i64,
    producer: (i64, i16, i32),
    attributes: i16,
    records: Vec<Staged>,
}

/// A record of a batch to be built.
#[derive(Debug, Clone)]
struct Staged {
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

impl Builder {
    /// A batch whose record deltas count from `timestamp_ms`.
    pub fn new(timestamp_ms: i64) -> Self {
        Self { timestamp_ms, producer: (-1, -1, -1), attributes: 0, records: Vec::new() }
    }

    /// Marks the batch as one of an idempotent producer.
    #[must_use]
    pub fn producer(mut self, producer_id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.producer = (producer_id, epoch, base_sequence);
        self
    }

    /// Marks the batch as part of its producer's transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.attributes |= TRANSACTIONAL;
        self
    }

    /// Adds a record without key and with its own timestamp.
    #[must_use]
    pub fn record(self, timestamp_ms: i64, value: &[u8]) -> Self {
        self.keyed(timestamp_ms, None, Some(value))
    }

    /// Adds a record with its own timestamp; without a value it is a tombstone.
    #[must_use]
    pub fn keyed(mut self, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        self.records.push(Staged { timestamp_ms, key: key.map(<[u8]>::to_vec), value: value.map(<[u8]>::to_vec) });
        self
    }

    /// The bytes, base offset 0.
    pub fn build(&self) -> Vec<u8> {
        let mut records = Vec::new();
        for (index, record) in self.records.iter().enumerate() {
            let mut body = vec![0];
            put_varint(&mut body, record.timestamp_ms - self.timestamp_ms);
            put_varint(&mut body, i64::try_from(index).expect("a batch has fewer than 2^31 records"));
            put_bytes(&mut body, record.key.as_deref());
            put_bytes(&mut body, record.value.as_deref());
            put_varint(&mut body, 0);
            put_varint(&mut records, i64::try_from(body.len()).expect("a record is smaller than memory"));
            records.extend_from_slice(&body);
        }
        let count = i32::try_from(self.records.len()).expect("a batch has fewer than 2^31 records");
        let length = i32::try_from(HEADER_BYTES - LENGTH_PREFIX + records.len()).expect("a batch is below 2 GiB");
        let max_timestamp = self.records.iter().map(|record| record.timestamp_ms).max().unwrap_or(-1);
        let (producer_id, epoch, base_sequence) = self.producer;

        let mut batch = Vec::with_capacity(HEADER_BYTES + records.len());
        batch.extend_from_slice(&0_i64.to_be_bytes());
        batch.extend_from_slice(&length.to_be_bytes());
        batch.extend_from_slice(&(-1_i32).to_be_bytes());
        batch.extend_from_slice(&MAGIC.to_be_bytes());
        batch.extend_from_slice(&[0; 4]);
        batch.extend_from_slice(&self.attributes.to_be_bytes());
        batch.extend_from_slice(&(count - 1).to_be_bytes());
        batch.extend_from_slice(&self.timestamp_ms.to_be_bytes());
        batch.extend_from_slice(&max_timestamp.to_be_bytes());
        batch.extend_from_slice(&producer_id.to_be_bytes());
        batch.extend_from_slice(&epoch.to_be_bytes());
        batch.extend_from_slice(&base_sequence.to_be_bytes());
        batch.extend_from_slice(&count.to_be_bytes());
        batch.extend_from_slice(&records);
        seal(&mut batch);
        batch
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    let len = bytes.map_or(-1, |bytes| i64::try_from(bytes.len()).expect("smaller than memory"));
    put_varint(out, len);
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// An empty batch that spans the offsets `first` to `last` (at most 2^31): what stands where batches were compacted away.
pub(crate) fn filler(first: i64, last: i64) -> Vec<u8> {
    let mut batch = Builder::new(-1).build();
    let delta = i32::try_from(last - first).expect("the caller keeps fillers below 2^31 offsets");
    batch[23..27].copy_from_slice(&delta.to_be_bytes());
    place(&mut batch, first);
    seal(&mut batch);
    batch
}

/// The batch with other records: same place and span of offsets, same producer, same base timestamp.
pub(crate) fn rewritten(batch: &[u8], attributes: i16, max_timestamp: i64, count: usize, records: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + records.len());
    out.extend_from_slice(&batch[..HEADER_BYTES]);
    out.extend_from_slice(records);
    let length = i32::try_from(out.len() - LENGTH_PREFIX).expect("what is left of a batch is below 2 GiB");
    out[8..12].copy_from_slice(&length.to_be_bytes());
    out[21..23].copy_from_slice(&attributes.to_be_bytes());
    out[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
    let count = i32::try_from(count).expect("no more than there were");
    out[57..61].copy_from_slice(&count.to_be_bytes());
    seal(&mut out);
    out
}

fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[CRC_START..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

pub(crate) fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    loop {
        let low = u8::try_from(rest & 0x7f).expect("seven bits");
        rest >>= 7;
        if rest == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Size of a batch, if that many bytes are available behind its start.
pub(crate) fn fits(header: &Header, available: u64) -> Result<usize, BatchError> {
    let size = header.size();
    if crate::num::to_u64(size) > available {
        return Err(BatchError::Truncated { need: crate::num::to_u64(size), have: available });
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_and_reads_back() {
        let batch = Builder::new(1_000).producer(7, 1, 3).record(1_000, b"a").record(1_500, b"bb").build();
        let header = verify(&batch).unwrap();
        assert_eq!((header.count, header.last_offset_delta, header.max_timestamp), (2, 1, 1_500));
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (7, 1, 3));
        assert_eq!(header.last_sequence(), 4);
        assert_eq!(header.size(), batch.len());
    }

    // STR-01: the checksum does not cover what the log patches, and covers everything else.
    #[test]
    fn checksum_covers_all_but_the_patched_fields() {
        let mut batch = Builder::new(5).record(5, b"value").build();
        place(&mut batch, 4_711);
        assert_eq!(verify(&batch).unwrap().base_offset, 4_711);
        for index in CRC_START..batch.len() {
            let mut damaged = batch.clone();
            damaged[index] ^= 0x40;
            assert!(verify(&damaged).is_err(), "byte {index}");
        }
    }

    #[test]
    fn walks_batches_and_stops_at_a_partial_one() {
        let one = Builder::new(1).record(1, b"x").build();
        let mut bytes = [one.clone(), one.clone()].concat();
        assert_eq!(Batches::new(&bytes).flatten().count(), 2);
        bytes.truncate(bytes.len() - 1);
        let items: Vec<_> = Batches::new(&bytes).collect();
        assert_eq!(items.len(), 2);
        assert!(matches!(items[1], Err(BatchError::Truncated { .. })));
    }

    #[test]
    fn sequence_wraps_as_clients_count() {
        let batch = Builder::new(1).producer(1, 0, i32::MAX).record(1, b"x").record(1, b"y").build();
        assert_eq!(Header::parse(&batch).unwrap().last_sequence(), 0);
    }

    // STR-11: a marker is what clients take for one, and nothing else is.
    #[test]
    fn markers_are_told_from_other_batches() {
        for kind in [Marker::Abort, Marker::Commit] {
            let batch = end_of_transaction(7, 2, kind, 1_000);
            let header = verify(&batch).unwrap();
            assert!(header.control() && header.transactional());
            assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (7, 2, -1));
            assert_eq!(marker(&batch), Some(kind));
            for length in 0..batch.len() {
                assert_eq!(marker(&batch[..length]), None);
            }
        }
        let data = Builder::new(1).producer(7, 2, 0).transactional().record(1, b"x").build();
        assert!(Header::parse(&data).unwrap().transactional());
        assert_eq!(marker(&data), None);
    }
}
