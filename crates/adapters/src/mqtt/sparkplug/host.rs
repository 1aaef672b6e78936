//! What edge nodes and their devices say: births define metrics, data brings values, deaths end both.
//!
//! Pure but for what it remembers. Invariants:
//! - A value of an unknown metric is never guessed; a birth is asked for, at most once a minute and node (MQ-18).
//! - A death counts only for the life it belongs to (MQ-19). What is offline is told once.
//! - Everything is offline when our own connection is gone (MQ-19).
//!
//! Long because: one state of births, aliases and sequence numbers that must agree.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use model::{Classification, Quality, Timestamp, reason, time_source};
use tokio::time::Instant;

use super::config::Plan;
use super::metric;
use super::payload::{self, Metric, Payload, Wire};
use super::sequence::{Ready, Sequence};
use crate::letter::Letter;
use crate::mqtt::extract::{discard, letter};
use crate::mqtt::mapping::ASSETS_MAX;
use crate::mqtt::packet::Message;
use crate::mqtt::points::{Nature, Points};
use crate::notice::{DEVICE_STATE, Notice, SOURCE_GAP};
use crate::sample::{Cycle, Flags, Sample};

/// Edge nodes of one adapter; messages of further ones become dead letters.
const NODES_MAX: usize = 5_000;
/// Births of a node are asked for at most this often (MQ-18).
const REBIRTH_EVERY: Duration = Duration::from_secs(60);

/// Names under which messages are counted that are not what they should be.
mod cause {
    pub(super) const NO_BIRTH: &str = "DATA_BEFORE_BIRTH";
    pub(super) const UNKNOWN_METRIC: &str = "UNKNOWN_METRIC";
    pub(super) const OLD_DEATH: &str = "DEATH_OF_AN_EARLIER_LIFE";
    pub(super) const NAME_TAKEN: &str = "NAME_TAKEN";
}

/// All edge nodes.
#[derive(Debug)]
pub struct Host {
    plan: Plan,
    asset_path: Option<String>,
    points: Points,
    nodes: BTreeMap<(String, String), Node>,
    requests: Vec<(String, Vec<u8>)>,
}

/// One edge node; with its devices it shares aliases and the count of messages.
#[derive(Debug)]
struct Node {
    /// What it was born as, while it lives.
    alive: Option<Life>,
    sequence: Sequence<Held>,
    asked_at: Option<Instant>,
    /// It was told of as offline, or never seen.
    is_told_down: bool,
}

#[derive(Debug, Default)]
struct Life {
    /// Number of the birth, and of the death that belongs to it.
    number: Option<u64>,
    metrics: Vec<Known>,
    aliases: HashMap<u64, usize>,
    /// By device (empty for the node itself) and name.
    names: HashMap<String, HashMap<String, usize>>,
    /// Devices that live.
    devices: BTreeMap<String, bool>,
}

#[derive(Debug)]
struct Known {
    tag: usize,
    datatype: u32,
    device: String,
}

/// A message that waits for its turn.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    kind: Kind,
    device: String,
    message: Message,
    arrived: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    NodeBirth,
    NodeDeath,
    NodeData,
    DeviceBirth,
    DeviceDeath,
    DeviceData,
}

/// Group, kind, node, device of a topic; `None` for what is none of a node's own messages.
fn parse(topic: &str) -> Option<(&str, Kind, &str, &str)> {
    let mut levels = topic.strip_prefix("spBv1.0/")?.split('/');
    let (group, word, node) = (levels.next()?, levels.next()?, levels.next()?);
    let device = levels.next();
    let kind = match (word, device) {
        ("NBIRTH", None) => Kind::NodeBirth,
        ("NDEATH", None) => Kind::NodeDeath,
        ("NDATA", None) => Kind::NodeData,
        ("DBIRTH", Some(_)) => Kind::DeviceBirth,
        ("DDEATH", Some(_)) => Kind::DeviceDeath,
        ("DDATA", Some(_)) => Kind::DeviceData,
        _ => return None,
    };
    levels.next().is_none().then_some((group, kind, node, device.unwrap_or_default()))
}

