//! Disks that fail, fill up, stall or lose what was not synced.

use std::sync::Arc;
use std::time::Duration;

use commitlog::{Crash, SimVfs};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::FutureRecord;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::support::{PATIENCE, TestBroker, produce};

// F9, STR-03: an fsync that fails once is never tried again, its batch never acknowledged, and the broker ends
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_fsync_ends_the_broker_without_an_acknowledge() {
    let disk = SimVfs::new();
    let mut broker = TestBroker::start_on(Arc::new(disk.clone()), |_| ()).await;
    broker.create_topic("sure", 1, &[]).await;
    let producer = broker.producer(&[("message.timeout.ms", "2000"), ("enable.idempotence", "false")]);
    assert_eq!(produce(&producer, "sure", 0, "kept").await, 0);
    disk.fail_syncs(true);
    let record: FutureRecord<'_, str, str> = FutureRecord::to("sure").partition(0).payload("lost");
    let sent = tokio::join!(producer.send(record, PATIENCE), async {
        let ended = tokio::time::timeout(PATIENCE, broker.handle().ended()).await.unwrap();
        assert!(matches!(ended, Err(broker::Error::Storage { .. })), "{ended:?}");
        disk.heal(); // later syncs succeed: that proves nothing
    });
    assert!(sent.0.is_err(), "{:?}", sent.0);
    broker.restart_on(Arc::new(disk.crash(Crash::LoseUnsynced))).await;
    assert_eq!(broker.consumer(&[]).fetch_watermarks("sure", 0, PATIENCE).unwrap(), (0, 1));
    assert_eq!(broker.read("sure", 0, Offset::Beginning, 1).await[0].payload, "kept");
    assert_eq!(produce(&broker.producer(&[]), "sure", 0, "again").await, 1);
}

// I1, F6: power cuts that keep any part of what was not synced
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_power_cuts() {
    let disk = SimVfs::new();
    let mut broker = TestBroker::start_on(Arc::new(disk.clone()), |_| ()).await;
    broker.create_topic("dark", 2, &[]).await;
    let producer = broker.producer(&[]);
    for index in 0..40 {
        produce(&producer, "dark", index % 2, &index.to_string()).await;
    }
    let consumer = broker.consumer(&[("group.id", "dark")]);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("dark", 1, Offset::Offset(11)).unwrap();
    consumer.commit(&list, CommitMode::Sync).unwrap();
    drop((consumer, producer));
    for crash in [Crash::LoseUnsynced, Crash::KeepAll, Crash::Random(1), Crash::Random(2), Crash::Random(3)] {
        broker.restart_on(Arc::new(disk.crash(crash))).await;
        for partition in 0..2 {
            let seen = broker.read("dark", partition, Offset::Beginning, 20).await;
            let expected: Vec<String> = (0..20).map(|index| (2 * index + partition).to_string()).collect();
            assert_eq!(seen.into_iter().map(|record| record.payload).collect::<Vec<_>>(), expected, "{crash:?}");
        }
        let consumer = broker.consumer(&[("group.id", "dark")]);
        let mut asked = TopicPartitionList::new();
        asked.add_partition("dark", 1);
        assert_eq!(consumer.committed_offsets(asked, PATIENCE).unwrap().elements()[0].offset(), Offset::Offset(11));
    }
}

// STR-02, F13: nothing is acknowledged or shown before its sync, and others are served meanwhile
#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_disk_delays_acknowledges_and_nothing_else() {
    let disk = SimVfs::new();
    let broker = TestBroker::start_on(Arc::new(disk.clone()), |_| ()).await;
    broker.create_topic("slow", 1, &[]).await;
    let producer = broker.producer(&[]);
    assert_eq!(produce(&producer, "slow", 0, "first").await, 0);
    disk.hold_syncs(true);
    let mut tasks = tokio::task::JoinSet::new();
    let second = producer.clone();
    tasks.spawn(async move { produce(&second, "slow", 0, "second").await });
    let watched = disk.clone();
    let held = tokio::task::spawn_blocking(move || watched.wait_for_held_syncs(1, PATIENCE)).await.unwrap();
    assert!(held, "the sync has begun");
    let reader = broker.consumer(&[]);
    for _ in 0..3 {
        assert_eq!(reader.fetch_watermarks("slow", 0, PATIENCE).unwrap(), (0, 1), "not durable, so not there");
    }
    assert!(tokio::time::timeout(Duration::from_millis(1), tasks.join_next()).await.is_err(), "not acknowledged");
    disk.hold_syncs(false);
    assert_eq!(tokio::time::timeout(PATIENCE, tasks.join_all()).await.unwrap(), [1]);
    assert_eq!(reader.fetch_watermarks("slow", 0, PATIENCE).unwrap(), (0, 2));
}

// F10: a full disk is a retriable error, and passes
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_until_there_is_room_again() {
    let disk = SimVfs::new();
    let broker = TestBroker::start_on(Arc::new(disk.clone()), |settings| settings.reserve_bytes = 0).await;
    broker.create_topic("tight", 1, &[]).await;
    let producer = broker.producer(&[("message.timeout.ms", "1000"), ("enable.idempotence", "false")]);
    assert_eq!(produce(&producer, "tight", 0, "fits").await, 0);
    disk.set_capacity(Some(0));
    let record: FutureRecord<'_, str, str> = FutureRecord::to("tight").partition(0).payload("does not");
    let (error, _) = producer.send(record, PATIENCE).await.unwrap_err();
    assert_eq!(
        error,
        KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut),
        "retried until its time was up"
    );
    disk.set_capacity(None);
    let producer = broker.producer(&[]);
    let offset = produce(&producer, "tight", 0, "fits again").await;
    let seen = broker.read("tight", 0, Offset::Offset(offset), 1).await;
    assert_eq!(seen[0].payload, "fits again");
}
