//! What can go wrong between a component and the stream.

use std::time::Duration;

/// An error of the client; the source is librdkafka's own text.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot set up a client for {bootstrap}")]
    Client { bootstrap: String, source: Box<rdkafka::error::KafkaError> },
    #[error("the broker at {bootstrap} did not answer within {timeout:?} while {doing}")]
    Request { bootstrap: String, doing: &'static str, timeout: Duration, source: Box<rdkafka::error::KafkaError> },
    #[error("topic {topic} cannot be created: {reason}")]
    CreateTopic { topic: String, reason: String },
    #[error("offset {offset} of {topic}/{partition} is no longer on disk")]
    OffsetOutOfRange { topic: String, partition: i32, offset: i64 },
    #[error("records were not acknowledged: {reason}")]
    NotDelivered { reason: String },
    #[error("reading from the stream failed")]
    Consume { source: Box<rdkafka::error::KafkaError> },
}
