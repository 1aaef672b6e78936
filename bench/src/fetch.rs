//! One question in Kafka's protocol, asked without a client library: is there a record yet?
//!
//! A library would wait and back off in its own way; here the first fetchable record shall be seen at once.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::bail;
use bytes::{Buf, Bytes};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{ApiKey, FetchRequest, FetchResponse, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, StrBytes};

use crate::frame::frame;

/// Names topics by name, is not flexible, is served by every broker of the last years.
const VERSION: i16 = 11;
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of records in the topic's partitions, waiting up to `wait` for the first; 0 while there is none, no topic, or
/// no broker yet.
pub fn bytes_in(broker: SocketAddr, topic: &str, partitions: i32, wait: Duration) -> usize {
    ask(broker, topic, partitions, wait).unwrap_or_default()
}

fn ask(broker: SocketAddr, topic: &str, partitions: i32, wait: Duration) -> anyhow::Result<usize> {
    let mut stream = TcpStream::connect(broker)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(wait + Duration::from_secs(2)))?;
    stream.write_all(&request(topic, partitions, wait)?)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length))?;
    if length > ANSWER_BYTES_MAX {
        bail!("an answer of {length} bytes");
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    let mut answer = Bytes::from(answer);
    ResponseHeader::decode(&mut answer, 0)?;
    let response = FetchResponse::decode(&mut answer, VERSION)?;
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    Ok(partitions.filter_map(|partition| partition.records.as_ref()).map(Buf::remaining).sum())
}

fn request(topic: &str, partitions: i32, wait: Duration) -> anyhow::Result<Bytes> {
    let partition = |index| FetchPartition::default().with_partition(index).with_partition_max_bytes(1024 * 1024);
    let topic = FetchTopic::default()
        .with_topic(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partitions((0..partitions).map(partition).collect());
    let body = FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(i32::try_from(wait.as_millis())?)
        .with_min_bytes(1)
        .with_max_bytes(8 * 1024 * 1024)
        .with_topics(vec![topic]);
    let frame = frame(ApiKey::Fetch, VERSION, 1, &body)?;
    Ok(frame.freeze())
}
