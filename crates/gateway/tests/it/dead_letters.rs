//! Deciding about dead letters against a real broker: nothing becomes two records, and nothing is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use broker::{Broker, Handle, Settings as BrokerSettings};
use config::Validation;
use config::rules::{Limits, Rule};
use gateway::dead_letters::{Action, Command, DeadLetters, Filter, Selection};
use gateway::modules::{LiveTable, ModuleContext};
use kafka::client::{Consumer, Outgoing, Producer, Settings, admin};
use model::{Clock, ManualClock, Quality, Reading, TextList, TextMap, Timestamp, Value};
use serde_json::Value as Json;
use stream::message::dead_letter::Headers;
use stream::message::{DeadLetter, event, telemetry};
use stream::topics::PARTITIONS;
use stream::{Schemas, StateTopic, Topic, avro, header, partitioner};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(60);
/// 2026-01-29T10:00:00Z
const T0: i64 = 1_769_680_800_000_000;
const SECOND: i64 = 1_000_000;

struct Rig {
    _dir: tempfile::TempDir,
    _broker: Handle,
    clock: Arc<ManualClock>,
    ctx: ModuleContext,
}

/// One record as it lies in a topic.
#[derive(Debug, Clone, PartialEq)]
struct Stored {
    partition: i32,
    payload: Vec<u8>,
    record_id: String,
    source: String,
}

impl Stored {
    fn reading(&self) -> Reading<'_> {
        telemetry::decode(avro::unframe(&self.payload).unwrap().1).unwrap()
    }
}

