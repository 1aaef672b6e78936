//! A stream in memory, records to put on it, and a host around any sink.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::Context;
use model::{Classification, Quality, Reading, TextList, TextMap, Timestamp, Value, ValueType};
use sinks::Error;
use sinks::batch::{Batch, Place, Record};
use sinks::dead_letters::DeadLetters;
use sinks::error::StreamError;
use sinks::host::{BatchLimits, Host, Patience, Surroundings};
use sinks::metrics::SinkMetrics;
use sinks::schema_gate::SchemaGate;
use sinks::sink::{Refusal, Resume, Sink};
use sinks::source::Source;
use stream::Topic;
use stream::message::telemetry;
use stream::subscription::Gap;
use stream::topics::PARTITIONS;
use testkit::postgres::{Postgres, available};
use tokio::runtime::Handle;
use tokio::time::Instant;

/// 2026-01-29T10:00:00Z.
pub(crate) const BEGIN_MS: i64 = 1_769_680_800_000;

/// How long a test waits for something before it says that it did not happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Says so on the screen, past the test harness' capture, when a test needs PostgreSQL and there is none.
pub(crate) fn postgres(test: &str) -> Option<Postgres> {
    match available() {
        Ok(_) => Some(Postgres::start().unwrap()),
        Err(reason) => {
            let line = format!("not run: {test}: {reason}\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            None
        }
    }
}

/// Waits for a condition.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < DEADLINE, "{what} did not happen within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A record as it lies on the memory stream.
#[derive(Debug, Clone)]
pub(crate) struct Lying {
    pub(crate) place: Place,
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

#[derive(Debug, Default)]
struct Log {
    records: Vec<Lying>,
    committed: BTreeMap<(Topic, i32), i64>,
    polls: usize,
    opened: Vec<Resume>,
}

/// A stream in memory; clones share the log and its commits, each reads for itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryStream {
    log: Arc<Mutex<Log>>,
    next: BTreeMap<(Topic, i32), i64>,
}

impl MemoryStream {
    pub(crate) fn append(&self, topic: Topic, partition: i32, payload: Vec<u8>) -> i64 {
        self.append_at(topic, partition, BEGIN_MS, payload)
    }

    pub(crate) fn append_at(&self, topic: Topic, partition: i32, timestamp_ms: i64, payload: Vec<u8>) -> i64 {
        let mut log = self.log.lock().unwrap();
        let same = |lying: &&Lying| lying.place.topic == topic && lying.place.partition == partition;
        let offset = i64::try_from(log.records.iter().filter(same).count()).unwrap();
        let place = Place { topic, partition, offset };
        log.records.push(Lying { place, timestamp_ms, key: b"press_1".to_vec(), payload });
        offset
    }

    pub(crate) fn committed(&self, topic: Topic, partition: i32) -> Option<i64> {
        self.log.lock().unwrap().committed.get(&(topic, partition)).copied()
    }

    /// As if the process had died before its last commits.
    pub(crate) fn forget_commits(&self) {
        self.log.lock().unwrap().committed.clear();
    }

    pub(crate) fn polls(&self) -> usize {
        self.log.lock().unwrap().polls
    }

    pub(crate) fn opened(&self) -> Vec<Resume> {
        self.log.lock().unwrap().opened.clone()
    }

    /// Everything from the resume position on, in one batch.
    pub(crate) fn batch_from(&mut self, resume: &Resume) -> Batch {
        let mut batch = Batch::new();
        self.open(resume).unwrap();
        self.poll(&mut batch, usize::MAX, Duration::ZERO).unwrap();
        batch
    }
}

impl Source for MemoryStream {
    fn open(&mut self, resume: &Resume) -> Result<(), StreamError> {
        let mut log = self.log.lock().unwrap();
        log.opened.push(resume.clone());
        self.next = match resume {
            Resume::At(places) => places.iter().map(|p| ((p.topic, p.partition), p.offset)).collect(),
            Resume::AtOrCommitted(places) => {
                let mut next = log.committed.clone();
                next.extend(places.iter().map(|p| ((p.topic, p.partition), p.offset)));
                next
            }
            Resume::Committed => log.committed.clone(),
            Resume::Continue => self.next.clone(),
        };
        for partition in 0..PARTITIONS {
            self.next.entry((Topic::TelemetryClean, partition)).or_insert(0);
        }
        Ok(())
    }

    fn poll(&mut self, batch: &mut Batch, records_max: usize, wait: Duration) -> Result<usize, StreamError> {
        let mut count = 0;
        {
            let mut log = self.log.lock().unwrap();
            log.polls += 1;
            for lying in &log.records {
                let next = self.next.entry((lying.place.topic, lying.place.partition)).or_insert(0);
                if lying.place.offset < *next || count == records_max {
                    continue;
                }
                *next = lying.place.offset + 1;
                batch.push(lying.place, lying.timestamp_ms, &lying.key, &lying.payload);
                count += 1;
            }
        }
        if count == 0 {
            std::thread::sleep(wait.min(Duration::from_millis(5)));
        }
        Ok(count)
    }

    fn positions(&self) -> Vec<Place> {
        self.next
            .iter()
            .map(|((topic, partition), offset)| Place { topic: *topic, partition: *partition, offset: *offset })
            .collect()
    }

    fn ends(&self) -> Result<Vec<Place>, StreamError> {
        let log = self.log.lock().unwrap();
        let mut ends = BTreeMap::new();
        for lying in &log.records {
            ends.insert((lying.place.topic, lying.place.partition), lying.place.offset + 1);
        }
        Ok(ends.into_iter().map(|((topic, partition), offset)| Place { topic, partition, offset }).collect())
    }

    fn commit(&mut self, places: &[Place]) -> Result<(), StreamError> {
        let mut log = self.log.lock().unwrap();
        for place in places {
            log.committed.insert((place.topic, place.partition), place.offset);
        }
        Ok(())
    }

    fn take_gaps(&mut self) -> Vec<Gap> {
        Vec::new()
    }
}

/// Dead letters in memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryLetters(Arc<Mutex<Vec<Letter>>>);

/// Where the record was, its bytes, and why it was refused.
type Letter = (Place, Vec<u8>, Refusal);

impl MemoryLetters {
    pub(crate) fn all(&self) -> Vec<Letter> {
        self.0.lock().unwrap().clone()
    }
}

impl DeadLetters for MemoryLetters {
    fn bury(&mut self, record: &Record<'_>, refusal: &Refusal) -> Result<(), StreamError> {
        self.0.lock().unwrap().push((record.place, record.payload.to_vec(), refusal.clone()));
        Ok(())
    }

    fn lost(&mut self, _: &Gap) -> Result<(), StreamError> {
        Ok(())
    }
}

/// A reading whose `seq` identifies it.
pub(crate) fn reading(seq: i64) -> Reading<'static> {
    Reading {
        asset_id: "press_1",
        asset_path: Some("plant/north/line_1"),
        parameter: "pressure",
        value: Value::Float(1.5),
        value_type: ValueType::Float,
        value_label: None,
        unit: Some("bar"),
        quality: Quality::Good,
        quality_reason: None,
        reasons: TextList::default(),
        classification: Classification::Telemetry,
        device_time: Timestamp::from_millis(BEGIN_MS + seq),
        gateway_time: Timestamp::from_millis(BEGIN_MS + seq + 1),
        time_source: "ACQUISITION",
        clock_state: "SYNCED",
        clock_skew_ms: None,
        epoch: 3,
        seq,
        flags: TextList::default(),
        metadata: TextMap::Slice(&[("gateway_id", "gw-1"), ("adapter_id", "modbus_1"), ("source_ref", "u=1;fc=3;a=0")]),
        tags: TextMap::Slice(&[("line", "1")]),
    }
}

