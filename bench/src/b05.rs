//! B5 and B6: produce throughput of the broker against Apache Kafka, with the same client and the same settings.
//!
//! B5: both make every acknowledged record durable first (ours syncs before it acknowledges, Kafka runs with
//! `flush.messages=1`). B6: both acknowledge from the page cache. A slice fills one broker for some seconds and ends
//! when the last record is acknowledged; the count is taken from the ends of the partitions, not from what was sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::bail;
use kafka::client::Consumer;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use crate::node::{self, Acknowledge, JVM_WARM_UP, Node, PEER};
use crate::noise::Guard;
use crate::produce::Writer;
use crate::record::Row;
use crate::slices::{self, Plan};
use crate::stats::{Random, float};
use crate::{Options, clock, say};

const TOPIC: &str = "bench";
const PARTITIONS: i32 = 12;
const VALUE_BYTES: usize = 90;
const KEYS: u64 = 10_000;
const SLICE: Duration = Duration::from_secs(2);
/// The client's settings, the same for both.
const CLIENT: [(&str, &str); 9] = [
    ("acks", "all"),
    ("enable.idempotence", "true"),
    ("compression.codec", "none"),
    ("linger.ms", "5"),
    ("batch.size", "262144"),
    ("batch.num.messages", "10000"),
    ("queue.buffering.max.messages", "200000"),
    ("socket.nagle.disable", "true"),
    // a report for each record would make the client the slowest part; what arrived is counted in the topic
    ("delivery.report.only.error", "true"),
];
/// Keys and values are drawn before anything is measured, for the same reason.
const DRAWN: usize = 1 << 14;
/// A broker that is not held back by its client writes up to a gigabyte a second: no slice may fill the disk.
const READY_SLICE: Duration = Duration::from_millis(500);
/// Records of a ready-made batch: some 60 KB.
const BATCH_RECORDS: usize = 600;

struct Broker {
    node: Node,
    writer: Writer,
    producer: ThreadedProducer<Deliveries>,
    failed: Arc<AtomicU64>,
    ends: Consumer,
    records: Vec<([u8; 8], [u8; VALUE_BYTES])>,
    next: usize,
    delivered: u64,
}

/// Counts the records that were not delivered.
struct Deliveries(Arc<AtomicU64>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.0.fetch_add(u64::from(result.is_err()), Ordering::Relaxed);
    }
}

/// Runs one of the two; empty when a peer is missing, which is said aloud.
pub fn run(options: &Options, mode: Acknowledge) -> anyhow::Result<Vec<Row>> {
    let id = if mode == Acknowledge::AfterSync { "B5" } else { "B6" };
    let Some(peer) = node::kafka_script(options, id)? else { return Ok(Vec::new()) };
    let mut ours = Broker::connect(Node::ours(options, mode)?)?;
    let mut kafka = Broker::connect(Node::kafka(&peer, mode)?)?;
    say::progress(&format!("warming Kafka up for {} s", JVM_WARM_UP.as_secs()));
    let begin = clock::now();
    while begin.elapsed() < JVM_WARM_UP {
        kafka.slice()?;
    }
    ours.delivered = 0;
    let plan = Plan { pairs: options.pairs.unwrap_or(12), warm_up_max: 8, guard: Guard::new(false), unit: "MB/s" };
    let outcome = slices::paired(&plan, &mut || ours.slice(), &mut || kafka.slice())?;
    let name = match mode {
        Acknowledge::AfterSync => "produce MB/s / Kafka, every acknowledgement after fsync",
        Acknowledge::FromCache => "produce MB/s / Kafka, acknowledgements from the page cache",
    };
    let mut row = Row::paired(id, name, &options.commit, &outcome, "MB/s")
        .set("value_bytes", VALUE_BYTES)
        .set("keys", KEYS)
        .set("partitions", PARTITIONS)
        .set("slice_ms", u64::try_from(SLICE.as_millis())?)
        .set("client", format!("librdkafka {}", rdkafka::util::get_rdkafka_version().1))
        .set("peer_program", PEER)
        .set("peer_topic", mode.peer_topic())
        .set("our_durability", mode.durability());
    for (key, value) in CLIENT {
        row = row.set(key, value);
    }
    row.delivered = Some(ours.delivered); // every slice compares it with what was sent
    row.acked = row.delivered;
    ours.delivered = 0;
    let outcome = slices::paired(&plan, &mut || ours.ready_slice(), &mut || kafka.ready_slice())?;
    let mut ready = Row::paired(id, format!("{name}, by ready-made batches"), &options.commit, &outcome, "MB/s")
        .set("value_bytes", VALUE_BYTES)
        .set("partitions", PARTITIONS)
        .set("batch_records", BATCH_RECORDS)
        .set("slice_ms", u64::try_from(READY_SLICE.as_millis())?)
        .set("client", "one connection, 5 requests under way, a batch for each partition in each")
        .set("peer_program", PEER)
        .set("peer_topic", mode.peer_topic())
        .set("our_durability", mode.durability());
    ready.delivered = Some(ours.delivered);
    ready.acked = ready.delivered;
    Ok(vec![row, ready])
}

