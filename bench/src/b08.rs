//! B8: consuming. Catch-up speed against a bare loopback stream; while something is being produced, and from a cold page
//! cache, against Apache Kafka.
//!
//! The consumer only fetches (`consume.rs`), one connection, what clients ask for by default: 1 MiB per partition. The
//! topic holds 1 KiB records in batches of up to 1 MB, 12 partitions.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::bail;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use crate::consume::Reader;
use crate::node::{self, Acknowledge, JVM_WARM_UP, Node, PEER};
use crate::noise::Guard;
use crate::record::Row;
use crate::slices::{self, Outcome, Plan};
use crate::stats::{Random, float};
use crate::{Options, clock, say, stats};

const TOPIC: &str = "bench";
const BUSY_TOPIC: &str = "busy";
const PARTITIONS: i32 = 12;
const VALUE_BYTES: usize = 1024;
/// Records in the topic: 1 GiB of values.
const RECORDS: u64 = 1024 * 1024;
const SLICE: Duration = Duration::from_millis(1500);
/// Records a millisecond while something is produced: 20 MB/s.
const BUSY_RECORDS: u64 = 20;
const BUSY_VALUE_BYTES: usize = 1000;
const CLIENT: [(&str, &str); 5] = [
    ("acks", "all"),
    ("compression.codec", "none"),
    ("linger.ms", "5"),
    ("batch.size", "1000000"),
    ("queue.buffering.max.messages", "200000"),
];

pub fn run(options: &Options) -> anyhow::Result<Vec<Row>> {
    let mode = Acknowledge::AfterSync;
    let mut ours = Filled::open(Node::ours(options, mode)?)?;
    let mut probe = Probe::open()?;
    let plan = Plan { pairs: options.pairs.unwrap_or(12), warm_up_max: 6, guard: Guard::new(false), unit: "MB/s" };
    let outcome = slices::paired(&plan, &mut || ours.read(), &mut || probe.read())?;
    let mut rows = vec![row("consume MB/s, warm cache / a loopback stream", options, &outcome)];
    let Some(peer) = node::kafka_script(options, "B8")? else { return Ok(rows) };
    let mut kafka = Filled::open(Node::kafka(&peer, mode)?)?;
    say::progress(&format!("warming Kafka up for {} s", JVM_WARM_UP.as_secs()));
    let begin = clock::now();
    while begin.elapsed() < JVM_WARM_UP {
        kafka.read_while_producing()?;
    }
    kafka.produced.clear();
    let outcome = slices::paired(&plan, &mut || ours.read_while_producing(), &mut || kafka.read_while_producing())?;
    say::progress(&format!("produced meanwhile: ours {:.1}, peer {:.1} MB/s", ours.produced(), kafka.produced()));
    let busy = row("consume MB/s while 20 MB/s are produced / Kafka", options, &outcome);
    let busy = busy.set("produced_mb_s", ours.produced()).set("peer_produced_mb_s", kafka.produced());
    rows.push(busy.set("peer_program", PEER).set("peer_topic", mode.peer_topic()));
    let outcome = slices::paired(&plan, &mut || ours.read(), &mut || kafka.read())?;
    rows.push(row("consume MB/s, warm cache / Kafka", options, &outcome).set("peer_program", PEER));
    let outcome = slices::paired(&plan, &mut || ours.read_cold(), &mut || kafka.read_cold())?;
    rows.push(row("consume MB/s, cold cache / Kafka", options, &outcome).set("peer_program", PEER));
    Ok(rows)
}

fn row(name: &str, options: &Options, outcome: &Outcome) -> Row {
    Row::paired("B8", name, &options.commit, outcome, "MB/s")
        .set("value_bytes", VALUE_BYTES)
        .set("partitions", PARTITIONS)
        .set("topic_mb", RECORDS * VALUE_BYTES as u64 / 1_000_000)
        .set("fetch", "1 MiB per partition, 50 MiB in all, one connection")
}

/// Counts the records that were acknowledged.
struct Deliveries(Arc<AtomicU64>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.0.fetch_add(u64::from(result.is_ok()), Ordering::Relaxed);
    }
}

/// A broker with a full topic.
struct Filled {
    node: Node,
    reader: Reader,
    producer: ThreadedProducer<Deliveries>,
    acknowledged: Arc<AtomicU64>,
    /// MB/s that were acknowledged while somebody read, slice by slice: the other half of that measurement.
    produced: Vec<f64>,
    random: Random,
}