impl Host {
    pub fn new(plan: Plan, asset_path: Option<String>) -> Self {
        Self { plan, asset_path, points: Points::new(ASSETS_MAX), nodes: BTreeMap::new(), requests: Vec::new() }
    }

    pub fn points(&self) -> &Points {
        &self.points
    }

    /// A connection was made; who lives will show.
    pub fn connected(&mut self, _now: Instant) {
        self.requests.clear();
    }

    /// Our connection is gone: nothing is known of anybody (MQ-19).
    pub fn disconnected(&mut self, at: Timestamp, cycle: &mut Cycle) {
        self.requests.clear();
        for ((group, name), node) in &mut self.nodes {
            node.sequence.begin(0);
            node.die(group, name, at, "our connection to the broker is gone", cycle);
        }
    }

    /// Messages to be sent: topic and payload. Nothing but requests for births (G-01).
    pub fn requests(&mut self) -> Vec<(String, Vec<u8>)> {
        std::mem::take(&mut self.requests)
    }

    pub fn timer(&self) -> Option<Instant> {
        self.nodes.values().filter_map(|node| node.sequence.timer()).min()
    }

    pub fn complaint(&self) -> Option<String> {
        let down: Vec<String> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.alive.is_none())
            .map(|((group, name), _)| format!("{group}/{name}"))
            .collect();
        let first = down.first()?;
        Some(match down.len() {
            1 => format!("speaks for the edge node {first}, which is offline"),
            count => format!("speaks for {count} edge nodes that are offline, {first} among them"),
        })
    }

    /// Gives up on messages that are missing.
    pub fn tick(&mut self, at: Timestamp, now: Instant, cycle: &mut Cycle) {
        let due: Vec<(String, String)> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.sequence.timer().is_some_and(|timer| now >= timer))
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            if let Some(node) = self.nodes.get_mut(&key) {
                let ready = node.sequence.expire(now);
                self.process(&key, ready, at, now, cycle);
            }
        }
    }

    /// Takes a message that arrived at a time.
    pub fn take(&mut self, message: &Message, arrived: Timestamp, now: Instant, cycle: &mut Cycle) {
        let Some((group, kind, name, device)) = parse(&message.topic) else { return };
        let globs = &self.plan.edge_nodes;
        if !globs.is_empty() && !globs.iter().any(|glob| ::config::rules::matches(glob, name)) {
            cycle.discarded.push(discard::NOT_ALLOWED);
            return;
        }
        let payload = match payload::decode(&message.payload) {
            Ok(payload) if payload.uuid == Some("SPBV1.0_COMPRESSED") => {
                return refuse(message, "it is compressed, which Sparkplug B 3.0 does not know".to_owned(), cycle);
            }
            Ok(payload) => payload,
            Err(fault) => return refuse(message, fault.to_string(), cycle),
        };
        let key = (group.to_owned(), name.to_owned());
        if !self.nodes.contains_key(&key) {
            if self.nodes.len() >= NODES_MAX {
                let detail = format!("there are {NODES_MAX} edge nodes already");
                cycle.letters.push(letter(message, reason::CARDINALITY_LIMIT, detail));
                return;
            }
            let sequence = Sequence::new(self.plan.reorder);
            self.nodes.insert(key.clone(), Node { alive: None, sequence, asked_at: None, is_told_down: true });
        }
        let Some(node) = self.nodes.get_mut(&key) else { return };
        let seq = payload.seq.and_then(|seq| u8::try_from(seq).ok());
        match kind {
            Kind::NodeBirth => {
                node.sequence.begin(seq.unwrap_or(0));
                self.node_birth(&key, &payload, arrived, cycle);
            }
            Kind::NodeDeath => {
                let number = birth_number(&payload);
                let lives_as = node.alive.as_ref().map(|life| life.number);
                // the last will of an earlier connection may arrive late
                if lives_as == Some(number) {
                    node.die(group, name, arrived, "the edge node has gone offline", cycle);
                } else {
                    cycle.discarded.push(cause::OLD_DEATH);
                }
            }
            _ if node.alive.is_none() => {
                cycle.discarded.push(cause::NO_BIRTH);
                self.ask(&key, arrived, now);
            }
            _ => {
                let held = Held { kind, device: device.to_owned(), message: message.clone(), arrived };
                let ready = match seq {
                    Some(seq) => node.sequence.take(seq, held, now),
                    None => Ready { messages: vec![held], gap: None },
                };
                self.process(&key, ready, arrived, now, cycle);
            }
        }
    }

    fn process(&mut self, key: &(String, String), ready: Ready<Held>, at: Timestamp, now: Instant, cycle: &mut Cycle) {
        if let Some((from, count)) = ready.gap {
            cycle.notices.push(gap(key, from, count));
            self.ask(key, at, now);
        }
        for held in ready.messages {
            let Ok(payload) = payload::decode(&held.message.payload) else { continue };
            match held.kind {
                Kind::DeviceBirth => self.device_birth(key, &held.device, &payload, held.arrived, cycle),
                Kind::DeviceDeath => {
                    if let Some(node) = self.nodes.get_mut(key) {
                        node.lose_device(key, &held.device, held.arrived, cycle);
                    }
                }
                Kind::NodeData | Kind::DeviceData => {
                    let complete = self.data(key, &held.device, &payload, held.arrived, cycle);
                    if !complete {
                        self.ask(key, held.arrived, now);
                    }
                }
                Kind::NodeBirth | Kind::NodeDeath => {}
            }
        }
    }

    /// Asks for births, unless that was done within the minute or is not wanted.
    fn ask(&mut self, key: &(String, String), at: Timestamp, now: Instant) {
        let Some(node) = self.nodes.get_mut(key) else { return };
        let recent = node.asked_at.is_some_and(|asked| now.saturating_duration_since(asked) < REBIRTH_EVERY);
        if !self.plan.rebirth || recent {
            return;
        }
        node.asked_at = Some(now);
        let (group, name) = key;
        tracing::info!(group, name, "an edge node is asked for its births");
        let topic = format!("spBv1.0/{group}/NCMD/{name}");
        self.requests.push((topic, payload::rebirth(u64::try_from(at.as_millis()).unwrap_or_default())));
    }

    fn node_birth(&mut self, key: &(String, String), payload: &Payload<'_>, arrived: Timestamp, cycle: &mut Cycle) {
        let mut life = Life { number: birth_number(payload), ..Life::default() };
        // devices of the life before are offline until they are born again
        let before = self.nodes.get_mut(key).and_then(|node| node.alive.take());
        self.define(key, &mut life, "", payload, arrived, cycle);
        if let Some(mut before) = before {
            before.metrics.retain(|known| !known.device.is_empty());
            before.offline(None, arrived, cycle);
        }
        let Some(node) = self.nodes.get_mut(key) else { return };
        node.alive = Some(life);
        if std::mem::take(&mut node.is_told_down) {
            let (group, name) = key;
            cycle.notices.push(state(&format!("{group}/{name}"), false, "is online"));
        }
    }

    fn device_birth(
        &mut self,
        key: &(String, String),
        device: &str,
        payload: &Payload<'_>,
        arrived: Timestamp,
        cycle: &mut Cycle,
    ) {
        let Some(mut life) = self.nodes.get_mut(key).and_then(|node| node.alive.take()) else { return };
        let was_down = life.devices.insert(device.to_owned(), true) == Some(false);
        self.define(key, &mut life, device, payload, arrived, cycle);
        if let Some(node) = self.nodes.get_mut(key) {
            node.alive = Some(life);
        }
        if was_down {
            let (group, name) = key;
            cycle.notices.push(state(&format!("{group}/{name}/{device}"), false, "is online"));
        }
    }

    /// A birth's metrics become known, with their first values.
    fn define(
        &mut self,
        key: &(String, String),
        life: &mut Life,
        device: &str,
        payload: &Payload<'_>,
        arrived: Timestamp,
        cycle: &mut Cycle,
    ) {
        let (group, node) = key;
        let spelling = if device.is_empty() { format!("{group}/{node}") } else { format!("{group}/{node}/{device}") };
        let Ok(asset) = model::ids::normalise(&spelling.replace('/', ".")) else {
            cycle.discarded.push(cause::NAME_TAKEN);
            return;
        };
        if self.points.is_taken(&asset, &spelling) {
            cycle.discarded.push(cause::NAME_TAKEN);
            return;
        }
        let mut spellings: HashMap<String, &str> = HashMap::new();
        for metric in &payload.metrics {
            let (Some(name), Some(datatype)) = (metric.name, metric.datatype) else { continue };
            if name == "bdSeq" || name.starts_with("Node Control/") {
                continue;
            }
            let parameter = model::ids::normalise(&name.replace('/', "."));
            let Ok(parameter) = parameter else {
                cycle.discarded.push(cause::NAME_TAKEN);
                continue;
            };
            if *spellings.entry(parameter.clone()).or_insert(name) != name {
                cycle.discarded.push(cause::NAME_TAKEN);
                continue;
            }
            let nature = || Nature {
                asset_path: self.asset_path.clone(),
                unit: metric.unit.map(|unit| unit.chars().take(32).collect()),
                value_type: metric::value_type(datatype).unwrap_or(model::ValueType::String),
                classification: Classification::Telemetry,
                source_ref: format!("spBv1.0/{spelling}:{name}").chars().take(256).collect(),
            };
            let tag = match self.points.tag(&asset, &spelling, &parameter, nature) {
                Ok(tag) => tag,
                Err(limit) => {
                    cycle.discarded.push(limit);
                    continue;
                }
            };
            let place = life.metrics.len();
            life.metrics.push(Known { tag, datatype, device: device.to_owned() });
            if let Some(alias) = metric.alias {
                life.aliases.insert(alias, place);
            }
            life.names.entry(device.to_owned()).or_default().insert(name.to_owned(), place);
            cycle.samples.push(sample(tag, datatype, metric, payload, arrived, Flags::INITIAL));
        }
    }

    /// Values; false when some of them belong to metrics that no birth defined.
    fn data(
        &mut self,
        key: &(String, String),
        device: &str,
        payload: &Payload<'_>,
        arrived: Timestamp,
        cycle: &mut Cycle,
    ) -> bool {
        let Some(life) = self.nodes.get(key).and_then(|node| node.alive.as_ref()) else { return false };
        if !device.is_empty() && life.devices.get(device) != Some(&true) {
            cycle.discarded.push(cause::NO_BIRTH);
            return false;
        }
        let mut complete = true;
        for metric in &payload.metrics {
            let by_name = || life.names.get(device)?.get(metric.name?);
            let place = by_name().or_else(|| life.aliases.get(&metric.alias?)).copied();
            let known = place.and_then(|place| life.metrics.get(place)).filter(|known| known.device == device);
            match known {
                Some(known) => {
                    cycle.samples.push(sample(known.tag, known.datatype, metric, payload, arrived, Flags::NONE));
                }
                None if metric.name.is_some_and(|name| name == "bdSeq" || name.starts_with("Node Control/")) => {}
                None => {
                    cycle.discarded.push(cause::UNKNOWN_METRIC);
                    complete = false;
                }
            }
        }
        complete
    }
}

