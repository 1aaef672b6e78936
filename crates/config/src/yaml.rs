//! Values as YAML the way people write documents: one key a line, one point a line.

use serde_json::Value;

use crate::Table;

/// Words that are no texts in some version of YAML.
const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
/// The keys of a component that stand first.
const FIRST: [&str; 2] = ["adapter_id", "adapter_type"];

/// A value in one line; of an object `first` in front, in their reverse order, so that the most telling one leads.
pub fn flow(value: &Value, first: &[&str]) -> String {
    match value {
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        Value::Object(map) => {
            let leading = first.iter().rev().filter_map(|key| map.get_key_value(*key));
            let others = map.iter().filter(|(key, _)| !first.contains(&key.as_str()));
            let entries = leading.chain(others).map(|(key, value)| format!("{}: {}", scalar(key), flow(value, first)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::Array(list) => {
            format!("[{}]", list.iter().map(|value| flow(value, first)).collect::<Vec<_>>().join(", "))
        }
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// The lines of a component as an item of a list whose dash stands at `indent`; its points come last, one a line.
pub fn item(settings: &Value, indent: usize, table: Option<&Table>) -> Vec<String> {
    let Some(map) = settings.as_object() else { return Vec::new() };
    let list = table.map_or("", |table| table.list);
    let leading = FIRST.iter().filter_map(|key| map.get_key_value(*key));
    let others = map.iter().filter(|(key, _)| !FIRST.contains(&key.as_str()) && key.as_str() != list);
    let mut lines: Vec<String> =
        leading.chain(others).map(|(key, value)| format!("{}: {}", scalar(key), flow(value, &[]))).collect();
    if let Some((points, table)) = map.get(list).and_then(Value::as_array).zip(table) {
        lines.push(format!("{list}:"));
        lines.extend(points.iter().map(|point| format!("  - {}", flow(point, table.identity))));
    }
    let margin = " ".repeat(indent);
    let with_margin = |(at, line): (usize, &String)| format!("{margin}{}{line}", if at == 0 { "- " } else { "  " });
    lines.iter().enumerate().map(with_margin).collect()
}

/// A text without quotation marks where it can only be a text.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let texts = [
            "a", "on", "Null", "40001", "1e3", "a b", "x: y", "#c", "- d", "ä°", "", "a\nb", "~", "\"q\"", "'s'", "{a}",
        ];
        let value = json!({"adapter_id": "a", "texts": texts, "deep": {"0": "off", "n": [1, -2.5, true, null, {}]}, "points": [{"p": "x"}]});
        let table = Table { list: "points", identity: &["p"], short: None, examples: "[]" };
        for (table, indent) in [(None, 0), (Some(&table), 4)] {
            let text = item(&value, indent, table).join("\n");
            let read: Value = serde_saphyr::from_str(&text).unwrap();
            assert_eq!(read, json!([value]), "{text}");
        }
    }
}