impl Filled {
    fn open(node: Node) -> anyhow::Result<Self> {
        node.topic(TOPIC, PARTITIONS, &[])?;
        node.topic(BUSY_TOPIC, PARTITIONS, &[])?;
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", node.bootstrap());
        for (key, value) in CLIENT {
            client.set(key, value);
        }
        let acknowledged = Arc::new(AtomicU64::new(0));
        let producer = ThreadedProducer::from_config_and_context(&client, Deliveries(Arc::clone(&acknowledged)))?;
        let reader = Reader::open(node.address, TOPIC, usize::try_from(PARTITIONS)?)?;
        let random = Random::new(1);
        let mut filled = Self { node, reader, producer, acknowledged, produced: Vec::new(), random };
        say::progress(&format!("filling the topic of {}", filled.node.bootstrap()));
        filled.send(TOPIC, RECORDS)?;
        filled.producer.flush(Duration::from_secs(120))?;
        Ok(filled)
    }

    fn send(&mut self, topic: &str, count: u64) -> anyhow::Result<()> {
        let mut value = vec![0_u8; VALUE_BYTES];
        for piece in value.chunks_mut(8) {
            piece.copy_from_slice(&self.random.draw().to_le_bytes());
        }
        for _ in 0..count {
            let key = self.random.draw().to_le_bytes();
            value[..8].copy_from_slice(&key);
            produce(&self.producer, topic, &key, &value)?;
        }
        Ok(())
    }

    /// MB of batches per second.
    fn read(&mut self) -> anyhow::Result<f64> {
        let begin = clock::now();
        let mut bytes = 0_u64;
        while begin.elapsed() < SLICE {
            bytes += u64::try_from(self.reader.fetch()?)?;
        }
        Ok(float(bytes) / 1e6 / begin.elapsed().as_secs_f64())
    }

    fn read_while_producing(&mut self) -> anyhow::Result<f64> {
        let stop = Arc::new(AtomicBool::new(false));
        let (producer, stopped) = (self.producer.clone(), Arc::clone(&stop));
        let busy = std::thread::spawn(move || keep_busy(&producer, &stopped));
        let (begin, before) = (clock::now(), self.acknowledged.load(Ordering::Relaxed));
        let speed = self.read();
        let records = self.acknowledged.load(Ordering::Relaxed) - before;
        let produced = float(records * BUSY_VALUE_BYTES as u64) / 1e6 / begin.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        busy.join().map_err(|_| anyhow::anyhow!("the producing thread panicked"))??;
        self.producer.flush(Duration::from_secs(60))?;
        if records == 0 {
            bail!("nothing was produced meanwhile");
        }
        self.produced.push(produced);
        speed
    }

    fn produced(&self) -> f64 {
        stats::median(&self.produced).unwrap_or_default()
    }

    fn read_cold(&mut self) -> anyhow::Result<f64> {
        forget_cache(self.node.data_dir())?;
        self.read()
    }
}

/// Produces by a timetable until told to stop.
fn keep_busy(producer: &ThreadedProducer<Deliveries>, stop: &AtomicBool) -> anyhow::Result<()> {
    let value = vec![7_u8; BUSY_VALUE_BYTES];
    let begin = clock::now();
    let mut sent = 0_u64;
    let mut tick = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        tick += 1;
        if let Some(wait) = (begin + Duration::from_millis(1) * tick).checked_duration_since(clock::now()) {
            std::thread::sleep(wait);
        }
        for _ in 0..BUSY_RECORDS {
            produce(producer, BUSY_TOPIC, &sent.to_le_bytes(), &value)?;
            sent += 1;
        }
    }
    Ok(())
}

fn produce(producer: &ThreadedProducer<Deliveries>, topic: &str, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
    use rdkafka::error::{KafkaError, RDKafkaErrorCode};
    let mut record = BaseRecord::to(topic).key(key).payload(value);
    while let Err((error, back)) = producer.send(record) {
        if !matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
            return Err(error.into());
        }
        std::thread::sleep(Duration::from_millis(1));
        record = back;
    }
    Ok(())
}

/// Asks the kernel to forget the cached pages of all files below a folder.
fn forget_cache(folder: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)?.flatten() {
        if entry.file_type()?.is_dir() {
            forget_cache(&entry.path())?;
        } else if let Ok(file) = std::fs::File::open(entry.path()) {
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// The bare loopback: a thread that writes, and we who read.
struct Probe {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Probe {
    fn open() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let stream = TcpStream::connect(listener.local_addr()?)?;
        let (mut writer, _) = listener.accept()?;
        std::thread::spawn(move || {
            let bytes = vec![7_u8; 1024 * 1024];
            while writer.write_all(&bytes).is_ok() {} // ends with the reader's socket
        });
        Ok(Self { stream, buffer: vec![0; 1024 * 1024] })
    }

    fn read(&mut self) -> anyhow::Result<f64> {
        let begin = clock::now();
        let mut bytes = 0_u64;
        while begin.elapsed() < SLICE {
            bytes += u64::try_from(self.stream.read(&mut self.buffer)?)?;
        }
        Ok(float(bytes) / 1e6 / begin.elapsed().as_secs_f64())
    }
}
