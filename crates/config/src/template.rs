//! Templates: the settings of an adapter with a few slots a person fills, and alarms that suit it.
//!
//! A template is data. `"${host}"` becomes what was said for the slot `host`, with the slot's type; inside a longer text it
//! becomes its text. Everything else is settings as they stand in a document.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Problem;
use crate::read::suggest;

/// One template.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    pub id: String,
    pub name: String,
    /// One sentence.
    pub summary: String,
    pub adapter_type: String,
    /// How long it takes a person.
    pub minutes: u32,
    pub slots: Vec<Slot>,
    settings: Map<String, Value>,
    /// Alarm rules that suit it, as `alarms.rules` has them.
    #[serde(default)]
    alarms: Vec<Value>,
    /// What else is to be done.
    #[serde(default)]
    notes: String,
}

/// What a person says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    pub name: String,
    pub label: String,
    #[serde(rename = "type")]
    pub kind: SlotKind,
    /// Taken when nothing is said; a slot without one must be filled.
    pub default: Option<Value>,
    pub example: Option<Value>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    #[serde(default)]
    pub help: String,
}

/// Type of a slot's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotKind {
    Text,
    Integer,
    Number,
    Boolean,
}

/// A template with its slots filled.
#[derive(Debug, Clone, PartialEq)]
pub struct Filled {
    pub settings: Value,
    pub alarms: Vec<Value>,
    pub notes: String,
}

impl Template {
    /// Fills the slots with what was said, name by name, and their defaults; tells everything that is wrong.
    pub fn fill(&self, said: &BTreeMap<String, String>) -> Result<Filled, Vec<Problem>> {
        let known: Vec<&str> = self.slots.iter().map(|slot| slot.name.as_str()).collect();
        let unknown = said.keys().filter(|name| !known.contains(&name.as_str()));
        let mut problems: Vec<Problem> = unknown
            .map(|name| {
                Problem::new(
                    format!("/{name}"),
                    "unknown_slot",
                    "is not a slot of this template",
                    suggest(name, &known),
                )
            })
            .collect();
        let mut values = BTreeMap::new();
        for slot in &self.slots {
            match slot.value(said.get(&slot.name).map(String::as_str)) {
                Ok(value) => _ = values.insert(slot.name.as_str(), value),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut settings = self.settings.clone();
        settings.insert("adapter_type".to_owned(), Value::from(self.adapter_type.as_str()));
        let notes = replaced(&Value::from(self.notes.as_str()), &values);
        Ok(Filled {
            settings: replaced(&Value::Object(settings), &values),
            alarms: self.alarms.iter().map(|rule| replaced(rule, &values)).collect(),
            notes: notes.as_str().unwrap_or_default().to_owned(),
        })
    }

    /// Its examples and defaults, as a person would say them.
    pub fn examples(&self) -> BTreeMap<String, String> {
        let shown = |slot: &Slot| Some((slot.name.clone(), text_of(slot.example.as_ref().or(slot.default.as_ref())?)));
        self.slots.iter().filter_map(shown).collect()
    }
}

impl Slot {
    fn value(&self, said: Option<&str>) -> Result<Value, Problem> {
        let problem = |code, message: String| {
            let example = self.example.as_ref().or(self.default.as_ref()).map(text_of);
            let hint = example.map(|example| format!("{}; for example {example}", self.label));
            Problem::new(format!("/{}", self.name), code, message, hint.unwrap_or_else(|| self.label.clone()))
        };
        let Some(said) = said.map(str::trim).filter(|said| !said.is_empty()) else {
            return self.default.clone().ok_or_else(|| problem("missing", "is missing".to_owned()));
        };
        let value = match self.kind {
            SlotKind::Text => Some(Value::from(said)),
            SlotKind::Integer => said.parse::<i64>().ok().map(Value::from),
            SlotKind::Number => said
                .parse::<f64>()
                .ok()
                .filter(|number| number.is_finite())
                .map(|number| said.parse::<i64>().map_or(Value::from(number), Value::from)),
            SlotKind::Boolean => said.parse::<bool>().ok().map(Value::from),
        };
        let Some(value) = value else {
            let kind = match self.kind {
                SlotKind::Text => "a text",
                SlotKind::Integer => "a whole number",
                SlotKind::Number => "a number",
                SlotKind::Boolean => "true or false",
            };
            return Err(problem("wrong_type", format!("{said:?} is not {kind}")));
        };
        let (min, max) = (self.min.unwrap_or(f64::NEG_INFINITY), self.max.unwrap_or(f64::INFINITY));
        if value.as_f64().is_some_and(|number| number < min || number > max) {
            return Err(problem("out_of_range", format!("{said} is outside {min} to {max}")));
        }
        Ok(value)
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Every `${slot}` of a value replaced, once: what a person says is never searched for slots.
fn replaced(value: &Value, slots: &BTreeMap<&str, Value>) -> Value {
    match value {
        Value::String(text) => {
            let whole = text.strip_prefix("${").and_then(|rest| slots.get(rest.strip_suffix('}')?));
            whole.cloned().unwrap_or_else(|| Value::String(inside(text, slots)))
        }
        Value::Array(list) => list.iter().map(|value| replaced(value, slots)).collect(),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, value)| (key.clone(), replaced(value, slots))).collect())
        }
        other => other.clone(),
    }
}

fn inside(text: &str, slots: &BTreeMap<&str, Value>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("${") {
        out.push_str(before);
        match behind.split_once('}').and_then(|(name, behind)| Some((slots.get(name)?, behind))) {
            Some((value, behind)) => {
                out.push_str(&text_of(value));
                rest = behind;
            }
            None => {
                out.push_str("${");
                rest = behind;
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template() -> Template {
        serde_json::from_value(json!({
            "id": "t", "name": "T", "summary": "", "adapter_type": "modbus_tcp", "minutes": 1,
            "slots": [
                {"name": "host", "label": "Address", "type": "text", "example": "10.0.0.5"},
                {"name": "unit", "label": "Unit", "type": "integer", "default": 1, "min": 0, "max": 255}
            ],
            "settings": {"host": "${host}", "unit_id": "${unit}", "url": "x://${host}/${unit}/${none}", "list": ["{asset}"]},
            "alarms": [{"id": "${host}_silent"}]
        }))
        .unwrap()
    }

    fn said(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn slots_keep_their_types_and_what_is_said_is_not_searched() {
        let filled = template().fill(&said(&[("host", "${unit}")])).unwrap();
        let expected = json!({"host": "${unit}", "unit_id": 1, "url": "x://${unit}/1/${none}", "list": ["{asset}"], "adapter_type": "modbus_tcp"});
        assert_eq!(filled.settings, expected);
        assert_eq!(filled.alarms, [json!({"id": "${unit}_silent"})]);
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let problems = template().fill(&said(&[("hots", "x"), ("unit", "256")])).unwrap_err();
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "/hots: is not a slot of this template (did you mean \"host\"?)",
                "/host: is missing (Address; for example 10.0.0.5)",
                "/unit: 256 is outside 0 to 255 (Unit; for example 1)",
            ]
        );
        assert_eq!(template().examples(), said(&[("host", "10.0.0.5"), ("unit", "1")]));
    }
}
