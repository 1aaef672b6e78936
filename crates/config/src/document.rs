//! The gateway document: one file, JSON or YAML, that says everything a gateway runs.
//!
//! ```yaml
//! version: 1
//! gateway_id: gw-line-1
//! stream: { mode: embedded, listen: "127.0.0.1:9092", registry_listen: "127.0.0.1:8081" }
//! console: { listen: "127.0.0.1:8080" }
//! adapters: [ { adapter_id: ..., adapter_type: modbus_tcp, ... } ]
//! sinks:    [ { sink_id: ..., sink_type: timescale, ... } ]
//! validation:  { rules: [ ... ] }
//! aggregation: { resolutions: ["1s", "1min", "1hour"] }
//! alarms:      { rules: [ ... ] }
//! clock:       { assume_synced: false, boot_hold_s: 60 }
//! ```

use std::net::SocketAddr;

use serde_json::Value;

use crate::rules::PointGlob;
use crate::{Aggregation, Alarms, Catalog, Claim, ClockSettings, External, Kind, Object, Problem, Validation};

/// The newest document version this build reads.
pub const VERSION: i64 = 1;
/// A longer text is refused before it is parsed.
pub const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Which stream the gateway uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamMode {
    /// Our own broker, a child of this gateway.
    Embedded { listen: SocketAddr, registry_listen: SocketAddr },
    /// Somebody else's Kafka-compatible cluster.
    External(Box<External>),
}

/// One adapter or sink as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    pub kind: Kind,
    pub id: String,
    pub type_name: String,
    /// The whole settings object, as `ADAPTER_CONFIG` / `SINK_CONFIG` carry it.
    pub settings: Value,
}

/// A valid document.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub gateway_id: String,
    /// Free text that names this state, for example a Git commit; a content hash when absent.
    pub revision: Option<String>,
    pub stream: StreamMode,
    /// Where the status page listens.
    pub console_listen: SocketAddr,
    pub components: Vec<Component>,
    pub validation: Validation,
    pub aggregation: Aggregation,
    pub alarms: Alarms,
    pub clock: ClockSettings,
}

/// Reads a document from JSON or YAML text: the document, or every problem in it.
pub fn parse(text: &str, catalog: &Catalog) -> Result<Document, Vec<Problem>> {
    read(&parse_value(text)?, catalog)
}

/// Reads JSON or YAML text, whatever it says.
pub fn parse_value(text: &str) -> Result<Value, Vec<Problem>> {
    if text.len() > DOCUMENT_BYTES_MAX {
        return Err(vec![Problem::new("", "too_large", format!("longer than {DOCUMENT_BYTES_MAX} bytes"), "")]);
    }
    parse_text(text).map_err(|message| vec![Problem::new("", "syntax", message, "")])
}

/// Reads the sections `validation` and `alarms` out of a file that holds them alone or is a whole document. What is not
/// there checks nothing. The points of adapters are not known here, so no point is unknown.
pub fn parse_rules(text: &str) -> Result<(Validation, Alarms), Vec<Problem>> {
    let value = parse_value(text)?;
    if value.get("validation").is_none() && value.get("alarms").is_none() {
        let hint = "write validation: { rules: [ ... ] } or alarms: { rules: [ ... ] }, or give a whole document";
        return Err(vec![Problem::new("", "empty", "holds neither validation nor alarms", hint)]);
    }
    let (validation, mut problems) =
        value.get("validation").map(|value| Validation::read(value, "/validation")).unwrap_or_default();
    let (alarms, found) = value.get("alarms").map(|value| Alarms::read(value, "/alarms")).unwrap_or_default();
    problems.extend(found);
    problems.extend(crate::alarms::check_against(&alarms, &validation, "/alarms"));
    if problems.is_empty() { Ok((validation.with_points(None), alarms)) } else { Err(problems) }
}

/// JSON when it looks like JSON, YAML otherwise; the parser's message names line and column.
pub(crate) fn parse_text(text: &str) -> Result<Value, String> {
    if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
    } else {
        serde_saphyr::from_str(text).map_err(|error| format!("not YAML: {error}"))
    }
}