pub(crate) fn payload(reading: &Reading<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    telemetry::encode(&mut out, 1, reading);
    out
}

/// Puts readings `seqs` on `telemetry.clean`, over three partitions.
pub(crate) fn publish(stream: &MemoryStream, seqs: std::ops::Range<i64>) {
    for seq in seqs {
        let partition = i32::try_from(seq % 3).unwrap();
        stream.append(Topic::TelemetryClean, partition, payload(&reading(seq)));
    }
}

/// Patience for tests: the shape of the real one, shorter.
pub(crate) fn impatient() -> Patience {
    Patience {
        cooldown: Duration::from_millis(300),
        backoff: Duration::from_millis(5),
        backoff_max: Duration::from_millis(20),
        idle: Duration::from_millis(5),
        commit_every: Duration::from_millis(10),
        lag_every: Duration::from_millis(10),
        drain_max: Duration::from_secs(5),
        ..Patience::default()
    }
}

/// A host on its thread.
pub(crate) struct Running {
    pub(crate) ctx: Context,
    thread: Option<std::thread::JoinHandle<Result<(), Error>>>,
}

impl Running {
    pub(crate) fn start<S: Sink + Send + 'static>(sink: S, stream: MemoryStream, letters: MemoryLetters) -> Self {
        Self::start_with(impatient(), sink, stream, letters)
    }

    pub(crate) fn start_with<S: Sink + Send + 'static>(
        patience: Patience,
        sink: S,
        stream: MemoryStream,
        letters: MemoryLetters,
    ) -> Self {
        let ctx = Context::new("sink_test", "gw-1");
        let around = Surroundings {
            sink_id: "test".to_owned(),
            topics: vec![Topic::TelemetryClean],
            limits: BatchLimits { rows_max: 1000, bytes_max: 1 << 20, wait: Duration::from_millis(5) },
            patience,
            runtime: Handle::current(),
            stop: ctx.stop.clone(),
            clock: Arc::clone(&ctx.clock),
            board: Arc::clone(&ctx.board),
            metrics: SinkMetrics::register(&ctx.metrics),
        };
        let mut host = Host::new(sink, stream, letters, SchemaGate::new(None), around);
        let thread = std::thread::spawn(move || host.run());
        Self { ctx, thread: Some(thread) }
    }

    pub(crate) fn health(&self) -> serde_json::Value {
        self.ctx.board.to_json()
    }

    pub(crate) fn stop(mut self) -> Result<(), Error> {
        self.ctx.stop.cancel();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.ctx.stop.cancel();
    }
}

impl Running {
    /// Waits for the host to end by itself.
    pub(crate) fn stop_when_ended(mut self) -> Result<(), Error> {
        let thread = self.thread.take().unwrap();
        eventually("the end of the host", || thread.is_finished());
        thread.join().unwrap()
    }
}
