//! How the broker grows: with its partitions, while it deletes, and with the size of the log it finds at its start.
//!
//! Each curve is one run on one broker binary; every point is set against the first of the same run, interleaved where
//! both can be had at once. The pictures go to `docs/img`.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use crate::node::{self, Acknowledge, Node};
use crate::plot::Curve;
use crate::record::{Row, rounded};
use crate::stats::{self, Estimate, Random, float};
use crate::{Options, clock, proc, say};

/// Rounds over all points of a curve; the figure of a point is the median of its rounds.
const ROUNDS: usize = 5;
const SLICE: Duration = Duration::from_secs(2);
const FLUSH_MAX: Duration = Duration::from_secs(120);

type Producer = ThreadedProducer<Latencies>;

/// Counts and times deliveries, in microseconds from the moment that was intended.
#[derive(Clone)]
struct Latencies {
    base: Instant,
    micros: Arc<Mutex<Histogram<u64>>>,
}

impl ClientContext for Latencies {}

impl ProducerContext for Latencies {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, intended: usize) {
        let now = u64::try_from(self.base.elapsed().as_micros()).unwrap_or(u64::MAX);
        let micros = now.saturating_sub(u64::try_from(intended).unwrap_or_default()).max(1);
        let mut histogram = self.micros.lock().unwrap_or_else(PoisonError::into_inner);
        // a record that failed spoils the count, which is compared
        histogram.saturating_record(if result.is_ok() { micros } else { u64::MAX });
    }
}

impl Latencies {
    fn take(&self) -> Histogram<u64> {
        let mut histogram = self.micros.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = histogram.clone();
        histogram.reset();
        taken
    }
}

fn producer(node: &Node) -> anyhow::Result<(Producer, Latencies)> {
    let micros = Arc::new(Mutex::new(Histogram::new_with_max(120_000_000, 3)?));
    let latencies = Latencies { base: clock::now(), micros };
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", node.bootstrap())
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("compression.codec", "none")
        .set("linger.ms", "5")
        .set("batch.size", "262144")
        .set("queue.buffering.max.messages", "200000");
    Ok((ThreadedProducer::from_config_and_context(&client, latencies.clone())?, latencies))
}

fn send(producer: &Producer, topic: &str, key: &[u8], value: &[u8], intended: usize) -> anyhow::Result<()> {
    let mut record = BaseRecord::with_opaque_to(topic, intended).key(key).payload(value);
    while let Err((error, back)) = producer.send(record) {
        if !matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
            return Err(error.into());
        }
        std::thread::sleep(Duration::from_millis(1));
        record = back;
    }
    Ok(())
}

/// MB/s into a topic for a slice, counted when acknowledged.
fn fill(producer: &Producer, topic: &str, value: &[u8], random: &mut Random) -> anyhow::Result<f64> {
    let begin = clock::now();
    let mut sent = 0_u64;
    while begin.elapsed() < SLICE {
        for _ in 0..500 {
            send(producer, topic, &random.draw().to_le_bytes(), value, 0)?;
            sent += 1;
        }
    }
    producer.flush(FLUSH_MAX)?;
    Ok(float(sent * value.len() as u64) / 1e6 / begin.elapsed().as_secs_f64())
}

/// Throughput and memory as partitions grow from 12 to 1,200, all of them written to.
pub fn partitions(options: &Options) -> anyhow::Result<Vec<Row>> {
    const COUNTS: [i32; 5] = [12, 60, 120, 600, 1200];
    let node = Node::ours(options, Acknowledge::AfterSync)?;
    let mut pss = Vec::new();
    for count in COUNTS {
        // at most 1,000 partitions make a topic; the largest point is two topics of 600
        let topics = if count > 600 { 2 } else { 1 };
        for part in 0..topics {
            node.topic(&format!("p{count}.{part}"), count / topics, &[])?;
        }
        pss.push(proc::pss_kib(node.pid()).unwrap_or_default());
    }
    let (producer, _) = producer(&node)?;
    let mut random = Random::new(1);
    let value = [7_u8; 1000];
    let mut ratios: Vec<Vec<f64>> = vec![Vec::new(); COUNTS.len()];
    for round in 0..=ROUNDS {
        let mut speeds = Vec::new();
        for count in COUNTS {
            let topic = format!("p{count}.{}", if count > 600 { round % 2 } else { 0 });
            speeds.push(fill(&producer, &topic, &value, &mut random)?);
        }
        say::progress(&format!("round {round}: {speeds:.0?} MB/s"));
        if round > 0 {
            for (index, speed) in speeds.iter().enumerate() {
                ratios[index].push(speed / speeds[0]);
            }
        }
    }
    let points = medians(&COUNTS.map(f64::from), &ratios);
    let curve = Curve {
        title: "Produce throughput with fsync, by partitions written to",
        x: "partitions of the topic",
        y: "MB/s / MB/s at 12 partitions",
        points: &points,
        limit: Some((0.9, "at least 0.9")),
    };
    curve.write(&picture(options, "curve-partitions.svg"))?;
    let created = COUNTS.iter().skip(1).sum::<i32>();
    let grown = pss[COUNTS.len() - 1].saturating_sub(pss[0]);
    let last = stats::estimate(&ratios[COUNTS.len() - 1]).context("no round")?;
    Ok(vec![
        Row::new("C1", "produce MB/s at 1,200 partitions / at 12", &options.commit, last)
            .set("points", pairs(&points))
            .set("value_bytes", value.len())
            .set("kib_per_idle_partition", rounded(float(grown) / f64::from(created)))
            .set("rounds", ROUNDS),
    ])
}

