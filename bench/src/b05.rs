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
const CLIENT: [(&str, &str); 8] = [
    ("acks", "all"),
    ("enable.idempotence", "true"),
    ("compression.codec", "none"),
    ("linger.ms", "5"),
    ("batch.size", "262144"),
    ("batch.num.messages", "10000"),
    ("queue.buffering.max.messages", "200000"),
    ("socket.nagle.disable", "true"),
];

struct Broker {
    node: Node,
    producer: ThreadedProducer<Deliveries>,
    deliveries: Arc<Counters>,
    ends: Consumer,
    random: Random,
}

#[derive(Debug, Default)]
struct Counters {
    acked: AtomicU64,
    failed: AtomicU64,
}

struct Deliveries(Arc<Counters>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() { &self.0.acked } else { &self.0.failed };
        counter.fetch_add(1, Ordering::Relaxed);
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
    let acked_before = ours.deliveries.acked.load(Ordering::Relaxed);
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
    row.acked = Some(ours.deliveries.acked.load(Ordering::Relaxed) - acked_before);
    row.delivered = row.acked; // every slice compares the two
    Ok(vec![row])
}

impl Broker {
    /// Makes the topic and a producer.
    fn connect(node: Node) -> anyhow::Result<Self> {
        node.topic(TOPIC, PARTITIONS, &[])?;
        let deliveries = Arc::new(Counters::default());
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", node.bootstrap());
        for (key, value) in CLIENT {
            client.set(key, value);
        }
        let producer = ThreadedProducer::from_config_and_context(&client, Deliveries(Arc::clone(&deliveries)))?;
        let ends = Consumer::open(&node.settings(), "bench")?;
        Ok(Self { node, producer, deliveries, ends, random: Random::new(1) })
    }

    fn records(&self) -> anyhow::Result<u64> {
        node::records(&self.ends, TOPIC, PARTITIONS)
    }

    /// MB of values per second, from the first record sent to the last one acknowledged.
    fn slice(&mut self) -> anyhow::Result<f64> {
        let (records_before, acked_before) = (self.records()?, self.deliveries.acked.load(Ordering::Relaxed));
        let mut value = [0_u8; VALUE_BYTES];
        let begin = clock::now();
        while begin.elapsed() < SLICE {
            for _ in 0..1000 {
                for piece in value.chunks_mut(8) {
                    piece.copy_from_slice(&self.random.draw().to_le_bytes()[..piece.len()]);
                }
                let key = (self.random.draw() % KEYS).to_le_bytes();
                let mut record = BaseRecord::to(TOPIC).key(&key[..]).payload(&value[..]);
                while let Err((error, back)) = self.producer.send(record) {
                    if !matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
                        return Err(error.into());
                    }
                    std::thread::sleep(Duration::from_millis(1));
                    record = back;
                }
            }
        }
        self.producer.flush(Duration::from_secs(60))?;
        let seconds = begin.elapsed().as_secs_f64();
        let acked = self.deliveries.acked.load(Ordering::Relaxed) - acked_before;
        let failed = self.deliveries.failed.load(Ordering::Relaxed);
        let delivered = self.records()? - records_before;
        if failed > 0 || acked != delivered {
            bail!("{}: {acked} acknowledged, {failed} failed, {delivered} in the topic", self.node.bootstrap());
        }
        Ok(float(delivered) * float(VALUE_BYTES as u64) / 1e6 / seconds)
    }
}
