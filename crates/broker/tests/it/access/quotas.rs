//! Quotas: who takes more than allowed is told to wait, and is not read meanwhile.

use bytes::Bytes;
use kafka::protocol::records::Record;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use super::client::Client;
use super::{Site, text};
use crate::support::TestBroker;

fn records(bytes: usize) -> Bytes {
    let value = vec![7; bytes];
    kafka::protocol::records::encode(&[Record { key: b"", value: Some(&value) }], 1).unwrap().into()
}

async fn produce(client: &mut Client, bytes: usize) -> i32 {
    let part = produce_request::PartitionProduceData::default().with_records(Some(records(bytes)));
    let data = produce_request::TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_static_str("t")))
        .with_partition_data(vec![part]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(1_000).with_topic_data(vec![data]);
    let answer = client.call(9, &request).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    answer.throttle_time_ms
}

async fn fetch(client: &mut Client, offset: i64) -> (usize, i32) {
    let part = fetch_request::FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let wanted = fetch_request::FetchTopic::default()
        .with_topic(TopicName(StrBytes::from_static_str("t")))
        .with_partitions(vec![part]);
    let request = FetchRequest::default().with_max_wait_ms(100).with_min_bytes(1).with_max_bytes(1 << 20);
    let answer = client.call(12, &request.with_topics(vec![wanted])).await;
    (answer.responses[0].partitions[0].records.as_ref().map_or(0, Bytes::len), answer.throttle_time_ms)
}

/// Sets or takes away a quota of a client id; the default of all client ids when `client` is `None`.
async fn set(admin: &mut Client, client: Option<&str>, key: &str, value: Option<f64>) -> i16 {
    let entity = alter_client_quotas_request::EntityData::default()
        .with_entity_type(text("client-id"))
        .with_entity_name(client.map(text));
    let op = alter_client_quotas_request::OpData::default().with_key(text(key));
    let op = op.with_value(value.unwrap_or(0.0)).with_remove(value.is_none());
    let entry = alter_client_quotas_request::EntryData::default().with_entity(vec![entity]).with_ops(vec![op]);
    let answer = admin.call(1, &AlterClientQuotasRequest::default().with_entries(vec![entry])).await;
    answer.entries[0].error_code
}

async fn connect(broker: &TestBroker, client_id: &'static str) -> Client {
    let mut client = Client::connect(broker.handle().kafka()).await;
    client.name = client_id;
    client
}

// STR-15
#[tokio::test(flavor = "multi_thread")]
async fn a_producer_beyond_its_quota_is_told_to_wait_and_not_read() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut admin = connect(&broker, "admin").await;
    assert_eq!(set(&mut admin, Some("greedy"), "producer_byte_rate", Some(50_000.0)).await, 0);
    let mut greedy = connect(&broker, "greedy").await;
    let mut modest = connect(&broker, "modest").await;
    assert_eq!(produce(&mut greedy, 20_000).await, 0, "a second's worth is saved up");
    let wait_ms = produce(&mut greedy, 70_000).await;
    assert!((300..=1_000).contains(&wait_ms), "{wait_ms}");
    let begun = Instant::now();
    assert_eq!(produce(&mut modest, 90_000).await, 0, "another client is not concerned");
    produce(&mut greedy, 1).await;
    let waited = i32::try_from(begun.elapsed().as_millis()).unwrap();
    assert!(waited >= wait_ms - 50, "answered after {waited} ms instead of {wait_ms}");
    assert_eq!(set(&mut admin, Some("greedy"), "producer_byte_rate", None).await, 0);
    produce(&mut greedy, 900_000).await;
    assert_eq!(produce(&mut greedy, 900_000).await, 0, "no quota, no wait");
}

// STR-15
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_beyond_its_quota_is_told_to_wait_and_not_read() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut admin = connect(&broker, "admin").await;
    for _ in 0..3 {
        produce(&mut admin, 100_000).await;
    }
    assert_eq!(set(&mut admin, None, "consumer_byte_rate", Some(150_000.0)).await, 0);
    let mut reader = connect(&broker, "reader").await;
    let (bytes, wait_ms) = fetch(&mut reader, 0).await;
    assert!(bytes > 300_000 && (900..=1_500).contains(&wait_ms), "{bytes} bytes, {wait_ms} ms");
    let begun = Instant::now();
    fetch(&mut reader, 3).await;
    let waited = i32::try_from(begun.elapsed().as_millis()).unwrap();
    assert!(waited >= wait_ms - 50, "answered after {waited} ms instead of {wait_ms}");
    // everybody has the default quota of their own
    let (bytes, _) = fetch(&mut connect(&broker, "another").await, 0).await;
    assert!(bytes > 300_000);
}

// STR-15: over the protocol, and after a restart
#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_described_and_kept() {
    let mut broker = Site::start(|settings| settings.authorize = false).await;
    let mut admin = Client::connect(broker.handle().kafka()).await;
    assert_eq!(set(&mut admin, Some("a"), "producer_byte_rate", Some(1_000.0)).await, 0);
    assert_eq!(set(&mut admin, Some("a"), "request_percentage", Some(50.0)).await, 0);
    assert_eq!(set(&mut admin, None, "consumer_byte_rate", Some(2_000.0)).await, 0);
    for (key, value) in [("nonsense", 1.0), ("producer_byte_rate", 0.0), ("producer_byte_rate", f64::NAN)] {
        assert_eq!(set(&mut admin, Some("a"), key, Some(value)).await, 42, "INVALID_REQUEST: {key} {value}");
    }
    broker.crash_and_restart().await;
    let mut admin = Client::connect(broker.handle().kafka()).await;
    let answer = admin.call(1, &DescribeClientQuotasRequest::default()).await;
    let mut found = Vec::new();
    for entry in answer.entries.unwrap() {
        let name = entry.entity[0].entity_name.as_ref().map(ToString::to_string);
        let values = entry.values.iter().map(|value| (value.key.to_string(), value.value));
        found.push((name, values.collect::<Vec<_>>()));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let value = |key: &str, value| (key.to_owned(), value);
    assert_eq!(
        found,
        [
            (None, vec![value("consumer_byte_rate", 2_000.0)]),
            (Some("a".to_owned()), vec![value("producer_byte_rate", 1_000.0), value("request_percentage", 50.0)]),
        ]
    );
}