/// Latency of produce while retention deletes all the time, against the same broker while it keeps everything.
pub fn retention(options: &Options) -> anyhow::Result<Vec<Row>> {
    const TICKS: u32 = 8_000;
    let node = Node::ours(options, Acknowledge::AfterSync)?;
    let segment = [("segment.bytes", "1048576")];
    node.topic("kept", 12, &segment)?;
    node.topic("trimmed", 12, &[segment[0], ("retention.bytes", "4194304")])?;
    let (producer, latencies) = producer(&node)?;
    let mut random = Random::new(1);
    let mut ratios = Vec::new();
    for round in 0..=ROUNDS {
        let mut p99 = Vec::new();
        for topic in ["kept", "trimmed"] {
            paced(&producer, &latencies, topic, TICKS, &mut random)?;
            p99.push(float(latencies.take().value_at_quantile(0.99)));
        }
        say::progress(&format!("round {round}: p99 kept {:.0} us, while deleting {:.0} us", p99[0], p99[1]));
        if round > 0 {
            ratios.push(p99[1] / p99[0]);
        }
    }
    let estimate = stats::estimate(&ratios).context("no round")?;
    let kept = bytes_below(&node.data_dir().join("topics").join("trimmed"))?;
    let points: Vec<(f64, f64)> = ratios.iter().zip(1_u32..).map(|(ratio, round)| (f64::from(round), *ratio)).collect();
    let curve = Curve {
        title: "Produce p99 at 20 MB/s while retention deletes",
        x: "round",
        y: "p99 while deleting / p99 while keeping everything",
        points: &points,
        limit: Some((1.2, "at most 1.2")),
    };
    curve.write(&picture(options, "curve-retention.svg"))?;
    Ok(vec![
        Row::new("C2", "produce p99 while retention deletes / while it does not", &options.commit, estimate)
            .set("segment_bytes", 1_048_576)
            .set("retention_bytes", 4_194_304)
            .set("partitions", 12)
            .set("offered_mb_per_round", TICKS / 50)
            .set("mb_left_at_the_end", rounded(float(kept) / 1e6)),
    ])
}

/// 20 records of 1,000 bytes each millisecond.
fn paced(
    producer: &Producer,
    latencies: &Latencies,
    topic: &str,
    ticks: u32,
    random: &mut Random,
) -> anyhow::Result<()> {
    let value = [7_u8; 1000];
    let begin = clock::now();
    for tick in 1..=ticks {
        let due = begin + Duration::from_millis(1) * tick;
        if let Some(wait) = due.checked_duration_since(clock::now()) {
            std::thread::sleep(wait);
        }
        let intended = usize::try_from(due.duration_since(latencies.base).as_micros())?;
        for _ in 0..20 {
            send(producer, topic, &random.draw().to_le_bytes(), &value, intended)?;
        }
    }
    Ok(producer.flush(FLUSH_MAX)?)
}

