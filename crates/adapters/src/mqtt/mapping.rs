//! What a subscription makes of its messages: the settings of a mapping, read and checked.
//!
//! Pure. A mapping has fields; each leads from a place in the payload to a point. How they are followed is in
//! [`super::extract`].

use std::collections::BTreeMap;
use std::sync::Arc;

use ::config::{Object, Problem};
use model::{Classification, ValueType};
use regex_lite::Regex;
use serde_json::Value;

use super::binary::Layout;
use super::json::{self, Step};
use super::time::{Clockwork, Format};
use super::topic::{self, Meaning, Template};
use super::value::Conversion;
use crate::common::Common;

/// Fields of one subscription; more are refused.
pub const FIELDS_MAX: usize = 5_000;
/// Assets one adapter may learn, unless it is told otherwise (MQ-15).
pub const ASSETS_MAX: usize = 10_000;

/// One filter and what its messages are.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscription {
    pub filter: String,
    pub qos: u8,
    /// One of a group that shares the messages: their order is lost.
    pub shared: bool,
    pub retained: Retained,
    pub template: Option<Template>,
    pub asset_id: Option<String>,
    pub allow: Vec<String>,
    pub deny: Vec<String>,
    pub payload: Payload,
    pub gzip: bool,
    pub stamp: Option<Stamp>,
    pub fields: Vec<Field>,
}

/// What to do with what a broker kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retained {
    /// The state at the start of listening.
    Initial,
    /// Like any other message.
    Use,
    Ignore,
}

/// How a payload is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    Json,
    /// One text, number or word.
    Plain,
    Csv {
        delimiter: char,
        header: bool,
    },
    Binary,
}

/// A stamp in the payload.
#[derive(Debug, Clone, PartialEq)]
pub struct Stamp {
    pub path: Vec<Step>,
    pub clockwork: Clockwork,
}

/// From a place in the payload to a point.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Up to the list whose elements are points of their own, where there is one; then the value's place in each.
    pub path: Vec<Step>,
    pub in_each: Option<Vec<Step>>,
    /// `{param}` in it stands for the level of the topic.
    pub parameter: Option<String>,
    /// Name within an element of a list.
    pub name: Option<Vec<Step>>,
    pub unit: Option<String>,
    pub unit_path: Option<Vec<Step>>,
    pub quality_path: Option<Vec<Step>>,
    pub stamp: Option<Stamp>,
    pub conversion: Conversion,
    pub layout: Option<Layout>,
    pub classification: Classification,
}

/// Reads the settings of a subscription.
pub fn read(value: &Value, pointer: &str, common: &Common) -> (Option<Subscription>, Vec<Problem>) {
    let mut object = Object::new(value, pointer);
    let filter = object.required_text("filter").unwrap_or_default().to_owned();
    if let Some(fault) = topic::fault_of_filter(&filter).filter(|_| object.value("filter").is_some()) {
        object.problem("filter", "bad_filter", fault, "+ stands for one level, # for everything below");
    }
    let template = object.text("topic").map(Template::parse);
    let template = match template {
        Some(Err(message)) => {
            object.problem("topic", "bad_template", message, "write plant/{area}/{asset}/{param}");
            None
        }
        Some(Ok(template)) => Some(template),
        None => None,
    };
    let names = |meaning| template.as_ref().is_some_and(|template| template.names(meaning));
    let asset_id = crate::common::name(&mut object, "asset_id", false);
    if asset_id.is_none() && common.asset_id.is_none() && !names(Meaning::Asset) {
        object.problem("asset_id", "missing", "is missing", "name the asset, or read it from the topic with {asset}");
    }
    let globs = |object: &mut Object<'_>, key| {
        object.list(key).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let (allow, deny) = (globs(&mut object, "allow"), globs(&mut object, "deny"));
    let word = object.word("payload", &["json", "number", "boolean", "text", "csv", "binary"]);
    let delimiter = object.text("delimiter").map_or(Some(','), |text| {
        let mut letters = text.chars();
        letters.next().filter(|_| letters.next().is_none())
    });
    if delimiter.is_none() {
        object.problem("delimiter", "bad_delimiter", "must be one character", "");
    }
    let header = object.boolean("header").unwrap_or(true);
    let payload = match word {
        Some("number" | "boolean" | "text") => Payload::Plain,
        Some("csv") => Payload::Csv { delimiter: delimiter.unwrap_or(','), header },
        Some("binary") => Payload::Binary,
        _ => Payload::Json,
    };
    let stamp = object.value("time").map(|value| read_stamp(value, &object.at("time")));
    let stamp = taken(&mut object, stamp);
    let fields = read_fields(&mut object, word.unwrap_or("json"), names(Meaning::Parameter));
    let qos = object.integer("qos", 0, 2).and_then(|qos| u8::try_from(qos).ok()).unwrap_or(1);
    let retained = match object.word("retained", &["initial", "use", "ignore"]) {
        Some("use") => Retained::Use,
        Some("ignore") => Retained::Ignore,
        _ => Retained::Initial,
    };
    let gzip = object.boolean("gzip").unwrap_or(false);
    let problems = object.finish();
    let shared = topic::unshared(&filter).1;
    let subscription = Subscription {
        filter,
        qos,
        shared,
        retained,
        template,
        asset_id: asset_id.or_else(|| common.asset_id.clone()),
        allow,
        deny,
        payload,
        gzip,
        stamp,
        fields,
    };
    (problems.is_empty().then_some(subscription), problems)
}