impl Broker {
    /// Makes the topic and a producer.
    fn connect(node: Node) -> anyhow::Result<Self> {
        node.topic(TOPIC, PARTITIONS, &[])?;
        let failed = Arc::new(AtomicU64::new(0));
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", node.bootstrap());
        for (key, value) in CLIENT {
            client.set(key, value);
        }
        let producer = ThreadedProducer::from_config_and_context(&client, Deliveries(Arc::clone(&failed)))?;
        let ends = Consumer::open(&node.settings(), "bench")?;
        let mut random = Random::new(1);
        let mut draw = || {
            let mut value = [0; VALUE_BYTES];
            for piece in value.chunks_mut(8) {
                piece.copy_from_slice(&random.draw().to_le_bytes()[..piece.len()]);
            }
            ((random.draw() % KEYS).to_le_bytes(), value)
        };
        let records: Vec<_> = std::iter::repeat_with(&mut draw).take(DRAWN).collect();
        let writer = Writer::open(node.address, TOPIC, PARTITIONS, &records[..BATCH_RECORDS])?;
        Ok(Self { node, writer, producer, failed, ends, records, next: 0, delivered: 0 })
    }

    fn records(&self) -> anyhow::Result<u64> {
        node::records(&self.ends, TOPIC, PARTITIONS)
    }

    /// MB of values per second, from the first record sent to the last one acknowledged.
    fn slice(&mut self) -> anyhow::Result<f64> {
        let before = self.records()?;
        let mut sent = 0_u64;
        let begin = clock::now();
        while begin.elapsed() < SLICE {
            for _ in 0..1000 {
                self.next = (self.next + 1) % DRAWN;
                let (key, value) = &self.records[self.next];
                let mut record = BaseRecord::to(TOPIC).key(&key[..]).payload(&value[..]);
                while let Err((error, back)) = self.producer.send(record) {
                    if !matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
                        return Err(error.into());
                    }
                    std::thread::sleep(Duration::from_millis(1));
                    record = back;
                }
                sent += 1;
            }
        }
        self.producer.flush(Duration::from_secs(60))?;
        let seconds = begin.elapsed().as_secs_f64();
        let failed = self.failed.load(Ordering::Relaxed);
        let delivered = self.records()? - before;
        if failed > 0 || sent != delivered {
            bail!("{}: {sent} sent, {failed} failed, {delivered} in the topic", self.node.bootstrap());
        }
        self.delivered += delivered;
        Ok(float(delivered) * float(VALUE_BYTES as u64) / 1e6 / seconds)
    }

    /// The same with batches that were made before, so that hardly anything is left but the broker.
    fn ready_slice(&mut self) -> anyhow::Result<f64> {
        let before = self.records()?;
        let begin = clock::now();
        let sent = self.writer.send_while(|| begin.elapsed() < READY_SLICE)?;
        let seconds = begin.elapsed().as_secs_f64();
        let delivered = self.records()? - before;
        if sent != delivered {
            bail!("{}: {sent} acknowledged, {delivered} in the topic", self.node.bootstrap());
        }
        self.delivered += delivered;
        Ok(float(delivered) * float(VALUE_BYTES as u64) / 1e6 / seconds)
    }
}
