//! Compaction as clients see it: newest values, old offsets, tombstones, packed batches.

use std::collections::BTreeMap;
use std::time::Duration;

use commitlog::batch::Builder;
use kafka_protocol::messages::{ProduceRequest, produce_request};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::FutureRecord;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::support::{PATIENCE, TestBroker, eventually};
use crate::wire::{Wire, topic};

const TOPIC: &str = "state";

/// 200 characters that packing makes half as many of, so that segments fill whatever packs them.
fn noise(number: u32) -> String {
    (0..25).fold(String::new(), |text, part| format!("{text}{:08x}", (number * 25 + part).wrapping_mul(2_654_435_761)))
}

/// Everything a reader finds: key, offset, value.
fn contents(consumer: &BaseConsumer) -> Vec<(String, i64, Option<String>)> {
    let (start, end) = consumer.fetch_watermarks(TOPIC, 0, PATIENCE).unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(TOPIC, 0, Offset::Offset(start)).unwrap();
    consumer.assign(&list).unwrap();
    let mut found = Vec::new();
    // the last record is never compacted away: it is in the active segment
    while found.last().is_none_or(|(_, offset, _): &(String, i64, Option<String>)| offset + 1 < end) {
        let Some(message) = consumer.poll(Duration::from_secs(5)) else { panic!("nothing behind {:?}", found.last()) };
        let Ok(message) = message else { continue };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let key = text(message.key().unwrap_or_default());
        found.push((key, message.offset(), message.payload().map(text)));
    }
    found
}

// STR-05: librdkafka reads a compacted topic, whatever it packed its batches with, and finds the newest value of each key.
#[tokio::test(flavor = "multi_thread")]
async fn compacted_topics_keep_the_newest_values() {
    let often = Duration::from_millis(50);
    let broker = TestBroker::start_with(|settings| settings.compaction_interval = often).await;
    let config = [("cleanup.policy", "compact"), ("segment.bytes", "65536"), ("delete.retention.ms", "0")];
    broker.create_topic(TOPIC, 1, &config).await;
    let mut newest = BTreeMap::new();
    let mut number = 0;
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let producer = broker.producer(&[("compression.type", compression), ("batch.num.messages", "100")]);
        let mut sent = Vec::new();
        for _ in 0..1_500 {
            let (key, value) = (format!("key-{}", number % 97), format!("{number} {}", noise(number)));
            let record = FutureRecord::to(TOPIC).partition(0).key(&key).payload(&value);
            sent.push((key.clone(), value.clone(), producer.send_result(record).unwrap()));
            number += 1;
        }
        for (key, value, sent) in sent {
            let delivered = sent.await.unwrap().unwrap();
            newest.insert(key, (delivered.offset, value));
        }
    }
    let consumer = broker.consumer(&[]);
    eventually("the log is compacted", async || tokio::task::block_in_place(|| contents(&consumer)).len() < 1_500)
        .await;
    let found = tokio::task::block_in_place(|| contents(&consumer));
    let last: BTreeMap<_, _> =
        found.iter().map(|(key, offset, value)| (key.clone(), (*offset, value.clone().unwrap()))).collect();
    assert_eq!(last, newest);
    assert!(found.is_sorted_by_key(|(_, offset, _)| *offset));
}

// STR-05: a record without a key could never be compacted away, so a compacted topic does not take it (KIP-467)
#[tokio::test(flavor = "multi_thread")]
async fn records_without_keys_are_refused_and_named() {
    const INVALID_RECORD: i16 = 87;
    let broker = TestBroker::start().await;
    broker.create_topic(TOPIC, 1, &[("cleanup.policy", "compact,delete")]).await;
    let mut wire = Wire::connect(&broker).await;
    let batch = Builder::new(1_000).keyed(1_000, Some(b"k"), Some(b"v")).keyed(1_000, None, Some(b"v")).build();
    let part = produce_request::PartitionProduceData::default().with_records(Some(batch.into()));
    let data = produce_request::TopicProduceData::default().with_name(topic(TOPIC)).with_partition_data(vec![part]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(1_000).with_topic_data(vec![data]);
    for version in [7, 9] {
        let answer = wire.ask(version, &request).await;
        let told = &answer.responses[0].partition_responses[0];
        let wrong: Vec<i32> = told.record_errors.iter().map(|record| record.batch_index).collect();
        assert_eq!((told.error_code, told.base_offset), (INVALID_RECORD, -1));
        // before version 8 there is no room for the records
        assert_eq!(wrong, if version < 8 { vec![] } else { vec![1] });
    }
    for compression in ["gzip", "zstd"] {
        let producer = broker.producer(&[("compression.type", compression)]);
        let text = "alike ".repeat(100);
        let record: FutureRecord<'_, str, str> = FutureRecord::to(TOPIC).partition(0).payload(&text);
        let (error, _) = producer.send(record, PATIENCE).await.unwrap_err();
        assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::InvalidRecord), "{compression}");
        let record = FutureRecord::to(TOPIC).partition(0).key("k").payload(&text);
        producer.send(record, PATIENCE).await.unwrap();
    }
}