impl Node {
    /// The node and all its devices are offline, which is told once.
    fn die(&mut self, group: &str, name: &str, at: Timestamp, why: &str, cycle: &mut Cycle) {
        if let Some(mut life) = self.alive.take() {
            life.offline(None, at, cycle);
        }
        if !std::mem::replace(&mut self.is_told_down, true) {
            cycle.notices.push(state(&format!("{group}/{name}"), true, why));
        }
    }

    fn lose_device(&mut self, (group, name): &(String, String), device: &str, at: Timestamp, cycle: &mut Cycle) {
        let Some(life) = &mut self.alive else { return };
        if let Some(lives) = life.devices.get_mut(device)
            && std::mem::take(lives)
        {
            life.offline(Some(device), at, cycle);
            cycle.notices.push(state(&format!("{group}/{name}/{device}"), true, "has gone offline"));
        }
    }
}

impl Life {
    /// Every point of a device, or of all that live, has no value any more.
    fn offline(&mut self, device: Option<&str>, at: Timestamp, cycle: &mut Cycle) {
        for known in &self.metrics {
            let lives = known.device.is_empty() || device.is_some() || self.devices.get(&known.device) == Some(&true);
            if lives && device.is_none_or(|device| known.device == device) {
                cycle.samples.push(Sample::bad(known.tag, reason::SOURCE_OFFLINE, at));
            }
        }
    }
}

