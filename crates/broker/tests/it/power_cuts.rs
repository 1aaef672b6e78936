//! The power goes at random moments under load of an idempotent producer, and any part of what was not synced is gone: what
//! was acknowledged is there once, in order, at the offset that the acknowledge named (I1, I2, I9, F6).
//!
//! `SF_POWER_CUTS=1000 cargo test -p broker --test it power_cuts` is the long run; `SF_SEED` repeats its random choices.
//! `crates/streamforge/tests/it/broker_kills.rs` does the same to a process on a real disk with `kill -9`.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use commitlog::{Crash, Fault, SimVfs};
use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::Offset;

use crate::support::{PATIENCE, TestBroker, eventually};

const TOPIC: &str = "dark";
const PARTITIONS: i32 = 3;
/// Calls to the disk among which the power goes: some hundred records in this load.
const CALLS: u64 = 150;
/// Records that the load may go on by at a time, per partition. However slow the machine is, a round does not fill the disk.
const RECORDS_AT_ONCE: u64 = 15;
/// Calls that a start makes, about: the power may go again meanwhile.
const CALLS_OF_A_START: u64 = 80;

/// What the producer was told: offsets by the number of the record, one map for each partition.
#[derive(Debug)]
struct Ledger {
    acknowledged: Mutex<Vec<BTreeMap<u64, i64>>>,
    refused: Mutex<Vec<String>>,
}

struct Context(Arc<Ledger>);

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        // a broker that is gone is what this is about; a producer that has given up is not
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

/// Small pseudo-random sequence.
struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn payload(partition: i32, number: u64) -> String {
    // some are longer than a sector; all together stay small, since each cut copies the whole disk
    let length = if number.is_multiple_of(16) { 600 } else { number * 37 % 100 };
    format!("{partition}/{number}/{}", "x".repeat(usize::try_from(length).unwrap()))
}

/// Sends numbered records below `allowed` until told to stop; returns how many went to each partition.
fn load(producer: &ThreadedProducer<Context>, allowed: &AtomicU64, stop: &AtomicBool) -> u64 {
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        if number >= allowed.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        for partition in 0..PARTITIONS {
            let text = payload(partition, number);
            let mut record = BaseRecord::<str, str, Box<u64>>::with_opaque_to(TOPIC, Box::new(number))
                .partition(partition)
                .payload(&text);
            // a full queue is back-pressure while the power is off
            while let Err((_, unsent)) = producer.send(record) {
                record = unsent;
                thread::sleep(Duration::from_millis(5));
            }
        }
        number += 1;
        thread::sleep(Duration::from_millis(1));
    }
    number
}

/// What the machine finds that starts again: any part of what was not synced.
fn after(disk: &SimVfs, random: &mut Random) -> SimVfs {
    disk.crash(match random.below(4) {
        0 => Crash::LoseUnsynced,
        _ => Crash::Random(random.below(u64::MAX)),
    })
}

