//! Looking for a time within one batch, for ListOffsets.

use crate::batch::{COMPRESSION, HEADER_BYTES, Header, varint};
use crate::compact::{Codec, UNPACKED_BYTES_MAX};

/// Offset and timestamp of the first record of `batch` at or behind offset `from` whose time is at least `timestamp_ms`.
///
/// A batch whose records cannot be unpacked answers with its first offset: readers get records that are too old then,
/// never too few. `None` when there is no such record.
pub fn find_timestamp(batch: &[u8], timestamp_ms: i64, from: i64, codec: &dyn Codec) -> Option<(i64, i64)> {
    let header = Header::parse(batch).ok()?;
    if header.max_timestamp < timestamp_ms || header.last_offset() < from {
        return None;
    }
    let first = header.base_offset.max(from);
    if header.log_append_time() {
        return Some((first, header.max_timestamp));
    }
    let whole_batch = || {
        let timestamp =
            if header.base_timestamp >= timestamp_ms { header.base_timestamp } else { header.max_timestamp };
        Some((first, timestamp))
    };
    let body = batch.get(HEADER_BYTES..header.size())?;
    let unpacked = match header.attributes & COMPRESSION {
        0 => None,
        compression => match codec.unpack(compression, body, UNPACKED_BYTES_MAX) {
            Some(unpacked) => Some(unpacked),
            None => return whole_batch(),
        },
    };
    let mut records = Records { bytes: unpacked.as_deref().unwrap_or(body) };
    while let Some((timestamp_delta, offset_delta)) = records.next_deltas() {
        let timestamp = header.base_timestamp.saturating_add(timestamp_delta);
        let offset = header.base_offset.saturating_add(offset_delta);
        if timestamp >= timestamp_ms && offset >= from {
            return Some((offset, timestamp));
        }
    }
    // The header promises a record that the records do not show, unless it is one of those below `from`.
    if from > header.base_offset { None } else { whole_batch() }
}

struct Records<'a> {
    bytes: &'a [u8],
}

impl Records<'_> {
    fn next_deltas(&mut self) -> Option<(i64, i64)> {
        let (length, rest) = varint(self.bytes)?;
        let length = usize::try_from(length).ok()?;
        let body = rest.get(..length)?;
        self.bytes = &rest[length..];
        let (timestamp_delta, after) = varint(body.get(1..)?)?;
        let (offset_delta, _) = varint(after)?;
        Some((timestamp_delta, offset_delta))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Builder, place};
    use crate::compact::Uncompressed;

    #[test]
    fn finds_the_first_record_at_or_after_a_time() {
        let mut batch = Builder::new(100).record(100, b"a").record(90, b"b").record(120, b"c").build();
        place(&mut batch, 10);
        assert_eq!(find_timestamp(&batch, 50, 0, &Uncompressed), Some((10, 100)));
        assert_eq!(find_timestamp(&batch, 101, 0, &Uncompressed), Some((12, 120)));
        assert_eq!(find_timestamp(&batch, 121, 0, &Uncompressed), None);
        assert_eq!(find_timestamp(&batch, 80, 11, &Uncompressed), Some((11, 90)));
        assert_eq!(find_timestamp(&batch, 80, 13, &Uncompressed), None);
    }

    /// Takes method 1 for "every byte is one too large".
    #[derive(Debug)]
    struct Shifted;

    impl Codec for Shifted {
        fn unpack(&self, compression: i16, records: &[u8], limit: usize) -> Option<Vec<u8>> {
            let shifted = || records.iter().map(|byte| byte.wrapping_sub(1)).collect();
            (compression == 1 && records.len() <= limit).then(shifted)
        }

        fn pack(&self, _compression: i16, _records: &[u8]) -> Option<Vec<u8>> {
            None
        }
    }

    // STR-11: as in Kafka, the record is found and not its batch
    #[test]
    fn a_compressed_batch_is_looked_into_where_that_is_possible() {
        let mut batch = Builder::new(100).record(100, b"a").record(90, b"b").record(120, b"c").build();
        place(&mut batch, 10);
        batch[22] |= 1; // the attributes: compressed
        for byte in &mut batch[HEADER_BYTES..] {
            *byte = byte.wrapping_add(1);
        }
        assert_eq!(find_timestamp(&batch, 101, 0, &Shifted), Some((12, 120)));
        assert_eq!(find_timestamp(&batch, 80, 11, &Shifted), Some((11, 90)));
        assert_eq!(find_timestamp(&batch, 101, 0, &Uncompressed), Some((10, 120)), "too early rather than too late");
    }
}
