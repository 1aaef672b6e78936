//! One event source of the settings: which node notifies, what is wanted of it, and how bad it is.
//!
//! Pure; read by [`super::super::config`]. Every problem is reported with its place.

use ::config::{Object, Problem};
use model::Severity;
use serde_json::Value;

use super::super::node::{Identity, STANDARD};
use crate::common::{Common, name};

/// Event sources of one adapter; more are refused.
pub const SOURCES_MAX: usize = 64;
/// Event types and further fields of one source; more are refused.
const TYPES_MAX: usize = 32;
const FIELDS_MAX: usize = 32;
/// Parts of the path to a field.
const PATH_MAX: usize = 8;
/// The object that notifies of everything a server has to tell.
const SERVER_OBJECT: &str = "i=2253";

/// Where events come from, and which.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    pub node: Identity,
    /// The asset of its events, and of the alarms its conditions become.
    pub asset_id: String,
    pub publishing_ms: u32,
    pub queue: u32,
    /// Plain events below it are left out; conditions that are held always count.
    pub min_severity: u16,
    /// With their subtypes; all when empty.
    pub types: Vec<Identity>,
    pub fields: Vec<Field>,
    /// Its conditions become alarms, and the server is asked to tell them again after a gap.
    pub alarms: bool,
    pub severities: Severities,
}

/// A field beside the standard ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// In the record, behind `field.`.
    pub name: String,
    pub namespace: String,
    /// Browse names, from the event's type.
    pub path: Vec<String>,
}

/// From which severity of a server on it is which of ours (UA-30).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Severities {
    pub medium: u16,
    pub high: u16,
    pub critical: u16,
}

impl Default for Severities {
    fn default() -> Self {
        Self { medium: 251, high: 501, critical: 751 }
    }
}

impl Severities {
    pub fn of(self, severity: u16) -> Severity {
        match severity {
            number if number >= self.critical => Severity::Critical,
            number if number >= self.high => Severity::High,
            number if number >= self.medium => Severity::Medium,
            _ => Severity::Low,
        }
    }
}

/// Reads `events` of an adapter.
pub fn read(object: &mut Object<'_>, common: &Common, publishing_ms: u32) -> Vec<Source> {
    let Some(list) = object.list("events") else { return Vec::new() };
    if list.len() > SOURCES_MAX {
        let message = format!("{} event sources, {SOURCES_MAX} are possible", list.len());
        object.problem("events", "too_many", message, "the Server object notifies of what all others do");
        return Vec::new();
    }
    let mut sources: Vec<Source> = Vec::new();
    for (place, value) in list.iter().enumerate() {
        let pointer = format!("{}/{place}", object.at("events"));
        match read_source(value, &pointer, common, publishing_ms) {
            Err(problems) => object.extend(problems),
            Ok(source) => {
                if sources.iter().any(|other| other.node == source.node) {
                    let message = "is the notifier of another event source too";
                    let hint = "each of its events would be told once only, with the asset of either";
                    object.extend([Problem::new(format!("{pointer}/node"), "duplicate", message, hint)]);
                }
                sources.push(source);
            }
        }
    }
    sources
}

fn read_source(value: &Value, pointer: &str, common: &Common, publishing_ms: u32) -> Result<Source, Vec<Problem>> {
    let mut object = Object::new(value, pointer);
    let text = object.text("node").unwrap_or(SERVER_OBJECT);
    let node = identity(text).map_err(|message| {
        object.problem(
            "node",
            "bad_node",
            message,
            "write nsu=urn:vendor:device;s=Area, or leave it out: the server itself",
        );
    });
    let asset_id = name(&mut object, "asset_id", false)
        .or_else(|| common.asset_id.clone())
        .unwrap_or_else(|| common.adapter_id.clone());
    let publishing = object.integer("publishing_interval_ms", 50, 3_600_000).and_then(|ms| u32::try_from(ms).ok());
    // the largest number asks for as much as the server can (UA-17)
    let queue = object.integer("queue_size", 1, 1_000_000).and_then(|size| u32::try_from(size).ok());
    let min_severity = object.integer("min_severity", 1, 1000).and_then(|number| u16::try_from(number).ok());
    let types = read_types(&mut object);
    let fields = read_fields(&mut object);
    let alarms = object.boolean("alarms").unwrap_or(true);
    let severities = read_severities(&mut object);
    let problems = object.finish();
    match node {
        Ok(node) if problems.is_empty() => Ok(Source {
            node,
            asset_id,
            publishing_ms: publishing.unwrap_or(publishing_ms),
            queue: queue.unwrap_or(u32::MAX),
            min_severity: min_severity.unwrap_or(1),
            types,
            fields,
            alarms,
            severities,
        }),
        _ => Err(problems),
    }
}

fn identity(text: &str) -> Result<Identity, String> {
    Identity::parse(text)
}

fn read_types(object: &mut Object<'_>) -> Vec<Identity> {
    let list = object.list("types").map(Vec::as_slice).unwrap_or_default();
    if list.len() > TYPES_MAX {
        let message = format!("{} types, {TYPES_MAX} are possible", list.len());
        object.problem("types", "too_many", message, "name a type they all are kinds of");
        return Vec::new();
    }
    let mut types = Vec::new();
    for (place, value) in list.iter().enumerate() {
        match value.as_str().ok_or_else(|| "must be a text".to_owned()).and_then(identity) {
            Ok(node) => types.push(node),
            Err(message) => {
                let pointer = format!("{}/{place}", object.at("types"));
                object.extend([Problem::new(pointer, "bad_node", message, "write nsu=urn:vendor:device;i=1001")]);
            }
        }
    }
    types
}

