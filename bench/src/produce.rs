//! A producer that only sends: one connection, batches made once and sent again and again, several requests under way.
//! What it measures is the broker, not the cost of a client library.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use kafka::protocol::records::{self, Record};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, ProduceRequest, ProduceResponse, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, StrBytes};
use model::{Clock, SystemClock};

use crate::frame::frame;

/// Names topics by name, is not flexible, is served by every broker of the last years.
const VERSION: i16 = 7;
/// Requests under way, as many as clients have by default.
const UNDER_WAY: usize = 5;
/// Where a frame has its correlation id: behind its length, the API's key and the version.
const CORRELATION: std::ops::Range<usize> = 8..12;
const ALL_IN_SYNC: i16 = -1;
const TIMEOUT_MS: i32 = 30_000;

/// Sends the same request again and again: one batch for each partition.
#[derive(Debug)]
pub struct Writer {
    stream: TcpStream,
    frame: Vec<u8>,
    answer: Vec<u8>,
    /// Correlation ids of the next request and of the next answer.
    next: (i32, i32),
    records: u64,
}

impl Writer {
    /// One request carries these records, key and value, for each of `partitions`.
    pub fn open<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        broker: SocketAddr,
        topic: &str,
        partitions: i32,
        records: &[(K, V)],
    ) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(broker)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let list: Vec<Record<'_>> =
            records.iter().map(|(key, value)| Record { key: key.as_ref(), value: Some(value.as_ref()) }).collect();
        let batch = Bytes::from(records::encode(&list, SystemClock.now().as_millis())?);
        let data = |index| PartitionProduceData::default().with_index(index).with_records(Some(batch.clone()));
        let topic = TopicProduceData::default()
            .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
            .with_partition_data((0..partitions).map(data).collect());
        let body =
            ProduceRequest::default().with_acks(ALL_IN_SYNC).with_timeout_ms(TIMEOUT_MS).with_topic_data(vec![topic]);
        let frame = frame(ApiKey::Produce, VERSION, 0, &body)?;
        let records = u64::try_from(records.len())? * u64::try_from(partitions)?;
        Ok(Self { stream, frame: frame.to_vec(), answer: Vec::new(), next: (0, 0), records })
    }

    /// Sends for as long as `go_on` says, waits for all answers, and returns how many records were acknowledged.
    pub fn send_while(&mut self, mut go_on: impl FnMut() -> bool) -> anyhow::Result<u64> {
        let before = self.next.1;
        while go_on() {
            self.send()?;
            if self.under_way() == UNDER_WAY {
                self.receive()?;
            }
        }
        while self.under_way() > 0 {
            self.receive()?;
        }
        Ok(u64::try_from(self.next.1 - before)? * self.records)
    }

    fn under_way(&self) -> usize {
        usize::try_from(self.next.0 - self.next.1).unwrap_or_default()
    }

    fn send(&mut self) -> anyhow::Result<()> {
        self.frame[CORRELATION].copy_from_slice(&self.next.0.to_be_bytes());
        self.next.0 += 1;
        Ok(self.stream.write_all(&self.frame)?)
    }

    fn receive(&mut self) -> anyhow::Result<()> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        self.answer.resize(usize::try_from(i32::from_be_bytes(length))?, 0);
        self.stream.read_exact(&mut self.answer)?;
        let mut answer = Bytes::copy_from_slice(&self.answer);
        let header = ResponseHeader::decode(&mut answer, 0)?;
        if header.correlation_id != self.next.1 {
            bail!("an answer to request {} instead of {}", header.correlation_id, self.next.1);
        }
        self.next.1 += 1;
        let response = ProduceResponse::decode(&mut answer, VERSION)?;
        for partition in response.responses.iter().flat_map(|topic| &topic.partition_responses) {
            if partition.error_code != 0 {
                bail!("partition {} answers with error {}", partition.index, partition.error_code);
            }
        }
        Ok(())
    }
}
