//! B5 and B6: produce throughput of the broker against Apache Kafka, with the same client and the same settings.
//!
//! B5: both make every acknowledged record durable first (ours syncs before it acknowledges, Kafka runs with
//! `flush.messages=1`). B6: both acknowledge from the page cache. A slice fills one broker for some seconds and ends
//! when the last record is acknowledged; the count is taken from the ends of the partitions, not from what was sent.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use kafka::client::{Consumer, Settings, admin};
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use tempfile::TempDir;

use crate::gateway::{free_address, launch, linked, stop};
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
/// A JVM needs this long to compile what runs often.
const JVM_WARM_UP: Duration = Duration::from_secs(60);
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

/// Which of the two benchmarks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledge {
    AfterSync,
    FromCache,
}

struct Broker {
    child: Child,
    bootstrap: String,
    producer: ThreadedProducer<Deliveries>,
    deliveries: Arc<Counters>,
    ends: Consumer,
    random: Random,
    /// Removed with the broker.
    folder: TempDir,
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
    let Some(cache) = options.kafka.as_deref() else {
        say::line(&format!("not run: {id}, no folder for Kafka was given"));
        return Ok(Vec::new());
    };
    let script = options.folder.join("peers").join("kafka.sh");
    let installed = Command::new(&script).arg("install").arg(cache).output().context("cannot run kafka.sh")?;
    if !installed.status.success() {
        say::line(&format!("{} ({id})", String::from_utf8_lossy(&installed.stdout).trim()));
        return Ok(Vec::new());
    }

    let mut ours = Broker::ours(options, mode)?;
    let mut kafka = Broker::kafka(&script, cache, mode)?;
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
        .set("peer_program", "Apache Kafka 4.1.0, KRaft, 1 GiB heap, 60 s warm-up")
        .set("peer_topic", if mode == Acknowledge::AfterSync { "flush.messages=1" } else { "defaults" })
        .set("our_durability", durability(mode));
    for (key, value) in CLIENT {
        row = row.set(key, value);
    }
    row.acked = Some(ours.deliveries.acked.load(Ordering::Relaxed) - acked_before);
    row.delivered = row.acked; // every slice compares the two
    Ok(vec![row])
}

const fn durability(mode: Acknowledge) -> &'static str {
    match mode {
        Acknowledge::AfterSync => "synced",
        Acknowledge::FromCache => "buffered",
    }
}

impl Broker {
    fn ours(options: &Options, mode: Acknowledge) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("sf-bench-").tempdir()?;
        let address = free_address()?.to_string();
        let mut child = linked(&options.program)
            .args(["broker", "--durability", durability(mode), "--listen", &address])
            .args(["--registry-listen", &free_address()?.to_string(), "--data-dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        launch(&mut child)?;
        Self::connect(child, folder, address, &[])
    }

    fn kafka(script: &std::path::Path, cache: &std::path::Path, mode: Acknowledge) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("sf-bench-").tempdir()?;
        let (address, controller) = (free_address()?, free_address()?);
        let child = Command::new(script)
            .arg("run")
            .arg(cache)
            .arg(folder.path())
            .args([address.port().to_string(), controller.port().to_string()])
            .stdin(Stdio::null())
            .spawn()?;
        let flush = [("flush.messages".to_owned(), "1".to_owned())];
        let config: &[(String, String)] = if mode == Acknowledge::AfterSync { &flush } else { &[] };
        Self::connect(child, folder, address.to_string(), config)
    }

    /// Waits for the broker, makes the topic and a producer.
    fn connect(child: Child, folder: TempDir, bootstrap: String, config: &[(String, String)]) -> anyhow::Result<Self> {
        let settings = Settings::new(&bootstrap, "bench");
        let deliveries = Arc::new(Counters::default());
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &bootstrap);
        for (key, value) in CLIENT {
            client.set(key, value);
        }
        let producer = ThreadedProducer::from_config_and_context(&client, Deliveries(Arc::clone(&deliveries)))?;
        let ends = Consumer::open(&settings, "bench")?;
        let random = Random::new(1);
        let broker = Self { child, bootstrap, producer, deliveries, ends, random, folder };
        let plan = admin::TopicPlan { name: TOPIC.to_owned(), partitions: PARTITIONS, config: config.to_vec() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let made = clock::wait_until(Duration::from_secs(60), Duration::from_millis(500), || {
            runtime.block_on(admin::create_topics(&settings, std::slice::from_ref(&plan))).is_ok()
        });
        if !made {
            let log = fs::read_to_string(broker.folder.path().join("output.log")).unwrap_or_default();
            bail!("no broker at {}: {}", broker.bootstrap, log.lines().last().unwrap_or_default());
        }
        // a partition is announced before its leader answers for it
        if !clock::wait_until(Duration::from_secs(60), Duration::from_millis(500), || broker.records().is_ok()) {
            bail!("the broker at {} does not serve its new topic", broker.bootstrap);
        }
        Ok(broker)
    }

    /// Records in the topic.
    fn records(&self) -> anyhow::Result<u64> {
        let ends = self.ends.ends(&[(TOPIC, PARTITIONS)])?;
        Ok(ends.iter().map(|end| u64::try_from(end.offset).unwrap_or_default()).sum())
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
            bail!("{}: {acked} acknowledged, {failed} failed, {delivered} in the topic", self.bootstrap);
        }
        Ok(float(delivered) * float(VALUE_BYTES as u64) / 1e6 / seconds)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}
