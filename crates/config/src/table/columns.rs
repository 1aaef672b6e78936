//! From the JSON Schema of a component to the columns of its points.

use serde_json::{Map, Value};

use super::cell::Form;
use super::{KEY, OP, Table};

/// Objects inside a point are taken apart so deep; what lies deeper is one cell of JSON.
const DEPTH_MAX: usize = 3;

/// One column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// As the header says it: the setting, or `two_point.raw_lo` for one inside of an object.
    pub name: String,
    pub(super) path: Vec<String>,
    pub(super) form: Form,
}

impl Table {
    /// The columns of the list in a component's schema: those that name a point first, then as the schema has them.
    pub fn columns(&self, schema: &Value) -> Vec<Column> {
        let list = resolve(schema, &schema["properties"][self.list]);
        let item = resolve(schema, &list["items"]);
        let mut columns = Vec::new();
        properties(schema, item, &[], &mut columns);
        let place = |column: &Column| self.identity.iter().position(|setting| column.name == *setting);
        columns.sort_by_key(|column| place(column).unwrap_or(usize::MAX)); // stable
        columns
    }
}

/// The names of all columns, the two that are no settings in front.
pub(super) fn header(columns: &[Column]) -> Vec<&str> {
    [KEY, OP].into_iter().chain(columns.iter().map(|column| column.name.as_str())).collect()
}

fn properties(schema: &Value, object: &Value, path: &[String], out: &mut Vec<Column>) {
    let none = Map::new();
    for (name, property) in object["properties"].as_object().unwrap_or(&none) {
        let mut path = path.to_vec();
        path.push(name.clone());
        let property = resolve(schema, property);
        if property["properties"].is_object() && path.len() < DEPTH_MAX {
            properties(schema, property, &path, out);
        } else {
            out.push(Column { name: path.join("."), path, form: form(schema, property) });
        }
    }
}

/// Follows a reference, and looks through "this or nothing".
fn resolve<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let mut schema = schema;
    for _ in 0..8 {
        if let Some(reference) = schema["$ref"].as_str() {
            schema = root.pointer(reference.trim_start_matches('#')).unwrap_or(&Value::Null);
        } else if let Some([only]) = alternatives(schema).as_deref() {
            schema = only;
        } else {
            break;
        }
    }
    schema
}

/// The alternatives of a schema but `null`.
fn alternatives(schema: &Value) -> Option<Vec<&Value>> {
    let all = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array())?;
    Some(all.iter().filter(|one| one["type"] != "null").collect())
}

fn form(root: &Value, schema: &Value) -> Form {
    let words = schema["enum"].is_array()
        || alternatives(schema).is_some_and(|all| all.iter().all(|one| one["const"].is_string()));
    if words {
        return Form::Text;
    }
    if let Some(all) = alternatives(schema) {
        let forms: Vec<Form> = all.iter().map(|one| form(root, resolve(root, one))).collect();
        return Form::Mixed {
            number: forms.iter().any(|form| matches!(form, Form::Integer | Form::Number)),
            boolean: forms.contains(&Form::Boolean),
        };
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).filter(|one| *one != "null").collect(),
        _ => return Form::Mixed { number: true, boolean: true },
    };
    match types[..] {
        ["string"] => Form::Text,
        ["integer"] => Form::Integer,
        ["number"] => Form::Number,
        ["boolean"] => Form::Boolean,
        ["array"] => match form(root, resolve(root, &schema["items"])) {
            item @ (Form::Text | Form::Integer | Form::Number) => Form::List(Box::new(item)),
            _ => Form::Json,
        },
        ["object"] if resolve(root, &schema["additionalProperties"])["type"] == "string" => Form::Map,
        ["object"] => Form::Json,
        _ => Form::Mixed {
            number: types.contains(&"number") || types.contains(&"integer"),
            boolean: types.contains(&"boolean"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_setting_of_a_point_is_a_column() {
        let schema = json!({
            "properties": { "points": { "type": ["array", "null"], "items": { "$ref": "#/$defs/Point" } } },
            "$defs": {
                "Point": { "properties": {
                    "address": {},
                    "asset_id": { "type": ["string", "null"] },
                    "bits": { "type": ["array", "null"], "items": { "type": "integer" } },
                    "line": { "anyOf": [{ "$ref": "#/$defs/Line" }, { "type": "null" }] },
                    "mask": { "anyOf": [{ "type": "integer" }, { "type": "string" }] },
                    "order": { "anyOf": [{ "$ref": "#/$defs/Order" }, { "type": "null" }] },
                    "parameter": { "type": "string" },
                    "states": { "type": "object", "additionalProperties": { "type": "string" } }
                } },
                "Line": { "properties": { "lo": { "type": "number" }, "clip": { "type": ["boolean", "null"] } } },
                "Order": { "oneOf": [{ "const": "AB" }, { "const": "BA" }] }
            }
        });
        let table = Table { list: "points", identity: &["asset_id", "parameter"], short: None, examples: "[]" };
        let columns = table.columns(&schema);
        let shown: Vec<(&str, &Form)> = columns.iter().map(|column| (column.name.as_str(), &column.form)).collect();
        assert_eq!(
            shown,
            [
                ("asset_id", &Form::Text),
                ("parameter", &Form::Text),
                ("address", &Form::Mixed { number: true, boolean: true }),
                ("bits", &Form::List(Box::new(Form::Integer))),
                ("line.clip", &Form::Boolean),
                ("line.lo", &Form::Number),
                ("mask", &Form::Mixed { number: true, boolean: false }),
                ("order", &Form::Text),
                ("states", &Form::Map),
            ]
        );
    }
}
