//! A consumer that only fetches: one connection, all partitions of a topic, whole batches counted and thrown away. What it
//! measures is the broker, not the cost of a client library.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{ApiKey, FetchRequest, FetchResponse, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, StrBytes};

use crate::frame::frame;

/// Names topics by name, is not flexible, is served by every broker of the last years.
const VERSION: i16 = 11;
/// What clients ask for by default: per partition, and in all.
const PARTITION_BYTES: i32 = 1024 * 1024;
const FETCH_BYTES: i32 = 50 * 1024 * 1024;
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
const HEADER_BYTES: usize = 61;

/// Reads a topic again and again.
#[derive(Debug)]
pub struct Reader {
    stream: TcpStream,
    topic: TopicName,
    positions: Vec<i64>,
    answer: Vec<u8>,
    correlation_id: i32,
    first: usize,
}

impl Reader {
    pub fn open(broker: SocketAddr, topic: &str, partitions: usize) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(broker)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let topic = TopicName(StrBytes::from_string(topic.to_owned()));
        Ok(Self { stream, topic, positions: vec![0; partitions], answer: Vec::new(), correlation_id: 0, first: 0 })
    }

    /// One fetch: bytes of whole record batches received; 0 at the end of all partitions, and the positions start anew.
    pub fn fetch(&mut self) -> anyhow::Result<usize> {
        let request = self.request()?;
        self.stream.write_all(&request)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length))?;
        if length > ANSWER_BYTES_MAX {
            bail!("an answer of {length} bytes");
        }
        self.answer.resize(length, 0);
        self.stream.read_exact(&mut self.answer)?;
        let whole = Bytes::from(std::mem::take(&mut self.answer));
        let mut answer = whole.clone();
        ResponseHeader::decode(&mut answer, 0)?;
        let response = FetchResponse::decode(&mut answer, VERSION)?;
        let mut received = 0;
        for partition in response.responses.iter().flat_map(|topic| &topic.partitions) {
            if partition.error_code != 0 {
                bail!("partition {} answers with error {}", partition.partition_index, partition.error_code);
            }
            let Some(records) = &partition.records else { continue };
            let (bytes, next) = whole_batches(records);
            received += bytes;
            if let Some(next) = next {
                self.positions[usize::try_from(partition.partition_index)?] = next;
            }
        }
        drop((response, answer));
        // the same memory for the next answer: pages that are faulted in and zeroed anew would be measured as the broker's
        self.answer = whole.try_into_mut().map(Vec::from).unwrap_or_default();
        if received == 0 {
            self.positions.fill(0);
        }
        Ok(received)
    }

    fn request(&mut self) -> anyhow::Result<Bytes> {
        self.correlation_id += 1;
        // as clients do, another partition comes first each time, so that none starves
        self.first = (self.first + 1) % self.positions.len();
        let order = (self.first..self.positions.len()).chain(0..self.first);
        let partitions = order.map(|index| {
            FetchPartition::default()
                .with_partition(i32::try_from(index).unwrap_or_default())
                .with_fetch_offset(self.positions[index])
                .with_partition_max_bytes(PARTITION_BYTES)
        });
        let topic = FetchTopic::default().with_topic(self.topic.clone()).with_partitions(partitions.collect());
        let body = FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(0)
            .with_min_bytes(1)
            .with_max_bytes(FETCH_BYTES)
            .with_topics(vec![topic]);
        let frame = frame(ApiKey::Fetch, VERSION, self.correlation_id, &body)?;
        Ok(frame.freeze())
    }
}

/// Bytes of the whole batches, and the offset behind the last of them. A batch cut off at the end is fetched again, so its
/// bytes count when they come whole.
fn whole_batches(records: &[u8]) -> (usize, Option<i64>) {
    let (mut rest, mut next) = (records, None);
    while let Some((size, after)) = batch(rest) {
        (rest, next) = (&rest[size..], Some(after));
    }
    (records.len() - rest.len(), next)
}

/// Size of the first batch in bytes, and the offset behind it; `None` when it is cut off.
fn batch(records: &[u8]) -> Option<(usize, i64)> {
    let header = records.get(..HEADER_BYTES)?;
    let size = 12 + usize::try_from(i32::from_be_bytes(header[8..12].try_into().ok()?)).ok()?;
    records.get(..size)?;
    let base = i64::from_be_bytes(header[..8].try_into().ok()?);
    Some((size, base + i64::from(i32::from_be_bytes(header[23..27].try_into().ok()?)) + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_is_cut_off_does_not_count() {
        let mut one = [0_u8; 100];
        one[8..12].copy_from_slice(&88_i32.to_be_bytes());
        one[23..27].copy_from_slice(&4_i32.to_be_bytes());
        let mut two = one;
        two[..8].copy_from_slice(&5_i64.to_be_bytes());
        let both = [one, two].concat();
        assert_eq!(whole_batches(&both), (200, Some(10)));
        assert_eq!(whole_batches(&both[..199]), (100, Some(5)));
        assert_eq!(whole_batches(&both[..99]), (0, None));
    }
}
