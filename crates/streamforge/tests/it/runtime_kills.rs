//! `kill -9` of the runtime at random moments during an hour of the plant with late, doubled, disordered and bad readings:
//! what it wrote equals, in content, what a runtime wrote that was never killed.
//!
//! The stream is a broker of its own, so that only the runtime dies. `SF_RUNTIME_KILLS` says how often; the hour is dealt out
//! in as many pieces, faster than the clock. The gateways' clock follows the readings, so that minutes and hours, which
//! close by the clock of who writes them, close under kills, too.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use model::{Quality, Reading, TextList, TextMap, Timestamp, Value, ValueType};
use serde_json::{Value as Json, json};
use stream::message::{aggregate, alarm, dead_letter, event};
use stream::{Publisher, Schemas, Topic, avro};
use tokio::time::Instant;

use crate::harness::{Broker, Gateway, Random, Setup, number, read_all, say, wait_for};

const HOUR_S: u64 = 3600;
const ASSETS: u64 = 8;
const SECOND: i64 = 1_000_000;
/// How long the runtime may need to finish everything.
const DRAIN_MAX: Duration = Duration::from_secs(300);

/// One reading of the hour.
#[derive(Debug, Clone)]
struct Told {
    asset: String,
    parameter: &'static str,
    value: Option<f64>,
    running: Option<bool>,
    quality: Quality,
    device: i64,
    gateway: i64,
    seq: i64,
}

/// The plant's hour: every asset tells temperature, flow and whether it runs, each second.
fn hour(random: &mut Random, begin: i64) -> Vec<Told> {
    let mut told = Vec::new();
    let mut seq = 0;
    for second in 0..HOUR_S {
        for asset in 0..ASSETS {
            let now = begin + i64::try_from(second).expect("a small number") * SECOND;
            let phase = f64::from(u32::try_from((second + asset * 97) % 600).expect("a small number")) / 600.0;
            let running = (second / 300 + asset) % 4 != 0;
            let mut temperature = 60.0 + 25.0 * (std::f64::consts::TAU * phase).sin();
            let frozen = asset == 1 && (900..1500).contains(&second);
            match random.below(200) {
                0 => temperature = 140.0, // beyond the hard limit
                1 => temperature += 30.0, // a spike
                _ if frozen => temperature = 61.5,
                _ => {}
            }
            let flow = if running { 10.0 + temperature / 10.0 } else { 0.2 };
            let mut add = |parameter, value, running, quality, device| {
                let asset = format!("machine_{asset}");
                told.push(Told { asset, parameter, value, running, quality, device, gateway: now, seq });
                seq += 1;
            };
            let late = match random.below(40) {
                0 => 90 * SECOND,  // late
                1 => 3 * SECOND,   // out of order
                2 => 700 * SECOND, // far behind every watermark but the hour's
                _ => 0,
            };
            add("temperature", Some(temperature), None, Quality::Good, now - late);
            if random.below(30) == 0 {
                add("temperature", Some(temperature), None, Quality::Good, now - late); // told twice
            }
            if random.below(60) == 0 {
                add("temperature", Some(temperature + 0.5), None, Quality::Good, now - late); // and differently
            }
            match random.below(300) {
                0 => add("flow", None, None, Quality::Bad, now),
                1 => add("flow", Some(f64::from(9999)), None, Quality::Good, now),
                _ => add("flow", Some(flow), None, Quality::Good, now),
            }
            add("running", None, Some(running), Quality::Good, now);
        }
    }
    told
}

/// Long after the hour: what closes every window that is still open.
fn epilogue(begin: i64, seq: i64) -> Vec<Told> {
    let mut told = Vec::new();
    for step in 0..4 {
        let now = begin + (3 + step) * 3600 * SECOND;
        for asset in 0..ASSETS {
            for parameter in ["temperature", "flow"] {
                told.push(Told {
                    asset: format!("machine_{asset}"),
                    parameter,
                    value: Some(50.0),
                    running: None,
                    quality: Quality::Good,
                    device: now,
                    gateway: now,
                    seq: seq + i64::try_from(told.len()).expect("a small number"),
                });
            }
        }
    }
    told
}

fn document(kafka: &str, registry: &str) -> Setup {
    Setup::new("gw-hour")
        .with("stream", json!({ "mode": "external", "bootstrap": kafka, "registry_url": registry }))
        .with("revision", "hour")
        .with("validation", rules())
        .with("alarms", alarms())
        // so much that nothing is let go: how late is too late depends on what was kept, and that on the machine
        .with("aggregation", json!({ "late_memory_mb": 1024 }))
}