/// Reads a parsed document.
pub fn read(value: &Value, catalog: &Catalog) -> Result<Document, Vec<Problem>> {
    let mut object = Object::new(value, "");
    match object.value("version").map(Value::as_i64) {
        Some(Some(VERSION)) => {}
        Some(Some(newer)) if newer > VERSION => {
            // G-06: a newer document is refused whole, not half applied
            let message = format!("version {newer} is newer than this build reads ({VERSION})");
            return Err(vec![Problem::new("/version", "newer_version", message, "update the gateway first")]);
        }
        Some(_) => object.problem("version", "unknown_version", format!("must be {VERSION}"), ""),
        None => object.problem("version", "missing", "is missing", format!("write version: {VERSION}")),
    }
    let gateway_id = object.required_text("gateway_id").unwrap_or_default().to_owned();
    if let Err(invalid) = model::ids::normalise(&gateway_id)
        && !gateway_id.is_empty()
    {
        object.problem("gateway_id", "bad_name", invalid.reason, "");
    }
    let revision = object.text("revision").map(str::to_owned);
    let stream = read_stream(&mut object);
    let console_listen = read_console(&mut object);
    let mut components = Vec::new();
    for (kind, key) in [(Kind::Adapter, "adapters"), (Kind::Sink, "sinks")] {
        for (i, settings) in object.list(key).into_iter().flatten().enumerate() {
            match read_component(kind, settings, &format!("/{key}/{i}"), catalog) {
                Ok(component) => components.push((format!("/{key}/{i}"), component)),
                Err(problems) => object.extend(problems),
            }
        }
    }
    let repeated: Vec<Problem> = components
        .iter()
        .enumerate()
        .filter(|(i, (_, component))| components[..*i].iter().any(|(_, earlier)| earlier.id == component.id))
        .map(|(_, (pointer, component))| {
            let pointer = format!("{pointer}/{}", component.kind.id_key());
            Problem::new(
                pointer,
                "duplicate",
                format!("{:?} is used twice", component.id),
                "component names are unique in a gateway",
            )
        })
        .collect();
    object.extend(repeated);
    object.extend(claims_in_conflict(&components, catalog));
    let validation = object.value("validation").map(|value| Validation::read(value, "/validation"));
    let (validation, problems) = validation.unwrap_or_default();
    object.extend(problems);
    let validation = validation.with_points(known_points(&components, catalog));
    object.extend(validation.unknown_names("/validation"));
    let aggregation = object.value("aggregation").map(|value| Aggregation::read(value, "/aggregation"));
    let (aggregation, problems) = aggregation.unwrap_or_default();
    object.extend(problems);
    let alarms = object.value("alarms").map(|value| Alarms::read(value, "/alarms"));
    let (alarms, problems) = alarms.unwrap_or_default();
    object.extend(problems);
    object.extend(crate::alarms::check_against(&alarms, &validation, "/alarms"));
    let clock = object.value("clock").map(|value| ClockSettings::read(value, "/clock"));
    let (clock, problems) = clock.unwrap_or_default();
    object.extend(problems);
    let problems = object.finish();
    if !problems.is_empty() {
        return Err(problems);
    }
    let components = components.into_iter().map(|(_, component)| component).collect();
    Ok(Document { gateway_id, revision, stream, console_listen, components, validation, aggregation, alarms, clock })
}

/// Components that would share what one of them must have alone.
fn claims_in_conflict(components: &[(String, Component)], catalog: &Catalog) -> Vec<Problem> {
    let mut claims: Vec<(&str, Claim)> = Vec::new();
    let mut problems = Vec::new();
    for (pointer, component) in components {
        let claim =
            catalog.find(component.kind, &component.type_name).and_then(|spec| (spec.claim)(&component.settings));
        let Some(claim) = claim else { continue };
        let shared = |(_, other): &&(&str, Claim)| other.what == claim.what && (other.alone || claim.alone);
        if let Some((other, _)) = claims.iter().find(shared) {
            let message = format!("uses {}, which {other} uses already", claim.what);
            problems.push(Problem::new(pointer, "shared", message, "put the points of both into one adapter"));
        }
        claims.push((&component.id, claim));
    }
    problems
}

