//! B7: latency at a fixed rate, against Apache Kafka with the same client and the same durability.
//!
//! Open loop: 20 MB/s leave by a timetable, and every latency counts from the moment the timetable names, so a stall is
//! paid for by all records it held up. Two figures: p99 from intended to acknowledged, p99.9 from intended to consumed.
//! Lower is better. Both brokers run all the time; only the one whose slice it is has work.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::bail;
use hdrhistogram::Histogram;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::node::{self, Acknowledge, JVM_WARM_UP, Node, PEER};
use crate::noise::Guard;
use crate::record::Row;
use crate::slices::{self, Plan};
use crate::stats::Random;
use crate::{Options, clock, say};

const TOPIC: &str = "bench";
const PARTITIONS: i32 = 12;
const VALUE_BYTES: usize = 1000;
/// Records of one tick; with 1,000 bytes each and a tick of a millisecond that is 20 MB/s.
const TICK_RECORDS: u64 = 20;
const TICK: Duration = Duration::from_millis(1);
const SLICE_TICKS: u32 = 4_000;
/// How long the last records of a slice may take to be consumed.
const DRAIN_MAX: Duration = Duration::from_secs(30);
const CLIENT: [(&str, &str); 6] = [
    ("acks", "all"),
    ("enable.idempotence", "true"),
    ("compression.codec", "none"),
    ("linger.ms", "1"),
    ("batch.size", "262144"),
    ("socket.nagle.disable", "true"),
];

pub fn run(options: &Options) -> anyhow::Result<Vec<Row>> {
    let Some(peer) = node::kafka_script(options, "B7")? else { return Ok(Vec::new()) };
    let mode = Acknowledge::AfterSync;
    let mut ours = Lane::open(Node::ours(options, mode)?)?;
    let mut kafka = Lane::open(Node::kafka(&peer, mode)?)?;
    say::progress(&format!("warming Kafka up for {} s", JVM_WARM_UP.as_secs()));
    let begin = clock::now();
    while begin.elapsed() < JVM_WARM_UP {
        kafka.slice()?;
    }
    let plan = Plan { pairs: options.pairs.unwrap_or(10), warm_up_max: 3, guard: Guard::new(false), unit: "us" };
    let mut rows = Vec::new();
    for (name, figure) in [
        (
            "produce p99 at 20 MB/s / Kafka, every acknowledgement after fsync",
            Figures::acked_p99 as fn(&Figures) -> f64,
        ),
        ("end to end p99.9 at 20 MB/s / Kafka, every acknowledgement after fsync", Figures::consumed_p999),
    ] {
        let outcome = slices::paired(&plan, &mut || ours.slice().map(|figures| figure(&figures)), &mut || {
            kafka.slice().map(|figures| figure(&figures))
        })?;
        let row = Row::paired("B7", name, &options.commit, &outcome, "us");
        let row = CLIENT.iter().fold(row, |row, (key, value)| row.set(key, *value));
        rows.push(
            row.set("value_bytes", VALUE_BYTES)
                .set("records_per_s", TICK_RECORDS * 1000)
                .set("partitions", PARTITIONS)
                .set("slice_s", SLICE_TICKS / 1000)
                .set("peer_program", PEER)
                .set("peer_topic", mode.peer_topic())
                .set("lower", "is better"),
        );
    }
    Ok(rows)
}

/// Latencies of one slice, in microseconds.
struct Figures {
    acked: Histogram<u64>,
    consumed: Histogram<u64>,
}

impl Figures {
    fn acked_p99(&self) -> f64 {
        crate::stats::float(self.acked.value_at_quantile(0.99))
    }

    fn consumed_p999(&self) -> f64 {
        crate::stats::float(self.consumed.value_at_quantile(0.999))
    }
}

/// What callbacks and the consuming thread write into.
#[derive(Debug)]
struct Seen {
    /// Times on the wire count from here.
    base: Instant,
    acked: Mutex<Histogram<u64>>,
    consumed: Mutex<Histogram<u64>>,
    consumed_count: AtomicU64,
    failed: AtomicU64,
    stop: AtomicBool,
}

impl Seen {
    fn nanos(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn note(&self, into: &Mutex<Histogram<u64>>, intended: u64) {
        let micros = self.nanos().saturating_sub(intended) / 1000;
        into.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros.max(1));
    }
}

