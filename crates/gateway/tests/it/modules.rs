//! Validator and aggregator against a real broker: what goes in comes out once, also when a restart reads it again.
//!
//! Long because: stories on one rig, which share its few helpers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, Handle, Settings as BrokerSettings};
use config::rules::{Limits, Rule};
use config::{Aggregation, Validation};
use gateway::modules::{self, LiveTable, LiveValue, ModuleContext, ModuleState, ValidatorSettings};
use kafka::client::{Consumer, Position, Producer, Settings, admin};
use model::{Clock, Health, ManualClock, Quality, Reading, Resolution, TextList, TextMap, Timestamp, Value};
use stream::message::{Event, aggregate, dead_letter, event, telemetry};
use stream::topics::PARTITIONS;
use stream::{Publisher, Schemas, Topic, avro, header, partitioner};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(60);
/// 2026-01-29T10:00:00Z
const T0: i64 = 1_769_680_800_000_000;
const SECOND: i64 = 1_000_000;

pub(crate) struct Rig {
    _dir: tempfile::TempDir,
    _broker: Handle,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) ctx: ModuleContext,
}

/// One record as it lies in a topic.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    partition: i32,
    payload: Vec<u8>,
    source: String,
}

impl Stored {
    pub(crate) fn body(&self) -> &[u8] {
        avro::unframe(&self.payload).unwrap().1
    }
}

impl Rig {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let context = daemon::Context::new("broker", "gw");
        let broker = Broker::start(BrokerSettings::on_free_ports(dir.path()), &context).await.unwrap();
        let settings = Settings::new(&broker.kafka().to_string(), "test");
        let plans = crate::topics();
        admin::create_topics(&settings, &plans).await.unwrap();
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

    /// The context of a fresh start: nothing known from before.
    pub(crate) fn restarted(&self) -> ModuleContext {
        ModuleContext {
            stop: CancellationToken::new(),
            live: Arc::new(LiveTable::default()),
            metrics: daemon::Metrics::new("gateway"),
            ..self.ctx.clone()
        }
    }

    pub(crate) fn everything(&self, topic: Topic) -> Vec<Stored> {
        let consumer = Consumer::open(&self.ctx.settings, "look").unwrap();
        let names = [(topic.name(), PARTITIONS)];
        let (starts, ends) = (consumer.starts(&names).unwrap(), consumer.ends(&names).unwrap());
        consumer.assign(&starts).unwrap();
        let expected: i64 =
            ends.iter().map(|end| end.offset).sum::<i64>() - starts.iter().map(|s| s.offset).sum::<i64>();
        let mut stored = Vec::new();
        while i64::try_from(stored.len()).unwrap() < expected {
            let count = consumer
                .poll(1000, DEADLINE, Duration::ZERO, |record| {
                    stored.push((
                        record.partition(),
                        record.offset(),
                        Stored {
                            partition: record.partition(),
                            payload: record.payload().unwrap_or_default().to_vec(),
                            source: String::from_utf8_lossy(record.header(header::SOURCE).unwrap_or_default()).into(),
                        },
                    ));
                })
                .unwrap();
            assert!(count > 0, "{} of {expected} records of {} arrived", stored.len(), topic.name());
        }
        stored.sort_by_key(|(partition, offset, _)| (*partition, *offset));
        stored.into_iter().map(|(_, _, stored)| stored).collect()
    }

    pub(crate) fn written(&self, topic: Topic) -> i64 {
        let consumer = Consumer::open(&self.ctx.settings, "look").unwrap();
        consumer.ends(&[(topic.name(), PARTITIONS)]).unwrap().iter().map(|end| end.offset).sum()
    }

    pub(crate) fn committed(&self, group: &str, topic: Topic) -> i64 {
        let consumer = Consumer::open(&self.ctx.settings, group).unwrap();
        consumer.committed(topic.name(), PARTITIONS).unwrap().iter().map(|position| position.offset).sum()
    }

