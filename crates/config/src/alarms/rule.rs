//! One alarm rule: what is looked at, when it is an alarm, and what a person is told.
//!
//! Every key is read by type of alarm; a key that belongs to another type is a problem of its own, not an unknown one.

use model::{AlarmKind, Severity, reason};
use serde_json::Value;

use super::system::CONDITIONS;
use crate::read::token;
use crate::rules::matches as glob;
use crate::{Object, Problem};

const DAY_MS: i64 = 24 * 3_600_000;
/// A rule's name is part of every alarm's key.
const ID_LENGTH_MAX: usize = 64;
/// Names of groups and areas.
const NAME_LENGTH_MAX: usize = 64;
/// Longer texts do not fit on a screen; refused.
const MESSAGE_CHARS_MAX: usize = 256;
const TEXT_CHARS_MAX: usize = 1024;
const GLOB_LENGTH_MAX: usize = 256;

/// The four limits of a value, from the lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    LoLo,
    Lo,
    Hi,
    HiHi,
}

impl Level {
    pub const fn kind(self) -> AlarmKind {
        match self {
            Self::LoLo => AlarmKind::LoLo,
            Self::Lo => AlarmKind::Lo,
            Self::Hi => AlarmKind::Hi,
            Self::HiHi => AlarmKind::HiHi,
        }
    }

    /// True for the two limits that are exceeded upwards.
    pub const fn is_high(self) -> bool {
        matches!(self, Self::Hi | Self::HiHi)
    }
}

/// A number, a truth or a text.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    Number(f64),
    Bool(bool),
    Text(String),
}

/// What a deviation is measured from.
#[derive(Debug, Clone, PartialEq)]
pub enum Setpoint {
    Number(f64),
    /// Another parameter of the same asset.
    Parameter(String),
}

/// When it is an alarm. Numbers are in the parameter's own unit.
#[derive(Debug, Clone, PartialEq)]
pub enum Detect {
    Level {
        level: Level,
        limit: f64,
        hysteresis: f64,
    },
    Deviation {
        setpoint: Setpoint,
        limit: f64,
        hysteresis: f64,
    },
    Rate {
        per_s: f64,
        hysteresis: f64,
    },
    /// Any other value is an alarm.
    Discrete {
        expected: Scalar,
    },
    /// BAD, or accepted with one of these codes.
    Quality {
        reasons: Vec<String>,
    },
    Stale,
    /// Globs over the adapter's name and the device's.
    Comm {
        adapter: String,
        device: String,
    },
    /// Globs over the part of the gateway and what is wrong with it.
    System {
        part: String,
        condition: String,
    },
    /// Kept by its source. No document says this; severity and texts are the source's.
    Condition,
}

impl Detect {
    pub const fn kind(&self) -> AlarmKind {
        match self {
            Self::Level { level, .. } => level.kind(),
            Self::Deviation { .. } => AlarmKind::Deviation,
            Self::Rate { .. } => AlarmKind::Rate,
            Self::Discrete { .. } => AlarmKind::Discrete,
            Self::Quality { .. } => AlarmKind::Quality,
            Self::Stale => AlarmKind::Stale,
            Self::Comm { .. } => AlarmKind::Comm,
            Self::System { .. } => AlarmKind::System,
            Self::Condition => AlarmKind::Condition,
        }
    }

    /// True when a point is looked at; otherwise a device, or the gateway itself.
    pub const fn is_of_point(&self) -> bool {
        !matches!(self, Self::Comm { .. } | Self::System { .. } | Self::Condition)
    }

    /// The number that is told as the limit.
    pub const fn limit(&self) -> Option<f64> {
        match self {
            Self::Level { limit, .. } | Self::Deviation { limit, .. } | Self::Rate { per_s: limit, .. } => Some(*limit),
            _ => None,
        }
    }
}

/// How a state is compared.
#[derive(Debug, Clone, PartialEq)]
pub enum Compare {
    Equals(Scalar),
    NotEquals(Scalar),
    Above(f64),
    Below(f64),
}

