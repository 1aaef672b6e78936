//! Transactions as librdkafka's transactional producer and its readers of committed records see them.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use commitlog::{Crash, Fault, SimVfs};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::support::{PATIENCE, TestBroker, eventually, produce, take};

fn transactional(broker: &TestBroker, id: &str, extra: &[(&str, &str)]) -> FutureProducer {
    let mut config = vec![("transactional.id", id), ("retry.backoff.ms", "20"), ("reconnect.backoff.max.ms", "200")];
    config.extend_from_slice(extra);
    broker.producer(&config)
}

/// Runs what librdkafka does on the calling thread.
async fn blocking<T: Send + 'static>(
    producer: &FutureProducer,
    action: impl FnOnce(&FutureProducer) -> T + Send + 'static,
) -> T {
    let producer = producer.clone();
    tokio::task::spawn_blocking(move || action(&producer)).await.unwrap()
}

async fn initialised(broker: &TestBroker, id: &str, extra: &[(&str, &str)]) -> FutureProducer {
    let producer = transactional(broker, id, extra);
    blocking(&producer, |producer| producer.init_transactions(PATIENCE)).await.unwrap();
    producer
}

async fn commit(producer: &FutureProducer) -> Result<(), KafkaError> {
    blocking(producer, |producer| producer.commit_transaction(PATIENCE)).await
}

async fn abort(producer: &FutureProducer) -> Result<(), KafkaError> {
    blocking(producer, |producer| producer.abort_transaction(PATIENCE)).await
}

fn reader(broker: &TestBroker, topic: &str, isolation: &str) -> BaseConsumer {
    let consumer = broker.consumer(&[("isolation.level", isolation)]);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    consumer
}

async fn read(broker: &TestBroker, topic: &str, isolation: &str, count: usize) -> Vec<String> {
    let consumer = reader(broker, topic, isolation);
    let seen = tokio::task::spawn_blocking(move || take(&consumer, count)).await.unwrap();
    seen.into_iter().map(|record| record.payload).collect()
}

// STR-11: readers of committed records see what was committed, in order, and nothing that was aborted
#[tokio::test(flavor = "multi_thread")]
async fn committed_records_are_read_and_aborted_ones_are_not() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    let producer = initialised(&broker, "sink", &[]).await;
    for (number, commits) in [true, false, true, false, false, true].into_iter().enumerate() {
        producer.begin_transaction().unwrap();
        for part in ["a", "b"] {
            produce(&producer, "orders", 0, &format!("{number}{part}")).await;
        }
        if commits { commit(&producer).await.unwrap() } else { abort(&producer).await.unwrap() }
    }
    let committed = ["0a", "0b", "2a", "2b", "5a", "5b"];
    assert_eq!(read(&broker, "orders", "read_committed", 6).await, committed);
    assert_eq!(read(&broker, "orders", "read_uncommitted", 12).await.len(), 12);
}

// STR-11: the last stable offset holds readers of committed records back while a transaction is open, and wakes them
#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_holds_readers_back_until_it_ends() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    let producer = initialised(&broker, "sink", &[]).await;
    producer.begin_transaction().unwrap();
    produce(&producer, "orders", 0, "undecided").await;
    produce(&broker.producer(&[]), "orders", 0, "plain").await;
    assert_eq!(read(&broker, "orders", "read_uncommitted", 2).await, ["undecided", "plain"]);
    let waiting = reader(&broker, "orders", "read_committed");
    let waiting = tokio::task::spawn_blocking(move || {
        assert!(waiting.poll(Duration::from_millis(700)).is_none(), "nothing is decided");
        waiting
    });
    let waiting = waiting.await.unwrap();
    commit(&producer).await.unwrap();
    let seen = tokio::task::spawn_blocking(move || take(&waiting, 2)).await.unwrap();
    assert_eq!(seen.iter().map(|record| record.payload.as_str()).collect::<Vec<_>>(), ["undecided", "plain"]);
}

