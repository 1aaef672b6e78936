//! A whole sink process against the embedded broker: settings in, files or rows out, dead letters on the stream.

use std::time::Duration;

use broker::{Broker, Settings as BrokerSettings};
use daemon::Context;
use kafka::client::admin::create_topics;
use kafka::client::{Consumer, Position, Producer, Settings};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use serde_json::{Value, json};
use stream::message::dead_letter;
use stream::{Schemas, Topic};
use tokio::time::Instant;

use crate::support::{eventually, payload, postgres, reading};

/// A broker with all topics, and what one needs to write to it.
pub(crate) struct Stream {
    pub(crate) handle: broker::Handle,
    _data: tempfile::TempDir,
    pub(crate) settings: Settings,
    producer: Producer,
    pub(crate) schema_id: i32,
    pub(crate) event_schema_id: i32,
}

impl Stream {
    pub(crate) async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let ctx = Context::new("broker", "gw-1");
        let handle = Broker::start(BrokerSettings::on_free_ports(data.path()), &ctx).await.unwrap();
        let settings = Settings::new(&handle.kafka().to_string(), "test");
        let plans = stream::topics::plans();
        create_topics(&settings, &plans).await.unwrap();
        let schemas = Schemas::new(&format!("http://{}", handle.registry()), None);
        let schema_id = schemas.id_for(Topic::TelemetryClean).await.unwrap();
        let event_schema_id = schemas.id_for(Topic::EventsClean).await.unwrap();
        let producer = Producer::open(&settings).unwrap();
        Self { handle, _data: data, settings, producer, schema_id, event_schema_id }
    }

    pub(crate) fn publish(&self, seqs: std::ops::Range<i64>) {
        let batch = self.producer.batch();
        for seq in seqs {
            let mut bytes = payload(&reading(seq));
            bytes[1..5].copy_from_slice(&self.schema_id.to_be_bytes());
            let headers: [(&str, &[u8]); 1] = [("sf-quality", b"GOOD")];
            let partition = i32::try_from(seq % 12).unwrap();
            batch
                .send("telemetry.clean", partition, b"press_1", &bytes, reading(seq).gateway_time.as_millis(), &headers)
                .unwrap();
        }
        assert!(batch.finish().wait(Duration::from_secs(20)).unwrap());
    }

    pub(crate) fn publish_poison(&self, bytes: &[u8]) {
        let batch = self.producer.batch();
        let headers: [(&str, &[u8]); 1] = [("sf-quality", b"GOOD")];
        batch.send("telemetry.clean", 3, b"press_1", bytes, 1_769_680_800_000, &headers).unwrap();
        assert!(batch.finish().wait(Duration::from_secs(20)).unwrap());
    }

    /// A running sink process.
    pub(crate) fn sink(&self, mut settings: Value) -> Process {
        settings["kafka_bootstrap"] = json!(self.handle.kafka().to_string());
        settings["schema_registry"] = json!(format!("http://{}", self.handle.registry()));
        let ctx = Context::new("sink_test", "gw-1");
        let own = ctx.clone();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { sinks::process::run_with(&settings, None, own).await });
        Process { ctx, tasks }
    }

    /// Payloads and header names on a dead letter topic.
    pub(crate) fn dead_letters(&self, topic: &str) -> Vec<(Vec<u8>, Vec<String>)> {
        let consumer = Consumer::open(&self.settings, "look").unwrap();
        let place = |partition| Position { topic: topic.to_owned(), partition, offset: 0, metadata: String::new() };
        consumer.assign(&(0..12).map(place).collect::<Vec<_>>()).unwrap();
        let mut letters = Vec::new();
        let (wait, linger) = (Duration::from_secs(2), Duration::from_millis(300));
        consumer
            .poll(100, wait, linger, |record| {
                let names = record.headers().map(|(name, _)| name.to_owned()).collect();
                letters.push((record.payload().unwrap().to_vec(), names));
            })
            .unwrap();
        letters
    }
}

pub(crate) struct Process {
    ctx: Context,
    tasks: tokio::task::JoinSet<Result<(), sinks::Error>>,
}

impl Process {
    pub(crate) fn health(&self) -> Value {
        self.ctx.board.to_json()
    }

    pub(crate) async fn stop(mut self) {
        self.ctx.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap().unwrap();
    }
}

fn seqs_in(folder: &std::path::Path) -> Vec<i64> {
    let mut seqs = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
                seqs.extend(reader.get_row_iter(None).unwrap().map(|row| row.unwrap().get_long(20).unwrap()));
            }
        }
    }
    seqs.sort_unstable();
    seqs
}

