//! One point of the settings: which node it is, how often it is looked at, and what it becomes.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::config::{Object, Problem};
use model::{Classification, ValueType};
use serde_json::Value;

use super::node::Identity;
use super::stack::DataChangeTrigger;
use crate::common::{Common, name};
use crate::mqtt::value::Conversion;

/// Longest unit text.
const UNIT_MAX: usize = 32;
/// Elements that an array may be split into (UA-23).
pub const ELEMENTS_MAX: usize = 1000;

/// What holds for points that do not say otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    pub publishing_ms: u32,
    pub sampling_ms: Option<f64>,
    pub polled: bool,
}

impl Defaults {
    pub fn read(object: &mut Object<'_>) -> Self {
        Self {
            publishing_ms: read_publishing(object).unwrap_or(1000),
            sampling_ms: read_sampling(object),
            polled: object.word("mode", &["subscribe", "read"]) == Some("read"),
        }
    }
}

/// A point.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub node: Identity,
    pub asset_id: String,
    pub parameter: String,
    pub unit: Option<String>,
    pub value_type: ValueType,
    pub classification: Classification,
    /// Of its subscription, or from one read to the next.
    pub publishing_ms: u32,
    /// 0 is as fast as the server can, -1 the publishing interval.
    pub sampling_ms: f64,
    /// Read again and again instead of subscribed to.
    pub polled: bool,
    pub queue: u32,
    pub trigger: Trigger,
    pub deadband: Option<Deadband>,
    pub elements: Elements,
    pub conversion: Conversion,
}

/// What makes the server report (UA-19).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    Status,
    StatusValue,
    StatusValueTimestamp,
}

impl Trigger {
    pub fn of_stack(self) -> DataChangeTrigger {
        match self {
            Self::Status => DataChangeTrigger::Status,
            Self::StatusValue => DataChangeTrigger::StatusValue,
            Self::StatusValueTimestamp => DataChangeTrigger::StatusValueTimestamp,
        }
    }
}

/// Changes that are not worth reporting (UA-19).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Deadband {
    Absolute(f64),
    /// Of the range the server says the node has, 0 to 100.
    Percent(f64),
}

/// What becomes of an array (UA-23).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elements {
    /// None is expected.
    Scalar,
    One(usize),
    /// Each element a parameter of its own.
    All,
    Json,
}

/// Reads a point.
pub fn read(value: &Value, pointer: &str, defaults: &Defaults, common: &Common) -> Result<Point, Vec<Problem>> {
    let mut object = Object::new(value, pointer);
    let node = object.required_text("node").and_then(|text| match Identity::parse(text) {
        Ok(node) => Some(node),
        Err(message) => {
            object.problem("node", "bad_node", message, "write nsu=urn:vendor:device;s=Name");
            None
        }
    });
    let parameter = name(&mut object, "parameter", true);
    let asset_id = name(&mut object, "asset_id", false).or_else(|| common.asset_id.clone());
    if asset_id.is_none() {
        object.problem("asset_id", "missing", "is missing", "give it here or for the whole adapter");
    }
    let value_type = match object.word("type", &["float", "int", "bool", "string"]) {
        Some("int") => ValueType::Int,
        Some("bool") => ValueType::Bool,
        Some("string") => ValueType::String,
        _ => ValueType::Float,
    };
    let classification = match object.word("class", &["telemetry", "event", "alarm"]) {
        Some("event") => Classification::Event,
        Some("alarm") => Classification::Alarm,
        _ => Classification::Telemetry,
    };
    let unit = object.text("unit").map(str::to_owned);
    if unit.as_ref().is_some_and(|unit| unit.len() > UNIT_MAX || unit.contains(char::is_control)) {
        object.problem("unit", "too_long", format!("has up to {UNIT_MAX} bytes"), "");
    }
    let publishing_ms = read_publishing(&mut object).unwrap_or(defaults.publishing_ms);
    let sampling_ms = read_sampling(&mut object).or(defaults.sampling_ms).unwrap_or(-1.0);
    let polled = object.word("mode", &["subscribe", "read"]).map_or(defaults.polled, |mode| mode == "read");
    let queue = object.integer("queue_size", 1, 1_000_000).and_then(|size| u32::try_from(size).ok());
    let trigger = match object.word("trigger", &["status", "status_value", "status_value_timestamp"]) {
        Some("status") => Trigger::Status,
        Some("status_value_timestamp") => Trigger::StatusValueTimestamp,
        _ => Trigger::StatusValue,
    };
    let deadband = read_deadband(&mut object);
    let elements = read_elements(&mut object);
    let is_number = matches!(value_type, ValueType::Float | ValueType::Int);
    if deadband.is_some() && !is_number {
        object.problem("deadband", "no_number", "needs a number", "leave it out for this type");
    }
    if polled && matches!(deadband, Some(Deadband::Percent(_))) {
        let hint = "use an absolute one, or mode: subscribe";
        object.problem(
            "deadband",
            "contradiction",
            "in percent is of a range the server knows, and here it is read",
            hint,
        );
    }
    let (scale, offset) = (object.number("scale"), object.number("offset"));
    if (scale.is_some() || offset.is_some()) && !is_number {
        object.problem("scale", "no_number", "needs a number", "leave it out for this type");
    }
    let finite = |number: Option<f64>, default: f64| number.filter(|number| number.is_finite()).unwrap_or(default);
    let states = read_states(&mut object);
    let problems = object.finish();
    match (node, parameter, asset_id) {
        (Some(node), Some(parameter), Some(asset_id)) if problems.is_empty() => Ok(Point {
            node,
            asset_id,
            parameter,
            unit,
            value_type,
            classification,
            publishing_ms,
            sampling_ms,
            polled,
            queue: queue.unwrap_or_else(|| queue_for(publishing_ms, sampling_ms)),
            trigger,
            deadband,
            elements,
            conversion: Conversion {
                value_type,
                scale: finite(scale, 1.0),
                offset: finite(offset, 0.0),
                states,
                ..Conversion::default()
            },
        }),
        _ => Err(problems),
    }
}

