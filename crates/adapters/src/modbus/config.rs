//! Settings of a Modbus adapter: read, checked and turned into a plan, once.
//!
//! Pure. Every problem is reported with its place. The plan holds the requests already (MB-16); building the adapter
//! from it checks nothing again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ::config::{Object, Problem};
use modbus::plan::{NoRead, PlanError};
use modbus::{BitNumbering, Block, Limits, Span, Table, Want};
use model::{Classification, ValueType};
use serde_json::Value;

use super::decode::{Decoding, Scaling};
use super::point::{self, Defaults, Point};
use super::transport::{self, ConnectionPlan, Framing};
use crate::adapter::{Group, Tag};
use crate::common::Common;
use crate::edges::Edges;
use crate::publishing::OnChange;

/// Points of one adapter; more are refused.
pub const POINTS_MAX: usize = 50_000;
/// Shortest period of a poll group.
const PERIOD_MIN_MS: i64 = 10;
/// Longest: one day.
const PERIOD_MAX_MS: i64 = 86_400_000;
/// Group of points that name none.
const DEFAULT_GROUP: &str = "default";

/// Everything an adapter needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub common: Common,
    pub connection: ConnectionPlan,
    /// Repetitions of a request within one poll after a timeout or a malformed reply.
    pub retries: u32,
    /// Least time between an answer and the next request.
    pub request_pause: Duration,
    pub tags: Vec<Tag>,
    /// By tag.
    pub decodings: Vec<Decoding>,
    /// By tag.
    pub wants: Vec<Want>,
    /// Fastest first.
    pub groups: Vec<Group>,
    /// The requests of all groups.
    pub blocks: Vec<Block>,
    /// What the devices can take.
    pub limits: Limits,
    /// After silence one register is asked for, to see whether the device answers short requests only (MB-18).
    pub probe_on_timeout: bool,
    /// By tag: those that are published on change.
    pub publishing: BTreeMap<usize, OnChange>,
    /// By tag: those whose changes are events.
    pub edges: BTreeMap<usize, Edges>,
    /// Unit ids; the index is the device's number.
    pub units: Vec<u8>,
}

/// Reads settings that stand at `pointer` of a document; their `adapter_type` tells which of the two types they are of.
pub fn plan(value: &Value, pointer: &str) -> Result<Plan, Vec<Problem>> {
    let is_serial = value.get("adapter_type").and_then(Value::as_str) == Some(transport::RTU);
    plan_of(value, pointer, is_serial)
}

/// Reads settings of one of the two adapter types.
pub fn plan_of(value: &Value, pointer: &str, is_serial: bool) -> Result<Plan, Vec<Problem>> {
    let mut object = Object::new(value, pointer);
    let common = Common::read(&mut object);
    let connection = transport::read(&mut object, is_serial);
    let is_bus = connection.framing == Framing::Rtu;
    // On a bus 0 is a broadcast that nobody answers, and 248 to 255 are reserved (MB-26).
    let units = if is_bus { (1, 247) } else { (0, 255) };
    let unit_id: u8 = number(&mut object, "unit_id", units.0, units.1, 1);
    let retries = number(&mut object, "retries", 0, 10, if is_bus { 2 } else { 1 });
    let probe_on_timeout = object.boolean("probe_on_timeout").unwrap_or(true);
    let request_pause = milliseconds(&mut object, "inter_request_delay_ms", 0, 60_000, 0);
    let limits = read_limits(&mut object);
    let defaults = Defaults {
        address_shift: number(&mut object, "address_shift", -1, 1, 0),
        units,
        order: point::read_order(&mut object, modbus::Order::Abcd),
        bits: match object.word("bit_numbering", &["lsb0", "msb1"]) {
            Some("msb1") => BitNumbering::Msb1,
            _ => BitNumbering::Lsb0,
        },
    };
    let interval = milliseconds(&mut object, "poll_interval_ms", PERIOD_MIN_MS, PERIOD_MAX_MS, 1000);
    let has_interval = object.value("poll_interval_ms").is_some();
    let groups = read_groups(&mut object, interval, has_interval);
    let points = read_points(&mut object, defaults);
    let (points, mut problems) = points;
    problems.extend(check_points(&points, &common, &groups, &object));
    object.extend(problems);
    let problems = object.finish();
    if !problems.is_empty() {
        return Err(problems);
    }
    let plan = assemble(common, connection, unit_id, &points, groups, limits)?;
    Ok(Plan { retries, request_pause, probe_on_timeout, ..plan })
}