struct Deliveries(Arc<Seen>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    /// Intended time, in nanoseconds since the base.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, intended: usize) {
        if result.is_ok() {
            self.0.note(&self.0.acked, u64::try_from(intended).unwrap_or_default());
        } else {
            self.0.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One broker with a producer and a consumer that is always there.
struct Lane {
    node: Node,
    producer: ThreadedProducer<Deliveries>,
    seen: Arc<Seen>,
    consumer: Option<std::thread::JoinHandle<anyhow::Result<()>>>,
    sent: u64,
    random: Random,
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(60_000_000, 3)?)
}

impl Lane {
    fn open(node: Node) -> anyhow::Result<Self> {
        node.topic(TOPIC, PARTITIONS, &[])?;
        let seen = Arc::new(Seen {
            base: clock::now(),
            acked: Mutex::new(histogram()?),
            consumed: Mutex::new(histogram()?),
            consumed_count: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", node.bootstrap());
        let consumer: BaseConsumer = client
            .clone()
            .set("group.id", "bench")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "500")
            .create()?;
        let mut all = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            all.add_partition_offset(TOPIC, partition, Offset::Beginning)?;
        }
        consumer.assign(&all)?;
        let shared = Arc::clone(&seen);
        let consumer = std::thread::spawn(move || consume(&consumer, &shared));
        for (key, value) in CLIENT {
            client.set(key, value);
        }
        let producer = ThreadedProducer::from_config_and_context(&client, Deliveries(Arc::clone(&seen)))?;
        Ok(Self { node, producer, seen, consumer: Some(consumer), sent: 0, random: Random::new(1) })
    }

    /// Sends by the timetable and waits until the last record was consumed.
    fn slice(&mut self) -> anyhow::Result<Figures> {
        self.seen.acked.lock().unwrap_or_else(PoisonError::into_inner).reset();
        self.seen.consumed.lock().unwrap_or_else(PoisonError::into_inner).reset();
        let mut value = vec![0_u8; VALUE_BYTES];
        for piece in value.chunks_mut(8) {
            piece.copy_from_slice(&self.random.draw().to_le_bytes()[..piece.len()]);
        }
        let begin = clock::now();
        for tick in 1..=SLICE_TICKS {
            let due = begin + TICK * tick;
            if let Some(wait) = due.checked_duration_since(clock::now()) {
                std::thread::sleep(wait);
            }
            let intended = u64::try_from(due.duration_since(self.seen.base).as_nanos())?;
            value[..8].copy_from_slice(&intended.to_le_bytes());
            for _ in 0..TICK_RECORDS {
                let key = self.random.draw().to_le_bytes();
                let opaque = usize::try_from(intended)?;
                let record = BaseRecord::with_opaque_to(TOPIC, opaque).key(&key[..]).payload(&value[..]);
                if let Err((error, _)) = self.producer.send(record) {
                    bail!("{}: the timetable cannot be kept: {error}", self.node.bootstrap());
                }
                self.sent += 1;
            }
        }
        self.producer.flush(DRAIN_MAX)?;
        let sent = self.sent;
        let done = clock::wait_until(DRAIN_MAX, Duration::from_millis(5), || {
            self.seen.consumed_count.load(Ordering::Relaxed) >= sent
        });
        let failed = self.seen.failed.load(Ordering::Relaxed);
        if !done || failed > 0 {
            let consumed = self.seen.consumed_count.load(Ordering::Relaxed);
            bail!("{}: {sent} sent, {failed} failed, {consumed} consumed", self.node.bootstrap());
        }
        Ok(Figures {
            acked: self.seen.acked.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            consumed: self.seen.consumed.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        })
    }
}

fn consume(consumer: &BaseConsumer, seen: &Seen) -> anyhow::Result<()> {
    while !seen.stop.load(Ordering::Relaxed) {
        let Some(polled) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = polled?;
        let Some(first) = message.payload().and_then(|payload| payload.first_chunk::<8>()) else { continue };
        seen.note(&seen.consumed, u64::from_le_bytes(*first));
        seen.consumed_count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        if let Some(Ok(Err(error))) = self.consumer.take().map(std::thread::JoinHandle::join) {
            say::progress(&format!("the consumer ended early: {error}"));
        }
    }
}
