//! The page of a component type, from the JSON Schema of its settings.

use anyhow::Context;
use serde_json::{Map, Value};

use crate::r#gen::MARK;

/// The page of a catalog entry `{kind, type, summary, schema}`.
pub(crate) fn page(entry: &Value) -> anyhow::Result<String> {
    let text = |key: &str| entry[key].as_str().with_context(|| format!("a catalog entry has no {key}"));
    let schema = entry["schema"].as_object().context("a schema is not an object")?;
    let mut lines = vec![MARK.to_owned(), String::new(), format!("# {} ({})", text("type")?, text("kind")?)];
    paragraph(text("summary")?, &mut lines);
    paragraph(description(schema), &mut lines);
    paragraph("## Settings", &mut lines);
    fields(schema, &mut lines);
    let parts: Vec<(&String, &Map<String, Value>)> = schema
        .get("$defs")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(name, part)| Some((name, part.as_object()?)))
        .collect();
    let (objects, values): (Vec<_>, Vec<_>) = parts.into_iter().partition(|(_, part)| part.contains_key("properties"));
    for (name, part) in objects {
        paragraph(&format!("## {}", words(name)), &mut lines);
        paragraph(description(part), &mut lines);
        fields(part, &mut lines);
    }
    if !values.is_empty() {
        paragraph("## Values", &mut lines);
        lines.extend(["", "| Name | Values | Meaning |", "|---|---|---|"].map(str::to_owned));
        let row = |(name, part): (&String, &Map<String, Value>)| {
            format!("| {} | {} | {} |", words(name), choices(part).join(", "), cell(description(part)))
        };
        lines.extend(values.into_iter().map(row));
    }
    lines.push(String::new());
    Ok(lines.join("\n"))
}

/// Appends a paragraph; nothing when there is no text.
fn paragraph(text: &str, lines: &mut Vec<String>) {
    if !text.is_empty() {
        lines.extend([String::new(), text.to_owned()]);
    }
}

fn description(object: &Map<String, Value>) -> &str {
    object.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// The table of an object's fields, required ones first.
fn fields(object: &Map<String, Value>, lines: &mut Vec<String>) {
    let required: Vec<&str> =
        object.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    lines.extend(["", "| Field | Type | Default | Meaning |", "|---|---|---|---|"].map(str::to_owned));
    let properties = object.get("properties").and_then(Value::as_object);
    let (needed, other): (Vec<_>, Vec<_>) =
        properties.into_iter().flatten().partition(|(name, _)| required.contains(&name.as_str()));
    for (name, field) in needed.into_iter().chain(other) {
        let default = match field.get("default") {
            Some(Value::Null) | None if required.contains(&name.as_str()) => "required".to_owned(),
            Some(Value::Null) | None => String::new(),
            Some(value) => format!("`{value}`"),
        };
        let meaning = field["description"].as_str().unwrap_or_default();
        lines.push(format!("| `{name}` | {} | {} | {} |", type_of(field), cell(&default), cell(meaning)));
    }
}

/// The type in words: `whole number, 1 to 65535`.
fn type_of(field: &Value) -> String {
    let Some(object) = field.as_object() else { return "any".to_owned() };
    if let Some(reference) = field["$ref"].as_str() {
        return words(reference.rsplit('/').next().unwrap_or(reference));
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        if let Some(options) = field[key].as_array() {
            let present = options.iter().filter(|option| option["type"] != "null");
            return present.map(type_of).collect::<Vec<_>>().join(" or ");
        }
    }
    if object.contains_key("enum") || object.contains_key("const") {
        return choices(object).join(", ");
    }
    let names: Vec<&str> = match &field["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect(),
        _ => return "any".to_owned(),
    };
    let names: Vec<String> = names.into_iter().map(|name| plain_type(name, field)).collect();
    let range = match (&field["minimum"], &field["maximum"]) {
        (Value::Null, Value::Null) => String::new(),
        (low, Value::Null) => format!(", at least {low}"),
        (Value::Null, high) => format!(", at most {high}"),
        (low, high) => format!(", {low} to {high}"),
    };
    let length = field["maxLength"].as_u64().map(|limit| format!(", at most {limit} characters"));
    format!("{}{range}{}", names.join(" or "), length.unwrap_or_default())
}

fn plain_type(name: &str, field: &Value) -> String {
    match name {
        "string" => "text".to_owned(),
        "integer" => "whole number".to_owned(),
        "boolean" => "true or false".to_owned(),
        "array" => format!("list of {}", field.get("items").map_or_else(|| "any".to_owned(), type_of)),
        "object" => match field.get("additionalProperties") {
            Some(value @ Value::Object(_)) => format!("map of text to {}", type_of(value)),
            _ => "object".to_owned(),
        },
        other => other.to_owned(),
    }
}

/// Allowed values of an enumeration.
fn choices(field: &Map<String, Value>) -> Vec<String> {
    if let Some(options) = field.get("oneOf").and_then(Value::as_array) {
        return options.iter().filter_map(Value::as_object).flat_map(choices).collect();
    }
    let listed = field.get("enum").and_then(Value::as_array).cloned().unwrap_or_default();
    listed.into_iter().chain(field.get("const").cloned()).map(|value| format!("`{value}`")).collect()
}

/// `FlatPoint` is `flat point`.
fn words(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

/// Text that fits into a cell of a table.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn types_in_words() {
        for (field, text) in [
            (json!({"type": ["integer", "null"], "minimum": 1, "maximum": 65535}), "whole number, 1 to 65535"),
            (json!({"anyOf": [{"$ref": "#/$defs/OrderName"}, {"type": "null"}]}), "order name"),
            (json!({"type": ["array", "null"], "items": {"$ref": "#/$defs/NoRead"}}), "list of no read"),
            (json!({"type": "string", "maxLength": 32}), "text, at most 32 characters"),
            (json!({"type": "object", "additionalProperties": {"type": "string"}}), "map of text to text"),
            (json!({"type": "string", "enum": ["a", "b"]}), "`\"a\"`, `\"b\"`"),
            (json!({"description": "anything"}), "any"),
            (json!(true), "any"),
        ] {
            assert_eq!(type_of(&field), text, "{field}");
        }
    }

    #[test]
    fn a_page_lists_required_fields_first_and_parts_below() {
        let entry = json!({
            "kind": "sink", "type": "archive", "summary": "Writes files.",
            "schema": {
                "description": "Settings.", "required": ["url"],
                "properties": {
                    "limit": {"type": "integer", "default": 5, "description": "How\nmany | most."},
                    "url": {"type": "string", "description": "Where."},
                    "part": {"$ref": "#/$defs/PartSettings"},
                },
                "$defs": {
                    "PartSettings": {"description": "A part.", "properties": {"x": {"type": "boolean"}}},
                    "End": {"description": "Which.", "oneOf": [{"const": "big"}, {"const": "little"}]},
                },
            },
        });
        let page = page(&entry).unwrap();
        assert!(page.starts_with(MARK));
        let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(
            rows,
            [
                "| `url` | text | required | Where. |",
                "| `limit` | whole number | `5` | How many \\| most. |",
                "| `part` | part settings |  |  |",
                "| `x` | true or false |  |  |",
            ]
        );
        assert!(page.contains("## part settings\n\nA part.\n"), "{page}");
        assert!(page.contains("| end | `\"big\"`, `\"little\"` | Which. |"), "{page}");
    }
}