/// Turns valid points into tags and requests. The only problems left are values no request may reach.
fn assemble(
    common: Common,
    connection: ConnectionPlan,
    unit_id: u8,
    points: &[Point],
    groups: Vec<Group>,
    limits: Limits,
) -> Result<Plan, Vec<Problem>> {
    let units: BTreeSet<u8> = points.iter().map(|point| point.unit_id.unwrap_or(unit_id)).collect();
    let units: Vec<u8> = units.into_iter().collect();
    let only_group = if groups.len() == 1 { Some(0) } else { None };
    let group_of = |point: &Point| {
        let name = point.group.as_deref().unwrap_or(DEFAULT_GROUP);
        groups.iter().position(|group| group.name == name).or(only_group).unwrap_or_default()
    };
    let mut wants = Vec::with_capacity(points.len());
    let mut tags = Vec::with_capacity(points.len());
    for point in points {
        let unit = point.unit_id.unwrap_or(unit_id);
        let group = group_of(point);
        let group_number = u16::try_from(group).unwrap_or(u16::MAX);
        wants.push(Want { unit, table: point.table, group: group_number, span: point.span });
        tags.push(Tag {
            asset_id: point.asset_id.clone().or_else(|| common.asset_id.clone()).unwrap_or_default(),
            asset_path: common.asset_path.clone(),
            parameter: point.parameter.clone(),
            unit: point.unit.clone(),
            value_type: point.decoding.value_type(),
            classification: Classification::Telemetry,
            source_ref: format!("u={unit};fc={};a={}", point.table.function(), point.span.offset),
            group,
            device: units.binary_search(&unit).unwrap_or_default(),
        });
    }
    let blocks = modbus::plan::plan(&wants, &limits).map_err(|errors| {
        errors
            .into_iter()
            .map(|error| {
                let (PlanError::TooLarge { want, .. } | PlanError::Forbidden { want } | PlanError::Span { want, .. }) =
                    error;
                Problem::new(format!("{}/address", points[want].pointer), "unreadable", error.to_string(), "")
            })
            .collect::<Vec<_>>()
    })?;
    let mut decodings: Vec<Decoding> = points.iter().map(|point| point.decoding.clone()).collect();
    let factors = factors(points, &tags)?;
    for (decoding, factor) in decodings.iter_mut().zip(factors) {
        decoding.scale_from = factor;
    }
    for (tag, decoding) in tags.iter_mut().zip(&decodings) {
        tag.value_type = decoding.value_type();
    }
    let reporting = || points.iter().map(|point| point.reporting).enumerate();
    Ok(Plan {
        common,
        connection: ConnectionPlan { several_units: units.len() > 1, ..connection },
        retries: 0,
        request_pause: Duration::ZERO,
        publishing: reporting().filter_map(|(tag, reporting)| Some((tag, reporting.publishing?))).collect(),
        edges: reporting().filter_map(|(tag, reporting)| Some((tag, reporting.edges?))).collect(),
        probe_on_timeout: true,
        limits,
        tags,
        decodings,
        wants,
        groups,
        blocks,
        units,
    })
}

