//! Publishing: records with their key, place, time and headers, in batches that tell when they are durable.

use kafka::client::{Batch, Error, Producer, SendError, Settings};
use model::{Classification, ClockState, Reading};

use crate::Topic;
use crate::message::{DeadLetter, Event, telemetry};
use crate::partitioner::partition_for;
use crate::topics::PARTITIONS;

/// Header names (REC-12).
pub mod header {
    /// `gateway/adapter/epoch/seq`.
    pub const RECORD_ID: &str = "sf-record-id";
    pub const QUALITY: &str = "sf-quality";
    pub const CLASS: &str = "sf-class";
    pub const GATEWAY: &str = "sf-gateway";
    /// `topic/partition/offset` of the record this one was derived from; after a crash the last one of a partition
    /// tells what is already there.
    pub const SOURCE: &str = "sf-source";
    /// The same of the first record a window was merged from: what to read again to change it.
    pub const SOURCE_FROM: &str = "sf-source-from";
    /// Event type, on event topics.
    pub const EVENT: &str = "sf-event";
    /// Name of an event that was derived from no record.
    pub const EVENT_ID: &str = "sf-event-id";
    /// `offset/time` of where its partition of the readings stood then: the next reading, and steady microseconds.
    pub const TOLD_AT: &str = "sf-told-at";
}

/// A producer with buffers that are used again.
#[derive(Debug)]
pub struct Publisher {
    producer: Producer,
    payload: Vec<u8>,
    record_id: String,
}

impl Publisher {
    /// Sets the producer up; it connects in the background and for ever.
    pub fn open(settings: &Settings) -> Result<Self, Error> {
        Ok(Self { producer: Producer::open(settings)?, payload: Vec::with_capacity(512), record_id: String::new() })
    }

    pub fn producer(&self) -> &Producer {
        &self.producer
    }