/// On every asset: a limit with delays, a second one that hides it, a rate, and a limit suppressed while it stands.
///
/// The first-out group is one asset's: between partitions there is no order that a replay could keep.
fn alarms() -> Json {
    let mut rules = vec![
        json!({ "id": "jump", "parameter": "temperature", "type": "rate", "rate_per_s": 8, "severity": "LOW",
          "message": "jumps" }),
        json!({ "id": "dry", "parameter": "flow", "type": "lo", "limit": 1, "on_delay_ms": 10_000, "severity": "MEDIUM",
          "message": "no flow",
          "suppress_when": { "parameter": "running", "equals": false, "release_delay_ms": 20_000 } }),
    ];
    for asset in 0..ASSETS {
        let (asset, group) = (format!("machine_{asset}"), format!("heat_{asset}"));
        rules.push(json!({ "id": format!("hot_{asset}"), "asset": asset, "parameter": "temperature", "type": "hi",
          "limit": 80, "hysteresis": 2, "on_delay_ms": 5000, "off_delay_ms": 3000, "severity": "MEDIUM",
          "message": "hot", "group": group }));
        rules.push(json!({ "id": format!("very_hot_{asset}"), "asset": asset, "parameter": "temperature",
          "type": "hihi", "limit": 84, "hysteresis": 1, "severity": "HIGH", "message": "very hot", "group": group,
          "subsume": true, "latching": true }));
    }
    json!({ "rules": rules })
}

fn rules() -> Json {
    json!({ "rules": [
        { "id": "temperature", "parameter": "temperature",
          "range": { "hard_lo": -20, "hard_hi": 120, "soft_hi": 84 },
          "rate_of_change": { "soft_per_s": 5, "hard_per_s": 25 },
          "spike": { "k": 6, "deadband": 0.5 }, "flatline": { "for_ms": 120_000, "epsilon": 0.01 },
          "expected_interval_ms": 30_000 },
        { "id": "flow", "parameter": "flow", "range": { "hard_lo": 0, "hard_hi": 100 },
          "cross_check": { "condition": "flow < 1 || running" }, "enabled_when": "temperature < 80" },
    ] })
}

struct Feed {
    publisher: Publisher,
    schema_id: i32,
}

impl Feed {
    fn open(kafka: &str, registry: &str) -> Self {
        let settings = kafka::client::Settings::new(kafka, "sf-e2e-feed");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime
            .block_on(kafka::client::admin::create_topics(&settings, &stream::topics::plans()))
            .expect("topics are created");
        let schema_id = runtime
            .block_on(Schemas::new(registry, None).id_for(Topic::TelemetryRaw))
            .expect("the schema is registered");
        Self { publisher: Publisher::open(&settings).expect("a publisher"), schema_id }
    }

    fn publish(&mut self, told: &[Told]) {
        let readings = told.iter().map(|told| Reading {
            asset_id: &told.asset,
            asset_path: None,
            parameter: told.parameter,
            value: match (told.value, told.running) {
                (Some(number), _) => Value::Float(number),
                (_, Some(truth)) => Value::Bool(truth),
                _ => Value::Null,
            },
            value_type: if told.parameter == "running" { ValueType::Bool } else { ValueType::Float },
            value_label: None,
            unit: None,
            quality: told.quality,
            quality_reason: (told.quality == Quality::Bad).then_some("TIMEOUT"),
            reasons: TextList::default(),
            classification: model::Classification::Telemetry,
            device_time: Timestamp::from_micros(told.device),
            gateway_time: Timestamp::from_micros(told.gateway),
            time_source: model::time_source::DEVICE,
            clock_state: "SYNCED",
            clock_skew_ms: None,
            epoch: 1,
            seq: told.seq,
            flags: TextList::default(),
            metadata: TextMap::Slice(&[("gateway_id", "gw-hour"), ("adapter_id", "recorded")]),
            tags: TextMap::default(),
        });
        let (pending, taken) =
            self.publisher.publish(Topic::TelemetryRaw, self.schema_id, readings).expect("the readings are taken");
        assert_eq!(taken, told.len());
        assert!(pending.wait(Duration::from_secs(60)).expect("the stream works"), "the readings are stored");
    }
}

/// Waits until every group has read its input to the end and nothing moves any more.
fn drain(gateway: &Gateway, kafka: SocketAddr) {
    const CALM_LOOKS: u32 = 80;
    let settings = kafka::client::Settings::new(&kafka.to_string(), "sf-e2e-look");
    let topics: Vec<(&str, i32)> = Topic::ALL.iter().map(|topic| (topic.name(), stream::topics::PARTITIONS)).collect();
    let look = kafka::client::Consumer::open(&settings, "sf-e2e").expect("a consumer");
    let (mut calm, mut last) = (0, Vec::new());
    wait_for("everything is processed", DRAIN_MAX, || {
        let status = gateway.status()?;
        let lag: i64 = crate::harness::components(&status).filter_map(|part| part["lag_records"].as_i64()).sum();
        let ends: Vec<i64> =
            look.ends(&topics).map_err(|error| error.to_string())?.iter().map(|end| end.offset).collect();
        calm = if lag == 0 && ends == last { calm + 1 } else { 0 };
        let moving = ends != last;
        last = ends;
        if calm >= CALM_LOOKS { Ok(()) } else { Err(format!("lag {lag}, moving {moving}, calm {calm}")) }
    });
}

