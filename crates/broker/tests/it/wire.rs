//! A client that speaks the protocol message by message, for what no client library does on demand.

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{PATIENCE, TestBroker};

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(crate) fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

/// One connection.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    correlation_id: i32,
}

impl Wire {
    pub(crate) async fn connect(broker: &TestBroker) -> Self {
        Self { stream: TcpStream::connect(broker.handle().kafka()).await.unwrap(), correlation_id: 0 }
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request).await;
        self.receive::<R>(version).await
    }

    pub(crate) async fn send<R: Request>(&mut self, version: i16, request: &R) {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(text("it")));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, R::header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        self.stream.write_i32(i32::try_from(frame.len()).unwrap()).await.unwrap();
        self.stream.write_all(&frame).await.unwrap();
    }

    pub(crate) async fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let mut bytes = self.frame().await;
        let header = ResponseHeader::decode(&mut bytes, R::Response::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, self.correlation_id);
        let response = R::Response::decode(&mut bytes, version).unwrap();
        assert!(!bytes.has_remaining(), "API {} version {version}: {} bytes too many", R::KEY, bytes.len());
        response
    }

    /// One frame, without its length.
    pub(crate) async fn frame(&mut self) -> Bytes {
        let size = timeout(PATIENCE, self.stream.read_i32()).await.unwrap().unwrap();
        let mut bytes = vec![0; usize::try_from(size).unwrap()];
        timeout(PATIENCE, self.stream.read_exact(&mut bytes)).await.unwrap().unwrap();
        bytes.into()
    }

    /// The broker ends the connection without an answer.
    pub(crate) async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        matches!(timeout(PATIENCE, self.stream.read_exact(&mut byte)).await.unwrap(), Err(error) if
            matches!(error.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset))
    }

    /// Sends a frame that may be anything, behind its true length.
    pub(crate) async fn send_raw(&mut self, frame: &[u8]) {
        self.stream.write_i32(i32::try_from(frame.len()).unwrap()).await.unwrap();
        self.stream.write_all(frame).await.unwrap();
    }

    /// The broker does one or the other; silence fails.
    pub(crate) async fn closed_or_answered(&mut self) {
        let mut byte = [0];
        drop(timeout(PATIENCE, self.stream.read_exact(&mut byte)).await.expect("neither closed nor answered"));
    }

    /// Sends batches as they are; the error code and the base offset of the answer.
    pub(crate) async fn produce(&mut self, name: &str, partition: i32, records: Vec<u8>) -> (i16, i64) {
        let data = produce_request::PartitionProduceData::default()
            .with_index(partition)
            .with_records(Some(Bytes::from(records)));
        let data = produce_request::TopicProduceData::default().with_name(topic(name)).with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![data]);
        let response = self.ask(9, &request).await;
        let answer = &response.responses[0].partition_responses[0];
        (answer.error_code, answer.base_offset)
    }
}