// A client of a broker that is gone waits for a minute; the process that holds it must not.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_stream_that_is_gone() {
    let stream = Stream::start().await;
    let folder = tempfile::tempdir().unwrap();
    stream.publish(0..100);
    let mut sink = stream.sink(json!({"sink_id": "files", "sink_type": "archive", "url": folder.path()}));
    eventually("the sink has it all in hand", || sink.health()["gathered_rows"] == 100);
    stream.handle.stop().await;
    sink.ctx.stop.cancel();
    let begin = Instant::now();
    let ended = tokio::time::timeout(Duration::from_secs(30), sink.tasks.join_next()).await;
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(4), "the stop took {took:?}: {ended:?}");
    assert_eq!(seqs_in(folder.path()).len(), 100, "what was in hand is delivered all the same");
}

// AC-100, F20, OFF-13: through a real stream, over a restart, with records nobody can read.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_process_delivers_buries_and_goes_on_after_a_restart() {
    let stream = Stream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = json!({"sink_id": "files", "sink_type": "archive", "url": folder.path(), "max_rows": 40});
    stream.publish(0..1000);
    stream.publish_poison(b"not avro");
    let mut foreign = payload(&reading(1));
    foreign[1..5].copy_from_slice(&stream.event_schema_id.to_be_bytes());
    stream.publish_poison(&foreign);
    let process = stream.sink(settings.clone());
    eventually("the full files", || seqs_in(folder.path()).len() >= 900);
    eventually("the dead letters", || process.health()["dead_letters"] == 2);
    process.stop().await;
    assert_eq!(seqs_in(folder.path()), (0..1000).collect::<Vec<_>>(), "the stop brings the rest out");

    let letters = stream.dead_letters("dlq.sink.files");
    assert_eq!(letters.len(), 2);
    let (_, body) = stream::avro::unframe(&letters[1].0).unwrap();
    let letter = dead_letter::decode(body).unwrap();
    assert_eq!((letter.stage, letter.reason, letter.payload), ("sink", "DECODE_ERROR", b"not avro".as_slice()));
    assert_eq!((letter.topic, letter.partition, letter.key), ("telemetry.clean", 3, b"press_1".as_slice()));
    let (_, body) = stream::avro::unframe(&letters[0].0).unwrap();
    let foreign = dead_letter::decode(body).unwrap();
    assert_eq!((foreign.reason, foreign.schema_id), ("SCHEMA_ERROR", Some(stream.event_schema_id)));
    let dead_letter::Headers::Packed(headers) = letter.headers else { panic!("headers come packed") };
    assert!(headers.windows(10).any(|bytes| bytes == b"sf-quality"), "the original's headers are kept");

    stream.publish(1000..1500);
    let process = stream.sink(settings);
    eventually("reading on", || process.health()["written_records"].as_u64() >= Some(400));
    assert_eq!(process.health()["status"], "healthy");
    process.stop().await;
    assert_eq!(seqs_in(folder.path()), (0..1500).collect::<Vec<_>>());
    assert_eq!(stream.dead_letters("dlq.sink.files").len(), 2);
    stream.handle.stop().await;
}

// I4 with a real stream: positions in the database, mirrored for tools.
#[tokio::test(flavor = "multi_thread")]
async fn a_timescale_process_writes_each_row_once() {
    let Some(server) = postgres("a_timescale_process_writes_each_row_once") else { return };
    let stream = Stream::start().await;
    let settings = json!({"sink_id": "db", "sink_type": "timescale", "url": server.url("postgres")});
    let count = || server.psql("postgres", "SELECT count(*), count(DISTINCT seq) FROM telemetry").unwrap_or_default();
    for round in 1..=3 {
        stream.publish((round - 1) * 2000..round * 2000);
        let process = stream.sink(settings.clone());
        eventually("all rows", || count() == format!("{0}|{0}", round * 2000));
        eventually("no lag", || process.health()["lag_records"] == 0 && process.health()["last_write_at"].is_string());
        assert_eq!(process.health()["breaker_state"], "closed");
        process.stop().await;
    }
    let consumer = Consumer::open(&stream.settings, &sinks::source::group("db")).unwrap();
    let committed: i64 = consumer.committed("telemetry.clean", 12).unwrap().iter().map(|at| at.offset).sum();
    assert_eq!(committed, 6000);
    stream.handle.stop().await;
}