/// The points all adapters bring; `None` when one of them cannot say.
fn known_points(components: &[(String, Component)], catalog: &Catalog) -> Option<Vec<PointGlob>> {
    let adapters = components.iter().map(|(_, component)| component).filter(|one| one.kind == Kind::Adapter);
    let mut points = Vec::new();
    for adapter in adapters {
        points.extend((catalog.find(Kind::Adapter, &adapter.type_name)?.points)(&adapter.settings)?);
    }
    (!points.is_empty()).then_some(points)
}

fn read_address(object: &mut Object<'_>, key: &'static str, default: &str) -> SocketAddr {
    let fallback = || default.parse().expect("the defaults are addresses");
    match object.text(key).map(str::parse) {
        None => fallback(),
        Some(Ok(address)) => address,
        Some(Err(_)) => {
            object.problem(key, "bad_address", "must be an address and a port", format!("for example {default:?}"));
            fallback()
        }
    }
}

fn read_stream(document: &mut Object<'_>) -> StreamMode {
    let empty = Value::Object(serde_json::Map::new());
    let value = document.value("stream").unwrap_or(&empty);
    let mut object = Object::new(value, "/stream");
    let mode = match object.word("mode", &["embedded", "external"]) {
        Some("external") => StreamMode::External(Box::new(External::read(&mut object))),
        _ => StreamMode::Embedded {
            listen: read_address(&mut object, "listen", "127.0.0.1:9092"),
            registry_listen: read_address(&mut object, "registry_listen", "127.0.0.1:8081"),
        },
    };
    document.extend(object.finish());
    mode
}

fn read_console(document: &mut Object<'_>) -> SocketAddr {
    let empty = Value::Object(serde_json::Map::new());
    let value = document.value("console").unwrap_or(&empty);
    let mut object = Object::new(value, "/console");
    let listen = read_address(&mut object, "listen", "127.0.0.1:8080");
    if !listen.ip().is_loopback() {
        let hint = "the page has no login yet: keep it on 127.0.0.1 and reach it through a tunnel";
        object.problem("listen", "not_loopback", format!("{listen} would show the plant to the network"), hint);
    }
    document.extend(object.finish());
    listen
}