// STR-11, KIP-98: a successor takes the transactional id over; what its predecessor had open is aborted
#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_is_fenced() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    let zombie = initialised(&broker, "sink", &[]).await;
    zombie.begin_transaction().unwrap();
    produce(&zombie, "orders", 0, "lost").await;
    let successor = initialised(&broker, "sink", &[]).await;
    successor.begin_transaction().unwrap();
    produce(&successor, "orders", 0, "kept").await;
    let refused = commit(&zombie).await.unwrap_err();
    assert!(
        matches!(&refused, KafkaError::Transaction(error) if error.is_fatal()
            && matches!(error.code(), RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced
                | RDKafkaErrorCode::InvalidProducerEpoch | RDKafkaErrorCode::Fatal)),
        "{refused:?}"
    );
    commit(&successor).await.unwrap();
    assert_eq!(read(&broker, "orders", "read_committed", 1).await, ["kept"]);
}

// STR-11, I1: whatever a transaction was about when the broker died, it goes on or ends as it was decided
#[tokio::test(flavor = "multi_thread")]
async fn transactions_survive_crashes() {
    let mut broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    let producer = initialised(&broker, "sink", &[]).await;
    broker.crash_and_restart().await;
    producer.begin_transaction().unwrap();
    produce(&producer, "orders", 0, "0").await;
    broker.crash_and_restart().await;
    produce(&producer, "orders", 0, "1").await;
    commit(&producer).await.unwrap();
    broker.crash_and_restart().await;
    assert_eq!(read(&broker, "orders", "read_committed", 2).await, ["0", "1"]);
    producer.begin_transaction().unwrap();
    produce(&producer, "orders", 0, "2").await;
    broker.crash_and_restart().await;
    abort(&producer).await.unwrap();
    producer.begin_transaction().unwrap();
    produce(&producer, "orders", 0, "3").await;
    commit(&producer).await.unwrap();
    assert_eq!(read(&broker, "orders", "read_committed", 3).await, ["0", "1", "3"]);
}

// STR-11: a transaction that takes longer than its timeout is aborted, so that nobody waits for a dead producer
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_producer_is_aborted() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    let timeout = [("transaction.timeout.ms", "1000"), ("message.timeout.ms", "1000")];
    let silent = initialised(&broker, "sink", &timeout).await;
    silent.begin_transaction().unwrap();
    produce(&silent, "orders", 0, "undecided").await;
    produce(&broker.producer(&[]), "orders", 0, "plain").await;
    assert_eq!(read(&broker, "orders", "read_committed", 1).await, ["plain"]);
    assert!(commit(&silent).await.is_err());
}