/// The tag each `scale_from` names: one of the same asset that is read in the same poll (MB-14).
fn factors(points: &[Point], tags: &[Tag]) -> Result<Vec<Option<usize>>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut factors = Vec::with_capacity(points.len());
    for (point, tag) in points.iter().zip(tags) {
        let Some(name) = &point.scale_from else {
            factors.push(None);
            continue;
        };
        let found = tags.iter().position(|other| other.parameter == *name && other.asset_id == tag.asset_id);
        let mut problem = |code, message: String, hint: &str| {
            problems.push(Problem::new(format!("{}/scale_from", point.pointer), code, message, hint));
        };
        match found {
            None => problem("unknown_point", format!("{name:?} is no point of {}", tag.asset_id), ""),
            Some(other) if points[other].scale_from.is_some() || points[other].decoding.scaling != Scaling::None => {
                problem("scaled_factor", format!("{name:?} is scaled itself"), "the factor is a plain whole number");
            }
            Some(other) if tags[other].value_type != ValueType::Int => {
                problem("no_integer", format!("{name:?} is not a whole number"), "the factor is a power of ten, int16");
            }
            Some(other) if tags[other].group != tag.group || tags[other].device != tag.device => {
                let hint = "read both from the same unit in the same group";
                problem("other_poll", format!("{name:?} is not read in the same poll"), hint);
            }
            Some(_) => {}
        }
        factors.push(found);
    }
    if problems.is_empty() { Ok(factors) } else { Err(problems) }
}

/// A whole number, or the default.
pub fn number<T: TryFrom<i64>>(object: &mut Object<'_>, key: &'static str, min: i64, max: i64, default: T) -> T {
    object.integer(key, min, max).and_then(|number| T::try_from(number).ok()).unwrap_or(default)
}

/// A time in milliseconds, or the default.
pub fn milliseconds(object: &mut Object<'_>, key: &'static str, min: i64, max: i64, default: u64) -> Duration {
    Duration::from_millis(number(object, key, min, max, default))
}

fn read_limits(object: &mut Object<'_>) -> Limits {
    let defaults = Limits::default();
    let mut no_read = Vec::new();
    let list = object.list("no_read").map(Vec::as_slice).unwrap_or_default();
    for (index, value) in list.iter().enumerate() {
        let mut range = Object::new(value, &format!("{}/{index}", object.at("no_read")));
        let table = range.word("table", &["coil", "discrete", "input", "holding"]).and_then(Table::from_name);
        let offset = range.integer("offset", 0, 65_535).and_then(|offset| u16::try_from(offset).ok());
        let count = range.integer("count", 1, 65_535).and_then(|count| u16::try_from(count).ok());
        let problems = range.finish();
        match (table, offset, count) {
            (Some(table), Some(offset), Some(count)) => no_read.push(NoRead { table, span: Span { offset, count } }),
            _ if problems.is_empty() => {
                let pointer = format!("{}/{index}", object.at("no_read"));
                object.extend([Problem::new(pointer, "missing", "needs table, offset and count", "")]);
            }
            _ => {}
        }
        object.extend(problems);
    }
    Limits {
        gap_max: number(object, "max_gap", 0, 100, defaults.gap_max),
        registers_max: number(object, "max_read", 8, 125, defaults.registers_max),
        bits_max: number(object, "max_read_bits", 8, 2000, defaults.bits_max),
        no_read,
    }
}

/// Fastest first (MB-37).
fn read_groups(object: &mut Object<'_>, interval: Duration, has_interval: bool) -> Vec<Group> {
    let mut groups = Vec::new();
    if let Some(map) = object.object("groups") {
        if has_interval {
            object.problem("poll_interval_ms", "contradiction", "stands beside groups", "give the period in the group");
        }
        if map.is_empty() {
            object.problem("groups", "empty", "has no group", "");
        }
        for (name, value) in map {
            let pointer = format!("{}/{}", object.at("groups"), ::config::read::token(name));
            let mut group = Object::new(value, &pointer);
            let period = group.integer("period_ms", PERIOD_MIN_MS, PERIOD_MAX_MS);
            if period.is_none() && group.value("period_ms").is_none() {
                group.problem("period_ms", "missing", "is missing", "");
            }
            object.extend(group.finish());
            let period = Duration::from_millis(period.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(1000));
            groups.push(Group { name: name.clone(), period });
        }
    } else {
        groups.push(Group { name: DEFAULT_GROUP.to_owned(), period: interval });
    }
    groups.sort_by_key(|group| group.period);
    groups
}