fn read_component(kind: Kind, settings: &Value, pointer: &str, catalog: &Catalog) -> Result<Component, Vec<Problem>> {
    let missing = |key: &str| Problem::new(format!("{pointer}/{key}"), "missing", "is missing or not a text", "");
    let text = |key: &str| settings.get(key).and_then(Value::as_str);
    let mut problems = Vec::new();
    let id = text(kind.id_key()).unwrap_or_default();
    if id.is_empty() {
        problems.push(missing(kind.id_key()));
    } else if model::ids::normalise(id).as_deref() != Ok(id) {
        let hint = "lower-case letters, digits, _ . and -, beginning with a letter or digit, at most 128";
        problems.push(Problem::new(
            format!("{pointer}/{}", kind.id_key()),
            "bad_name",
            format!("{id:?} is not a component name"),
            hint,
        ));
    }
    let type_name = text(kind.type_key()).unwrap_or_default();
    match catalog.find(kind, type_name) {
        Some(spec) => problems.extend((spec.validate)(settings, pointer)),
        None if type_name.is_empty() => problems.push(missing(kind.type_key())),
        None => {
            let known = catalog.type_names(kind);
            let message = format!("{type_name:?} is not one of {}", known.join(", "));
            let hint = crate::read::suggest(type_name, &known);
            problems.push(Problem::new(format!("{pointer}/{}", kind.type_key()), "unknown_type", message, hint));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Component { kind, id: id.to_owned(), type_name: type_name.to_owned(), settings: settings.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Spec;

    fn catalog() -> Catalog {
        let check = |value: &Value, pointer: &str| {
            let mut object = Object::new(value, pointer);
            object.text("adapter_id");
            object.text("adapter_type");
            object.integer("port", 1, 65_535);
            object.boolean("alone");
            object.finish()
        };
        Catalog::new([Spec {
            kind: Kind::Adapter,
            type_name: "modbus_tcp",
            summary: "",
            schema: || Value::Null,
            validate: check,
            points: |_| None,
            table: None,
            claim: |value| {
                let port = value.get("port")?.as_i64()?;
                Some(Claim { what: format!("port {port}"), alone: value["alone"] == true })
            },
        }])
    }

    // AC-026
    #[test]
    fn what_one_component_has_alone_no_other_may_use() {
        let adapters = |first: &str, second: &str| {
            let text = format!(
                "{{version: 1, gateway_id: gw, adapters: [{{adapter_id: a, adapter_type: modbus_tcp, {first}}}, \
                 {{adapter_id: b, adapter_type: modbus_tcp, {second}}}]}}"
            );
            let value = serde_saphyr::from_str(&text).unwrap();
            read(&value, &catalog()).map_err(|problems| problems[0].to_string())
        };
        assert!(adapters("port: 5", "port: 5").is_ok(), "a port many may use");
        assert!(adapters("port: 5, alone: true", "port: 6, alone: true").is_ok());
        let expected = "/adapters/1: uses port 5, which a uses already (put the points of both into one adapter)";
        for (first, second) in [("port: 5, alone: true", "port: 5"), ("port: 5", "port: 5, alone: true")] {
            assert_eq!(adapters(first, second).unwrap_err(), expected);
        }
    }

    #[test]
    fn json_and_yaml_read_alike() {
        let json = r#"{"version":1,"gateway_id":"gw-1","adapters":[{"adapter_id":"a","adapter_type":"modbus_tcp","port":502}]}"#;
        let yaml =
            "version: 1\ngateway_id: gw-1\nadapters:\n  - adapter_id: a\n    adapter_type: modbus_tcp\n    port: 502\n";
        assert_eq!(parse(json, &catalog()).unwrap(), parse(yaml, &catalog()).unwrap());
    }

    #[test]
    fn all_problems_at_once() {
        // G-06
        let text = "gateway_id: '!x'\nstreem: {}\nadapters:\n  - {adapter_id: A, adapter_type: modbus, port: 0}\n  - {adapter_id: b, adapter_type: modbus_tcp, port: 0}\n";
        let printed: Vec<String> = parse(text, &catalog()).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(printed.len(), 6, "{printed:#?}");
        assert!(printed.iter().any(|p| p.starts_with("/version: is missing")));
        assert!(
            printed
                .iter()
                .any(|p| p.contains("/adapters/0/adapter_type") && p.contains("did you mean \"modbus_tcp\"?"))
        );
        assert!(printed.iter().any(|p| p == "/adapters/1/port: 0 is outside 1 to 65535"));
        assert!(printed.iter().any(|p| p.contains("did you mean \"stream\"?")));
    }

    #[test]
    fn an_alarm_behind_the_hard_range_is_refused_with_its_place() {
        // AC-103
        let text = r#"{"version":1,"gateway_id":"gw-1",
            "validation":{"rules":[{"id":"r","range":{"hard_lo":0,"hard_hi":100}}]},
            "alarms":{"rules":[{"id":"hh","parameter":"t","type":"hihi","limit":120,"severity":"HIGH","message":"m"}]}}"#;
        let problems = parse(text, &catalog()).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!((problems[0].pointer.as_str(), problems[0].code), ("/alarms/rules/0/limit", "outside_hard_range"));
        let document = parse(&text.replace("120", "99"), &catalog()).unwrap();
        assert_eq!(document.alarms.rules.len(), 1);
    }

    #[test]
    fn a_newer_document_is_refused_with_that_reason_alone() {
        // G-06
        let problems = parse(r#"{"version":2,"gatewai":1}"#, &catalog()).unwrap_err();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].code, "newer_version");
    }
}
