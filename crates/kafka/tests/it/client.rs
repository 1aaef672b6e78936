//! Producing, reading, committing and administering over a real socket.

use std::time::Duration;

use broker::{Broker, Handle, Settings as BrokerSettings};
use kafka::client::admin::{TopicPlan, create_topics};
use kafka::client::{Consumer, Error, Position, Producer, Settings};

const TOPIC: &str = "t";
const WAIT: Duration = Duration::from_secs(10);

async fn broker(dir: &std::path::Path) -> (Handle, Settings) {
    let settings = BrokerSettings::on_free_ports(dir);
    let handle = Broker::start(settings, &daemon::Context::new("broker", "test")).await.expect("the broker starts");
    let client = Settings::new(&handle.kafka().to_string(), "test");
    let plan =
        TopicPlan { name: TOPIC.to_owned(), partitions: 3, config: vec![("retention.ms".to_owned(), "-1".to_owned())] };
    let created = create_topics(&client, &[plan]).await.expect("the topic is created");
    assert_eq!(created, [TOPIC]);
    (handle, client)
}

fn send(settings: &Settings, count: usize) {
    let producer = Producer::open(settings).expect("a broker that works");
    let batch = producer.batch();
    for i in 0..count {
        let text = format!("value-{i}");
        let partition = i32::try_from(i % 3).expect("a broker that works");
        batch
            .send(
                TOPIC,
                partition,
                b"key",
                text.as_bytes(),
                1_000 + i64::try_from(i).expect("a broker that works"),
                &[("h", b"x")],
            )
            .expect("a broker that works");
    }
    assert!(batch.finish().wait(WAIT).expect("a broker that works"), "acknowledged in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_come_back_in_order_with_key_time_and_headers() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, settings) = broker(dir.path()).await;
    tokio::task::spawn_blocking(move || {
        send(&settings, 300);
        let consumer = Consumer::open(&settings, "g").unwrap();
        let starts = consumer.starts(&[(TOPIC, 3)]).unwrap();
        let ends = consumer.ends(&[(TOPIC, 3)]).unwrap();
        assert_eq!(starts.iter().map(|p| p.offset).collect::<Vec<_>>(), [0, 0, 0]);
        assert_eq!(ends.iter().map(|p| p.offset).collect::<Vec<_>>(), [100, 100, 100]);
        consumer.assign(&starts).unwrap();
        let mut seen = vec![Vec::new(); 3];
        while seen.iter().map(Vec::len).sum::<usize>() < 300 {
            let count = consumer
                .poll(1000, WAIT, Duration::ZERO, |record| {
                    assert_eq!((record.key(), record.header("h")), (&b"key"[..], Some(&b"x"[..])));
                    let text = String::from_utf8(record.payload().unwrap().to_vec()).unwrap();
                    let i: i64 = text.strip_prefix("value-").unwrap().parse().unwrap();
                    assert_eq!(record.timestamp_ms(), 1_000 + i);
                    seen[usize::try_from(record.partition()).unwrap()].push(i);
                })
                .unwrap();
            assert!(count > 0, "records stopped coming");
        }
        for partition in &seen {
            assert!(partition.is_sorted());
        }
    })
    .await
    .unwrap();
    handle.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_keep_their_text_and_survive_a_restart() {
    // STR-12
    let dir = tempfile::tempdir().unwrap();
    let (handle, settings) = broker(dir.path()).await;
    let commit = Position { topic: TOPIC.to_owned(), partition: 1, offset: 42, metadata: "out=7".to_owned() };
    let expected = vec![commit.clone()];
    tokio::task::spawn_blocking(move || {
        let consumer = Consumer::open(&settings, "g").unwrap();
        assert_eq!(consumer.committed(TOPIC, 3).unwrap(), []);
        consumer.commit(&[commit]).unwrap();
        assert_eq!(consumer.committed(TOPIC, 3).unwrap().len(), 1);
    })
    .await
    .unwrap();
    handle.stop().await;

    let again = BrokerSettings::on_free_ports(dir.path());
    let handle = Broker::start(again, &daemon::Context::new("broker", "test")).await.unwrap();
    let settings = Settings::new(&handle.kafka().to_string(), "test");
    let found =
        tokio::task::spawn_blocking(move || Consumer::open(&settings, "g").unwrap().committed(TOPIC, 3).unwrap())
            .await
            .unwrap();
    assert_eq!(found, expected);
    handle.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_that_is_gone_is_an_error_and_never_a_jump() {
    // OFF-12
    let dir = tempfile::tempdir().unwrap();
    let (handle, settings) = broker(dir.path()).await;
    tokio::task::spawn_blocking(move || {
        send(&settings, 3);
        let consumer = Consumer::open(&settings, "g").unwrap();
        consumer
            .assign(&[Position { topic: TOPIC.to_owned(), partition: 0, offset: 500, metadata: String::new() }])
            .unwrap();
        let mut result = Ok(0);
        for _ in 0..20 {
            result = consumer.poll(10, Duration::from_millis(500), Duration::ZERO, |record| {
                panic!("read offset {}", record.offset())
            });
            if result.is_err() {
                break;
            }
        }
        assert!(matches!(result, Err(Error::OffsetOutOfRange { .. })), "{result:?}");
    })
    .await
    .unwrap();
    handle.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_sent_while_the_broker_is_away_arrive_once_when_it_is_back() {
    // REC-11: idempotent, retried for ever
    let dir = tempfile::tempdir().unwrap();
    let (handle, settings) = broker(dir.path()).await;
    let address = handle.kafka();
    let producer = Producer::open(&settings).unwrap();
    let first = producer.batch();
    first.send(TOPIC, 0, b"k", b"before", 1, &[]).unwrap();
    first.finish().done().await.unwrap();
    handle.stop().await;
    let second = producer.batch();
    for i in 0..50 {
        second.send(TOPIC, 0, b"k", format!("during-{i}").as_bytes(), 2 + i, &[]).unwrap();
    }
    let pending = second.finish();
    assert!(!pending.is_done());
    let again = BrokerSettings { listen: address, ..BrokerSettings::on_free_ports(dir.path()) };
    let handle = Broker::start(again, &daemon::Context::new("broker", "test")).await.unwrap();
    tokio::time::timeout(WAIT, pending.done()).await.expect("in time").expect("delivered");
    let end =
        tokio::task::spawn_blocking(move || Consumer::open(&settings, "g").unwrap().watermarks(TOPIC, 0).unwrap())
            .await
            .unwrap();
    assert_eq!(end, (0, 51));
    handle.stop().await;
}
