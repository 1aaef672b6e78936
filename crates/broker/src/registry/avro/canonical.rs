//! One text for all texts of one Avro schema: keys in order, full names, no white space, short forms of primitive types.
//!
//! Documentation, defaults, aliases and attributes of others stay: schemas that differ in them are different schemas.

use serde_json::{Map, Value};

use super::schema::{Primitive, full_name, qualified};
use crate::registry::json::{write_object, write_sorted, write_text};

/// The text of a valid schema.
pub(super) fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write_type(value, "", &mut out);
    out
}

fn write_type(value: &Value, space: &str, out: &mut String) {
    match value {
        Value::String(name) if Primitive::parse(name).is_some() => write_text(name, out),
        Value::String(name) => write_text(&qualified(name, space), out),
        Value::Array(branches) => {
            out.push('[');
            for (index, branch) in branches.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_type(branch, space, out);
            }
            out.push(']');
        }
        Value::Object(object) => write_complex(object, space, out),
        other => write_sorted(other, out),
    }
}

fn write_complex(object: &Map<String, Value>, space: &str, out: &mut String) {
    let kind = object.get("type").unwrap_or(&Value::Null);
    match kind {
        Value::Object(_) | Value::Array(_) => return write_type(kind, space, out),
        Value::String(name) if object.len() == 1 && !is_complex(name) => return write_type(kind, space, out),
        _ => {}
    }
    let name = kind.as_str().filter(|kind| is_complex(kind)).and_then(|_| full_name(object, space).ok());
    let (full, inner) = match &name {
        Some((full, inner)) => (Some(full.as_str()), inner.as_str()),
        None => (None, space),
    };
    let entries = object.iter().filter(|(key, _)| full.is_none() || *key != "namespace");
    let entries = entries.map(|(key, value)| (key.as_str(), (key.as_str(), value)));
    write_object(entries, out, |(key, value), out| match (key, full, value) {
        ("name", Some(full), _) => write_text(full, out),
        ("items" | "values", ..) => write_type(value, inner, out),
        ("fields", Some(_), Value::Array(fields)) => write_fields(fields, inner, out),
        _ => write_sorted(value, out),
    });
}

fn write_fields(fields: &[Value], space: &str, out: &mut String) {
    out.push('[');
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        let Value::Object(field) = field else { continue };
        let entries = field.iter().map(|(key, value)| (key.as_str(), (key.as_str(), value)));
        write_object(entries, out, |(key, value), out| match key {
            "type" => write_type(value, space, out),
            _ => write_sorted(value, out),
        });
    }
    out.push(']');
}

fn is_complex(kind: &str) -> bool {
    matches!(kind, "record" | "error" | "enum" | "fixed" | "array" | "map")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        canonical(&serde_json::from_str(text).unwrap())
    }

    // STR-20
    #[test]
    fn texts_of_one_schema_have_one_form() {
        let one = r#"{"type":"record","name":"R","namespace":"n","doc":"d","fields":[
            {"name":"a","type":{"type":"string"}},{"name":"b","type":["null","Q"],"default":null}]}"#;
        let other = r#"{ "fields" : [{"type":"string","name":"a"},{"default":null,"type":["null","n.Q"],"name":"b"}],
            "doc":"d", "name":"n.R", "type":"record" }"#;
        assert_eq!(of(one), of(other));
        assert_eq!(of(r#"{"type":{"type":"long"}}"#), of(r#""long""#));
        for different in
            [one.replace("\"d\"", "\"e\""), one.replace("\"n\"", "\"m\""), one.replace(",\"default\":null", "")]
        {
            assert_ne!(of(one), of(&different));
        }
        // a form of its own: what it gives is what it takes
        assert_eq!(of(&of(one)), of(one));
    }
}
