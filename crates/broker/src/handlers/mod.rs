//! What each API does: one function per request, one file per group of APIs.

pub(crate) mod acls;
pub(crate) mod admin;
pub(crate) mod cluster;
pub(crate) mod configs;
pub(crate) mod consumer_groups;
pub(crate) mod credentials;
pub(crate) mod fetch;
pub(crate) mod fetch_answer;
pub(crate) mod groups;
pub(crate) mod list_offsets;
pub(crate) mod offsets;
pub(crate) mod partitions;
pub(crate) mod produce;
pub(crate) mod quotas;
pub(crate) mod records;
pub(crate) mod sasl;
pub(crate) mod transactions;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;

/// The code on the wire: zero for success.
fn code(error: Option<ResponseError>) -> i16 {
    error.map_or(0, |error| error.code())
}

/// The code of a result.
fn result_code<T>(result: &Result<T, ResponseError>) -> i16 {
    result.as_ref().err().map_or(0, ResponseError::code)
}

pub(crate) fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

fn topic_name(name: &StrBytes) -> TopicName {
    TopicName(name.clone())
}