/// The number that a birth and its death have in common.
fn birth_number(payload: &Payload<'_>) -> Option<u64> {
    let metric = payload.metrics.iter().find(|metric| metric.name == Some("bdSeq"))?;
    match metric.value {
        Wire::Int(number) => Some(number & 0xFF),
        _ => None,
    }
}

fn sample(
    tag: usize,
    datatype: u32,
    metric: &Metric<'_>,
    payload: &Payload<'_>,
    arrived: Timestamp,
    flags: Flags,
) -> Sample {
    let converted = metric::convert(metric, datatype);
    let stamp = metric.timestamp.or(payload.timestamp).and_then(|millis| i64::try_from(millis).ok());
    let (time, source) = match stamp {
        Some(millis) => (Timestamp::from_millis(millis), time_source::DEVICE),
        None => (arrived, time_source::GATEWAY),
    };
    let historical = if metric.is_historical { Flags::HISTORICAL } else { Flags::NONE };
    let transient = if metric.is_transient { Flags::TRANSIENT } else { Flags::NONE };
    let mut sample = Sample {
        verdict: converted.verdict,
        raw: converted.raw,
        time_source: source,
        flags: flags.and(historical).and(transient),
        ..Sample::new(tag, converted.value, time)
    };
    if stamp.is_none() {
        sample.verdict.add(Quality::Uncertain, reason::DEVICE_TIME_MISSING);
    }
    sample
}