/// Suppression by design: a state of the same asset in which the alarm means nothing (ALM-13).
#[derive(Debug, Clone, PartialEq)]
pub struct SuppressWhen {
    pub parameter: String,
    pub compare: Compare,
    /// How long the alarm stays suppressed behind the end of the state.
    pub release_delay_ms: i64,
}

/// One rule; an alarm for every asset it matches.
#[derive(Debug, Clone, PartialEq)]
pub struct AlarmRule {
    pub id: String,
    /// Asset id, or a glob with `*`; empty for the alarm of a device or of the gateway.
    pub asset: String,
    /// Exact; empty as above.
    pub parameter: String,
    pub detect: Detect,
    pub on_delay_ms: i64,
    pub off_delay_ms: i64,
    pub severity: Severity,
    pub priority: Option<i32>,
    /// What it is.
    pub message: String,
    /// What follows when nobody acts.
    pub consequence: Option<String>,
    /// What to do.
    pub action: Option<String>,
    /// First-out group (ALM-14).
    pub group: Option<String>,
    /// Operator area, for the figures of ALM-16.
    pub area: Option<String>,
    /// Stays until it is reset (ALM-11).
    pub latching: bool,
    /// HIHI hides HI, LOLO hides LO (ALM-09).
    pub subsume: bool,
    /// An unacknowledged alarm is told again after this time.
    pub re_alarm_ms: Option<i64>,
    pub enabled: bool,
    pub suppress_when: Option<SuppressWhen>,
}

/// The words of the document.
const TYPES: [&str; 11] =
    ["hihi", "hi", "lo", "lolo", "deviation", "rate", "discrete", "quality", "stale", "communication", "system"];
/// Keys that only some types have.
const TYPED_KEYS: [&str; 13] = [
    "asset",
    "parameter",
    "limit",
    "hysteresis",
    "setpoint",
    "rate_per_s",
    "expected",
    "subsume",
    "adapter",
    "device",
    "part",
    "condition",
    "reasons",
];
/// Codes of accepted readings that a quality alarm may be about.
const REASONS: [&str; 11] = [
    reason::UNCONFIGURED,
    reason::DEVICE_TIME_INVALID,
    reason::DEVICE_TIME_FUTURE,
    reason::CLOCK_UNSYNCED,
    reason::DUP_CONFLICT,
    reason::RANGE_SOFT,
    reason::UNKNOWN_ENUM,
    reason::ROC_SOFT,
    reason::SPIKE,
    reason::FLATLINE,
    reason::CROSS_TAG,
];

fn keys_of(type_name: &str) -> &'static [&'static str] {
    match type_name {
        "hihi" | "lolo" => &["asset", "parameter", "limit", "hysteresis", "subsume"],
        "hi" | "lo" => &["asset", "parameter", "limit", "hysteresis"],
        "deviation" => &["asset", "parameter", "limit", "hysteresis", "setpoint"],
        "rate" => &["asset", "parameter", "rate_per_s", "hysteresis"],
        "discrete" => &["asset", "parameter", "expected"],
        "quality" => &["asset", "parameter", "reasons"],
        "communication" => &["adapter", "device"],
        "system" => &["part", "condition"],
        _ => &["asset", "parameter"],
    }
}

