//! Small record batches of our own: group offsets and schemas, which the broker writes to and reads from its own logs.
//!
//! Only uncompressed batches of format 2 without headers on the records, of a transaction or not; producers' batches are
//! never decoded here nor anywhere else in the broker. Base offset and leader epoch are left to the log, which patches them.

use bytes::{BufMut, BytesMut};

use super::Error;

/// Bytes of a batch in front of its first record.
const HEADER_BYTES: usize = 61;
/// Attribute bits of a batch of a transaction, and of one that ends it.
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// A record: key, and value, where `None` is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    pub key: &'a [u8],
    pub value: Option<&'a [u8]>,
}

/// A record as it was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<'a> {
    pub offset: i64,
    pub timestamp_ms: i64,
    /// Producer id and epoch, when it is part of a transaction or ends one.
    pub transaction: Option<(i64, i16)>,
    /// It is a control record: it ends a transaction.
    pub control: bool,
    pub record: Record<'a>,
}

/// One batch with all the records, stamped with one time. `records` must not be empty.
pub fn encode(records: &[Record<'_>], timestamp_ms: i64) -> Result<Vec<u8>, Error> {
    encode_as(records, timestamp_ms, 0, (-1, -1))
}

/// The same as part of the transaction of a producer, without sequence numbers.
pub fn encode_in_transaction(
    records: &[Record<'_>],
    timestamp_ms: i64,
    producer_id: i64,
    epoch: i16,
) -> Result<Vec<u8>, Error> {
    encode_as(records, timestamp_ms, TRANSACTIONAL, (producer_id, epoch))
}

fn encode_as(
    records: &[Record<'_>],
    timestamp_ms: i64,
    attributes: i16,
    producer: (i64, i16),
) -> Result<Vec<u8>, Error> {
    let count = i32::try_from(records.len()).map_err(|error| Error::Encode { reason: error.to_string() })?;
    if count == 0 {
        return Err(Error::Encode { reason: "a batch holds a record at least".to_owned() });
    }
    let mut batch = BytesMut::with_capacity(HEADER_BYTES + 64 * records.len());
    batch.put_i64(0); // base offset: the log's
    batch.put_i32(0); // length: below
    batch.put_i32(0); // leader epoch: the log's
    batch.put_i8(2); // magic
    batch.put_u32(0); // checksum: below
    batch.put_i16(attributes); // besides: uncompressed, time of creation
    batch.put_i32(count - 1);
    batch.put_i64(timestamp_ms);
    batch.put_i64(timestamp_ms);
    batch.put_i64(producer.0);
    batch.put_i16(producer.1);
    batch.put_i32(-1); // base sequence
    batch.put_i32(count);
    let mut body = BytesMut::new();
    for (delta, record) in (0_i64..).zip(records) {
        body.clear();
        body.put_i8(0); // attributes
        put_varlong(&mut body, 0); // timestamp delta
        put_varlong(&mut body, delta);
        put_bytes(&mut body, Some(record.key))?;
        put_bytes(&mut body, record.value)?;
        put_varlong(&mut body, 0); // headers
        put_length(&mut batch, body.len())?;
        batch.extend_from_slice(&body);
    }
    let length = i32::try_from(batch.len() - 12).map_err(|error| Error::Encode { reason: error.to_string() })?;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let checksum = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&checksum.to_be_bytes());
    Ok(batch.to_vec())
}

/// Calls `visit` for every record of the whole batches in `bytes`. Checksums are the log's business.
pub fn decode<'a>(bytes: &'a [u8], mut visit: impl FnMut(Stored<'a>)) -> Result<(), Error> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let header = rest.get(..HEADER_BYTES).ok_or(Error::Truncated)?;
        let length = usize::try_from(i32_at(header, 8)).map_err(|_| Error::Malformed { what: "a negative length" })?;
        let end = 12_usize.checked_add(length).ok_or(Error::Truncated)?;
        let mut records = rest.get(HEADER_BYTES..end).ok_or(Error::Truncated)?;
        if header[16] != 2 || header[22] & 0x07 != 0 {
            return Err(Error::Malformed { what: "a batch is not of format 2 and uncompressed" });
        }
        let (base, time) = (i64_at(header, 0), i64_at(header, 27));
        let attributes = i16_at(header, 21);
        let transaction = (attributes & TRANSACTIONAL != 0).then(|| (i64_at(header, 43), i16_at(header, 51)));
        let control = attributes & CONTROL != 0;
        for _ in 0..i32_at(header, 57) {
            let size = take_length(&mut records)?.ok_or(Error::Malformed { what: "a record without length" })?;
            let (mut record, after) = records.split_at_checked(size).ok_or(Error::Truncated)?;
            records = after;
            take(&mut record, 1)?;
            let timestamp_ms = time.saturating_add(take_varlong(&mut record)?);
            let offset = base.saturating_add(take_varlong(&mut record)?);
            let key = take_bytes(&mut record)?.unwrap_or_default();
            let value = take_bytes(&mut record)?;
            visit(Stored { offset, timestamp_ms, transaction, control, record: Record { key, value } });
        }
        rest = &rest[end..];
    }
    Ok(())
}

fn i16_at(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(std::array::from_fn(|index| bytes[at + index]))
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(std::array::from_fn(|index| bytes[at + index]))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(std::array::from_fn(|index| bytes[at + index]))
}

fn put_bytes(buffer: &mut BytesMut, bytes: Option<&[u8]>) -> Result<(), Error> {
    let Some(bytes) = bytes else {
        put_varlong(buffer, -1);
        return Ok(());
    };
    put_length(buffer, bytes.len())?;
    buffer.extend_from_slice(bytes);
    Ok(())
}

fn put_length(buffer: &mut BytesMut, length: usize) -> Result<(), Error> {
    put_varlong(buffer, i64::from(i32::try_from(length).map_err(|error| Error::Encode { reason: error.to_string() })?));
    Ok(())
}

/// Zigzag: small numbers of either sign take one byte.
fn put_varlong(buffer: &mut BytesMut, value: i64) {
    let mut rest = (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned();
    while rest >= 0x80 {
        buffer.put_u8(u8::try_from(rest & 0x7f).unwrap_or_default() | 0x80);
        rest >>= 7;
    }
    buffer.put_u8(u8::try_from(rest).unwrap_or_default());
}

fn take<'a>(bytes: &mut &'a [u8], size: usize) -> Result<&'a [u8], Error> {
    let (taken, rest) = bytes.split_at_checked(size).ok_or(Error::Truncated)?;
    *bytes = rest;
    Ok(taken)
}