/// What was read, with its problems put where they belong.
fn taken<T>(object: &mut Object<'_>, read: Option<Result<T, Vec<Problem>>>) -> Option<T> {
    match read? {
        Ok(value) => Some(value),
        Err(problems) => {
            object.extend(problems);
            None
        }
    }
}

fn read_path(object: &mut Object<'_>, key: &'static str) -> Option<Vec<Step>> {
    match json::path(object.text(key)?) {
        Ok(steps) => Some(steps),
        Err(message) => {
            object.problem(key, "bad_path", message, "write /a/b/0 or $.a.b[0]");
            None
        }
    }
}

fn read_stamp(value: &Value, pointer: &str) -> Result<Stamp, Vec<Problem>> {
    let mut object = Object::new(value, pointer);
    let path = read_path(&mut object, "path").unwrap_or_default();
    let words = ["epoch_s", "epoch_ms", "epoch_us", "epoch_ns", "rfc3339", "pattern"];
    let word = object.word("format", &words);
    if word.is_none() && object.value("format").is_none() {
        let hint = "look at a sample: 10 digits are epoch_s, 13 epoch_ms, 16 epoch_us, 19 epoch_ns";
        object.problem("format", "missing", "is missing, and is never guessed", hint);
    }
    let pattern = object.text("pattern");
    let format = match (word, pattern) {
        (Some("pattern"), Some(pattern)) => match Format::pattern(pattern) {
            Ok(format) => format,
            Err(message) => {
                object.problem("pattern", "bad_pattern", message, "write %Y-%m-%d %H:%M:%S");
                Format::Rfc3339
            }
        },
        (Some("pattern"), None) => {
            object.problem("pattern", "missing", "is missing", "write %Y-%m-%d %H:%M:%S");
            Format::Rfc3339
        }
        (Some(word), _) => Format::by_name(word).unwrap_or(Format::Rfc3339),
        (None, _) => Format::Rfc3339,
    };
    let zone = object.text("zone").map(str::parse::<chrono_tz::Tz>);
    if let Some(Err(_)) = zone {
        object.problem("zone", "unknown_zone", "is not a zone of the IANA database", "write Europe/Berlin or UTC");
    }
    let problems = object.finish();
    if problems.is_empty() {
        Ok(Stamp { path, clockwork: Clockwork { format, zone: zone.and_then(Result::ok) } })
    } else {
        Err(problems)
    }
}

fn read_fields(object: &mut Object<'_>, payload: &'static str, names_parameter: bool) -> Vec<Field> {
    let empty = Value::Object(serde_json::Map::new());
    let plain = matches!(payload, "number" | "boolean" | "text");
    let at = object.at("fields");
    let list: Vec<&Value> = match object.list("fields") {
        Some(list) => list.iter().collect(),
        // the payload is the value, the topic its name
        None if plain && names_parameter => vec![&empty],
        None => Vec::new(),
    };
    if list.is_empty() || list.len() > FIELDS_MAX {
        let message = format!("{} fields, 1 to {FIELDS_MAX} are possible", list.len());
        object.problem("fields", "bad_count", message, "each field leads to a point");
        return Vec::new();
    }
    let mut fields: Vec<Field> = Vec::with_capacity(list.len());
    for (place, value) in list.into_iter().enumerate() {
        let pointer = format!("{at}/{place}");
        match read_field(value, &pointer, payload, names_parameter) {
            Ok(field) => {
                let twice = field.in_each.is_none()
                    && fields.iter().any(|other| other.in_each.is_none() && other.parameter == field.parameter);
                if twice {
                    let message = format!("{:?} has a field already", field.parameter.as_deref().unwrap_or("{param}"));
                    object.extend([Problem::new(format!("{pointer}/parameter"), "duplicate_parameter", message, "")]);
                }
                fields.push(field);
            }
            Err(problems) => object.extend(problems),
        }
    }
    fields
}