    /// Sets a group back, as a crash leaves it that came before its commit.
    pub(crate) fn rewind(&self, group: &str, topic: Topic, to: impl Fn(i64) -> i64, metadata: &str) {
        let consumer = Consumer::open(&self.ctx.settings, group).unwrap();
        let back =
            |position: Position| Position { offset: to(position.offset), metadata: metadata.to_owned(), ..position };
        let positions: Vec<_> = consumer.committed(topic.name(), PARTITIONS).unwrap().into_iter().map(back).collect();
        consumer.commit(&positions).unwrap();
    }

    fn send(&self, topic: Topic, partition: i32, key: &[u8], payload: &[u8]) {
        let producer = Producer::open(&self.ctx.settings).unwrap();
        let batch = producer.batch();
        batch.send(topic.name(), partition, key, payload, T0 / 1000, &[("sf-test", b"kept")]).unwrap();
        assert!(batch.finish().wait(DEADLINE).unwrap());
    }

    fn publish(&self, readings: &[Reading<'_>]) {
        let id = self.id(Topic::TelemetryRaw);
        let mut publisher = Publisher::open(&self.ctx.settings).unwrap();
        let (pending, taken) = publisher.publish(Topic::TelemetryRaw, id, readings.iter().copied()).unwrap();
        assert_eq!(taken, readings.len());
        assert!(pending.wait(DEADLINE).unwrap());
    }

    pub(crate) fn id(&self, topic: Topic) -> i32 {
        self.ctx.runtime.block_on(self.ctx.schemas.id_for(topic)).unwrap()
    }
}

/// Waits for a condition, and says what it waited for when it does not come.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs modules on threads of their own while `during` looks on, and stops them; they must end well.
pub(crate) fn with_modules(
    ctx: &ModuleContext,
    rules: &Validation,
    aggregate: Option<&Aggregation>,
    during: impl FnOnce(&ModuleState),
) {
    let (validator, aggregator) = (ModuleState::default(), ModuleState::default());
    let settings = ValidatorSettings {
        validation: rules.clone(),
        alarms: config::Alarms::default(),
        config_revision: "r1".to_owned(),
    };
    std::thread::scope(|scope| {
        let mut threads = vec![scope.spawn(|| modules::run_validator(ctx, &settings, &validator))];
        if let Some(aggregation) = aggregate {
            threads.push(scope.spawn(|| modules::run_aggregator(ctx, aggregation, &aggregator)));
        }
        let watched = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| during(&validator)));
        ctx.stop.cancel();
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
        if let Err(panic) = watched {
            std::panic::resume_unwind(panic);
        }
    });
}

fn reading<'a>(asset_id: &'a str, second: i64, value: Value<'a>) -> Reading<'a> {
    let time = Timestamp::from_micros(T0 + second * SECOND);
    Reading {
        asset_id,
        asset_path: None,
        parameter: "temperature",
        value,
        value_type: if matches!(value, Value::Bool(_)) { model::ValueType::Bool } else { model::ValueType::Float },
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
        seq: second,
        flags: TextList::default(),
        metadata: TextMap::Slice(&[("gateway_id", "gw"), ("adapter_id", "press_line")]),
        tags: TextMap::default(),
    }
}

