//! Consuming: waiting, finding offsets, what lies outside of the log.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::FutureRecord;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::time::Instant;

use crate::support::{PATIENCE, TestBroker, ends, produce, take};

fn assigned(broker: &TestBroker, topic: &str, from: Offset, extra: &[(&str, &str)]) -> BaseConsumer {
    let consumer = broker.consumer(extra);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, from).unwrap();
    consumer.assign(&list).unwrap();
    consumer
}

// STR-08: a waiting fetch is woken by the append, long before its own time is up
#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_wakes_when_a_record_is_durable() {
    let broker = TestBroker::start().await;
    broker.create_topic("wake", 1, &[]).await;
    let consumer =
        assigned(&broker, "wake", Offset::End, &[("fetch.wait.max.ms", "60000"), ("socket.timeout.ms", "90000")]);
    let reader = tokio::task::spawn_blocking(move || take(&consumer, 3));
    let producer = broker.producer(&[]);
    for index in 0..100 {
        // the reader has to be there first; records before it are not its
        produce(&producer, "wake", 0, &index.to_string()).await;
        if reader.is_finished() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(reader.await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_found_by_time() {
    let broker = TestBroker::start().await;
    broker.create_topic("times", 1, &[]).await;
    let producer = broker.producer(&[]);
    for index in 0..50_i64 {
        let payload = index.to_string();
        let record: FutureRecord<'_, str, str> = FutureRecord::to("times")
            .partition(0)
            .payload(payload.as_str())
            .timestamp(1_700_000_000_000 + index * 1_000);
        producer.send(record, PATIENCE).await.unwrap();
    }
    let consumer = broker.consumer(&[]);
    let find = |time: i64| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("times", 0, Offset::Offset(time)).unwrap();
        consumer.offsets_for_times(list, PATIENCE).unwrap().elements()[0].offset()
    };
    assert_eq!(find(1_700_000_000_000), Offset::Offset(0));
    assert_eq!(find(1_700_000_020_000), Offset::Offset(20));
    assert_eq!(find(1_700_000_020_001), Offset::Offset(21));
    assert_eq!(find(1_600_000_000_000), Offset::Offset(0));
    assert_eq!(find(1_800_000_000_000), Offset::End);
    assert_eq!(ends(&consumer, "times", 1)[&0], (0, 50));
}

// STR-12: behind the start of the log there is an error, not a silent jump
#[tokio::test(flavor = "multi_thread")]
async fn offsets_outside_of_the_log_are_an_error() {
    let broker = TestBroker::start().await;
    broker.create_topic("short", 1, &[]).await;
    let producer = broker.producer(&[]);
    for _ in 0..5 {
        produce(&producer, "short", 0, "x").await;
    }
    let consumer = assigned(&broker, "short", Offset::Offset(77), &[("auto.offset.reset", "error")]);
    let outcome = tokio::task::spawn_blocking(move || {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline);
            if let Some(Err(error)) = consumer.poll(Duration::from_millis(100)) {
                return error;
            }
        }
    });
    let error = outcome.await.unwrap();
    let codes = [Some(RDKafkaErrorCode::AutoOffsetReset), Some(RDKafkaErrorCode::OffsetOutOfRange)];
    assert!(codes.contains(&error.rdkafka_error_code()), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_are_cut_and_continued() {
    let broker = TestBroker::start().await;
    broker.create_topic("large", 1, &[]).await;
    let producer = broker.producer(&[("batch.size", "900000")]);
    let payload = "y".repeat(200_000);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (producer, payload) = (producer.clone(), payload.clone());
        tasks.spawn(async move { produce(&producer, "large", 0, &payload).await });
    }
    assert_eq!(tasks.join_all().await.len(), 100);
    let seen = broker.read("large", 0, Offset::Beginning, 100).await;
    assert_eq!(seen.last().unwrap().offset, 99);
}

// STR-08: stored batches go from their file to the socket, and are the same records as in memory
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_sent_from_the_files() {
    let (mut broker, context) = TestBroker::start_with_context(|_| ()).await;
    broker.create_topic("backlog", 1, &[]).await;
    let producer = broker.producer(&[("linger.ms", "5"), ("batch.size", "50000")]);
    let payload = |number: usize| format!("{number} {}", "x".repeat(number % 2_000));
    let mut sending = Vec::new();
    for number in 0..2_000 {
        let payload = payload(number);
        let record: FutureRecord<'_, str, str> = FutureRecord::to("backlog").partition(0).payload(&payload);
        sending.push(producer.send_result(record).map_err(|(error, _)| error).unwrap());
    }
    for sent in sending {
        sent.await.unwrap().unwrap();
    }
    let expected: Vec<String> = (0..2_000).map(payload).collect();
    let payloads = |seen: Vec<crate::support::Seen>| seen.into_iter().map(|seen| seen.payload).collect::<Vec<_>>();
    assert!(payloads(broker.read("backlog", 0, Offset::Beginning, 2_000).await) == expected);
    let text = context.metrics.encode().unwrap();
    let counted = text.lines().find(|line| line.starts_with("sf_broker_sent_from_files_bytes_total")).unwrap();
    let bytes: f64 = counted.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(bytes > 1_000_000.0, "{counted}");

    // what an earlier process wrote is read and checked first
    broker.crash_and_restart().await;
    for _ in 0..2 {
        assert!(payloads(broker.read("backlog", 0, Offset::Beginning, 2_000).await) == expected);
    }
}