/// Content of everything written, without the clock of the machine that wrote it.
#[derive(Debug, PartialEq)]
struct Content {
    /// By partition, in order.
    clean: BTreeMap<i32, Vec<String>>,
    letters: BTreeMap<i32, Vec<String>>,
    /// By name; each once.
    events: BTreeMap<String, String>,
    /// By resolution, point and start: the content of the highest revision.
    windows: BTreeMap<String, Newest>,
    /// By key and number; each once.
    alarms: BTreeMap<String, String>,
}

/// The newest record of a window.
#[derive(Debug, Default)]
struct Newest {
    revision: i64,
    body: String,
}

impl PartialEq for Newest {
    fn eq(&self, other: &Self) -> bool {
        self.body == other.body
    }
}

fn content(kafka: SocketAddr) -> Content {
    let mut content = Content {
        clean: BTreeMap::new(),
        letters: BTreeMap::new(),
        events: BTreeMap::new(),
        windows: BTreeMap::new(),
        alarms: BTreeMap::new(),
    };
    for record in read_all(kafka, Topic::TelemetryClean) {
        let (_, body) = avro::unframe(&record.payload).expect("framed");
        let reading = stream::message::telemetry::decode(body).expect("decoded");
        let flags: Vec<&str> = reading.flags.iter().collect();
        let reasons: Vec<&str> = reading.reasons.iter().collect();
        let text = format!(
            "{} {} {:?} {:?} {:?} {reasons:?} {flags:?} {} {}",
            reading.record_id(),
            reading.parameter,
            reading.value,
            reading.quality,
            reading.quality_reason,
            reading.device_time,
            reading.gateway_time,
        );
        content.clean.entry(record.partition).or_default().push(text);
    }
    for record in read_all(kafka, Topic::DlqTelemetry) {
        let (_, body) = avro::unframe(&record.payload).expect("framed");
        let letter = dead_letter::decode(body).expect("decoded");
        let text = format!(
            "{} {:?} {} {} {:?} {:?} {:x?}",
            letter.id(),
            letter.rule_id,
            letter.reason,
            letter.detail,
            letter.observed,
            letter.limit,
            letter.payload,
        );
        content.letters.entry(record.partition).or_default().push(text);
    }
    for record in read_all(kafka, Topic::EventsClean) {
        let (_, body) = avro::unframe(&record.payload).expect("framed");
        let event = event::decode(body).expect("decoded");
        if event.event_type == "system.state" {
            continue; // of this machine, not of the plant
        }
        let details: Vec<(&str, &str)> = event.details.iter().collect();
        let text = format!(
            "{} {:?} {:?} {} {} {details:?}",
            event.event_type, event.from_state, event.to_state, event.message, event.device_time
        );
        let known = content.events.insert(event.event_id.to_owned(), text);
        assert_eq!(known, None, "{} was told twice", event.event_id);
    }
    for record in read_all(kafka, Topic::AlarmsClean) {
        let (_, body) = avro::unframe(&record.payload).expect("framed");
        let mut alarm = alarm::decode(body).expect("decoded");
        if alarm.kind == "SYSTEM" {
            continue;
        }
        if alarm.change.cause == "restart" {
            alarm.change.cause = "return"; // ALM-10: it ended by the first reading after a restart
        }
        let known = content.alarms.insert(format!("{}#{:06}", alarm.alarm_key, alarm.seq), format!("{alarm:?}"));
        assert_eq!(known, None, "{}#{} was told twice", alarm.alarm_key, alarm.seq);
    }
    for topic in [Topic::Telemetry1s, Topic::Telemetry1min, Topic::Telemetry1hour] {
        for record in read_all(kafka, topic) {
            let (_, body) = avro::unframe(&record.payload).expect("framed");
            let window = aggregate::decode(body).expect("decoded");
            let key = format!("{} {} {} {}", topic.name(), window.asset_id, window.parameter, window.window_start);
            let revision = window.revision;
            let mut body = aggregate::decode(body).expect("decoded");
            body.gateway_time = Timestamp::default();
            // how often it was told depends on what raced; that it is told in order is checked where it is written
            body.revision = 0;
            let newest = content.windows.entry(key).or_default();
            if revision >= newest.revision {
                *newest = Newest { revision, body: format!("{body:?}") };
            }
        }
    }
    content
}