/// The dead letters of one start of the gateway; the next start begins with a new one.
struct Start {
    letters: DeadLetters,
    stop: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Start {
    fn drop(&mut self) {
        self.stop.cancel();
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

impl Rig {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let context = daemon::Context::new("broker", "gw");
        let broker = Broker::start(BrokerSettings::on_free_ports(dir.path()), &context).await.unwrap();
        let settings = Settings::new(&broker.kafka().to_string(), "test");
        admin::create_topics(&settings, &crate::topics()).await.unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_micros(T0)));
        let ctx = ModuleContext {
            settings,
            schemas: Arc::new(Schemas::new(&format!("http://{}", broker.registry()), None)),
            runtime: tokio::runtime::Handle::current(),
            gateway_id: "gw".to_owned(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            metrics: daemon::Metrics::new("gateway"),
            stop: CancellationToken::new(),
            live: Arc::new(LiveTable::default()),
            alarms: Arc::default(),
        };
        Self { _dir: dir, _broker: broker, clock, ctx }
    }

    /// A start of the gateway with these rules, once it has read what is there.
    fn start(&self, rules: Validation) -> Start {
        let ctx = ModuleContext { stop: CancellationToken::new(), ..self.ctx.clone() };
        let letters = DeadLetters::new(Arc::clone(&ctx.clock), rules);
        let threads = letters.start(&ctx).unwrap();
        until("the dead letters are read", || letters.is_complete());
        Start { letters, stop: ctx.stop, threads }
    }

    fn id(&self, topic: Topic) -> i32 {
        self.ctx.runtime.block_on(self.ctx.schemas.id_for(topic)).unwrap()
    }

    /// Writes the letters of these readings as the validator does, rejected by the rule `limits`.
    fn reject(&self, readings: &[Reading<'_>]) {
        let (raw_id, id) = (self.id(Topic::TelemetryRaw), self.id(Topic::DlqTelemetry));
        let mut originals = Vec::new();
        for (offset, reading) in (0_i64..).zip(readings) {
            let mut payload = Vec::new();
            telemetry::encode(&mut payload, raw_id, reading);
            let value = reading.value.as_number().map(|value| value.to_string());
            originals.push((offset, payload, value, reading));
        }
        let producer = Producer::open(&self.ctx.settings).unwrap();
        let batch = producer.batch();
        for (offset, payload, value, reading) in &originals {
            let record_id = reading.record_id();
            let headers: [(&str, &[u8]); 1] = [(header::RECORD_ID, record_id.as_bytes())];
            let partition = partitioner::partition_for(reading.asset_id.as_bytes(), PARTITIONS);
            let letter = DeadLetter {
                rule_id: Some("limits"),
                reason: model::reason::RANGE_HARD,
                partition,
                offset: *offset,
                key: reading.asset_id.as_bytes(),
                headers: Headers::Slice(&headers),
                payload,
                schema_id: Some(raw_id),
                asset_id: Some(reading.asset_id),
                parameter: Some(reading.parameter),
                value: value.as_deref(),
                device_time: Some(reading.device_time),
                first_failed_at: reading.gateway_time,
                ..unreadable()
            };
            let mut bytes = Vec::new();
            letter.encode(&mut bytes, id);
            let key = reading.asset_id.as_bytes();
            batch.send(Topic::DlqTelemetry.name(), partition, key, &bytes, T0 / 1000, &[]).unwrap();
        }
        assert!(batch.finish().wait(DEADLINE).unwrap());
    }

    fn send(&self, outgoing: &Outgoing<'_>) {
        let producer = Producer::open(&self.ctx.settings).unwrap();
        let batch = producer.batch();
        batch.send_record(outgoing).unwrap();
        assert!(batch.finish().wait(DEADLINE).unwrap());
    }

    /// Everything in a topic, in its order within each partition.
    fn everything(&self, topic: &str) -> Vec<Stored> {
        let consumer = Consumer::open(&self.ctx.settings, "look").unwrap();
        let names = [(topic, PARTITIONS)];
        let (starts, ends) = (consumer.starts(&names).unwrap(), consumer.ends(&names).unwrap());
        consumer.assign(&starts).unwrap();
        let sum = |places: &[kafka::client::Position]| places.iter().map(|place| place.offset).sum::<i64>();
        let expected = sum(&ends) - sum(&starts);
        let mut stored = Vec::new();
        while i64::try_from(stored.len()).unwrap() < expected {
            let count = consumer.poll(1000, DEADLINE, Duration::ZERO, |record| {
                let header = |name| String::from_utf8_lossy(record.header(name).unwrap_or_default()).into_owned();
                let payload = record.payload().unwrap_or_default().to_vec();
                let (record_id, source) = (header(header::RECORD_ID), header(header::SOURCE));
                let partition = record.partition();
                stored.push((partition, record.offset(), Stored { partition, payload, record_id, source }));
            });
            assert!(count.unwrap() > 0, "{} of {expected} records of {topic} arrived", stored.len());
        }
        stored.sort_by_key(|(partition, offset, _)| (*partition, *offset));
        stored.into_iter().map(|(_, _, stored)| stored).collect()
    }

    fn clean(&self) -> Vec<Stored> {
        self.everything(Topic::TelemetryClean.name())
    }

    /// The details of all audit rows.
    fn audit(&self) -> Vec<BTreeMap<String, String>> {
        let rows = self.everything(Topic::Audit.name());
        let details = |row: &Stored| {
            let event = event::decode(avro::unframe(&row.payload).unwrap().1).unwrap();
            event.details.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        rows.iter().map(details).collect()
    }
}

impl Start {
    fn run(&self, action: Action, selection: Selection, command_id: &str) -> Json {
        let command = Command {
            by: Some("Ada".to_owned()),
            comment: Some("sensor was checked".to_owned()),
            command_id: Some(command_id.to_owned()),
            ..Command::default()
        };
        let job = self.letters.submit(action, selection, command).unwrap().after(DEADLINE);
        assert_eq!(job["state"], "DONE", "{job}");
        job
    }

    fn status(&self, id: &str) -> String {
        self.letters.show(id).unwrap()["status"].as_str().unwrap().to_owned()
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn unreadable() -> DeadLetter<'static> {
    DeadLetter {
        stage: "validate",
        rule_id: None,
        rule_revision: Some(1),
        reason: model::reason::DECODE_ERROR,
        detail: "it failed",
        observed: None,
        limit: None,
        topic: "telemetry.raw",
        partition: 0,
        offset: 0,
        timestamp_ms: T0 / 1000,
        key: b"x",
        headers: Headers::Slice(&[]),
        payload: b"\x07garbage",
        schema_id: None,
        asset_id: None,
        parameter: None,
        value: None,
        device_time: None,
        gateway_id: "gw",
        config_revision: Some("r1"),
        first_failed_at: Timestamp::from_micros(T0),
        attempts: 1,
    }
}

fn reading(asset_id: &'static str, seq: i64, value: Value<'static>) -> Reading<'static> {
    let time = Timestamp::from_micros(T0 + seq * SECOND);
    Reading {
        asset_id,
        asset_path: None,
        parameter: "temperature",
        value,
        value_type: model::ValueType::Float,
        value_label: None,
        unit: Some("C"),
        quality: Quality::Good,
        quality_reason: None,
        reasons: TextList::default(),
        classification: model::Classification::Telemetry,
        device_time: time,
        gateway_time: time,
        time_source: model::time_source::ACQUISITION,
        clock_state: "SYNCED",
        clock_skew_ms: None,
        epoch: 1,
        seq,
        flags: TextList::default(),
        metadata: TextMap::Slice(&[("gateway_id", "gw"), ("adapter_id", "press_line")]),
        tags: TextMap::default(),
    }
}

fn up_to(hard_hi: f64) -> Validation {
    let range = Some(Limits { hard_hi: Some(hard_hi), ..Limits::default() });
    let (asset, parameter) = ("*".to_owned(), "*".to_owned());
    Validation {
        rules: vec![Rule { id: "limits".to_owned(), asset, parameter, range, ..Rule::default() }],
        ..Validation::default()
    }
}

fn ids(ids: &[&str]) -> Selection {
    Selection::Ids(ids.iter().map(|id| (*id).to_owned()).collect())
}

fn figures(job: &Json) -> [u64; 3] {
    ["ok", "already", "failed"].map(|name| job[name].as_u64().unwrap())
}

// AC-072, VAL-40, VAL-42, VAL-45, VAL-47
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approved_letter_is_one_record_whatever_happens() {
    let rig = Rig::new().await;
    tokio::task::spawn_blocking(move || {
        rig.reject(&[reading("oven", 0, Value::Float(101.0)), reading("oven", 1, Value::Null)]);
        let mut garbage = Vec::new();
        unreadable().encode(&mut garbage, rig.id(Topic::DlqTelemetry));
        let (topic, partition) = (Topic::DlqTelemetry.name(), Some(0));
        let outgoing =
            Outgoing { topic, partition, key: None, payload: Some(&garbage), timestamp_ms: None, headers: &[] };
        rig.send(&outgoing);
        let oven = partitioner::partition_for(b"oven", PARTITIONS);
        let id = format!("gw/telemetry.raw/{oven}/0");
        {
            let start = rig.start(up_to(100.0));
            let shown = start.letters.show(&id).unwrap();
            assert_eq!((&shown["status"], &shown["adapter_id"]), (&"NEW".into(), &"press_line".into()));
            assert_eq!(shown["reading"]["value"], 101.0);
            assert_eq!(shown["original"]["headers"][0]["value"], "gw/press_line/1/0");
            assert!(shown["original"]["payload_hex"].as_str().unwrap().starts_with("00"), "the exact bytes");

            assert_eq!(figures(&start.run(Action::Approve, ids(&[&id]), "c1")), [1, 0, 0]);
            assert_eq!(figures(&start.run(Action::Approve, ids(&[&id]), "c2")), [0, 1, 0]);
            assert_eq!(start.status(&id), "APPROVED");
        }
        let clean = rig.clean();
        assert_eq!(clean.len(), 1);
        let approved = clean[0].reading();
        assert_eq!((approved.quality, approved.quality_reason), (Quality::Suspect, Some("OPERATOR_APPROVED")));
        assert_eq!((approved.value, approved.device_time.as_micros()), (Value::Float(101.0), T0));
        assert!(approved.flags.contains("reprocessed") && approved.reasons.contains("RANGE_HARD"));
        assert_eq!((clean[0].record_id.as_str(), clean[0].partition), ("gw/press_line/1/0", oven));
        assert_eq!(clean[0].source, format!("dlq.telemetry/{oven}/0"));
        let audit = rig.audit();
        let told: Vec<_> =
            audit.iter().map(|row| [&*row["by"], &*row["action"], &*row["ok"], &*row["already"]]).collect();
        assert_eq!(told, [["Ada", "approve", "1", "0"], ["Ada", "approve", "0", "1"]]);
        assert!(audit[0]["selection"].contains(&id) && audit[0]["comment"] == "sensor was checked");
        assert_eq!((&*audit[0]["before"], &*audit[0]["after"]), ("NEW=1", "APPROVED=1"));

        // a crash behind the clean record and before the status leaves the record, and no status
        let forget = Outgoing {
            topic: StateTopic::DeadLetters.name(),
            partition: Some(partitioner::partition_for(id.as_bytes(), PARTITIONS)),
            key: Some(id.as_bytes()),
            payload: None,
            timestamp_ms: None,
            headers: &[],
        };
        rig.send(&forget);
        let start = rig.start(up_to(100.0));
        assert_eq!(start.status(&id), "NEW");
        assert_eq!(figures(&start.run(Action::Approve, ids(&[&id]), "c1")), [1, 0, 0]);
        drop(start);
        let clean = rig.clean();
        assert_eq!((clean.len(), &clean[0]), (2, &clean[1]), "the same record with the same id, once more");

        // what the statuses say survives a restart
        let start = rig.start(up_to(100.0));
        assert_eq!(start.status(&id), "APPROVED");
        assert_eq!(figures(&start.run(Action::Approve, ids(&[&id]), "c1")), [0, 1, 0]);
        let empty = format!("gw/telemetry.raw/{oven}/1");
        for (wrong, why) in [("gw/telemetry.raw/0/0", "cannot be read"), (empty.as_str(), "no value")] {
            let job = start.run(Action::Approve, ids(&[wrong]), "c3");
            assert_eq!(figures(&job), [0, 0, 1]);
            assert!(job["failed_entries"][0]["reason"].as_str().unwrap().contains(why), "{job}");
            assert_eq!(start.status(wrong), "NEW");
        }
        assert_eq!(figures(&start.run(Action::Reject, ids(&[&empty]), "c4")), [1, 0, 0]);
        assert_eq!(figures(&start.run(Action::Approve, ids(&[&empty]), "c5")), [0, 0, 1]);
        assert!(start.letters.submit(Action::Reject, ids(&[&id]), Command::default()).is_err(), "without a comment");
        assert_eq!(rig.clean().len(), 2);
    })
    .await
    .unwrap();
}

// AC-073, VAL-43, VAL-44
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_that_pass_newer_rules_become_clean_in_order() {
    let rig = Rig::new().await;
    tokio::task::spawn_blocking(move || {
        // written in blocks that are out of order, as replays and retries leave them
        let assets = ["oven", "press", "pump", "fan"];
        let value = |i: i64| if i % 125 == 0 { 250.0 } else { 101.0 };
        let mut readings: Vec<Reading<'_>> = (0..5000)
            .map(|i: i64| reading(assets[usize::try_from(i % 4).unwrap()], i, Value::Float(value(i))))
            .collect();
        readings.chunks_mut(100).for_each(<[_]>::reverse);
        rig.reject(&readings);
        let start = rig.start(up_to(100.0));
        let open = || Selection::Filter(Filter::default());
        let groups = start.letters.groups(&Filter::default()).unwrap();
        assert_eq!((&groups["entries_total"], &groups["groups_total"]), (&5000.into(), &4.into()));
        assert_eq!(figures(&start.run(Action::DryRun, open(), "d0")), [0, 0, 5000], "the rules of before");
        start.letters.set_rules(up_to(200.0));
        let dry = start.run(Action::DryRun, open(), "d1");
        assert_eq!(figures(&dry), [4960, 0, 40], "{}", dry["failed_by_reason"]);
        assert_eq!(dry["failed_by_reason"]["RANGE_HARD"], 40);
        assert!(rig.clean().is_empty() && rig.audit().is_empty(), "a dry run writes nothing");

        let preview = start.letters.preview(open()).unwrap();
        assert_eq!(preview["count"], 5000);
        let token = || Selection::Frozen(preview["token"].as_str().unwrap().to_owned());
        let began = Instant::now();
        let job = start.run(Action::Reprocess, token(), "r1");
        assert_eq!(figures(&job), [4960, 0, 40], "{}", job["failed_by_reason"]);
        assert!(began.elapsed() > Duration::from_secs(9), "500 a second");
        rig.clock.set(Timestamp::from_micros(T0 + 15 * 60 * SECOND));
        assert!(start.letters.submit(Action::Reprocess, token(), Command::default()).is_err(), "15 minutes are over");

        let clean = rig.clean();
        assert_eq!(clean.len(), 4960);
        for asset in assets {
            let of_asset: Vec<Reading<'_>> =
                clean.iter().map(Stored::reading).filter(|reading| reading.asset_id == asset).collect();
            assert!(of_asset.is_sorted_by_key(|reading| reading.device_time), "{asset}");
            let good =
                |reading: &Reading<'_>| reading.quality == Quality::Good && reading.flags.contains("reprocessed");
            assert!(of_asset.iter().all(good), "{asset}");
        }
        assert_eq!(rig.everything(Topic::DlqTelemetry.name()).len(), 5000, "no new letter");
        assert!(
            rig.everything(Topic::AlarmsClean.name()).is_empty() && rig.everything(Topic::EventsRaw.name()).is_empty()
        );
        drop(start);

        let start = rig.start(up_to(200.0));
        let failing = Filter { status: Some("STILL_FAILING".to_owned()), ..Filter::default() };
        // statuses are read beside the letters, after a start
        let deadline = Duration::from_secs(30);
        let began = Instant::now();
        let list = loop {
            let list = start.letters.list(&failing, None, Some(1000)).unwrap();
            if list["entries"].as_array().is_some_and(|entries| entries.len() == 40) || began.elapsed() > deadline {
                break list;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let entries = list["entries"].as_array().unwrap();
        assert_eq!(entries.len(), 40);
        assert!(entries.iter().all(|entry| entry["attempts"] == 2 && entry["reason"] == "RANGE_HARD"));
        let again = Selection::Filter(failing.clone());
        assert_eq!(figures(&start.run(Action::Reprocess, again, "r1")), [0, 40, 0], "the same command");
        assert_eq!(figures(&start.run(Action::Reprocess, Selection::Filter(failing), "r2")), [0, 0, 40]);
        assert_eq!(rig.clean().len(), 4960);
        let told: Vec<String> =
            rig.audit().iter().map(|row| format!("{} {}", row["command_id"], row["after"])).collect();
        assert_eq!(told[..2], ["r1 ", "r1 REPROCESSED=4960 STILL_FAILING=40"]);
    })
    .await
    .unwrap();
}

// VAL-43
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_selection_takes_no_new_letters_and_a_job_is_cancelled() {
    let rig = Rig::new().await;
    tokio::task::spawn_blocking(move || {
        let readings: Vec<_> = (0..1000).map(|i| reading("oven", i, Value::Float(101.0))).collect();
        rig.reject(&readings);
        let start = rig.start(up_to(100.0));
        let preview = start.letters.preview(Selection::Filter(Filter::default())).unwrap();
        let mut garbage = Vec::new();
        unreadable().encode(&mut garbage, rig.id(Topic::DlqTelemetry));
        let (topic, partition) = (Topic::DlqTelemetry.name(), Some(0));
        rig.send(&Outgoing { topic, partition, key: None, payload: Some(&garbage), timestamp_ms: None, headers: &[] });
        let total = || start.letters.groups(&Filter::default()).unwrap()["entries_total"].clone();
        until("the new letter is known", || total() == 1001);

        let token = Selection::Frozen(preview["token"].as_str().unwrap().to_owned());
        let job = start.letters.submit(Action::Approve, token, Command::default()).unwrap();
        until("it is under way", || job.after(Duration::ZERO)["done"].as_u64() > Some(0));
        start.letters.cancel(&job.id).unwrap();
        let job = job.after(DEADLINE);
        assert_eq!((&job["state"], &job["total"]), (&"CANCELLED".into(), &1000.into()));
        let done = job["ok"].as_u64().unwrap();
        assert!(done < 1000);
        assert_eq!(rig.clean().len() as u64, done);
        let open = Filter { status: Some("OPEN".to_owned()), ..Filter::default() };
        assert_eq!(start.letters.groups(&open).unwrap()["entries_total"], 1001 - done);
    })
    .await
    .unwrap();
}