impl AlarmRule {
    pub(super) fn read(value: &Value, pointer: &str) -> (Self, Vec<Problem>) {
        let mut object = Object::new(value, pointer);
        let id = read_id(&mut object);
        let type_name = if object.required_text("type").is_some() { object.word("type", &TYPES) } else { None };
        let keys = type_name.map_or(&TYPED_KEYS[..], keys_of);
        for key in TYPED_KEYS.into_iter().filter(|key| !keys.contains(key)) {
            if object.value(key).is_some() {
                let message = format!("is not used by type {}", type_name.unwrap_or_default());
                object.problem(key, "not_for_type", message, format!("such a rule has {}", keys.join(", ")));
            }
        }
        let detect = type_name.map(|type_name| read_detect(&mut object, type_name));
        let of_point = detect.as_ref().is_none_or(Detect::is_of_point);
        let (asset, parameter) = if of_point { read_point(&mut object) } else { (String::new(), String::new()) };
        let severity = read_severity(&mut object);
        let message = read_text(&mut object, "message", MESSAGE_CHARS_MAX);
        if message.is_none() && object.value("message").is_none() {
            object.problem("message", "missing", "is missing", "say what is wrong, for the operator");
        }
        let delay = |object: &mut Object<'_>, key| object.integer(key, 0, DAY_MS).unwrap_or(0);
        let suppress_when = object
            .value("suppress_when")
            .map(|value| read_suppress_when(value, &format!("{pointer}/suppress_when"), &mut object));
        let rule = Self {
            id,
            asset,
            parameter,
            detect: detect.unwrap_or(Detect::Stale),
            on_delay_ms: delay(&mut object, "on_delay_ms"),
            off_delay_ms: delay(&mut object, "off_delay_ms"),
            severity: severity.unwrap_or(Severity::Low),
            priority: object.integer("priority", 0, 1000).and_then(|priority| i32::try_from(priority).ok()),
            message: message.unwrap_or_default(),
            consequence: read_text(&mut object, "consequence", TEXT_CHARS_MAX),
            action: read_text(&mut object, "action", TEXT_CHARS_MAX),
            group: read_text(&mut object, "group", NAME_LENGTH_MAX),
            area: read_text(&mut object, "area", NAME_LENGTH_MAX),
            latching: object.boolean("latching").unwrap_or(false),
            subsume: keys.contains(&"subsume") && object.boolean("subsume").unwrap_or(false),
            re_alarm_ms: object.integer("re_alarm_ms", 60_000, 7 * DAY_MS),
            enabled: object.boolean("enabled").unwrap_or(true),
            suppress_when: suppress_when.flatten(),
        };
        if !rule.detect.is_of_point() && rule.suppress_when.is_some() {
            let message = format!("is not used by type {}", type_name.unwrap_or_default());
            object.problem("suppress_when", "not_for_type", message, "only an asset has a state");
        }
        (rule, object.finish())
    }

    /// True when the rule speaks of this point.
    pub fn matches(&self, asset: &str, parameter: &str) -> bool {
        self.detect.is_of_point() && self.parameter == parameter && glob(&self.asset, asset)
    }

    /// True when the rule speaks of this device.
    pub fn matches_device(&self, adapter_id: &str, device_name: &str) -> bool {
        matches!(&self.detect, Detect::Comm { adapter, device } if glob(adapter, adapter_id) && glob(device, device_name))
    }

    /// True when the rule speaks of this part of the gateway and of what is wrong with it.
    pub fn matches_system(&self, part_id: &str, name: &str) -> bool {
        matches!(&self.detect, Detect::System { part, condition } if glob(part, part_id) && glob(condition, name))
    }

    /// Other parameters of the asset that the rule needs to know.
    pub fn operands(&self) -> impl Iterator<Item = &str> {
        let setpoint = match &self.detect {
            Detect::Deviation { setpoint: Setpoint::Parameter(parameter), .. } => Some(parameter.as_str()),
            _ => None,
        };
        setpoint.into_iter().chain(self.suppress_when.as_ref().map(|when| when.parameter.as_str()))
    }
}

fn read_id(object: &mut Object<'_>) -> String {
    let id = object.required_text("id").unwrap_or_default().to_owned();
    let plain = id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if object.value("id").is_some() && (id.is_empty() || !plain || id.len() > ID_LENGTH_MAX) {
        let hint = format!("letters, digits, _ and -, at most {ID_LENGTH_MAX}");
        object.problem("id", "bad_name", format!("{id:?} is not a name of an alarm"), hint);
    }
    id
}

fn read_severity(object: &mut Object<'_>) -> Option<Severity> {
    object.required_text("severity")?;
    object.word("severity", &["LOW", "MEDIUM", "HIGH", "CRITICAL"]).and_then(Severity::parse)
}

fn read_point(object: &mut Object<'_>) -> (String, String) {
    let asset = read_glob(object, "asset");
    let parameter = object.required_text("parameter").unwrap_or_default().to_owned();
    check_parameter(object, "parameter", &parameter);
    (asset, parameter)
}