fn refuse(message: &Message, detail: String, cycle: &mut Cycle) {
    cycle.discarded.push(discard::DECODE_ERROR);
    let dead: Letter = letter(message, reason::DECODE_ERROR, detail);
    cycle.letters.push(dead);
}

/// One alarm of an edge node or device comes from this, and none of its points (AC-087).
fn state(device: &str, is_down: bool, why: &str) -> Notice {
    let device = format!("sparkplug {device}");
    let (from, to) = if is_down { ("OK", "DOWN") } else { ("DOWN", "OK") };
    Notice {
        from: Some(from),
        to: Some(to),
        details: vec![("device", device.clone()), ("reason", why.to_owned())],
        ..Notice::new(DEVICE_STATE, format!("{device}: {why}"))
    }
}

fn gap((group, name): &(String, String), from: u8, count: u8) -> Notice {
    let message = format!("messages of the edge node {group}/{name} are missing, {count} from number {from} on");
    Notice {
        details: vec![
            ("cause", "sparkplug_seq".to_owned()),
            ("device", format!("sparkplug {group}/{name}")),
            ("from_seq", from.to_string()),
            ("count", count.to_string()),
        ],
        ..Notice::new(SOURCE_GAP, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Value;

    fn varint(out: &mut Vec<u8>, mut value: u64) {
        while value >= 0x80 {
            out.push((value & 0x7F) as u8 | 0x80);
            value >>= 7;
        }
        out.push(u8::try_from(value).unwrap());
    }

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        varint(&mut out, bytes.len() as u64);
        out.extend_from_slice(bytes);
        out
    }

    /// A metric with name, alias, data type Int16 and a value.
    fn metric(name: Option<&str>, alias: Option<u64>, value: u64) -> Vec<u8> {
        let mut out = name.map(|name| field(1, name.as_bytes())).unwrap_or_default();
        if let Some(alias) = alias {
            out.push(0x10);
            varint(&mut out, alias);
        }
        out.extend_from_slice(&[0x20, 2, 0x50]);
        varint(&mut out, value);
        out
    }

    fn payload(seq: Option<u64>, metrics: &[Vec<u8>]) -> Vec<u8> {
        let mut out = vec![0x08];
        varint(&mut out, 1_769_680_800_123);
        for metric in metrics {
            out.extend(field(2, metric));
        }
        if let Some(seq) = seq {
            out.push(0x18);
            varint(&mut out, seq);
        }
        out
    }

    struct Plant {
        host: Host,
        now: Instant,
        cycle: Cycle,
    }

    impl Plant {
        fn new() -> Self {
            let groups = vec!["g".to_owned()];
            let plan = Plan { groups, edge_nodes: Vec::new(), rebirth: true, reorder: Duration::from_secs(5) };
            Self { host: Host::new(plan, None), now: Instant::now(), cycle: Cycle::new(1) }
        }

        fn hears(&mut self, topic: &str, payload: Vec<u8>) {
            let message = Message {
                topic: format!("spBv1.0/g/{topic}"),
                payload: payload.into(),
                qos: 0,
                id: 0,
                dup: false,
                retain: false,
                content_type: None,
                user: Vec::new(),
                subscriptions: Vec::new(),
            };
            self.host.take(&message, Timestamp::from_millis(5), self.now, &mut self.cycle);
        }

        fn passes(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
            self.host.tick(Timestamp::from_millis(6), self.now, &mut self.cycle);
        }

        /// Values and reasons since this was asked last.
        fn told(&mut self) -> Vec<(Value, Option<&'static str>)> {
            self.cycle.samples.drain(..).map(|sample| (sample.value, sample.verdict.reason())).collect()
        }

        fn born(number: u64) -> Vec<u8> {
            payload(Some(0), &[metric(Some("bdSeq"), None, number), metric(Some("t"), Some(1), 7)])
        }
    }

    const OFFLINE: (Value, Option<&str>) = (Value::Null, Some(reason::SOURCE_OFFLINE));

    fn good(number: i64) -> (Value, Option<&'static str>) {
        (Value::Int(number), None)
    }

    // AC-056, MQ-17, MQ-18
    #[tokio::test(start_paused = true)]
    async fn a_missing_message_is_told_and_a_birth_asked_for_but_what_came_is_kept() {
        let mut plant = Plant::new();
        plant.hears("NBIRTH/e", Plant::born(0));
        let data = |seq, value| payload(Some(seq), &[metric(None, Some(1), value)]);
        for seq in 1..=255 {
            plant.hears("NDATA/e", data(seq, seq));
        }
        plant.hears("NDATA/e", data(0, 300));
        plant.hears("NDATA/e", data(1, 301));
        assert_eq!(plant.told().len(), 1 + 257, "around without a gap");
        plant.hears("NDATA/e", data(2, 302));
        plant.hears("NDATA/e", data(3, 303));
        plant.told();
        plant.hears("NDATA/e", data(5, 305));
        plant.passes(4);
        assert!(plant.told().is_empty() && plant.host.requests().is_empty() && plant.cycle.notices.len() == 1);
        plant.passes(1);
        assert_eq!(plant.told(), [good(305)]);
        let requests = plant.host.requests();
        assert_eq!((requests.len(), requests[0].0.as_str()), (1, "spBv1.0/g/NCMD/e"));
        assert_eq!(plant.cycle.notices[1].kind, SOURCE_GAP);
        plant.hears("NDATA/e", data(8, 308));
        plant.passes(5);
        assert_eq!(plant.told(), [good(308)]);
        assert!(plant.host.requests().is_empty(), "once a minute");
    }

    // AC-057, MQ-19
    #[tokio::test(start_paused = true)]
    async fn a_death_counts_for_the_life_it_belongs_to() {
        let mut plant = Plant::new();
        let death = |number| payload(None, &[metric(Some("bdSeq"), None, number)]);
        plant.hears("NBIRTH/e", Plant::born(5));
        plant.hears("DBIRTH/e/d", payload(Some(1), &[metric(Some("speed"), Some(2), 1)]));
        assert_eq!(plant.told(), [good(7), good(1)]);
        plant.hears("NDEATH/e", death(4));
        assert!(plant.told().is_empty());
        assert_eq!(plant.cycle.discarded, [cause::OLD_DEATH]);
        plant.hears("NDEATH/e", death(5));
        assert_eq!(plant.told(), [OFFLINE, OFFLINE], "node and device");
        plant.hears("NDEATH/e", death(5));
        assert!(plant.told().is_empty(), "once");
        plant.host.disconnected(Timestamp::from_millis(9), &mut plant.cycle);
        assert!(plant.told().is_empty(), "offline already");
        // 255 is followed by 0
        plant.hears("NBIRTH/e", Plant::born(255));
        plant.hears("NBIRTH/e", Plant::born(0));
        plant.told();
        plant.hears("NDEATH/e", death(255));
        assert!(plant.told().is_empty());
        plant.hears("NDEATH/e", death(0));
        assert_eq!(plant.told(), [OFFLINE]);
    }

    // AC-058, MQ-18
    #[tokio::test(start_paused = true)]
    async fn what_was_never_born_is_not_guessed() {
        let mut plant = Plant::new();
        plant.hears("DDATA/e/d", payload(Some(9), &[metric(Some("speed"), None, 1)]));
        assert_eq!(plant.host.requests().len(), 1, "data before any birth");
        plant.passes(30);
        plant.hears("NBIRTH/e", Plant::born(1));
        plant.hears("DBIRTH/e/d", payload(Some(1), &[metric(Some("speed"), Some(2), 1)]));
        plant.told();
        for seq in 2..6 {
            plant.hears("DDATA/e/d", payload(Some(seq), &[metric(None, Some(99), 1), metric(None, Some(2), 8)]));
        }
        assert_eq!(plant.told(), [good(8), good(8), good(8), good(8)], "the others of the message are taken");
        assert!(plant.host.requests().is_empty(), "within the minute");
        plant.passes(31);
        // the alias of the node is not the device's
        plant.hears("DDATA/e/d", payload(Some(6), &[metric(None, Some(1), 1)]));
        assert!(plant.told().is_empty());
        assert_eq!(plant.host.requests().len(), 1);
    }

    // MQ-17, MQ-19: devices; nonsense
    #[tokio::test(start_paused = true)]
    async fn devices_die_alone_and_nonsense_is_a_dead_letter() {
        let mut plant = Plant::new();
        plant.hears("NBIRTH/e", Plant::born(1));
        plant.hears("DBIRTH/e/d", payload(Some(1), &[metric(Some("speed"), Some(2), 1)]));
        plant.told();
        plant.hears("DDEATH/e/d", payload(Some(2), &[]));
        assert_eq!(plant.told(), [OFFLINE]);
        plant.hears("DDATA/e/d", payload(Some(3), &[metric(None, Some(2), 1)]));
        assert!(plant.told().is_empty(), "a dead device has no values");
        plant.hears("NDATA/e", vec![0xFF; 5]);
        assert_eq!(plant.cycle.letters.len(), 1);
        assert_eq!(plant.cycle.letters[0].payload, [0xFF; 5]);
        plant.hears("NDATA/e", payload(Some(4), &[metric(None, Some(1), 3)]));
        assert_eq!(plant.told(), [good(3)], "the node lives on");
    }
}
