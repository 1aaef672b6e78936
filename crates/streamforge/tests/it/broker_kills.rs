//! `kill -9` of the broker at random moments under load of an idempotent producer: what was acknowledged is there once, in
//! order, at the offset that the acknowledge named (I1, I2, F1).
//!
//! `SF_BROKER_KILLS=1000 cargo test -p streamforge --test it broker_kills` is the long run.

#![expect(clippy::unwrap_used, reason = "also in the helpers of the tests a panic is the report")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientConfig, config::FromClientConfigAndContext};
use tokio::time::Instant;

use crate::harness::{Broker, Random, number, say, wait_for};

const TOPIC: &str = "kills";
const PARTITIONS: i32 = 3;
/// Longest wait for the producer to get rid of what it holds, and for a reader.
const PATIENCE: Duration = Duration::from_secs(120);

/// Offsets by the number of the record, as acknowledged; one map for each partition.
type Acknowledged = Vec<BTreeMap<u64, i64>>;

#[derive(Debug)]
struct Ledger {
    acknowledged: Mutex<Acknowledged>,
    refused: Mutex<Vec<String>>,
}

/// What the producer reports to.
struct Context(Arc<Ledger>);

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        // A broker that is gone is what this is about; a producer that has given up is not.
        if error.to_string().contains("Fatal") || reason.contains("fatal") {
            self.0.refused.lock().unwrap().push(format!("{error}: {reason}"));
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<u64>) {
        match result {
            Ok(message) => {
                let partition = usize::try_from(message.partition()).unwrap();
                let before = self.0.acknowledged.lock().unwrap()[partition].insert(*number, message.offset());
                assert_eq!(before, None, "record {number} of partition {partition} is acknowledged once");
            }
            Err((error, _)) => self.0.refused.lock().unwrap().push(format!("record {number}: {error}")),
        }
    }
}

fn payload(partition: i32, number: u64) -> String {
    format!("{partition}/{number}/{}", "x".repeat(usize::try_from(number % 300).unwrap()))
}

/// Sends numbered records until told to stop; returns how many went to each partition.
fn load(producer: &ThreadedProducer<Context>, stop: &AtomicBool) -> u64 {
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        for partition in 0..PARTITIONS {
            let text = payload(partition, number);
            let mut record = BaseRecord::<str, str, Box<u64>>::with_opaque_to(TOPIC, Box::new(number))
                .partition(partition)
                .payload(&text);
            // A full queue is back-pressure while the broker is away.
            while let Err((_, unsent)) = producer.send(record) {
                record = unsent;
                thread::sleep(Duration::from_millis(5));
            }
        }
        number += 1;
        if number % 8 == 0 {
            thread::sleep(Duration::from_millis(2));
        }
    }
    number
}

fn client(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address)
        .set("broker.address.family", "v4")
        .set("reconnect.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "100");
    config
}

/// Everything a reader finds in a partition: offset and payload.
fn stored(address: &str, partition: i32) -> Vec<(i64, String)> {
    let consumer: BaseConsumer = client(address)
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .create()
        .unwrap();
    let (start, end) = consumer.fetch_watermarks(TOPIC, partition, PATIENCE).unwrap();
    assert_eq!(start, 0);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(TOPIC, partition, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut found = Vec::new();
    while i64::try_from(found.len()).unwrap() < end {
        assert!(Instant::now() < deadline, "{} of {end} records of partition {partition}", found.len());
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            let payload = String::from_utf8(message.payload().unwrap_or_default().to_vec()).unwrap();
            found.push((message.offset(), payload));
        }
    }
    found
}

// I1, I2, F1, STR-04, STR-11
#[test]
fn nothing_acknowledged_is_lost_doubled_or_moved_by_killing_the_broker() {
    let kills = number("SF_BROKER_KILLS", 20);
    let mut random = Random::new("broker_kills");
    let mut broker = Broker::start_on_a_fixed_port();
    let address = broker.address("kafka");
    let create = ["topics", "create", TOPIC, "--partitions", "3", "--set", "segment.bytes=262144", "--execute"];
    broker.ctl(&create).lines();

    let ledger = Arc::new(Ledger {
        acknowledged: Mutex::new(vec![BTreeMap::new(); usize::try_from(PARTITIONS).unwrap()]),
        refused: Mutex::default(),
    });
    let mut config = client(&address);
    config
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "0")
        .set("linger.ms", "2")
        .set("retry.backoff.ms", "20")
        .set("queue.buffering.max.messages", "20000")
        .set("socket.timeout.ms", "10000");
    let producer = ThreadedProducer::from_config_and_context(&config, Context(Arc::clone(&ledger))).unwrap();
    let (producer, stop) = (Arc::new(producer), Arc::new(AtomicBool::new(false)));
    let sender = {
        let (producer, stop) = (Arc::clone(&producer), Arc::clone(&stop));
        thread::spawn(move || load(&producer, &stop))
    };
    for kill in 1..=kills {
        let seen = ledger.acknowledged.lock().unwrap()[0].len();
        wait_for("records are acknowledged again", PATIENCE, || {
            let refused = ledger.refused.lock().unwrap().clone();
            assert!(refused.is_empty(), "after {} kills: {refused:?}", kill - 1);
            let now = ledger.acknowledged.lock().unwrap()[0].len();
            if now > seen + 5 { Ok(()) } else { Err(format!("{now} are")) }
        });
        thread::sleep(Duration::from_millis(random.below(150)));
        broker.kill();
        if random.below(4) == 0 {
            // recovery is a moment like any other
            broker.spawn();
            thread::sleep(Duration::from_millis(random.below(25)));
            broker.kill();
        }
        broker.start_again();
        if kill % 100 == 0 {
            say(&format!("{kill} kills"));
        }
    }
    stop.store(true, Ordering::SeqCst);
    let sent = sender.join().unwrap();
    producer.flush(PATIENCE).unwrap();
    assert_eq!(*ledger.refused.lock().unwrap(), Vec::<String>::new());
    let acknowledged = ledger.acknowledged.lock().unwrap();
    let mut records = 0;
    for (partition, acknowledged) in (0..PARTITIONS).zip(acknowledged.iter()) {
        let stored = stored(&address, partition);
        assert_eq!(u64::try_from(acknowledged.len()).unwrap(), sent, "all of partition {partition} is acknowledged");
        for ((number, expected), (offset, text)) in (0_u64..).zip(0_i64..).zip(&stored) {
            assert_eq!(*offset, expected, "offsets of partition {partition} have no holes");
            assert_eq!(*text, payload(partition, number), "offset {offset} of partition {partition}");
            // an acknowledge of a retry may not know the offset any more
            let named = acknowledged[&number];
            assert!(
                named == *offset || named < 0,
                "record {number} of partition {partition} was acknowledged at {named}"
            );
        }
        assert_eq!(u64::try_from(stored.len()).unwrap(), sent, "partition {partition} holds each record once");
        records += stored.len();
    }
    say(&format!("broker_kills: {kills} kills, {records} records, each there once and in order"));
}
