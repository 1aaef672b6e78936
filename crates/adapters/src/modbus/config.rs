//! Settings of a Modbus adapter: read, checked and turned into a plan, once.
//!
//! Pure. Every problem is reported with its place. The plan holds the requests already (MB-16); building the adapter
//! from it checks nothing again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ::config::{Object, Problem};
use modbus::plan::{NoRead, PlanError};
use modbus::{BitNumbering, Block, Limits, Span, Table, Want};
use model::Classification;
use serde_json::Value;

use super::decode::Decoding;
use super::point::{self, Defaults, Point};
use crate::adapter::{Group, Tag};
use crate::common::Common;

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
    /// Unit ids; the index is the device's number.
    pub units: Vec<u8>,
}

/// How to reach the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionPlan {
    pub host: String,
    pub port: u16,
    pub connect_timeout: Duration,
    pub response_timeout: Duration,
    /// Requests on the wire at once (MB-21).
    pub outstanding_max: usize,
}

/// Reads settings that stand at `pointer` of a document.
pub fn plan(value: &Value, pointer: &str) -> Result<Plan, Vec<Problem>> {
    let mut object = Object::new(value, pointer);
    let common = Common::read(&mut object);
    let host = object.required_text("host").unwrap_or_default().to_owned();
    let connection = ConnectionPlan {
        host,
        port: number(&mut object, "port", 1, 65_535, 502),
        connect_timeout: milliseconds(&mut object, "connect_timeout_ms", 100, 60_000, 3000),
        response_timeout: milliseconds(&mut object, "response_timeout_ms", 10, 60_000, 1000),
        outstanding_max: number(&mut object, "max_outstanding", 1, 16, 1),
    };
    let unit_id: u8 = number(&mut object, "unit_id", 0, 255, 1);
    let retries = number(&mut object, "retries", 0, 10, 1);
    let request_pause = milliseconds(&mut object, "inter_request_delay_ms", 0, 60_000, 0);
    let limits = read_limits(&mut object);
    let defaults = Defaults {
        address_shift: number(&mut object, "address_shift", -1, 1, 0),
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
    assemble(common, connection, unit_id, &points, groups, &limits).map(|plan| Plan { retries, request_pause, ..plan })
}

/// Turns valid points into tags and requests. The only problems left are values no request may reach.
fn assemble(
    common: Common,
    connection: ConnectionPlan,
    unit_id: u8,
    points: &[Point],
    groups: Vec<Group>,
    limits: &Limits,
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
    let blocks = modbus::plan::plan(&wants, limits).map_err(|errors| {
        errors
            .into_iter()
            .map(|error| {
                let (PlanError::TooLarge { want, .. } | PlanError::Forbidden { want } | PlanError::Span { want, .. }) =
                    error;
                Problem::new(format!("{}/address", points[want].pointer), "unreadable", error.to_string(), "")
            })
            .collect::<Vec<_>>()
    })?;
    let decodings = points.iter().map(|point| point.decoding.clone()).collect();
    Ok(Plan {
        common,
        connection,
        retries: 0,
        request_pause: Duration::ZERO,
        tags,
        decodings,
        wants,
        groups,
        blocks,
        units,
    })
}

fn number<T: TryFrom<i64>>(object: &mut Object<'_>, key: &'static str, min: i64, max: i64, default: T) -> T {
    object.integer(key, min, max).and_then(|number| T::try_from(number).ok()).unwrap_or(default)
}

fn milliseconds(object: &mut Object<'_>, key: &'static str, min: i64, max: i64, default: u64) -> Duration {
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
        assert_eq!(plan.connection.host, "192.168.1.50");
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
            {"parameter": "h", "address": "40001", "type": "int16", "publish": "on_change"},
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