/// Reads either form, not both (MB-43).
fn read_points(object: &mut Object<'_>, defaults: Defaults) -> (Vec<Point>, Vec<Problem>) {
    let flat = object.object("registers");
    let full = object.list("points");
    let mut points = Vec::new();
    let mut problems = Vec::new();
    if flat.is_some() && full.is_some() {
        object.problem("registers", "contradiction", "stands beside points", "keep one of the two forms");
        return (points, problems);
    }
    let count = flat.map_or(0, serde_json::Map::len) + full.map_or(0, Vec::len);
    if count == 0 && object.value("registers").is_none() && object.value("points").is_none() {
        object.problem("points", "missing", "is missing", "at least one point to read");
    } else if count == 0 {
        object.problem(if full.is_some() { "points" } else { "registers" }, "empty", "holds nothing to read", "");
    }
    if count > POINTS_MAX {
        object.problem(
            "points",
            "too_many",
            format!("{count} points, {POINTS_MAX} are possible"),
            "use several adapters",
        );
        return (points, problems);
    }
    let (at_points, at_registers) = (object.at("points"), object.at("registers"));
    let read_full = full.into_iter().flatten().enumerate();
    let results = read_full.map(|(index, value)| point::full(value, &format!("{at_points}/{index}"), defaults));
    let read_flat = flat.into_iter().flatten();
    let flat_results = read_flat.map(|(key, value)| {
        point::flat(key, value, &format!("{at_registers}/{}", ::config::read::token(key)), defaults)
    });
    for result in results.chain(flat_results) {
        match result {
            Ok(point) => points.push(point),
            Err(found) => problems.extend(found),
        }
    }
    (points, problems)
}