fn read_field(
    value: &Value,
    pointer: &str,
    payload: &'static str,
    names_parameter: bool,
) -> Result<Field, Vec<Problem>> {
    let mut object = Object::new(value, pointer);
    let layout = if payload == "binary" { Layout::read(&mut object) } else { None };
    let mut path = match payload {
        "csv" => read_column(&mut object),
        "binary" => layout.as_ref().map(|layout| vec![Step::Key(layout.offset.to_string())]),
        _ => read_path(&mut object, "path"),
    }
    .unwrap_or_default();
    if path.is_empty()
        && matches!(payload, "json" | "csv")
        && object.value(if payload == "csv" { "column" } else { "path" }).is_none()
    {
        object.problem(if payload == "csv" { "column" } else { "path" }, "missing", "is missing", "");
    }
    let each = path.iter().position(|step| *step == Step::Each);
    let in_each = each.map(|at| {
        let tail = path.split_off(at + 1);
        path.pop();
        tail
    });
    if in_each.as_ref().is_some_and(|tail| tail.contains(&Step::Each)) {
        object.problem("path", "bad_path", "has two stars, one is possible", "");
    }
    let parameter = object.text("parameter");
    let parameter = parameter.map(|text| match model::ids::normalise(&text.replace("{param}", "x")) {
        Ok(_) if !text.contains("{param}") => model::ids::normalise(text).unwrap_or_default(),
        Ok(_) => text.to_owned(),
        Err(invalid) => {
            object.problem("parameter", "bad_name", invalid.reason, "");
            String::new()
        }
    });
    let name = read_path(&mut object, "name");
    let needs_topic = parameter.as_ref().is_none_or(|text| text.contains("{param}"));
    if needs_topic && !names_parameter && name.is_none() {
        object.problem("parameter", "missing", "is missing", "or read it from the topic with {param}");
    }
    let default_type = match payload {
        "boolean" => "bool",
        "text" => "string",
        _ => "float",
    };
    let value_type = match object.word("type", &["float", "int", "bool", "string"]).unwrap_or(default_type) {
        "int" => ValueType::Int,
        "bool" => ValueType::Bool,
        "string" => ValueType::String,
        _ => ValueType::Float,
    };
    let conversion = read_conversion(&mut object, value_type, payload);
    let unit = object.text("unit").map(str::to_owned);
    if unit.as_ref().is_some_and(|unit| unit.len() > 32) {
        object.problem("unit", "too_long", "is longer than 32 bytes", "");
    }
    let stamp = object.value("time").map(|value| read_stamp(value, &object.at("time")));
    let stamp = taken(&mut object, stamp);
    let classification = match object.word("class", &["telemetry", "event", "alarm"]) {
        Some("event") => Classification::Event,
        Some("alarm") => Classification::Alarm,
        _ => Classification::Telemetry,
    };
    let field = Field {
        path,
        in_each,
        parameter,
        name,
        unit,
        unit_path: read_path(&mut object, "unit_path"),
        quality_path: read_path(&mut object, "quality_path"),
        stamp,
        conversion,
        layout,
        classification,
    };
    let problems = object.finish();
    if problems.is_empty() { Ok(field) } else { Err(problems) }
}

/// A column of a table, by its name or its number from 0.
fn read_column(object: &mut Object<'_>) -> Option<Vec<Step>> {
    let value = object.value("column")?;
    match (value.as_str(), value.as_u64().and_then(|index| usize::try_from(index).ok())) {
        (Some(name), _) => Some(vec![Step::Key(name.to_owned())]),
        (None, Some(index)) => Some(vec![Step::Index(index)]),
        (None, None) => {
            object.problem("column", "wrong_type", "must be a name, or a number from 0", "");
            None
        }
    }
}