/// Room for twice what is sampled between two notifications, at least ten (UA-17).
pub fn queue_for(publishing_ms: u32, sampling_ms: f64) -> u32 {
    let publishing = f64::from(publishing_ms);
    let sampling = if sampling_ms < 0.0 { publishing } else { sampling_ms.max(10.0) };
    let wanted = (publishing / sampling.max(1.0)).ceil() * 2.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 10 and 100 000")]
    let size = wanted.clamp(10.0, 100_000.0) as u32;
    size
}

fn read_publishing(object: &mut Object<'_>) -> Option<u32> {
    object.integer("publishing_interval_ms", 50, 3_600_000).and_then(|ms| u32::try_from(ms).ok())
}

fn read_sampling(object: &mut Object<'_>) -> Option<f64> {
    let number = object.number("sampling_interval_ms")?;
    if (0.0..=3_600_000.0).contains(&number) || number == -1.0 {
        return Some(number);
    }
    let hint = "0 is as fast as the server can, -1 the publishing interval";
    object.problem("sampling_interval_ms", "out_of_range", format!("{number} is outside -1, 0 to 3600000"), hint);
    None
}

fn read_deadband(parent: &mut Object<'_>) -> Option<Deadband> {
    let value = parent.value("deadband")?;
    let mut object = Object::new(value, &parent.at("deadband"));
    object.required_text("type");
    let kind = object.word("type", &["absolute", "percent"]);
    let size = object.number("value");
    let deadband = match (kind, size) {
        (Some("absolute"), Some(size)) if size.is_finite() && size >= 0.0 => Some(Deadband::Absolute(size)),
        (Some("percent"), Some(size)) if (0.0..=100.0).contains(&size) => Some(Deadband::Percent(size)),
        (Some(_), None) => {
            object.problem("value", "missing", "is missing", "");
            None
        }
        (Some("percent"), _) => {
            object.problem("value", "out_of_range", "is a percentage of 0 to 100", "");
            None
        }
        (Some(_), _) => {
            object.problem("value", "out_of_range", "must not be negative", "");
            None
        }
        (None, _) => None,
    };
    parent.extend(object.finish());
    deadband
}