/// What concerns points together: names, groups, assets.
fn check_points(points: &[Point], common: &Common, groups: &[Group], object: &Object<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut names = BTreeMap::new();
    for point in points {
        let Some(asset) = point.asset_id.as_ref().or(common.asset_id.as_ref()) else {
            problems.push(Problem::new(
                object.at("asset_id"),
                "missing",
                "is missing",
                "the thing the points belong to",
            ));
            break;
        };
        if let Some(first) = names.insert((asset, &point.parameter), &point.pointer) {
            let message = format!("{:?} is already the name of {first}", point.parameter);
            problems.push(Problem::new(point.pointer.clone(), "duplicate_parameter", message, ""));
        }
    }
    for point in points {
        let name = point.group.as_deref().unwrap_or(DEFAULT_GROUP);
        let known = groups.iter().any(|group| group.name == name);
        let falls_to_the_only_one = point.group.is_none() && groups.len() == 1;
        if !known && !falls_to_the_only_one {
            let names: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
            let message = format!("group {name:?} is not one of {}", names.join(", "));
            problems.push(Problem::new(format!("{}/group", point.pointer), "unknown_group", message, ""));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edges::{Debounce, Watch};
    use crate::publishing::Deadband;
    use modbus::DataType;
    use serde_json::json;

    /// The example of the architecture document, word for word.
    const DOCUMENT_EXAMPLE: &str = r#"{
        "adapter_id": "adapter_modbus_001",
        "adapter_type": "modbus_tcp",
        "host": "192.168.1.50",
        "port": 502,
        "unit_id": 1,
        "asset_id": "line_1_sensor_01",
        "registers": {
            "40001": {"param": "temperature", "unit": "celsius", "type": "float32"}
        },
        "kafka_bootstrap": "kafka:9092",
        "topic": "telemetry.raw",
        "poll_interval_ms": 1000
    }"#;

    fn with_points(points: &Value) -> Value {
        json!({
            "adapter_id": "a", "adapter_type": "modbus_tcp", "host": "plc", "asset_id": "press", "points": points,
        })
    }

    fn problems(value: &Value) -> Vec<String> {
        plan(value, "/adapters/0").unwrap_err().iter().map(ToString::to_string).collect()
    }

    // MB-43
    #[test]
    fn the_documents_example_runs_unchanged() {
        let plan = plan(&serde_json::from_str(DOCUMENT_EXAMPLE).unwrap(), "").unwrap();
        assert_eq!(plan.connection.target(), "192.168.1.50:502");
        assert_eq!(plan.common.registry("kafka:9092", None), "http://kafka:8081");
        assert_eq!(plan.groups, [Group { name: "default".to_owned(), period: Duration::from_secs(1) }]);
        let [tag] = &plan.tags[..] else { panic!("one tag") };
        assert_eq!((tag.asset_id.as_str(), tag.parameter.as_str()), ("line_1_sensor_01", "temperature"));
        assert_eq!(tag.unit.as_deref(), Some("celsius"));
        assert_eq!(tag.source_ref, "u=1;fc=3;a=0");
        let [block] = &plan.blocks[..] else { panic!("one request") };
        // AC-001
        assert_eq!((block.read.unit(), block.read.pdu()), (1, [3, 0, 0, 0, 2]));
    }

    // MB-43
    #[test]
    fn both_forms_at_once_are_refused() {
        let mut value = with_points(&json!([{"parameter": "x", "address": "40001", "type": "int16"}]));
        value["registers"] = json!({"40001": {"param": "x", "type": "int16"}});
        assert_eq!(problems(&value), ["/adapters/0/registers: stands beside points (keep one of the two forms)"]);
    }

    // AC-002
    #[test]
    fn impossible_addresses_are_all_reported() {
        let found = problems(&with_points(&json!([
            {"parameter": "a", "address": 40001, "type": "float32"},
            {"parameter": "b", "address": "40000", "type": "float32"},
            {"parameter": "c", "address": "465537", "type": "float32"},
            {"parameter": "d", "address": {"table": "holding", "offset": 65535}, "type": "float32"},
        ])));
        assert_eq!(found.len(), 4, "{found:#?}");
        for (index, words) in ["ambiguous", "counts from 1", "past the end", "past offset 65535"].iter().enumerate() {
            assert!(found[index].starts_with(&format!("/adapters/0/points/{index}/address")), "{}", found[index]);
            assert!(found[index].contains(words), "{}", found[index]);
        }
    }

    // MB-04
    #[test]
    fn what_else_is_refused() {
        let found = problems(&with_points(&json!([
            {"parameter": "a", "address": "20001", "type": "int16"},
            {"parameter": "b", "address": "40001", "type": "bit", "bit": 16},
            {"parameter": "c", "address": "00001", "type": "int16"},
            {"parameter": "d", "address": "40001", "type": "int16", "scale": 2, "two_point":
                {"raw_lo": 1, "raw_hi": 1, "eng_lo": 0, "eng_hi": 1}},
            {"parameter": "e", "address": "40001", "type": "string"},
            {"parameter": "f", "address": "40001", "type": "string", "registers": 126},
            {"parameter": "g", "address": {"table": "holding", "offset": 1, "number": 2}, "type": "int16"},
            {"parameter": "h", "address": "40001", "type": "int16", "publish": "sometimes"},
            {"parameter": "i", "address": "40001", "type": "int16", "allow_writes": true},
        ])));
        let part = |index: usize| found.iter().filter(|p| p.contains(&format!("/points/{index}"))).count();
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7, 8].map(part), [1, 1, 1, 2, 1, 2, 1, 1, 1], "{found:#?}");
        let twice = with_points(&json!([
            {"parameter": "Same", "address": "40001", "type": "int16"},
            {"parameter": "same", "address": "40009", "type": "int16"},
        ]));
        assert!(problems(&twice)[0].contains("already the name"));
    }

    #[test]
    fn unreadable_values_are_found_while_planning() {
        let mut value = with_points(&json!([
            {"parameter": "a", "address": "40001", "type": "string", "registers": 20},
            {"parameter": "b", "address": "40101", "type": "float32"},
        ]));
        value["max_read"] = json!(10);
        value["no_read"] = json!([{"table": "holding", "offset": 101, "count": 5}]);
        let found = problems(&value);
        assert!(found[0].contains("points/0/address") && found[0].contains("exceeds"), "{found:?}");
        assert!(found[1].contains("points/1/address") && found[1].contains("must not be read"), "{found:?}");
    }

    #[test]
    fn the_full_form() {
        let mut value = with_points(&json!([
            {"parameter": "slow", "address": {"table": "input", "number": 5}, "type": "float32", "order": "CDAB"},
            {"parameter": "fast", "address": {"table": "holding", "offset": "0x006B"}, "type": "int16", "group": "fast",
             "scale": 0.1, "invalid_preset": "siemens_analog", "invalid_values": [-1], "unit": "bar"},
            {"parameter": "flag", "address": "40200.3", "group": "fast"},
            {"parameter": "running", "address": "00007", "unit_id": 9, "asset_id": "pump"},
        ]));
        value["groups"] = json!({"default": {"period_ms": 1000}, "fast": {"period_ms": 100}});
        let plan = plan(&value, "").unwrap();
        assert_eq!(plan.groups.iter().map(|group| group.name.as_str()).collect::<Vec<_>>(), ["fast", "default"]);
        assert_eq!(plan.tags.iter().map(|tag| tag.group).collect::<Vec<_>>(), [1, 0, 0, 1]);
        assert_eq!(plan.units, [1, 9]);
        assert_eq!(plan.tags[3].asset_id, "pump");
        assert_eq!(plan.tags[3].source_ref, "u=9;fc=1;a=6");
        assert_eq!(plan.decodings[0].order, modbus::Order::Cdab);
        assert_eq!(plan.decodings[1].sentinels, [0x7FFF, 0x8000, 0xFFFF]);
        assert_eq!(plan.decodings[2].kind, Some(DataType::Bit { place: 3 }));
        assert_eq!(plan.decodings[3].kind, None);
        assert_eq!(plan.blocks.len(), 4);
    }

    // MB-14
    #[test]
    fn a_scale_factor_is_read_in_the_same_poll() {
        let point = |name: &str, more: Value| {
            let mut point = json!({"parameter": name, "address": "40001", "type": "int16"});
            point.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            point
        };
        let well = with_points(&json!([point("w", json!({"scale_from": "W_SF"})), point("w_sf", json!({}))]));
        let plan = plan(&well, "").unwrap();
        assert_eq!(plan.decodings[0].scale_from, Some(1));
        assert_eq!([plan.tags[0].value_type, plan.tags[1].value_type], [ValueType::Float, ValueType::Int]);
        let mut bad = with_points(&json!([
            point("a", json!({"scale_from": "nobody"})),
            point("b", json!({"scale_from": "f"})),
            point("c", json!({"scale_from": "g"})),
            point("d", json!({"scale_from": "e", "group": "slow"})),
            point("e", json!({})),
            point("f", json!({"scale": 0.1})),
            point("g", json!({"type": "bool"})),
        ]));
        bad["groups"] = json!({"default": {"period_ms": 100}, "slow": {"period_ms": 1000}});
        let found = problems(&bad);
        for (place, words) in
            ["is no point of", "is scaled itself", "not a whole number", "same poll"].iter().enumerate()
        {
            let here = found.iter().filter(|problem| problem.contains(&format!("/points/{place}/scale_from")));
            assert!(here.clone().count() == 1 && here.clone().all(|problem| problem.contains(words)), "{found:#?}");
        }
        let both = problems(&with_points(&json!([point("w", json!({"scale": 2, "scale_from": "w"}))])));
        assert!(both.iter().any(|problem| problem.contains("another scale")), "{both:?}");
    }

    // MB-40, MB-41
    #[test]
    fn when_a_point_is_told() {
        let with = |more: Value| {
            let mut point = json!({"parameter": "p", "address": "40001", "type": "int16"});
            point.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            plan(&with_points(&json!([point])), "").map_err(|found| found[0].to_string())
        };
        let quiet = with(json!({"publish": "on_change", "deadband": 1.5})).unwrap();
        let rule = OnChange { deadband: Deadband::Absolute(1.5), max_silence: Duration::from_secs(60) };
        assert_eq!(quiet.publishing.get(&0), Some(&rule));
        let line = json!({"raw_lo": 0, "raw_hi": 100, "eng_lo": -50, "eng_hi": 150});
        let span = json!({"publish": "on_change", "deadband": 1, "deadband_of": "span", "two_point": line});
        assert_eq!(with(span).unwrap().publishing[&0].deadband, Deadband::Absolute(2.0));
        let edges = with(json!({"type": "uint16", "edge": "both", "debounce_samples": 3})).unwrap().edges;
        assert_eq!(edges[&0], Edges { watch: Watch::Both, debounce: Debounce::Samples(3) });
        assert!(with(json!({})).unwrap().publishing.is_empty());
        for (more, words) in [
            (json!({"deadband": 1}), "add publish: on_change"),
            (json!({"publish": "on_change", "deadband": -1}), "below 0"),
            (json!({"publish": "on_change", "deadband": 1, "deadband_of": "span"}), "has no span"),
            (json!({"publish": "on_change", "deadband_of": "value"}), "without a deadband"),
            (json!({"debounce_ms": 10}), "without an edge"),
            (json!({"edge": "both", "debounce_ms": 10, "debounce_samples": 2}), "keep one of the two"),
            (json!({"edge": "rising", "scale": 0.1}), "use edge: change"),
            (json!({"edge": "both"}), "unsigned types only"),
            (json!({"type": "string", "registers": 2, "edge": "both"}), "use edge: change"),
            (json!({"publish": "on_change", "deadband": 1, "states": {"1": "on"}}), "any change"),
        ] {
            let problem = with(more).unwrap_err();
            assert!(problem.contains(words), "{problem}");
        }
    }

    // MB-26
    #[test]
    fn unit_ids_of_a_bus() {
        let mut value = with_points(&json!([{"parameter": "a", "address": "40001", "type": "int16", "unit_id": 248}]));
        assert!(plan(&value, "").is_ok());
        value["framing"] = json!("rtu_over_tcp");
        assert!(problems(&value)[0].contains("248 is outside 1 to 247"));
        value["points"][0]["unit_id"] = json!(247);
        value["unit_id"] = json!(0);
        assert!(problems(&value)[0].contains("0 is outside 1 to 247"));
    }

    // MB-06
    #[test]
    fn bits_counted_from_either_end() {
        let mut value = with_points(&json!([
            {"parameter": "a", "address": "40001", "type": "bit", "bit": 13},
            {"parameter": "b", "address": "40001", "type": "bitfield", "bit": 9, "width": 3},
        ]));
        value["bit_numbering"] = json!("msb1");
        let plan = plan(&value, "").unwrap();
        assert_eq!(plan.decodings[0].kind, Some(DataType::Bit { place: 3 }));
        assert_eq!(plan.decodings[1].kind, Some(DataType::BitField { place: 5, width: 3 }));
    }
}