fn read_conversion(object: &mut Object<'_>, value_type: ValueType, payload: &'static str) -> Conversion {
    let standard = Conversion::default();
    let pattern = object.text("pattern").map(Regex::new);
    let pattern = match pattern {
        Some(Err(_)) => {
            object.problem("pattern", "bad_pattern", "is not a regular expression", r"for example ^(-?[0-9.]+) ?°C$");
            None
        }
        Some(Ok(pattern)) => Some(pattern),
        None => None,
    };
    let words = |object: &mut Object<'_>, key, standard: Vec<String>| match object.list(key) {
        None => standard,
        Some(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
    };
    let states = object.object("states").map(|states| {
        let named = states.iter().filter_map(|(value, label)| Some((value.clone(), Arc::from(label.as_str()?))));
        Arc::new(named.collect::<BTreeMap<String, Arc<str>>>())
    });
    // a payload that is text has no other way to be a number
    let is_text = payload != "json" && payload != "binary";
    let scale = object.number("scale").unwrap_or(1.0);
    if scale == 0.0 {
        object.problem("scale", "out_of_range", "makes every value the same", "");
    }
    Conversion {
        value_type,
        scale,
        offset: object.number("offset").unwrap_or(0.0),
        coerce: object.boolean("coerce").unwrap_or(false) || is_text,
        decimal_comma: object.boolean("decimal_comma").unwrap_or(false),
        pattern,
        states,
        true_words: words(object, "true_words", standard.true_words),
        false_words: words(object, "false_words", standard.false_words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn common() -> Common {
        let value = json!({"adapter_id": "a", "adapter_type": "mqtt"});
        Common::read(&mut Object::new(&value, ""))
    }

    fn problems(value: &Value) -> Vec<String> {
        read(value, "/s", &common()).1.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn mappings_are_read() {
        let value = json!({
            "filter": "plant/+/+", "topic": "plant/{area}/{asset}", "qos": 2, "retained": "ignore",
            "time": {"path": "/ts", "format": "epoch_ms"},
            "fields": [
                {"path": "/t", "parameter": "Temperature", "unit": "celsius", "scale": 0.1},
                {"path": "$.e[*].v", "name": "/n", "parameter": "senml", "time": {"path": "/t", "format": "epoch_s"}},
            ],
        });
        let (subscription, found) = read(&value, "/s", &common());
        let subscription = subscription.unwrap_or_else(|| panic!("{found:?}"));
        assert_eq!(subscription.fields[0].parameter.as_deref(), Some("temperature"));
        let each = &subscription.fields[1];
        assert_eq!((each.path.len(), each.in_each.as_ref().map(Vec::len)), (1, Some(1)));
        assert_eq!((subscription.qos, subscription.retained), (2, Retained::Ignore));
        let plain = json!({"filter": "+/+", "topic": "{asset}/{param}", "payload": "number"});
        assert_eq!(read(&plain, "/s", &common()).0.unwrap().fields.len(), 1);
    }

    #[test]
    fn every_problem_has_its_place() {
        for (value, part) in [
            (
                json!({"filter": "a/#/b", "asset_id": "x", "fields": [{"path": "/t", "parameter": "t"}]}),
                "/s/filter: has a #",
            ),
            (json!({"filter": "a", "fields": [{"path": "/t", "parameter": "t"}]}), "/s/asset_id: is missing"),
            (json!({"filter": "a", "asset_id": "x"}), "/s/fields: 0 fields"),
            (json!({"filter": "a", "asset_id": "x", "fields": [{"parameter": "t"}]}), "/s/fields/0/path: is missing"),
            (json!({"filter": "a", "asset_id": "x", "fields": [{"path": "/t"}]}), "/s/fields/0/parameter: is missing"),
            (
                json!({"filter": "a", "asset_id": "x", "fields": [{"path": "t", "parameter": "t"}]}),
                "must begin with / or $",
            ),
            (
                json!({"filter": "a", "asset_id": "x", "time": {"path": "/t"}, "fields": [{"path": "/t", "parameter": "t"}]}),
                "/s/time/format: is missing, and is never guessed",
            ),
            (
                json!({"filter": "a", "asset_id": "x", "time": {"path": "/t", "format": "pattern", "pattern": "%Y", "zone": "Mars"}, "fields": [{"path": "/t", "parameter": "t"}]}),
                "/s/time/zone",
            ),
            (
                json!({"filter": "a", "asset_id": "x", "fields": [{"path": "/a", "parameter": "t"}, {"path": "/b", "parameter": "T"}]}),
                "has a field already",
            ),
        ] {
            let found = problems(&value);
            assert!(found.iter().any(|problem| problem.contains(part)), "{part}: {found:?}");
        }
    }
}
