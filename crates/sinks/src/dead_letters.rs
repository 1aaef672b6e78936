//! What a sink leaves behind on the stream: dead letters for refused records, ledger rows for records that were gone.
//!
//! Both are durable before the position moves on (G-03). After a crash in between the same letter may be written again;
//! its identity, gateway/topic/partition/offset of the original, stays the same.

use std::sync::Arc;
use std::time::Duration;

use kafka::client::admin::{TopicPlan, create_topics};
use kafka::client::{Consumer, Position, Producer, SendError, Settings};
use model::{Clock, Quality, TextList, TextMap, Timestamp, Value};
use stream::message::dead_letter::Headers;
use stream::message::{DeadLetter, Event};
use stream::partitioner::partition_for;
use stream::subscription::Gap;
use stream::topics::PARTITIONS;
use stream::{Schemas, Topic, header};
use tokio::runtime::Handle;

use crate::batch::Record;
use crate::error::StreamError;
use crate::sink::Refusal;

/// How long a dead letter may take to become durable before the host is told to try again.
const ACKNOWLEDGE_MAX: Duration = Duration::from_secs(20);
/// How long to look for the original record, whose headers the batch does not keep.
const ORIGINAL_WAIT: Duration = Duration::from_secs(3);
/// Event type of a ledger row (OFF-30).
const DATA_LOSS: &str = "data_loss";

/// Why a record was refused; stable words in dead letters and metrics.
pub mod reason {
    /// The bytes are not a record of the topic's schema.
    pub use model::reason::{DECODE_ERROR, SCHEMA_ERROR};
    /// The target refuses the row, for example a constraint or an encoding.
    pub const TARGET_REFUSED: &str = "TARGET_REFUSED";
}

/// Where refused records and losses are written down.
pub trait DeadLetters {
    /// Writes a refused record with its original bytes; durable when this returns.
    fn bury(&mut self, record: &Record<'_>, refusal: &Refusal) -> Result<(), StreamError>;

    /// Writes a ledger row for records that were gone before they were read (OFF-12); durable when this returns.
    fn lost(&mut self, gap: &Gap) -> Result<(), StreamError>;
}

/// Name of a sink's own dead letter topic (REC-09).
pub fn topic_name(sink_id: &str) -> String {
    format!("dlq.sink.{sink_id}")
}

/// The real ones, on the stream.
#[derive(Debug)]
pub struct StreamDeadLetters {
    settings: Settings,
    sink_id: String,
    gateway_id: String,
    schemas: Option<Arc<Schemas>>,
    clock: Arc<dyn Clock>,
    runtime: Handle,
    producer: Option<Producer>,
    topic_exists: bool,
    payload: Vec<u8>,
}

impl StreamDeadLetters {
    pub fn new(
        settings: Settings,
        sink_id: &str,
        gateway_id: &str,
        schemas: Option<Arc<Schemas>>,
        clock: Arc<dyn Clock>,
        runtime: Handle,
    ) -> Self {
        Self {
            settings,
            sink_id: sink_id.to_owned(),
            gateway_id: gateway_id.to_owned(),
            schemas,
            clock,
            runtime,
            producer: None,
            topic_exists: false,
            payload: Vec::new(),
        }
    }

    /// The id under which records of `topic` are written, 0 where there is no registry.
    fn schema_id(&self, topic: Topic) -> Result<i32, StreamError> {
        let Some(schemas) = &self.schemas else { return Ok(0) };
        self.runtime.block_on(schemas.id_for(topic)).map_err(|source| failed("a schema for its dead letters", source))
    }

    fn create_topic(&mut self) -> Result<(), StreamError> {
        if self.topic_exists {
            return Ok(());
        }
        let plan = TopicPlan { name: topic_name(&self.sink_id), ..Topic::DlqTelemetry.plan() };
        let created = self.runtime.block_on(create_topics(&self.settings, &[plan]));
        created.map_err(|source| failed("the dead letter topic", source))?;
        self.topic_exists = true;
        Ok(())
    }

    /// Writes a dead letter into a topic of the gateway's own.
    pub(crate) fn write_letter(&mut self, topic: Topic, key: &str, letter: &DeadLetter<'_>) -> Result<(), StreamError> {
        let schema_id = self.schema_id(topic)?;
        self.payload.clear();
        letter.encode(&mut self.payload, schema_id);
        let gateway_id = self.gateway_id.clone();
        let standard: [(&str, &[u8]); 1] = [(header::GATEWAY, gateway_id.as_bytes())];
        self.publish(topic.name(), key.as_bytes(), &standard, "a dead letter")
    }

    /// Writes an event.
    pub(crate) fn write_event(
        &mut self,
        topic: Topic,
        key: &str,
        event: &Event<'_>,
        headers: &[(&str, &[u8])],
    ) -> Result<(), StreamError> {
        let schema_id = self.schema_id(topic)?;
        self.payload.clear();
        event.encode(&mut self.payload, schema_id);
        self.publish(topic.name(), key.as_bytes(), headers, "an event")
    }

    /// Headers of the original, read again: the data path does not pay for what only a dead letter needs.
    fn headers(&self, record: &Record<'_>) -> Vec<(String, Vec<u8>)> {
        let mut headers = Vec::new();
        let at = Position {
            topic: record.place.topic.name().to_owned(),
            partition: record.place.partition,
            offset: record.place.offset,
            metadata: String::new(),
        };
        let read = Consumer::open(&self.settings, "sf-dead-letter").and_then(|consumer| {
            consumer.assign(&[at])?;
            consumer.poll(1, ORIGINAL_WAIT, Duration::ZERO, |original| {
                if original.offset() == record.place.offset {
                    headers.extend(original.headers().map(|(key, value)| (key.to_owned(), value.to_vec())));
                }
            })
        });
        if let Err(error) = read {
            tracing::debug!(error = %daemon::report(&error), "the headers of a refused record cannot be read");
        }
        headers
    }

