//! Producing: acknowledges, compression, idempotence, limits.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::FutureRecord;
use rdkafka::topic_partition_list::Offset;

use crate::support::{PATIENCE, TestBroker, produce};

// STR-02, STR-10: librdkafka produces and consumes, offsets are consecutive
#[tokio::test(flavor = "multi_thread")]
async fn records_come_back_in_order_with_every_kind_of_acknowledge() {
    let broker = TestBroker::start().await;
    broker.create_topic("plain", 1, &[]).await;
    for (acks, idempotence) in [("all", "true"), ("all", "false"), ("1", "false"), ("0", "false")] {
        let producer = broker.producer(&[("acks", acks), ("enable.idempotence", idempotence)]);
        for index in 0..20 {
            produce(&producer, "plain", 0, &format!("{acks}-{idempotence}-{index}")).await;
        }
    }
    let seen = broker.read("plain", 0, Offset::Beginning, 80).await;
    for (index, record) in seen.iter().enumerate() {
        assert_eq!(record.offset, i64::try_from(index).unwrap());
    }
    assert_eq!(seen[0].payload, "all-true-0");
    assert_eq!(seen[79].payload, "0-false-19");
}

// STR-13: compression passes through
#[tokio::test(flavor = "multi_thread")]
async fn all_compressions_of_librdkafka_pass_through() {
    let broker = TestBroker::start().await;
    let body = "temperature ".repeat(200);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("with-{codec}");
        broker.create_topic(&topic, 1, &[]).await;
        let producer = broker.producer(&[("compression.codec", codec), ("linger.ms", "50")]);
        let sent: Vec<_> = (0..100)
            .map(|index| {
                let payload = format!("{index} {body}");
                let producer = producer.clone();
                let topic = topic.clone();
                async move {
                    let record: FutureRecord<'_, str, str> =
                        FutureRecord::to(topic.as_str()).partition(0).payload(payload.as_str());
                    producer.send(record, PATIENCE).await.unwrap();
                }
            })
            .collect();
        let mut tasks = tokio::task::JoinSet::new();
        for one in sent {
            tasks.spawn(one);
        }
        assert_eq!(tasks.join_all().await.len(), 100);
        let seen = broker.read(&topic, 0, Offset::Beginning, 100).await;
        assert!(seen.iter().all(|record| record.payload.ends_with(&body)), "{codec}");
        let stored: u64 = log_bytes(&broker.dir().join("topics").join(&topic).join("0"));
        let raw = u64::try_from(100 * body.len()).unwrap();
        assert_eq!(stored < raw / 2, codec != "none", "{codec}: {stored} bytes for {raw}");
    }
}

fn log_bytes(dir: &std::path::Path) -> u64 {
    let logs = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let logs = logs.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "log"));
    logs.map(|entry| entry.metadata().unwrap().len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_above_the_limit_of_its_topic_is_refused() {
    let broker = TestBroker::start().await;
    broker.create_topic("small", 1, &[("max.message.bytes", "2048")]).await;
    let producer = broker.producer(&[]);
    let payload = "x".repeat(4_000);
    let record: FutureRecord<'_, str, str> = FutureRecord::to("small").partition(0).payload(payload.as_str());
    let (error, _) = producer.send(record, PATIENCE).await.unwrap_err();
    assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge));
    assert_eq!(produce(&producer, "small", 0, "fits").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_not_created_by_producing_and_internal_ones_are_not_written() {
    let broker = TestBroker::start().await;
    let producer = broker.producer(&[("message.timeout.ms", "1500"), ("enable.idempotence", "false")]);
    for topic in ["nobody-made-this", "__consumer_offsets", "_schemas"] {
        let record: FutureRecord<'_, str, str> = FutureRecord::to(topic).partition(0).payload("x");
        assert!(producer.send(record, PATIENCE).await.is_err(), "{topic}");
    }
}

// STR-06: a retriable error, and room again lets the same record through
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_below_its_reserve_refuses_records_but_not_offsets() {
    use rdkafka::consumer::{CommitMode, Consumer};
    let broker = TestBroker::start_with(|settings| settings.reserve_bytes = u64::MAX).await;
    broker.create_topic("full", 1, &[]).await;
    let producer = broker.producer(&[("message.timeout.ms", "1500"), ("enable.idempotence", "false")]);
    let record: FutureRecord<'_, str, str> = FutureRecord::to("full").partition(0).payload("x");
    let (error, _) = producer.send(record, PATIENCE).await.unwrap_err();
    assert_eq!(
        error,
        KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut),
        "retried until its time was up"
    );
    let consumer = broker.consumer(&[("group.id", "offsets-go-on")]);
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset("full", 0, Offset::Offset(0)).unwrap();
    consumer.commit(&list, CommitMode::Sync).unwrap();
}