/// Time from the start of the process to its first answer after kill -9, by the size of the log.
///
/// The log is written for real; then the closed segments' blocks are given back to the disk (their lengths stay), so
/// that 50 GB fit anywhere. A recovery that read them would find zeros and say so.
pub fn recovery(options: &Options) -> anyhow::Result<Vec<Row>> {
    const SIZES_GB: [u64; 5] = [1, 5, 10, 25, 50];
    let mut node = Node::ours(options, Acknowledge::FromCache)?;
    node.topic("big", 12, &[])?;
    let value = vec![7_u8; 100_000];
    let mut random = Random::new(1);
    let mut written = 0_u64;
    let (mut points, mut empty) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let fresh = tempfile::Builder::new().prefix("sf-bench-").tempdir()?;
        empty.push(start_seconds(options, fresh)?.0);
    }
    let empty = stats::median(&empty).unwrap_or_default();
    for size in SIZES_GB {
        {
            let (producer, _) = producer(&node)?;
            while written < size * 1_000_000_000 {
                for _ in 0..1000 {
                    send(&producer, "big", &random.draw().to_le_bytes(), &value, 0)?;
                    written += value.len() as u64;
                }
                producer.flush(FLUSH_MAX)?;
            }
        }
        let mut folder = node.kill();
        punch(&folder.path().join("topics").join("big"))?;
        let mut seconds = Vec::new();
        for _ in 0..ROUNDS {
            let (took, back) = start_seconds(options, folder)?;
            seconds.push(took);
            folder = back;
        }
        let median = stats::median(&seconds).unwrap_or_default();
        say::progress(&format!(
            "{size} GB: first answer after {:.0} ms (an empty log: {:.0} ms)",
            median * 1e3,
            empty * 1e3
        ));
        points.push((float(size), median * 1e3));
        node = Node::ours_in(options, Acknowledge::FromCache, folder)?;
        node.topic("ready", 1, &[])?;
    }
    let curve = Curve {
        title: "First answer after kill -9, by the size of the log",
        x: "GB in 12 partitions",
        y: "milliseconds from the start of the process",
        points: &points,
        limit: Some((300.0, "at most 300")),
    };
    curve.write(&picture(options, "curve-recovery.svg"))?;
    let slope = stats::slope(&points).unwrap_or_default();
    let ratio = points.last().map_or(0.0, |(_, ms)| ms / 1e3 / empty);
    Ok(vec![
        Row::new(
            "C3",
            "first answer after kill -9 with 50 GB / with an empty log",
            &options.commit,
            Estimate { median: ratio, low: ratio, high: ratio },
        )
        .set("points_ms", pairs(&points))
        .set("empty_ms", rounded(empty * 1e3))
        .set("slope_ms_per_gb", rounded(slope))
        .set("segment_bytes", 33_554_432)
        .set("log", "written for real, blocks of closed segments given back to the disk"),
    ])
}

/// Starts a broker on a folder until it answers, kills it, and hands the folder back.
fn start_seconds(options: &Options, folder: tempfile::TempDir) -> anyhow::Result<(f64, tempfile::TempDir)> {
    let begin = clock::now();
    let node = Node::ours_in(options, Acknowledge::FromCache, folder)?;
    let answered =
        clock::wait_until(Duration::from_secs(120), Duration::from_millis(1), || node::answers(node.address));
    let took = begin.elapsed().as_secs_f64();
    if !answered {
        bail!("the broker did not come up");
    }
    Ok((took, node.kill()))
}

/// Gives the blocks of all but the newest segment of each partition back to the disk; lengths stay.
fn punch(topic: &Path) -> anyhow::Result<()> {
    for partition in fs::read_dir(topic)?.flatten().filter(|entry| entry.path().is_dir()) {
        let files = fs::read_dir(partition.path())?.flatten().map(|entry| entry.path());
        let mut logs: Vec<_> = files.filter(|path| path.extension().is_some_and(|ending| ending == "log")).collect();
        logs.sort();
        logs.pop();
        for path in logs {
            let file = fs::OpenOptions::new().write(true).open(&path)?;
            let length = file.metadata()?.len();
            let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(file.as_fd(), flags, 0, length)
                .with_context(|| format!("cannot give blocks of {} back", path.display()))?;
        }
    }
    Ok(())
}

fn bytes_below(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)?.flatten() {
        let data = entry.metadata()?;
        bytes += if data.is_dir() { bytes_below(&entry.path())? } else { data.len() };
    }
    Ok(bytes)
}

fn medians(xs: &[f64], values: &[Vec<f64>]) -> Vec<(f64, f64)> {
    xs.iter().zip(values).map(|(x, values)| (*x, stats::median(values).unwrap_or_default())).collect()
}

fn pairs(points: &[(f64, f64)]) -> serde_json::Value {
    points.iter().map(|(x, y)| serde_json::json!([x, rounded(*y)])).collect()
}

fn picture(options: &Options, name: &str) -> std::path::PathBuf {
    options.folder.join("..").join("docs").join("img").join(name)
}