/// Says the first differences of two maps and panics if there are any.
fn assert_same<V: PartialEq + std::fmt::Debug>(what: &str, killed: &BTreeMap<String, V>, whole: &BTreeMap<String, V>) {
    let differ: Vec<String> = whole
        .iter()
        .filter(|(key, value)| killed.get(*key) != Some(value))
        .map(|(key, value)| format!("{key}\n  never killed: {value:?}\n  killed:       {:?}", killed.get(key)))
        .chain(killed.keys().filter(|key| !whole.contains_key(*key)).map(|key| format!("{key} only with kills")))
        .collect();
    assert!(differ.is_empty(), "{what}: {} differ\n{}", differ.len(), differ[..differ.len().min(6)].join("\n"));
}

fn assert_same_lists(what: &str, killed: &BTreeMap<i32, Vec<String>>, whole: &BTreeMap<i32, Vec<String>>) {
    for (partition, whole) in whole {
        let killed = &killed[partition];
        for (i, line) in whole.iter().enumerate() {
            assert_eq!(killed.get(i), Some(line), "{what}, partition {partition}, record {i}");
        }
        assert_eq!(killed.len(), whole.len(), "{what}, partition {partition}");
    }
    assert_eq!(killed.len(), whole.len(), "{what}: partitions");
}

// VAL-23, AGG-09, AC-077, F3
#[test]
fn a_runtime_killed_at_any_time_writes_what_one_that_was_never_killed_writes() {
    let kills = number("SF_RUNTIME_KILLS", 12);
    let mut random = Random::new("runtime kills");
    // hours ahead of the machine's clock, which a long run must not reach
    let now = Timestamp::as_micros(model::Clock::now(&model::SystemClock));
    let begin = (now / (3600 * SECOND) + 7) * 3600 * SECOND;
    let end = Timestamp::from_micros(begin + 8 * 3600 * SECOND);
    let hour = hour(&mut random, begin);
    let last = epilogue(begin, i64::try_from(hour.len()).expect("a small number"));

    let (broker, reference) = (Broker::start(), Broker::start());
    let started = Instant::now();
    let address = |broker: &Broker| (broker.address("kafka"), format!("http://{}", broker.address("registry")));
    let (kafka, registry) = address(&broker);
    let setup = document(&kafka, &registry);
    let mut feed = Feed::open(&kafka, &registry);
    let piece = hour.len().div_ceil(usize::try_from(kills.max(1)).expect("a small number"));
    for (i, part) in hour.chunks(piece).enumerate() {
        feed.publish(part);
        let mut gateway = setup.start_at(Timestamp::from_micros(part[0].gateway));
        std::thread::sleep(Duration::from_millis(300 + random.below(1200)));
        gateway.kill();
        if i % 100 == 99 {
            say(&format!("{} kills, {:.0?}", i + 1, started.elapsed()));
        }
    }
    feed.publish(&last);
    let mut gateway = setup.start_at(end);
    drain(&gateway, kafka.parse().expect("an address"));
    gateway.stop("TERM");

    let (whole_kafka, whole_registry) = address(&reference);
    let whole_setup = document(&whole_kafka, &whole_registry);
    let mut whole_feed = Feed::open(&whole_kafka, &whole_registry);
    for part in hour.chunks(5000) {
        whole_feed.publish(part);
    }
    whole_feed.publish(&last);
    let mut whole = whole_setup.start_at(end);
    drain(&whole, whole_kafka.parse().expect("an address"));
    whole.stop("TERM");

    let (killed, whole) =
        (content(kafka.parse().expect("an address")), content(whole_kafka.parse().expect("an address")));
    let count = |lists: &BTreeMap<i32, Vec<String>>| lists.values().map(Vec::len).sum::<usize>();
    say(&format!(
        "{kills} kills in {:.0?}: {} readings, clean {}, dead letters {}, events {}, alarm transitions {}, windows {} of which {} revised",
        started.elapsed(),
        hour.len() + last.len(),
        count(&killed.clean),
        count(&killed.letters),
        killed.events.len(),
        killed.alarms.len(),
        killed.windows.len(),
        killed.windows.values().filter(|newest| newest.revision > 1).count(),
    ));
    assert_same_lists("telemetry.clean", &killed.clean, &whole.clean);
    assert_same_lists("dlq.telemetry", &killed.letters, &whole.letters);
    assert_same("alarms", &killed.alarms, &whole.alarms);
    assert_same("events", &killed.events, &whole.events);
    assert_same("windows", &killed.windows, &whole.windows);
    assert!(count(&whole.letters) > 100 && whole.windows.len() > 10_000, "the hour was eventful");
    let of = |topic: Topic| whole.windows.keys().filter(|key| key.starts_with(topic.name())).count();
    assert!(of(Topic::Telemetry1min) >= 1400 && of(Topic::Telemetry1hour) >= 24, "longer windows too");
}