    fn publish(
        &mut self,
        topic: &str,
        key: &[u8],
        headers: &[(&str, &[u8])],
        what: &'static str,
    ) -> Result<(), StreamError> {
        if self.producer.as_ref().is_none_or(|producer| producer.fatal_error().is_some()) {
            self.producer = Some(Producer::open(&self.settings).map_err(|source| failed(what, source))?);
        }
        let Some(producer) = &self.producer else { return Ok(()) };
        let batch = producer.batch();
        let partition = partition_for(key, PARTITIONS);
        match batch.send(topic, partition, key, &self.payload, self.clock.now().as_millis(), headers) {
            Ok(()) => {}
            Err(error @ SendError::QueueFull) => return Err(failed(what, error)),
            Err(error @ SendError::Refused { .. }) => {
                // larger than the stream takes: said loudly, since trying again for ever would stop everything else
                tracing::error!(topic, bytes = self.payload.len(), error = %daemon::report(&error), "a dead letter cannot be kept");
                return Ok(());
            }
        }
        match batch.finish().wait(ACKNOWLEDGE_MAX) {
            Ok(true) => Ok(()),
            Ok(false) => Err(failed(what, std::io::Error::from(std::io::ErrorKind::TimedOut))),
            Err(error) => {
                self.producer = None;
                Err(failed(what, error))
            }
        }
    }
}

impl DeadLetters for StreamDeadLetters {
    fn bury(&mut self, record: &Record<'_>, refusal: &Refusal) -> Result<(), StreamError> {
        self.create_topic()?;
        let schema_id = self.schema_id(Topic::DlqTelemetry)?; // all dead letters share one contract, so one id
        let headers = self.headers(record);
        let headers: Vec<(&str, &[u8])> = headers.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
        let unframed = stream::avro::unframe(record.payload).ok();
        let reading = unframed
            .filter(|_| record.place.topic.schema() == stream::Schema::Telemetry)
            .and_then(|(_, body)| stream::message::telemetry::decode(body).ok());
        let letter = DeadLetter {
            rule_revision: None,
            config_revision: None,
            stage: "sink",
            rule_id: None,
            reason: refusal.reason,
            detail: &refusal.detail,
            observed: None,
            limit: None,
            topic: record.place.topic.name(),
            partition: record.place.partition,
            offset: record.place.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key,
            headers: Headers::Slice(&headers),
            payload: record.payload,
            schema_id: unframed.map(|(id, _)| id),
            asset_id: reading.map(|reading| reading.asset_id),
            parameter: reading.map(|reading| reading.parameter),
            value: None,
            device_time: reading.map(|reading| reading.device_time),
            gateway_id: &self.gateway_id,
            first_failed_at: self.clock.now(),
            attempts: 1,
        };
        self.payload.clear();
        letter.encode(&mut self.payload, schema_id);
        let gateway_id = self.gateway_id.clone();
        let standard: [(&str, &[u8]); 1] = [(header::GATEWAY, gateway_id.as_bytes())];
        self.publish(&topic_name(&self.sink_id), record.key, &standard, "a dead letter")
    }

    fn lost(&mut self, gap: &Gap) -> Result<(), StreamError> {
        let schema_id = self.schema_id(Topic::Audit)?;
        let now: Timestamp = self.clock.now();
        let (sink, topic) = (self.sink_id.clone(), gap.topic.as_str());
        let (partition, from, to) = (gap.partition.to_string(), gap.from.to_string(), gap.to.to_string());
        let count = (gap.to - gap.from).to_string();
        let event_id = format!("{}/{sink}/{topic}/{partition}/{from}", self.gateway_id);
        let message = format!("{count} records of {topic}/{partition} were deleted before sink {sink} read them");
        let event = Event {
            event_id: &event_id,
            event_type: DATA_LOSS,
            asset_id: &sink,
            parameter: None,
            from_state: None,
            to_state: None,
            severity: None,
            time_source: model::time_source::GATEWAY,
            occurred_after: None,
            edge: None,
            initial: false,
            missed_window: false,
            message: &message,
            value: Value::Null,
            unit: None,
            quality: Quality::Good,
            quality_reason: None,
            device_time: now,
            gateway_time: now,
            epoch: 0,
            seq: 0,
            flags: TextList::default(),
            metadata: TextMap::Slice(&[("gateway_id", &self.gateway_id)]),
            details: TextMap::Slice(&[
                ("cause", CAUSE_EVICTED),
                ("topic", topic),
                ("partition", &partition),
                ("offset_from", &from),
                ("offset_to", &to),
                ("count", &count),
                ("exactness", "exact"),
            ]),
        };
        self.payload.clear();
        event.encode(&mut self.payload, schema_id);
        let headers: [(&str, &[u8]); 1] = [(header::EVENT, DATA_LOSS.as_bytes())];
        self.publish(Topic::Audit.name(), sink.as_bytes(), &headers, "a row of the loss ledger")
    }
}

/// Cause of a gap in ledger and metrics: retention was quicker than the sink.
pub const CAUSE_EVICTED: &str = "evicted_unread";

fn failed(what: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> StreamError {
    StreamError::Publish { what, source: Box::new(source) }
}
