//! A request of the Kafka protocol as bytes, for the clients here that are no library.

use anyhow::Context;
use bytes::BytesMut;
use kafka_protocol::messages::{ApiKey, RequestHeader};
use kafka_protocol::protocol::{Encodable, StrBytes};

/// The request with its length in front. `version` is one whose header is not flexible.
pub fn frame(api: ApiKey, version: i16, correlation_id: i32, body: &impl Encodable) -> anyhow::Result<BytesMut> {
    let header = RequestHeader::default()
        .with_request_api_key(api as i16)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str("bench")));
    let mut frame = BytesMut::new();
    frame.extend_from_slice(&[0; 4]);
    header.encode(&mut frame, 1)?;
    body.encode(&mut frame, version)?;
    let length = i32::try_from(frame.len() - 4).context("a request of some megabytes")?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}