    /// Publishes readings to `topic` in order and returns the batch that tells when they are durable, with the number
    /// of readings that were taken: fewer than given when the queue of unacknowledged records is full.
    pub fn publish<'r>(
        &mut self,
        topic: Topic,
        schema_id: i32,
        readings: impl IntoIterator<Item = Reading<'r>>,
    ) -> Result<(kafka::client::Pending, usize), SendError> {
        let Self { producer, payload, record_id } = self;
        let batch = producer.batch();
        let mut taken = 0;
        for reading in readings {
            payload.clear();
            telemetry::encode(payload, schema_id, &reading);
            match send_reading(&batch, topic, None, &reading, payload, record_id, None) {
                Ok(()) => taken += 1,
                Err(SendError::QueueFull) => break,
                Err(error) => return Err(error),
            }
        }
        Ok((batch.finish(), taken))
    }

    /// Publishes an event under the key of its asset, as stamped by a clock of that state; `None` when the queue of
    /// unacknowledged records is full.
    pub fn publish_event(
        &mut self,
        topic: Topic,
        schema_id: i32,
        event: &Event<'_>,
        clock_state: ClockState,
    ) -> Result<Option<kafka::client::Pending>, SendError> {
        let Self { producer, payload, .. } = self;
        payload.clear();
        event.encode_stamped(payload, schema_id, clock_state);
        let batch = producer.batch();
        let key = event.asset_id.as_bytes();
        let headers: [(&str, &[u8]); 3] = [
            (header::EVENT, event.event_type.as_bytes()),
            (header::EVENT_ID, event.event_id.as_bytes()),
            (header::GATEWAY, event.metadata.get("gateway_id").unwrap_or("").as_bytes()),
        ];
        let partition = partition_for(key, PARTITIONS);
        match batch.send(topic.name(), partition, key, payload, event.gateway_time.as_millis(), &headers) {
            Ok(()) => Ok(Some(batch.finish())),
            Err(SendError::QueueFull) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Publishes a dead letter under its own key; `None` when the queue of unacknowledged records is full.
    pub fn publish_letter(
        &mut self,
        topic: Topic,
        schema_id: i32,
        letter: &DeadLetter<'_>,
    ) -> Result<Option<kafka::client::Pending>, SendError> {
        let Self { producer, payload, .. } = self;
        payload.clear();
        letter.encode(payload, schema_id);
        let batch = producer.batch();
        let headers: [(&str, &[u8]); 1] = [(header::GATEWAY, letter.gateway_id.as_bytes())];
        let partition = partition_for(letter.key, PARTITIONS);
        match batch.send(topic.name(), partition, letter.key, payload, letter.timestamp_ms, &headers) {
            Ok(()) => Ok(Some(batch.finish())),
            Err(SendError::QueueFull) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Sends one encoded reading with its standard headers. `partition` is computed from the asset when not given;
/// `source` is the position header of derived records.
pub fn send_reading(
    batch: &Batch<'_>,
    topic: Topic,
    partition: Option<i32>,
    reading: &Reading<'_>,
    payload: &[u8],
    scratch: &mut String,
    source: Option<&str>,
) -> Result<(), SendError> {
    let gateway = reading.metadata.get("gateway_id").unwrap_or("");
    let adapter = reading.metadata.get("adapter_id").unwrap_or("");
    write_record_id(scratch, gateway, adapter, reading.epoch, reading.seq);
    let key = if reading.asset_id.is_empty() { adapter } else { reading.asset_id };
    let partition = partition.unwrap_or_else(|| partition_for(key.as_bytes(), PARTITIONS));
    let headers: [(&str, &[u8]); 5] = [
        (header::RECORD_ID, scratch.as_bytes()),
        (header::QUALITY, reading.quality.as_str().as_bytes()),
        (header::CLASS, class(reading.classification).as_bytes()),
        (header::GATEWAY, gateway.as_bytes()),
        (header::SOURCE, source.unwrap_or("").as_bytes()),
    ];
    let used = if source.is_some() { &headers[..] } else { &headers[..4] };
    batch.send(topic.name(), partition, key.as_bytes(), payload, reading.gateway_time.as_millis(), used)
}

fn class(classification: Classification) -> &'static str {
    classification.as_str()
}

/// `gateway/adapter/epoch/seq` without a formatting machine: this runs once per record.
fn write_record_id(out: &mut String, gateway: &str, adapter: &str, epoch: i64, seq: i64) {
    out.clear();
    out.push_str(gateway);
    out.push('/');
    out.push_str(adapter);
    out.push('/');
    push_number(out, epoch);
    out.push('/');
    push_number(out, seq);
}

/// Appends a decimal number.
pub fn push_number(out: &mut String, number: i64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).expect("a digit fits");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push('-');
    }
    out.extend(digits[at..].iter().map(|digit| char::from(*digit)));
}

/// Writes the position header `topic/partition/offset`.
pub fn write_source(out: &mut String, topic: &str, partition: i32, offset: i64) {
    out.clear();
    out.push_str(topic);
    out.push('/');
    push_number(out, i64::from(partition));
    out.push('/');
    push_number(out, offset);
}

/// Reads the offset out of a position header when it speaks of `topic` and `partition`.
pub fn read_source(value: &[u8], topic: &str, partition: i32) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let (place, offset) = text.rsplit_once('/')?;
    let (source_topic, source_partition) = place.rsplit_once('/')?;
    let matches = source_topic == topic && source_partition.parse() == Ok(partition);
    if matches { offset.parse().ok() } else { None }
}

/// Writes the header that says where a lane stood: offset of the next reading and steady time.
pub fn write_place(out: &mut String, (next, steady): (i64, i64)) {
    out.clear();
    push_number(out, next);
    out.push('/');
    push_number(out, steady);
}

/// Reads it.
pub fn read_place(value: &[u8]) -> Option<(i64, i64)> {
    let (next, steady) = std::str::from_utf8(value).ok()?.split_once('/')?;
    Some((next.parse().ok()?, steady.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_round_trip() {
        let mut out = String::new();
        for place in [(0, i64::MIN), (7, 1_769_680_800_000_000)] {
            write_place(&mut out, place);
            assert_eq!(read_place(out.as_bytes()), Some(place));
        }
        assert_eq!(read_place(b"7"), None);
    }

    #[test]
    fn numbers_are_written_as_the_formatter_does() {
        for number in [0, 7, -7, i64::MAX, i64::MIN, 1_234_567_890] {
            let mut out = String::new();
            push_number(&mut out, number);
            assert_eq!(out, number.to_string());
        }
    }

    #[test]
    fn the_source_header_round_trips_and_knows_its_partition() {
        let mut out = String::new();
        write_source(&mut out, "telemetry.raw", 7, 1234);
        assert_eq!(out, "telemetry.raw/7/1234");
        assert_eq!(read_source(out.as_bytes(), "telemetry.raw", 7), Some(1234));
        assert_eq!(read_source(out.as_bytes(), "telemetry.raw", 8), None);
        assert_eq!(read_source(b"rubbish", "telemetry.raw", 7), None);
    }
}