fn read_fields(object: &mut Object<'_>) -> Vec<Field> {
    let Some(map) = object.object("fields") else { return Vec::new() };
    if map.len() > FIELDS_MAX {
        object.problem("fields", "too_many", format!("{} fields, {FIELDS_MAX} are possible", map.len()), "");
        return Vec::new();
    }
    let mut fields = Vec::new();
    for (key, value) in map {
        let mut refuse = |message: String| {
            let pointer = format!("{}/{}", object.at("fields"), key.replace('~', "~0").replace('/', "~1"));
            let hint = "write the browse name: nsu=urn:vendor:types;Order/Number";
            object.extend([Problem::new(pointer, "bad_field", message, hint)]);
        };
        if model::ids::normalise(key).as_deref() != Ok(key.as_str()) {
            refuse(format!("{key:?} is no name: lower-case letters, digits, _ . and -"));
        }
        match value.as_str().ok_or_else(|| "must be a text".to_owned()).and_then(read_path) {
            Ok((namespace, path)) => fields.push(Field { name: key.clone(), namespace, path }),
            Err(message) => refuse(message),
        }
    }
    fields
}

/// `nsu=<uri>;Name/Name`; without a namespace the standard's is meant.
fn read_path(text: &str) -> Result<(String, Vec<String>), String> {
    let (namespace, rest) = match text.strip_prefix("nsu=") {
        Some(rest) => rest.split_once(';').ok_or("has no name behind the namespace")?,
        None => (STANDARD, text),
    };
    let path: Vec<String> = rest.split('/').map(str::to_owned).collect();
    if namespace.is_empty() || path.len() > PATH_MAX || path.iter().any(|part| part.is_empty() || part.len() > 512) {
        return Err(format!("{text:.100?} is no path of browse names"));
    }
    Ok((namespace.replace("%3B", ";").replace("%3b", ";").replace("%25", "%"), path))
}

fn read_severities(parent: &mut Object<'_>) -> Severities {
    let Some(value) = parent.value("severities") else { return Severities::default() };
    let mut object = Object::new(value, &parent.at("severities"));
    let defaults = Severities::default();
    let mut number =
        |key, default| object.integer(key, 1, 1001).and_then(|number| u16::try_from(number).ok()).unwrap_or(default);
    let table = Severities {
        medium: number("medium", defaults.medium),
        high: number("high", defaults.high),
        critical: number("critical", defaults.critical),
    };
    if !(table.medium <= table.high && table.high <= table.critical) {
        let message =
            format!("medium {}, high {}, critical {} do not ascend", table.medium, table.high, table.critical);
        object.problem_here("contradiction", message, "each is the lowest severity that counts so; 1001 is never");
    }
    parent.extend(object.finish());
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opcua::config::plan;
    use crate::opcua::config::tests::settings;
    use serde_json::json;

    fn sources(events: &Value) -> Result<Vec<Source>, Vec<String>> {
        let plan = plan(&settings(&json!({"events": events, "publishing_interval_ms": 500})), "");
        plan.map(|plan| plan.events).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    // UA-26, UA-30: what serves a plant needs no word
    #[test]
    fn the_server_itself_is_meant_where_nothing_is_said() {
        let source = sources(&json!([{}])).unwrap().remove(0);
        assert_eq!((source.node.to_string().as_str(), source.asset_id.as_str()), ("i=2253", "press"));
        assert_eq!((source.publishing_ms, source.queue, source.min_severity), (500, u32::MAX, 1));
        assert!(source.alarms && source.types.is_empty() && source.fields.is_empty());
        let of = |severity| source.severities.of(severity).as_str();
        assert_eq!(
            [1, 250, 251, 500, 501, 750, 751, 1000].map(of),
            ["LOW", "LOW", "MEDIUM", "MEDIUM", "HIGH", "HIGH", "CRITICAL", "CRITICAL"]
        );
        assert!(sources(&json!([])).unwrap().is_empty());
    }

    #[test]
    fn everything_that_can_be_said() {
        let full = json!([{
            "node": "nsu=urn:x;s=Area", "asset_id": "Line 7", "publishing_interval_ms": 200, "queue_size": 100,
            "min_severity": 300, "types": ["i=2915"], "fields": {"order": "nsu=urn:x;Order/No", "local": "LocalTime"},
            "alarms": false, "severities": {"critical": 900, "high": 700, "medium": 1},
        }]);
        let source = sources(&full).unwrap().remove(0);
        assert_eq!((source.asset_id.as_str(), source.queue, source.min_severity), ("line_7", 100, 300));
        let order = source.fields.iter().find(|field| field.name == "order").unwrap();
        assert_eq!((order.namespace.as_str(), order.path.join("/").as_str()), ("urn:x", "Order/No"));
        assert_eq!((source.severities.of(899).as_str(), source.severities.of(1).as_str()), ("HIGH", "MEDIUM"));
    }

    // G-06
    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        let said = sources(&json!([
            {"node": "ns=2;s=Area", "min_severity": 0, "types": [7], "fields": {"Order": "", "a": "x//y"}},
            {"severities": {"high": 900}, "aserts": 1}, {}, {"node": "i=2253"},
        ]));
        let said = said.unwrap_err();
        for start in [
            "/events/0/node: names its namespace by number",
            "/events/0/min_severity: 0 is outside",
            "/events/0/types/0: must be a text",
            "/events/0/fields/Order: \"Order\" is no name",
            "/events/0/fields/a: \"x//y\" is no path",
            "/events/1/severities: medium 251, high 900, critical 751 do not ascend",
            "/events/1/aserts: is not a known key",
            "/events/3/node: is the notifier of another",
        ] {
            assert!(said.iter().any(|line| line.starts_with(start)), "{start} in {said:#?}");
        }
    }
}
