//! What can go wrong between a component and the stream.

use std::time::Duration;

use kafka_protocol::error::ResponseError;

/// An error of the client; the source is librdkafka's own text where it did the work.
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
    #[error("the broker will not take these records: {reason}")]
    RecordsRefused { reason: String },
    #[error("{doing} a transaction at {bootstrap} failed")]
    Transaction { bootstrap: String, doing: &'static str, source: Box<rdkafka::error::KafkaError> },
    #[error("reading from the stream failed")]
    Consume { source: Box<rdkafka::error::KafkaError> },
    #[error("cannot connect to the broker at {address}")]
    Connect { address: String, source: std::io::Error },
    #[error("the broker at {address} gave no answer to {api}")]
    Ask { address: String, api: String, source: std::io::Error },
    #[error("the broker at {address} does not speak {api}")]
    NotSpoken { address: String, api: String },
    #[error("the broker at {address} and this client do not understand each other in {api}: {reason}")]
    Unreadable { address: String, api: String, reason: String },
    #[error("{what} was refused: {reason}")]
    Refused { what: String, code: ResponseError, reason: String },
}