fn check_parameter(object: &mut Object<'_>, key: &'static str, parameter: &str) {
    if !parameter.is_empty() && model::ids::normalise(parameter).as_deref() != Ok(parameter) {
        let hint = "lower-case letters, digits, _ . and -, no *: one alarm looks at one parameter";
        object.problem(key, "bad_name", format!("{parameter:?} is not a parameter"), hint);
    }
}

fn read_glob(object: &mut Object<'_>, key: &'static str) -> String {
    let text = object.text(key).unwrap_or("*");
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.' | '-' | '*');
    if text.is_empty() || text.len() > GLOB_LENGTH_MAX || !text.chars().all(known) {
        let hint = "lower-case letters, digits, _ . and -, with * for anything";
        object.problem(key, "bad_name", format!("{text:?} matches no name"), hint);
    }
    text.to_owned()
}

fn read_text(object: &mut Object<'_>, key: &'static str, chars_max: usize) -> Option<String> {
    let text = object.text(key)?;
    if text.is_empty() || text.chars().count() > chars_max || text.chars().any(char::is_control) {
        object.problem(key, "bad_text", format!("must have 1 to {chars_max} characters, none of them for control"), "");
        return None;
    }
    Some(text.to_owned())
}

fn required_number(object: &mut Object<'_>, key: &'static str) -> f64 {
    if object.value(key).is_none() {
        object.problem(key, "missing", "is missing", "");
    }
    object.number(key).unwrap_or(0.0)
}

fn positive_number(object: &mut Object<'_>, key: &'static str) -> f64 {
    let number = required_number(object, key);
    if number <= 0.0 && object.value(key).is_some_and(Value::is_number) {
        object.problem(key, "out_of_range", "must be above 0", "");
    }
    number
}

fn read_hysteresis(object: &mut Object<'_>, below: Option<f64>) -> f64 {
    let hysteresis = object.number("hysteresis").unwrap_or(0.0);
    if hysteresis < 0.0 {
        object.problem("hysteresis", "out_of_range", "must not be below 0", "");
    } else if let Some(limit) = below.filter(|limit| *limit > 0.0 && hysteresis >= *limit) {
        let message = format!("hysteresis {hysteresis} is not smaller than the limit {limit}");
        object.problem("hysteresis", "hysteresis_too_large", message, "the alarm would never return");
    }
    hysteresis
}

fn read_detect(object: &mut Object<'_>, type_name: &str) -> Detect {
    let level = match type_name {
        "hihi" => Level::HiHi,
        "hi" => Level::Hi,
        "lo" => Level::Lo,
        "lolo" => Level::LoLo,
        "deviation" => {
            let limit = positive_number(object, "limit");
            let hysteresis = read_hysteresis(object, Some(limit));
            return Detect::Deviation { setpoint: read_setpoint(object), limit, hysteresis };
        }
        "rate" => {
            let per_s = positive_number(object, "rate_per_s");
            return Detect::Rate { per_s, hysteresis: read_hysteresis(object, Some(per_s)) };
        }
        "discrete" => {
            return Detect::Discrete { expected: read_scalar(object, "expected").unwrap_or(Scalar::Bool(false)) };
        }
        "quality" => return Detect::Quality { reasons: read_reasons(object) },
        "stale" => return Detect::Stale,
        "system" => return Detect::System { part: read_glob(object, "part"), condition: read_condition(object) },
        _ => return Detect::Comm { adapter: read_glob(object, "adapter"), device: read_device(object) },
    };
    Detect::Level { level, limit: required_number(object, "limit"), hysteresis: read_hysteresis(object, None) }
}

/// Codes that count beside BAD.
fn read_reasons(object: &mut Object<'_>) -> Vec<String> {
    let mut reasons: Vec<String> = Vec::new();
    for entry in object.list("reasons").into_iter().flatten() {
        match entry.as_str().filter(|code| REASONS.contains(code)) {
            Some(code) => reasons.push(code.to_owned()),
            None => object.problem(
                "reasons",
                "unknown_word",
                format!("{entry} is not a code that accepted readings carry"),
                format!("one of {}; BAD readings always count", REASONS.join(", ")),
            ),
        }
    }
    reasons
}