pub(crate) fn rules() -> Validation {
    Validation {
        rules: vec![Rule {
            id: "oven_limits".to_owned(),
            asset: "*".to_owned(),
            parameter: "*".to_owned(),
            range: Some(Limits { hard_hi: Some(100.0), soft_hi: Some(80.0), ..Limits::default() }),
            expected_interval_ms: Some(3000),
            ..Rule::default()
        }],
        ..Validation::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readings_are_judged_once_whatever_is_read_again() {
    // AC-067, AC-069, REC-08, R-02, VAL-40, F3, F20
    let rig = Rig::new().await;
    tokio::task::spawn_blocking(move || {
        let bad = Reading {
            quality: Quality::Bad,
            quality_reason: Some(model::reason::TIMEOUT),
            ..reading("oven", 5, Value::Null)
        };
        let readings = [
            reading("oven", 0, Value::Float(20.0)),
            reading("oven", 1, Value::Float(101.0)),
            reading("oven", 2, Value::Float(100.0)),
            reading("oven", 2, Value::Float(100.0)),
            bad,
            reading("oven", 9, Value::Float(21.0)),
            reading("pump", 0, Value::Bool(true)),
        ];
        rig.publish(&readings);
        let oven = partitioner::partition_for(b"oven", PARTITIONS);
        rig.send(Topic::TelemetryRaw, oven, b"oven", b"\x07garbage");
        rig.send(Topic::EventsRaw, 3, b"x", b"also garbage");
        let raw = rig.everything(Topic::TelemetryRaw);

        with_modules(&rig.ctx, &rules(), None, |state| {
            until("all records are judged", || {
                rig.written(Topic::TelemetryClean) == 4 && rig.written(Topic::DlqTelemetry) == 3
            });
            until("events are passed on", || {
                rig.written(Topic::EventsClean) == 5 && rig.written(Topic::DlqEvents) == 1
            });
            assert_eq!(state.health(), Health::Healthy);
            assert_eq!(state.dead_letters(), 4);
            let live = rig.ctx.live.snapshot();
            let shown = live.iter().find(|point| point.asset_id == "oven").unwrap();
            assert_eq!(
                (&shown.value, shown.quality, &*shown.adapter_id),
                (&LiveValue::Float(21.0), Quality::Good, "press_line")
            );
            assert_eq!(live.len(), 2);
        });

        let clean = rig.everything(Topic::TelemetryClean);
        let of_oven: Vec<_> = clean.iter().filter(|record| record.partition == oven).collect();
        assert_eq!(
            of_oven[0].payload,
            raw.iter().find(|record| record.partition == oven).unwrap().payload,
            "same bytes"
        );
        assert_eq!(of_oven[0].source, format!("telemetry.raw/{oven}/0"));
        let marked = telemetry::decode(of_oven[1].body()).unwrap();
        assert_eq!((marked.quality, marked.quality_reason), (Quality::Suspect, Some(model::reason::RANGE_SOFT)));
        assert_eq!(marked.reasons.iter().collect::<Vec<_>>(), [model::reason::RANGE_SOFT]);
        assert!(telemetry::decode(of_oven[2].body()).unwrap().flags.contains(model::flag::GAP_BEFORE));

        let letters = rig.everything(Topic::DlqTelemetry);
        let letter = |i: usize| dead_letter::decode(letters[i].body()).unwrap();
        assert_eq!(
            (letter(0).rule_id, letter(0).reason, letter(0).observed, letter(0).limit),
            (Some("oven_limits"), model::reason::RANGE_HARD, Some("101"), Some("100"))
        );
        assert_eq!((letter(1).reason, letter(1).stage), (model::reason::TIMEOUT, "validate"));
        assert_eq!((letter(2).stage, letter(2).payload), ("decode", &b"\x07garbage"[..]));

        let events = rig.everything(Topic::EventsClean);
        let kinds: Vec<String> = events
            .iter()
            .map(|record| {
                let event = event::decode(record.body()).unwrap();
                format!("{} {} {}", event.event_type, event.from_state.unwrap_or("-"), event.to_state.unwrap_or("-"))
            })
            .collect();
        let expected = [
            "point.quality GOOD BAD",
            "point.quality BAD SUSPECT",
            "point.quality SUSPECT BAD",
            "point.gap - -",
            "point.quality BAD GOOD",
        ];
        assert_eq!(kinds, expected);
        assert_eq!(rig.committed("sf-validator", Topic::TelemetryRaw), rig.written(Topic::TelemetryRaw));

        // somebody else's event at the end of the topic must not hide what is ours
        let foreign = Event { event_id: "e1", event_type: "site.event", ..foreign_event() };
        let mut payload = Vec::new();
        foreign.encode(&mut payload, rig.id(Topic::EventsRaw));
        rig.send(Topic::EventsRaw, oven, b"oven", &payload);
        let before = [clean, letters, rig.everything(Topic::EventsRaw)];
        let marks = "telemetry.clean=0 dlq.telemetry=0 events.raw=0";
        let event_marks = "events.clean=0 dlq.events=0";
        for (back, text, event_text) in [(i64::MAX, marks, event_marks), (2, marks, event_marks), (3, "", "")] {
            rig.rewind("sf-validator", Topic::TelemetryRaw, |offset| (offset.saturating_sub(back)).max(0), text);
            rig.rewind("sf-validator", Topic::EventsRaw, |offset| (offset.saturating_sub(back)).max(0), event_text);
            with_modules(&rig.restarted(), &rules(), None, |_| {
                until("everything is committed again", || {
                    rig.committed("sf-validator", Topic::TelemetryRaw) == rig.written(Topic::TelemetryRaw)
                        && rig.committed("sf-validator", Topic::EventsRaw) == rig.written(Topic::EventsRaw)
                });
            });
            let after =
                [Topic::TelemetryClean, Topic::DlqTelemetry, Topic::EventsRaw].map(|topic| rig.everything(topic));
            assert_eq!(after, before, "set back by {back}");
            assert_eq!((rig.written(Topic::EventsClean), rig.written(Topic::DlqEvents)), (6, 1));
        }
    })
    .await
    .unwrap();
}

pub(crate) fn foreign_event() -> Event<'static> {
    Event {
        event_id: "",
        event_type: "",
        asset_id: "oven",
        parameter: None,
        from_state: None,
        to_state: None,
        severity: None,
        time_source: model::time_source::GATEWAY,
        occurred_after: None,
        edge: None,
        initial: false,
        missed_window: false,
        message: "",
        value: Value::Null,
        unit: None,
        quality: Quality::Good,
        quality_reason: None,
        device_time: Timestamp::from_micros(T0),
        gateway_time: Timestamp::from_micros(T0),
        epoch: 0,
        seq: 0,
        flags: TextList::default(),
        metadata: TextMap::default(),
        details: TextMap::default(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seconds_become_minutes_and_hours_once() {
    // AC-074, AGG-05, AGG-09, F3
    let rig = Rig::new().await;
    tokio::task::spawn_blocking(move || {
        let mut readings = vec![reading("line", 0, Value::Float(10.0))];
        for i in 0..99 {
            let time = Timestamp::from_micros(T0 + SECOND + i * 10_000);
            readings.push(Reading { device_time: time, gateway_time: time, ..reading("line", 1, Value::Int(20)) });
        }
        rig.publish(&readings);
        let at = |seconds: i64| rig.clock.set(Timestamp::from_micros(T0 + seconds * SECOND));
        let levels = [
            ("sf-aggregator-1s", Topic::TelemetryClean, Topic::Telemetry1s),
            ("sf-aggregator-1min", Topic::Telemetry1s, Topic::Telemetry1min),
            ("sf-aggregator-1hour", Topic::Telemetry1min, Topic::Telemetry1hour),
        ];
        let written = || levels.map(|(_, _, output)| rig.written(output));
        let all_committed =
            || levels.iter().all(|(group, input, _)| rig.committed(group, *input) == rig.written(*input));
        with_modules(&rig.ctx, &Validation::default(), Some(&Aggregation::default()), |_| {
            until("the readings are clean", || rig.written(Topic::TelemetryClean) == 100);
            assert_eq!(written(), [0, 0, 0], "nothing closes while the clock stands still");
            at(30);
            until("the seconds close", || written() == [2, 0, 0]);
            at(200);
            until("the minute closes", || written() == [2, 1, 0]);
            at(7200);
            until("the hour closes", || written() == [2, 1, 1]);
            until("all is committed", all_committed);
        });

        let minutes = rig.everything(Topic::Telemetry1min);
        let minute = aggregate::decode(minutes[0].body()).unwrap();
        assert_eq!((minute.window_start.as_micros(), minute.partials.statistics.count), (T0, 100));
        assert!((minute.partials.statistics.mean - 19.9).abs() < 1e-9);
        assert!(((minute.partials.statistics.m2 / 100.0).sqrt() - 0.994_99).abs() < 1e-5);
        assert_eq!((minute.resolution, minute.quality, minute.unit), (Resolution::Minute, Quality::Good, Some("C")));
        let hour = rig.everything(Topic::Telemetry1hour);
        assert_eq!(aggregate::decode(hour[0].body()).unwrap().partials.statistics, minute.partials.statistics);

        let before = levels.map(|(_, _, output)| rig.everything(output));
        for text in ["mark=0", ""] {
            for (group, input, _) in levels {
                rig.rewind(group, input, |_| 0, text);
            }
            with_modules(&rig.restarted(), &Validation::default(), Some(&Aggregation::default()), |_| {
                until("all is committed again", all_committed);
            });
            assert_eq!(levels.map(|(_, _, output)| rig.everything(output)), before, "commit text {text:?}");
        }

        // and what comes afterwards is aggregated as ever
        rig.publish(&[reading("line", 7300, Value::Float(1.0)), reading("line", 7306, Value::Float(1.0))]);
        let after: BTreeMap<i64, i64> = {
            with_modules(&rig.restarted(), &Validation::default(), Some(&Aggregation::default()), |_| {
                until("the next second closes", || rig.written(Topic::Telemetry1s) == 3);
            });
            let decode = |stored: &Stored| {
                let window = aggregate::decode(stored.body()).unwrap();
                ((window.window_start.as_micros() - T0) / SECOND, window.partials.statistics.count)
            };
            rig.everything(Topic::Telemetry1s).iter().map(decode).collect()
        };
        assert_eq!(after, BTreeMap::from([(0, 1), (1, 99), (7300, 1)]));
    })
    .await
    .unwrap();
}

/// A point averaged over time, and a counter; a truth is one by itself.
fn kinds() -> Aggregation {
    let value = serde_json::json!({"points": [
        {"parameter": "temperature", "avg_method": "time_weighted", "max_hold_ms": 5000},
        {"parameter": "energy", "kind": "counter", "modulus": 4_294_967_296_u64},
        {"parameter": "running", "max_hold_ms": 60000},
    ]});
    let (aggregation, problems) = Aggregation::read(&value, "/aggregation");
    assert_eq!(problems, []);
    aggregation
}

/// The newest revision of each window: parameter and start in seconds.
fn newest(records: &[Stored]) -> BTreeMap<(String, i64), Stored> {
    let mut newest: BTreeMap<(String, i64), Stored> = BTreeMap::new();
    for record in records {
        let window = aggregate::decode(record.body()).unwrap();
        let key = (window.parameter.to_owned(), (window.window_start.as_micros() - T0) / SECOND);
        let before = newest.get(&key).map_or(0, |before| aggregate::decode(before.body()).unwrap().revision);
        assert_eq!(window.revision, before + 1, "{key:?}: revisions neither skip nor repeat");
        newest.insert(key, record.clone());
    }
    newest
}

// AGG-06: what was let go is read back from the output, after a restart, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_data_reaches_windows_that_were_let_go() {
    const SECONDS: i64 = 7000; // some 140 bytes each: more than the memory holds
    let rig = Rig::new().await;
    tokio::task::spawn_blocking(move || {
        let at = |seconds: i64| rig.clock.set(Timestamp::from_micros(T0 + seconds * SECOND));
        let aggregation = Aggregation { late_memory_mb: 1, ..Aggregation::default() };
        let of_second = |second: i64, window: &model::Aggregate<'_>| {
            window.window_start.as_micros() == T0 + second * SECOND && window.revision == 2
        };
        let is_revised = |topic: Topic, second: i64| {
            let records = rig.everything(topic);
            records.iter().any(|record| of_second(second, &aggregate::decode(record.body()).unwrap()))
        };
        let all: Vec<Reading<'_>> = (0..SECONDS).map(|second| reading("line", second, Value::Float(10.0))).collect();
        for part in all.chunks(1000) {
            rig.publish(part);
        }
        at(SECONDS);
        let late = |second: i64, value| Reading {
            device_time: Timestamp::from_micros(T0 + second * SECOND + 7),
            gateway_time: Timestamp::from_micros(T0 + SECONDS * SECOND),
            ..reading("line", second, Value::Float(value))
        };
        with_modules(&rig.ctx, &Validation::default(), Some(&aggregation), |_| {
            until("the seconds are written", || rig.written(Topic::Telemetry1s) > SECONDS - 20);
            rig.publish(&[late(3, 40.0), late(4, 50.0), late(3000, 60.0)]);
            until("they are corrected", || {
                at((rig.clock.now().as_micros() - T0) / SECOND + 5);
                [3, 4, 3000].iter().all(|second| is_revised(Topic::Telemetry1s, *second))
                    && [0, 3000].iter().all(|second| is_revised(Topic::Telemetry1min, *second))
            });
        });
        with_modules(&rig.restarted(), &Validation::default(), Some(&aggregation), |_| {
            rig.publish(&[late(100, 70.0)]);
            until("one more is corrected", || {
                at((rig.clock.now().as_micros() - T0) / SECOND + 5);
                is_revised(Topic::Telemetry1s, 100) && is_revised(Topic::Telemetry1min, 60)
            });
        });
        let newest = newest(&rig.everything(Topic::Telemetry1s));
        for (second, sum) in [(3, 50.0), (4, 60.0), (100, 80.0), (3000, 70.0), (5, 10.0)] {
            let window = aggregate::decode(newest[&("temperature".to_owned(), second)].body()).unwrap();
            assert_eq!(window.partials.statistics.sum, sum, "second {second}");
        }
        let minutes = rig.everything(Topic::Telemetry1min);
        let minutes = self::newest(&minutes);
        let first = aggregate::decode(minutes[&("temperature".to_owned(), 0)].body()).unwrap();
        assert_eq!((first.partials.statistics.count, first.partials.statistics.sum), (62, 690.0));
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_is_aggregated_and_late_data_corrects_it_once() {
    // AC-076, AC-078, AC-079, AGG-06, AGG-07, AGG-09, AGG-10, AGG-11
    let rig = Rig::new().await;
    tokio::task::spawn_blocking(move || {
        let at = |seconds: i64| rig.clock.set(Timestamp::from_micros(T0 + seconds * SECOND));
        let of = |parameter, second, value| Reading { parameter, ..reading("line", second, value) };
        let mut readings: Vec<Reading<'_>> = (0..6).map(|second| reading("line", second, Value::Float(10.0))).collect();
        readings.insert(1, of("running", 0, Value::Bool(true)));
        readings.insert(2, of("energy", 0, Value::Int(4_294_967_290)));
        readings.insert(4, of("energy", 1, Value::Int(5)));
        readings.push(of("running", 30, Value::Bool(false)));
        rig.publish(&readings);
        let levels = [
            ("sf-aggregator-1s", Topic::TelemetryClean, Topic::Telemetry1s),
            ("sf-aggregator-1min", Topic::Telemetry1s, Topic::Telemetry1min),
            ("sf-aggregator-1hour", Topic::Telemetry1min, Topic::Telemetry1hour),
        ];
        let all_committed = || {
            levels.iter().all(|(group, input, _)| rig.committed(group, *input) == rig.written(*input))
                && rig.committed("sf-aggregator-1s", Topic::EventsClean) == rig.written(Topic::EventsClean)
        };
        let tick = || at((rig.clock.now().as_micros() - T0) / SECOND + 5);
        let aggregation = kinds();
        with_modules(&rig.ctx, &Validation::default(), Some(&aggregation), |_| {
            at(2000);
            until("the truth's windows close", || {
                tick();
                newest(&rig.everything(Topic::Telemetry1min)).contains_key(&("running".to_owned(), 60))
            });
        });

        let window_of = |topic, parameter: &str, second: i64, check: &dyn Fn(model::Aggregate<'_>)| {
            let newest = newest(&rig.everything(topic));
            let record = newest.get(&(parameter.to_owned(), second)).unwrap_or_else(|| panic!("{parameter} {second}"));
            check(aggregate::decode(record.body()).unwrap());
        };
        window_of(Topic::Telemetry1min, "running", 0, &|minute| {
            assert_eq!(minute.percent_true(), Some(50.0));
            assert_eq!((minute.average(), minute.kind), (None, model::Kind::Bool));
            assert_eq!((minute.partials.statistics.count, minute.quality), (2, Quality::Good));
        });
        window_of(Topic::Telemetry1min, "energy", 0, &|minute| {
            let model::aggregate::Extra::Counter(counts) = minute.partials.extra else { panic!("a counter") };
            assert_eq!((counts.delta, counts.resets), (11.0, 0));
        });
        window_of(Topic::Telemetry1min, "temperature", 0, &|minute| {
            assert_eq!(minute.average(), Some(10.0));
            let covered = minute.partials.coverage.unwrap().covered_us;
            assert_eq!((covered, minute.quality), (10 * SECOND, Quality::Uncertain), "5 s, and 5 s of holding");
        });

        // half an hour later comes what was measured in the third second
        let late = Reading {
            device_time: Timestamp::from_micros(T0 + 2_500_000),
            gateway_time: Timestamp::from_micros(T0 + 2001 * SECOND),
            ..reading("line", 2, Value::Float(40.0))
        };
        rig.publish(&[late]);
        with_modules(&rig.restarted(), &Validation::default(), Some(&aggregation), |_| {
            at(2100);
            until("the minute is corrected", || {
                tick();
                rig.everything(Topic::Telemetry1min).iter().any(|record| {
                    let window = aggregate::decode(record.body()).unwrap();
                    window.parameter == "temperature" && window.revision == 2
                })
            });
            at(9000);
            until("the hours are there", || {
                tick();
                rig.written(Topic::Telemetry1hour) >= 3
            });
            until("all is committed", all_committed);
        });
        window_of(Topic::Telemetry1s, "temperature", 2, &|second| {
            assert_eq!((second.average(), second.revision, second.partials.statistics.count), (Some(25.0), 2, 2));
        });
        for topic in [Topic::Telemetry1min, Topic::Telemetry1hour] {
            window_of(topic, "temperature", 0, &|window| {
                assert_eq!((window.average(), window.partials.statistics.count), (Some(11.5), 7));
            });
        }

        let before = levels.map(|(_, _, output)| rig.everything(output));
        for text in ["mark=0", ""] {
            for (group, input, _) in levels {
                rig.rewind(group, input, |_| 0, text);
            }
            rig.rewind("sf-aggregator-1s", Topic::EventsClean, |_| 0, "");
            with_modules(&rig.restarted(), &Validation::default(), Some(&aggregation), |_| {
                until("all is committed again", all_committed);
            });
            let after = levels.map(|(_, _, output)| rig.everything(output));
            let counts = |all: &[Vec<Stored>; 3]| [all[0].len(), all[1].len(), all[2].len()];
            assert_eq!(counts(&after), counts(&before), "commit text {text:?}");
            assert!(after == before, "commit text {text:?}");
        }
    })
    .await
    .unwrap();
}