/// Starts the broker on what is left, while the power may go again and again.
async fn start_again(broker: &mut TestBroker, mut disk: SimVfs, random: &mut Random, cuts: &mut u64) -> SimVfs {
    loop {
        if random.below(4) == 0 {
            disk.fail_call(1 + random.below(CALLS_OF_A_START), Fault::PowerCut);
        }
        match broker.try_restart_on(Arc::new(disk.clone())).await {
            // it may go right after the start as well: the next wait sees it
            Ok(()) => return disk,
            Err(error) => {
                assert!(disk.power_is_off(), "the broker does not start: {}", daemon::report(&error));
                *cuts += 1;
                disk = after(&disk, random);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_doubled_or_moved_by_power_cuts() {
    let rounds = number("SF_POWER_CUTS").unwrap_or(20);
    let seed = number("SF_SEED").unwrap_or_else(|| RandomState::new().build_hasher().finish());
    println!("power_cuts: SF_SEED={seed}");
    let (mut random, mut cuts) = (Random(seed), 0);
    let mut disk = SimVfs::new();
    let mut broker = TestBroker::start_on(Arc::new(disk.clone()), |_| ()).await;
    broker.create_topic(TOPIC, PARTITIONS, &[("segment.bytes", "65536")]).await;

    let ledger = Arc::new(Ledger {
        acknowledged: Mutex::new(vec![BTreeMap::new(); usize::try_from(PARTITIONS).unwrap()]),
        refused: Mutex::default(),
    });
    let mut config = broker.client();
    for (name, value) in [
        ("enable.idempotence", "true"),
        ("message.timeout.ms", "0"),
        ("linger.ms", "2"),
        ("retry.backoff.ms", "20"),
        ("reconnect.backoff.ms", "10"),
        ("reconnect.backoff.max.ms", "50"),
        ("queue.buffering.max.messages", "500"),
    ] {
        config.set(name, value);
    }
    let producer = ThreadedProducer::from_config_and_context(&config, Context(Arc::clone(&ledger))).unwrap();
    let (producer, stop) = (Arc::new(producer), Arc::new(AtomicBool::new(false)));
    let allowed = Arc::new(AtomicU64::new(0));
    let sender = {
        let (producer, allowed, stop) = (Arc::clone(&producer), Arc::clone(&allowed), Arc::clone(&stop));
        thread::spawn(move || load(&producer, &allowed, &stop))
    };
    let more = || allowed.fetch_add(RECORDS_AT_ONCE, Ordering::SeqCst);
    let acknowledged = || ledger.acknowledged.lock().unwrap().iter().map(BTreeMap::len).sum::<usize>();
    for round in 1..=rounds {
        let seen = acknowledged();
        more();
        eventually("records are acknowledged again", async || acknowledged() > seen || disk.power_is_off()).await;
        let refused = ledger.refused.lock().unwrap().clone();
        assert!(refused.is_empty(), "after {cuts} cuts: {refused:?}");
        disk.fail_call(1 + random.below(CALLS), Fault::PowerCut);
        eventually("the power goes", async || {
            more();
            disk.power_is_off()
        })
        .await;
        cuts += 1;
        disk = after(&disk, &mut random);
        disk = start_again(&mut broker, disk, &mut random, &mut cuts).await;
        if round.is_multiple_of(100) {
            println!("power_cuts: {cuts} cuts");
        }
    }
    disk.heal();
    if disk.power_is_off() {
        broker.restart_on(Arc::new(after(&disk, &mut random))).await;
    }
    stop.store(true, Ordering::SeqCst);
    let sent = sender.join().unwrap();
    let flushed = Arc::clone(&producer);
    tokio::task::spawn_blocking(move || flushed.flush(PATIENCE)).await.unwrap().unwrap();
    assert_eq!(*ledger.refused.lock().unwrap(), Vec::<String>::new());
    let acknowledged = ledger.acknowledged.lock().unwrap().clone();
    let mut records = 0;
    for (partition, acknowledged) in (0..PARTITIONS).zip(acknowledged) {
        assert_eq!(u64::try_from(acknowledged.len()).unwrap(), sent, "all of partition {partition} is acknowledged");
        let (start, end) = broker.consumer(&[]).fetch_watermarks(TOPIC, partition, PATIENCE).unwrap();
        assert_eq!((start, end), (0, i64::try_from(sent).unwrap()), "partition {partition} holds each record once");
        let stored = broker.read(TOPIC, partition, Offset::Beginning, acknowledged.len()).await;
        for ((number, expected), record) in (0_u64..).zip(0_i64..).zip(&stored) {
            assert_eq!(record.offset, expected, "offsets of partition {partition} have no holes");
            assert_eq!(record.payload, payload(partition, number), "offset {expected} of partition {partition}");
            // an acknowledge of a retry may not know the offset any more
            let named = acknowledged[&number];
            assert!(
                named == expected || named < 0,
                "record {number} of partition {partition} was acknowledged at {named}"
            );
        }
        records += stored.len();
    }
    println!("power_cuts: {cuts} cuts, {records} records, each there once and in order");
}