fn read_elements(parent: &mut Object<'_>) -> Elements {
    let Some(value) = parent.value("array") else { return Elements::Scalar };
    let mut object = Object::new(value, &parent.at("array"));
    object.required_text("type");
    let kind = object.word("type", &["index", "explode", "json"]);
    let index = object.integer("index", 0, 1_000_000).and_then(|index| usize::try_from(index).ok());
    if (kind == Some("index")) != index.is_some() {
        object.problem("index", "contradiction", "belongs to type index, and only there", "");
    }
    parent.extend(object.finish());
    match kind {
        Some("index") => Elements::One(index.unwrap_or_default()),
        Some("explode") => Elements::All,
        Some("json") => Elements::Json,
        _ => Elements::Scalar,
    }
}

fn read_states(object: &mut Object<'_>) -> Option<Arc<BTreeMap<String, Arc<str>>>> {
    let map = object.object("states")?;
    let mut states = BTreeMap::new();
    for (key, value) in map {
        match value.as_str() {
            Some(text) => {
                states.insert(key.clone(), Arc::from(text.chars().take(256).collect::<String>()));
            }
            None => object.problem("states", "wrong_type", format!("{key:?} needs a text"), ""),
        }
    }
    Some(Arc::new(states))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opcua::config::plan;
    use crate::opcua::config::tests::settings;
    use serde_json::json;

    fn point(more: &Value) -> Result<Point, Vec<String>> {
        let mut point = json!({"node": "nsu=urn:x;s=Temp", "parameter": "Temp 1"});
        for (key, value) in more.as_object().unwrap() {
            point[key] = value.clone();
        }
        let plan = plan(&settings(&json!({"points": [point], "publishing_interval_ms": 500})), "");
        let said = |problems: Vec<Problem>| problems.iter().map(ToString::to_string).collect();
        plan.map(|plan| plan.points[0].clone()).map_err(said)
    }

    #[test]
    fn a_point_with_all_it_can_have() {
        let full = point(&json!({
            "type": "int", "unit": "rpm", "class": "event", "publishing_interval_ms": 1000, "sampling_interval_ms": 100,
            "mode": "read", "trigger": "status_value_timestamp", "deadband": {"type": "absolute", "value": 2},
            "array": {"type": "index", "index": 3}, "scale": 0.1, "offset": -4, "states": {"1": "on"},
        }));
        let full = full.unwrap();
        assert_eq!((full.parameter.as_str(), full.asset_id.as_str()), ("temp_1", "press"));
        assert_eq!((full.publishing_ms, full.sampling_ms, full.queue), (1000, 100.0, 20));
        assert_eq!((full.deadband, full.elements), (Some(Deadband::Absolute(2.0)), Elements::One(3)));
        assert!(full.polled && full.trigger == Trigger::StatusValueTimestamp);
        let plain = point(&json!({})).unwrap();
        assert_eq!((plain.publishing_ms, plain.sampling_ms, plain.queue, plain.polled), (500, -1.0, 10, false));
    }

    // G-06
    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        let said = point(&json!({
            "type": "strin", "deadband": {"type": "percent", "value": 101}, "array": {"type": "json", "index": 1},
            "sampling_interval_ms": -2, "states": {"x": 1},
        }));
        let said = said.unwrap_err();
        for start in [
            "/points/0/type: \"strin\" is not one of",
            "/points/0/deadband/value: is a percentage",
            "/points/0/array/index: belongs to",
            "/points/0/sampling_interval_ms: -2 is outside",
            "/points/0/states: \"x\" needs",
        ] {
            assert!(said.iter().any(|line| line.starts_with(start)), "{start} in {said:#?}");
        }
        let read = point(&json!({"mode": "read", "deadband": {"type": "percent", "value": 2}})).unwrap_err();
        assert!(read[0].starts_with("/points/0/deadband: in percent is of a range"), "{read:?}");
        let text = point(&json!({"type": "string", "scale": 2})).unwrap_err();
        assert!(text[0].starts_with("/points/0/scale: needs a number"), "{text:?}");
    }

    // UA-17
    #[test]
    fn queues_hold_twice_what_comes_between_two_notifications() {
        assert_eq!(queue_for(1000, -1.0), 10);
        assert_eq!(queue_for(1000, 100.0), 20);
        assert_eq!(queue_for(1000, 0.0), 200, "as fast as the server can is taken for 10 ms");
        assert_eq!(queue_for(3_600_000, 0.0), 100_000);
    }
}
