//! Compaction as clients see it: newest values, old offsets, tombstones, packed batches.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::FutureRecord;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::support::{PATIENCE, TestBroker, eventually};

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