fn read_condition(object: &mut Object<'_>) -> String {
    let glob_of = read_glob(object, "condition");
    if !CONDITIONS.iter().any(|condition| glob(&glob_of, condition.name)) {
        let names: Vec<&str> = CONDITIONS.iter().map(|condition| condition.name).collect();
        let message = format!("{glob_of:?} is nothing the gateway can find wrong with itself");
        object.problem("condition", "unknown_word", message, format!("one of {}, or *", names.join(", ")));
    }
    glob_of
}

/// Devices have free names.
fn read_device(object: &mut Object<'_>) -> String {
    read_text(object, "device", GLOB_LENGTH_MAX).unwrap_or_else(|| "*".to_owned())
}

fn read_setpoint(object: &mut Object<'_>) -> Setpoint {
    match object.value("setpoint") {
        Some(Value::String(parameter)) => {
            check_parameter(object, "setpoint", parameter);
            Setpoint::Parameter(parameter.clone())
        }
        Some(Value::Number(number)) => Setpoint::Number(number.as_f64().unwrap_or(0.0)),
        found => {
            let (code, message) = if found.is_some() {
                ("wrong_type", "must be a number or a parameter")
            } else {
                ("missing", "is missing")
            };
            object.problem("setpoint", code, message, "a number, or the name of a parameter of the same asset");
            Setpoint::Number(0.0)
        }
    }
}

fn read_scalar(object: &mut Object<'_>, key: &'static str) -> Option<Scalar> {
    match object.value(key) {
        Some(Value::Bool(truth)) => Some(Scalar::Bool(*truth)),
        Some(Value::String(text)) => Some(Scalar::Text(text.clone())),
        Some(Value::Number(number)) => number.as_f64().map(Scalar::Number),
        found => {
            let (code, message) = if found.is_some() {
                ("wrong_type", "must be a number, a text, true or false")
            } else {
                ("missing", "is missing")
            };
            object.problem(key, code, message, "");
            None
        }
    }
}

