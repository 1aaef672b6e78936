//! Transactional ids as records: the layout that Kafka's own tools read in `__transaction_state`.
//!
//! Key: version 0, transactional id. Value: version 0, producer id, epoch, timeout, phase, partitions by topic, time of
//! the last change, time of the start; behind that, which Kafka's readers skip, previous epoch and previous producer id.
//! A record without value forgets the transactional id.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut};

use super::state::{Phase, Transaction};

pub(super) fn encode_key(id: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + id.len());
    bytes.put_i16(0);
    put_text(&mut bytes, id);
    bytes
}

pub(super) fn decode_key(mut bytes: &[u8]) -> Option<String> {
    if bytes.try_get_i16().ok()? != 0 {
        return None;
    }
    take_text(&mut bytes)
}

pub(super) fn encode_value(transaction: &Transaction) -> Vec<u8> {
    let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in &transaction.partitions {
        by_topic.entry(topic).or_default().push(*partition);
    }
    let mut bytes = Vec::with_capacity(64);
    bytes.put_i16(0);
    bytes.put_i64(transaction.producer_id);
    bytes.put_i16(transaction.epoch);
    bytes.put_i32(transaction.timeout_ms);
    bytes.put_i8(match transaction.phase {
        Phase::Empty => 0,
        Phase::Ongoing => 1,
        Phase::Preparing { commit: true } => 2,
        Phase::Preparing { commit: false } => 3,
        Phase::Complete { commit: true } => 4,
        Phase::Complete { commit: false } => 5,
    });
    put_count(&mut bytes, by_topic.len());
    for (topic, partitions) in by_topic {
        put_text(&mut bytes, topic);
        put_count(&mut bytes, partitions.len());
        for partition in partitions {
            bytes.put_i32(partition);
        }
    }
    bytes.put_i64(transaction.updated_ms);
    bytes.put_i64(transaction.started_ms);
    bytes.put_i16(transaction.previous_epoch);
    bytes.put_i64(transaction.previous_producer_id);
    bytes
}

/// `None` for a value of another version, or bytes that are none.
pub(super) fn decode_value(mut bytes: &[u8]) -> Option<Transaction> {
    if bytes.try_get_i16().ok()? != 0 {
        return None;
    }
    let (producer_id, epoch) = (bytes.try_get_i64().ok()?, bytes.try_get_i16().ok()?);
    let timeout_ms = bytes.try_get_i32().ok()?;
    let phase = match bytes.try_get_i8().ok()? {
        0 => Phase::Empty,
        1 => Phase::Ongoing,
        2 => Phase::Preparing { commit: true },
        3 => Phase::Preparing { commit: false },
        4 => Phase::Complete { commit: true },
        5 => Phase::Complete { commit: false },
        _ => return None,
    };
    let mut partitions = BTreeSet::new();
    for _ in 0..bytes.try_get_i32().ok()? {
        let topic = take_text(&mut bytes)?;
        for _ in 0..bytes.try_get_i32().ok()? {
            partitions.insert((topic.clone(), bytes.try_get_i32().ok()?));
        }
    }
    Some(Transaction {
        producer_id,
        epoch,
        timeout_ms,
        phase,
        partitions,
        updated_ms: bytes.try_get_i64().ok()?,
        started_ms: bytes.try_get_i64().ok()?,
        previous_epoch: bytes.try_get_i16().ok()?,
        previous_producer_id: bytes.try_get_i64().ok()?,
    })
}

/// Counts are limited long before, by TRANSACTION_PARTITIONS_MAX.
fn put_count(bytes: &mut Vec<u8>, count: usize) {
    bytes.put_i32(i32::try_from(count).unwrap_or(i32::MAX));
}

/// Texts are limited long before: topics by their names' rule, transactional ids by TRANSACTIONAL_ID_BYTES_MAX.
fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
    bytes.extend_from_slice(&text.as_bytes()[..text.len().min(32_767)]);
}

fn take_text(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_written_and_never_half() {
        let place = |topic: &str, partition| (topic.to_owned(), partition);
        let transaction = Transaction {
            producer_id: 4_711,
            previous_producer_id: 17,
            epoch: 3,
            previous_epoch: 2,
            timeout_ms: 60_000,
            phase: Phase::Preparing { commit: true },
            partitions: [place("a", 0), place("a", 7), place("b", 1)].into(),
            started_ms: 5,
            updated_ms: 6,
        };
        let (key, value) = (encode_key("sink-1"), encode_value(&transaction));
        assert_eq!(decode_key(&key).as_deref(), Some("sink-1"));
        assert_eq!(decode_value(&value), Some(transaction));
        for length in 0..key.len() {
            assert_eq!(decode_key(&key[..length]), None);
        }
        for length in 0..value.len() {
            assert_eq!(decode_value(&value[..length]), None);
        }
    }
}