fn take_varlong(bytes: &mut &[u8]) -> Result<i64, Error> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    Err(Error::Malformed { what: "a variable-length number does not end" })
}

fn take_length(bytes: &mut &[u8]) -> Result<Option<usize>, Error> {
    match take_varlong(bytes)? {
        -1 => Ok(None),
        length => usize::try_from(length).map(Some).map_err(|_| Error::Malformed { what: "a length is negative" }),
    }
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Error> {
    match take_length(bytes)? {
        None => Ok(None),
        Some(length) => take(bytes, length).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::records::RecordBatchDecoder;

    #[test]
    fn the_codec_and_we_read_what_we_write() {
        let long = vec![7_u8; 300];
        let records = [
            Record { key: b"a", value: Some(b"1") },
            Record { key: b"b", value: None },
            Record { key: b"", value: Some(&long) },
        ];
        let batch = encode(&records, 1_700_000_000_000).unwrap();
        let mut seen = Vec::new();
        decode(&batch, |stored| seen.push(stored)).unwrap();
        assert_eq!(seen.iter().map(|stored| stored.record.clone()).collect::<Vec<_>>(), records);
        assert_eq!(seen[2].offset, 2);
        assert_eq!(seen[2].timestamp_ms, 1_700_000_000_000);
        let theirs = RecordBatchDecoder::decode(&mut batch.as_slice()).unwrap().records;
        assert_eq!(theirs.len(), 3);
        assert_eq!(theirs[0].key.as_deref(), Some(b"a".as_slice()));
        assert_eq!(theirs[1].value, None);
        assert_eq!(theirs[2].value.as_deref(), Some(long.as_slice()));
    }

    #[test]
    fn batches_of_transactions_say_so() {
        let batch = encode_in_transaction(&[Record { key: b"a", value: Some(b"1") }], 5, 4_711, 3).unwrap();
        let mut seen = Vec::new();
        decode(&batch, |stored| seen.push((stored.transaction, stored.control))).unwrap();
        assert_eq!(seen, [(Some((4_711, 3)), false)]);
        let theirs = RecordBatchDecoder::decode(&mut batch.as_slice()).unwrap().records;
        let theirs = (theirs[0].transactional, theirs[0].producer_id, theirs[0].producer_epoch, theirs[0].sequence);
        assert_eq!(theirs, (true, 4_711, 3, -1));
    }

    #[test]
    fn bytes_cut_or_changed_anywhere_never_panic() {
        let batch = encode(&[Record { key: b"key", value: Some(b"value") }], 5).unwrap();
        for length in 1..batch.len() {
            assert!(decode(&batch[..length], |_| ()).is_err());
        }
        for index in 0..batch.len() {
            let mut changed = batch.clone();
            changed[index] ^= 0xff;
            drop(decode(&changed, |_| ()));
        }
    }
}
