//! Committed offsets as records: the layout that Kafka's own tools read in `__consumer_offsets`.
//!
//! Key: version 1, group, topic, partition. Value: version 3, offset, leader epoch, metadata, time of the commit; a
//! record without value takes the offset back.

use bytes::{Buf, BufMut};

use super::offsets::Committed;
use super::wire::{put_text, take_text};

/// Whose offset it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) group: String,
    pub(super) topic: String,
    pub(super) partition: i32,
}

pub(super) fn encode_key(group: &str, topic: &str, partition: i32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(10 + group.len() + topic.len());
    bytes.put_i16(1);
    put_text(&mut bytes, group);
    put_text(&mut bytes, topic);
    bytes.put_i32(partition);
    bytes
}

pub(super) fn encode_value(committed: &Committed) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24 + committed.metadata.len());
    bytes.put_i16(3);
    bytes.put_i64(committed.offset);
    bytes.put_i32(committed.leader_epoch);
    put_text(&mut bytes, &committed.metadata);
    bytes.put_i64(committed.time_ms);
    bytes
}

/// `None` for a key of another kind or version.
pub(super) fn decode_key(mut bytes: &[u8]) -> Option<Key> {
    if bytes.try_get_i16().ok()? > 1 {
        return None;
    }
    let (group, topic) = (take_text(&mut bytes)?, take_text(&mut bytes)?);
    Some(Key { group, topic, partition: bytes.try_get_i32().ok()? })
}

pub(super) fn decode_value(mut bytes: &[u8]) -> Option<Committed> {
    if bytes.try_get_i16().ok()? != 3 {
        return None;
    }
    Some(Committed {
        offset: bytes.try_get_i64().ok()?,
        leader_epoch: bytes.try_get_i32().ok()?,
        metadata: take_text(&mut bytes)?,
        time_ms: bytes.try_get_i64().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_written_and_never_half() {
        let key = Key { group: "sink".to_owned(), topic: "telemetry".to_owned(), partition: 7 };
        let committed = Committed { offset: 42, leader_epoch: 0, metadata: "note".to_owned(), time_ms: 5 };
        let (key_bytes, value_bytes) = (encode_key("sink", "telemetry", 7), encode_value(&committed));
        assert_eq!(decode_key(&key_bytes), Some(key));
        assert_eq!(decode_value(&value_bytes), Some(committed));
        for length in 0..key_bytes.len() {
            assert_eq!(decode_key(&key_bytes[..length]), None);
        }
        for length in 0..value_bytes.len() {
            assert_eq!(decode_value(&value_bytes[..length]), None);
        }
        assert_eq!(decode_key(&[0, 2, 0, 0]), None); // group metadata of another broker
    }
}