fn read_suppress_when(value: &Value, pointer: &str, parent: &mut Object<'_>) -> Option<SuppressWhen> {
    let mut object = Object::new(value, pointer);
    let parameter = object.required_text("parameter").unwrap_or_default().to_owned();
    check_parameter(&mut object, "parameter", &parameter);
    let release_delay_ms = object.integer("release_delay_ms", 0, DAY_MS).unwrap_or(0);
    let words: [&'static str; 4] = ["equals", "not_equals", "above", "below"];
    let mut compares = Vec::new();
    for word in words {
        if object.value(word).is_none() {
            continue;
        }
        compares.extend(match word {
            "equals" => read_scalar(&mut object, word).map(Compare::Equals),
            "not_equals" => read_scalar(&mut object, word).map(Compare::NotEquals),
            "above" => object.number(word).map(Compare::Above),
            _ => object.number(word).map(Compare::Below),
        });
    }
    if compares.len() != 1 {
        let message = format!("compares {} times", compares.len());
        object.problem_here("one_compare", message, format!("give one of {}", words.join(", ")));
    }
    parent.extend(object.finish());
    compares.pop().map(|compare| SuppressWhen { parameter, compare, release_delay_ms })
}

/// Pointer of a key of a rule.
pub(super) fn pointer_of(pointer: &str, rule: usize, key: &str) -> String {
    format!("{pointer}/rules/{rule}/{}", token(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: &Value) -> (AlarmRule, Vec<String>) {
        let (rule, problems) = AlarmRule::read(value, "/r");
        (rule, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_full_rule_is_read() {
        // ALM-05, ALM-13
        let (rule, problems) = read(&json!({
            "id": "oil_hot", "asset": "press_*", "parameter": "oil_temperature", "type": "hihi", "limit": 95,
            "hysteresis": 2, "on_delay_ms": 5000, "off_delay_ms": 1000, "severity": "CRITICAL", "priority": 1,
            "message": "oil is too hot", "consequence": "the seal fails", "action": "stop the press",
            "group": "trip", "area": "line 1", "latching": true, "subsume": true, "re_alarm_ms": 600_000,
            "suppress_when": {"parameter": "running", "equals": false, "release_delay_ms": 30_000},
        }));
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(rule.detect, Detect::Level { level: Level::HiHi, limit: 95.0, hysteresis: 2.0 });
        assert_eq!(rule.operands().collect::<Vec<_>>(), ["running"]);
        assert!(rule.matches("press_3", "oil_temperature") && !rule.matches("pump_3", "oil_temperature"));
        assert!(rule.latching && rule.subsume && rule.enabled);
    }

    #[test]
    fn each_type_has_its_keys_and_refuses_those_of_others() {
        // G-06
        let base = |extra: Value| {
            let mut value = json!({"id": "a", "severity": "LOW", "message": "m"});
            let Value::Object(extra) = extra else { panic!("an object") };
            value.as_object_mut().unwrap().extend(extra);
            value
        };
        for good in [
            json!({"type": "deviation", "parameter": "t", "limit": 5, "setpoint": "t_set", "hysteresis": 1}),
            json!({"type": "rate", "parameter": "t", "rate_per_s": 0.5}),
            json!({"type": "discrete", "parameter": "state", "expected": "RUN"}),
            json!({"type": "quality", "parameter": "t"}),
            json!({"type": "stale", "parameter": "t", "on_delay_ms": 1000}),
            json!({"type": "communication", "adapter": "modbus_*", "device": "Unit 3"}),
            json!({"type": "system", "part": "archive_*", "condition": "part_down", "on_delay_ms": 1000}),
            json!({"type": "system"}),
        ] {
            let (_, problems) = read(&base(good.clone()));
            assert_eq!(problems, Vec::<String>::new(), "{good}");
        }
        let (_, problems) = read(&base(json!({"type": "discrete", "parameter": "t", "expected": 1, "limit": 5})));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("/r/limit: is not used by type discrete"));
        for (bad, message) in [
            (json!({"type": "hih", "parameter": "t"}), "/r/type: \"hih\" is not one of hihi"),
            (json!({"type": "hi", "parameter": "T*", "limit": 1}), "/r/parameter: \"T*\" is not a parameter"),
            (json!({"type": "hi", "parameter": "t", "limit": 1, "on_delay_ms": -1}), "/r/on_delay_ms: -1 is outside"),
            (json!({"type": "rate", "parameter": "t", "rate_per_s": 0}), "/r/rate_per_s: must be above 0"),
            (
                json!({"type": "deviation", "parameter": "t", "limit": 5, "setpoint": 1, "hysteresis": 5}),
                "/r/hysteresis: hysteresis 5 is not smaller",
            ),
            (json!({"type": "stale", "parameter": "t", "asset": "Pump"}), "/r/asset: \"Pump\" matches no name"),
            (json!({"type": "stale", "parameter": "t", "message": "a\nb"}), "/r/message: must have 1 to 256"),
            (json!({"type": "stale", "parameter": "t", "id": "a.b"}), "/r/id: \"a.b\" is not a name"),
            (json!({"type": "stale", "parameter": "t", "severity": "high"}), "/r/severity: \"high\" is not one of"),
            (
                json!({"type": "stale", "parameter": "t", "suppress_when": {"parameter": "x"}}),
                "/r/suppress_when: compares 0 times",
            ),
            (
                json!({"type": "stale", "parameter": "t", "suppress_when": {"parameter": "x", "equals": 1, "above": 2}}),
                "/r/suppress_when: compares 2 times",
            ),
            (
                json!({"type": "communication", "suppress_when": {"parameter": "x", "equals": 1}}),
                "/r/suppress_when: is not used",
            ),
            (json!({"type": "system", "condition": "disk"}), "/r/condition: \"disk\" is nothing the gateway can find"),
            (json!({"type": "system", "parameter": "t"}), "/r/parameter: is not used by type system"),
        ] {
            let (_, problems) = read(&base(bad.clone()));
            assert!(problems.len() == 1 && problems[0].starts_with(message), "{bad}: {problems:?}");
        }
    }
}