// STR-11, STR-12: offsets count when their transaction is committed, and not before
#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_committed_with_their_transaction() {
    let mut broker = TestBroker::start().await;
    broker.create_topic("in", 1, &[]).await;
    produce(&broker.producer(&[]), "in", 0, "x").await;
    let producer = initialised(&broker, "sink", &[]).await;
    let offset = |broker: &TestBroker| {
        let consumer = broker.consumer(&[("group.id", "copy")]);
        async move {
            let mut list = TopicPartitionList::new();
            list.add_partition("in", 0);
            let found = tokio::task::spawn_blocking(move || consumer.committed_offsets(list, PATIENCE)).await.unwrap();
            found.unwrap().elements()[0].offset()
        }
    };
    for (value, commits) in [(1, false), (2, true)] {
        producer.begin_transaction().unwrap();
        let group = broker.consumer(&[("group.id", "copy")]);
        blocking(&producer, move |producer| {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset("in", 0, Offset::Offset(value)).unwrap();
            producer.send_offsets_to_transaction(&list, &group.group_metadata().unwrap(), PATIENCE)
        })
        .await
        .unwrap();
        if commits {
            broker.crash_and_restart().await;
            commit(&producer).await.unwrap();
        } else {
            abort(&producer).await.unwrap();
            assert_eq!(offset(&broker).await, Offset::Invalid);
        }
    }
    assert_eq!(offset(&broker).await, Offset::Offset(2));
    broker.crash_and_restart().await;
    eventually("the offset is there after a crash", async || offset(&broker).await == Offset::Offset(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_transactional_ids_write_side_by_side() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    let mut producers = Vec::new();
    for id in ["a", "b", "c"] {
        let producer = initialised(&broker, id, &[]).await;
        producer.begin_transaction().unwrap();
        producers.push((id, producer));
    }
    for (id, producer) in &producers {
        let record: FutureRecord<'_, str, str> = FutureRecord::to("orders").partition(0).payload(id);
        producer.send(record, PATIENCE).await.unwrap();
    }
    commit(&producers[2].1).await.unwrap();
    abort(&producers[0].1).await.unwrap();
    commit(&producers[1].1).await.unwrap();
    assert_eq!(read(&broker, "orders", "read_committed", 2).await, ["b", "c"]);
}

/// What a reader of committed records finds of the transaction after the crash: record by record, and the group's offset.
async fn outcome(broker: &TestBroker) -> [bool; 3] {
    let mut found = [false; 3];
    for partition in 0..2 {
        let consumer = broker.consumer(&[("isolation.level", "read_committed")]);
        eventually("nothing is undecided", async || {
            // offsets for readers of committed records end where something is undecided
            let committed = consumer.fetch_watermarks("orders", partition, PATIENCE).unwrap().1;
            committed == broker.consumer(&[]).fetch_watermarks("orders", partition, PATIENCE).unwrap().1
        })
        .await;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("orders", partition, Offset::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        // the record that was there before the transaction, and the one that was committed behind it
        let closing = blocking_take(consumer).await;
        found[usize::try_from(partition).unwrap()] = closing.contains(&"in it".to_owned());
    }
    let consumer = broker.consumer(&[("group.id", "sink")]);
    let mut asked = TopicPartitionList::new();
    asked.add_partition("orders", 0);
    found[2] = consumer.committed_offsets(asked, PATIENCE).unwrap().elements()[0].offset() == Offset::Offset(1);
    found
}

/// Reads until the record that closes the topic.
async fn blocking_take(consumer: BaseConsumer) -> Vec<String> {
    tokio::task::spawn_blocking(move || {
        let mut seen = Vec::new();
        while seen.last().is_none_or(|last| last != "after it") {
            seen.extend(take(&consumer, 1).into_iter().map(|record| record.payload));
        }
        seen
    })
    .await
    .unwrap()
}

/// A transaction that writes to two partitions and commits an offset, whose commit meets a power cut at its `nth` disk
/// operation; false when the commit was through before.
async fn power_cut_at(nth: u64) -> bool {
    let disk = SimVfs::new();
    let mut broker = TestBroker::start_on(Arc::new(disk.clone()), |_| ()).await;
    broker.create_topic("orders", 2, &[]).await;
    let producer = initialised(&broker, "sink", &[]).await;
    producer.begin_transaction().unwrap();
    produce(&producer, "orders", 0, "in it").await;
    produce(&producer, "orders", 1, "in it").await;
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset("orders", 0, Offset::Offset(1)).unwrap();
    let group = broker.consumer(&[("group.id", "sink")]).group_metadata().unwrap();
    let add = move |producer: &FutureProducer| producer.send_offsets_to_transaction(&offsets, &group, PATIENCE);
    blocking(&producer, add).await.unwrap();

    let begun = disk.calls();
    disk.fail_call(nth, Fault::PowerCut);
    let hit = || disk.calls() >= begun + nth;
    let crash = [Crash::LoseUnsynced, Crash::KeepAll, Crash::Random(nth)][usize::try_from(nth % 3).unwrap()];
    let through = Cell::new(false);
    let committing = async {
        let reported = commit(&producer).await;
        through.set(true);
        reported
    };
    let cutting = async {
        eventually("the power goes, or the commit is through", async || hit() || through.get()).await;
        let met = hit();
        // the commit goes on asking meanwhile
        broker.restart_on(Arc::new(disk.crash(crash))).await;
        met
    };
    let (reported, met) = tokio::join!(committing, cutting);
    assert_eq!(reported, Ok(()), "operation {nth}, {crash:?}: a producer hears of a broker that is away, and waits");
    let plain = broker.producer(&[]);
    produce(&plain, "orders", 0, "after it").await;
    produce(&plain, "orders", 1, "after it").await;
    let found = outcome(&broker).await;
    assert_eq!(found, [true; 3], "operation {nth}, {crash:?}");
    met
}

// STR-11, I1, F1, F6: the power goes at every single disk operation of a commit, between the decision and each of its
// markers too; the producer goes on when the broker is back, and its transaction is there, whole and once
#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_at_any_point_of_a_commit_leaves_it_whole() {
    for begin in (1..).step_by(6) {
        let met = tokio::join!(
            power_cut_at(begin),
            power_cut_at(begin + 1),
            power_cut_at(begin + 2),
            power_cut_at(begin + 3),
            power_cut_at(begin + 4),
            power_cut_at(begin + 5),
        );
        if !met.5 {
            assert!(begin > 6, "the cuts met hardly anything: {met:?}");
            return;
        }
    }
}
