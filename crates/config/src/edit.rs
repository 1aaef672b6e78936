//! Changes to the text of a document, which stays as it is everywhere else: people's comments and order are theirs.
//!
//! Lines are found by their indentation, as people write documents. What comes out is read again and must be exactly what
//! was meant; otherwise the text is left alone and the caller is told.

use std::ops::Range;

use serde_json::Value;

use crate::document::parse_text;
use crate::{Table, yaml};

/// The text of a document with other points for one adapter; the error says why it cannot be changed in place.
pub fn set_points(text: &str, adapter_id: &str, table: &Table, points: &[Value]) -> Result<String, String> {
    let before = parse_text(text)?;
    let adapters = before["adapters"].as_array();
    let index = adapters
        .and_then(|all| all.iter().position(|one| one["adapter_id"] == adapter_id))
        .ok_or_else(|| format!("there is no adapter {adapter_id:?}"))?;
    let mut wanted = before.clone();
    wanted["adapters"][index] = table.with_points(&before["adapters"][index], points.to_vec());
    checked(text, in_yaml(text, index, table, points), &wanted)
}

/// The text of a document with one more adapter, `settings`, behind those that are there.
pub fn add_adapter(text: &str, settings: &Value, table: Option<&Table>) -> Result<String, String> {
    let mut wanted = parse_text(text)?;
    if wanted["adapters"].is_null() {
        wanted["adapters"] = Value::Array(Vec::new());
    }
    let adapters = wanted["adapters"].as_array_mut().ok_or("`adapters` is not a list")?;
    adapters.push(settings.clone());
    let first = adapters.len() == 1;
    checked(text, with_adapter(text, settings, table, first), &wanted)
}

/// JSON is written anew; changed YAML must be what is wanted.
fn checked(text: &str, changed: Option<String>, wanted: &Value) -> Result<String, String> {
    if text.trim_start().starts_with('{') {
        return serde_json::to_string_pretty(wanted).map(|text| text + "\n").map_err(|error| error.to_string());
    }
    match changed.filter(|changed| parse_text(changed).is_ok_and(|value| value == *wanted)) {
        Some(changed) => Ok(changed),
        None => Err("it is not written one key a line, so it cannot be changed without touching the rest".to_owned()),
    }
}

fn with_adapter(text: &str, settings: &Value, table: Option<&Table>, first: bool) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let shown: Vec<&str> = lines.iter().map(String::as_str).collect();
    let block = block_of(&shown, 0..shown.len(), 0, "adapters");
    let item = |indent| yaml::item(settings, indent, table);
    match block {
        None => lines.extend(std::iter::once("adapters:".to_owned()).chain(item(2))),
        Some(block) if first => _ = lines.splice(block, std::iter::once("adapters:".to_owned()).chain(item(2))),
        Some(block) => {
            let dash = (block.start + 1..block.end).find(|at| is_content(shown[*at])).map(|at| indent_of(shown[at]))?;
            lines.splice(block.end..block.end, item(dash));
        }
    }
    Some(lines.join("\n") + "\n")
}

fn in_yaml(text: &str, index: usize, table: &Table, points: &[Value]) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let adapters = block_of(&lines, 0..lines.len(), 0, "adapters")?;
    let (item, indent) = nth_item(&lines, adapters.start + 1..adapters.end, index)?;
    let mut out: Vec<String> = lines.iter().map(ToString::to_string).collect();
    let list = block_of(&lines, item.clone(), indent, table.list);
    let short = table.short.and_then(|short| block_of(&lines, item.clone(), indent, short.setting));
    let margin = " ".repeat(indent);
    let mut rendered = vec![format!("{margin}{}:", table.list)];
    rendered.extend(points.iter().map(|point| format!("{margin}  - {}", yaml::flow(point, table.identity))));
    let target = list.or(short).unwrap_or_else(|| {
        let last = (item.start..item.end).rev().find(|at| is_content(lines[*at])).unwrap_or(item.start);
        last + 1..last + 1
    });
    if target.start == item.start && !target.is_empty() {
        // the list is the item's first key, so its dash goes with it
        let dash = &lines[item.start][..indent];
        rendered[0] = format!("{dash}{}:", table.list);
    }
    out.splice(target, rendered);
    let mut text = out.join("\n");
    text.push('\n');
    Some(text)
}

fn is_content(line: &str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with('#')
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn is_dash(line: &str) -> bool {
    let line = line.trim();
    line == "-" || line.starts_with("- ")
}

/// Lines of a key and its value among `lines[within]`, whose keys stand at `indent`.
fn block_of(lines: &[&str], within: Range<usize>, indent: usize, key: &str) -> Option<Range<usize>> {
    let holds = |line: &str| {
        // behind the dash of an item or behind spaces
        let (front, rest) = line.split_at_checked(indent)?;
        let front_is_empty = front.chars().all(|c| c == ' ' || c == '-');
        (front_is_empty && rest.strip_prefix(key)?.starts_with(':')).then_some(())
    };
    let start = within.clone().find(|at| holds(lines[*at]).is_some())?;
    let goes_on = |line: &str| {
        let own = indent_of(line);
        own > indent || own == indent && is_dash(line)
    };
    let behind =
        (start + 1..within.end).find(|at| is_content(lines[*at]) && !goes_on(lines[*at])).unwrap_or(within.end);
    // comments and empty lines in front of the next key belong to that
    let end = (start..behind)
        .rev()
        .find(|at| is_content(lines[*at]) || indent_of(lines[*at]) > indent && !lines[*at].trim().is_empty());
    Some(start..end.unwrap_or(start) + 1)
}

/// Lines of an item of a list, and the indentation of its keys.
fn nth_item(lines: &[&str], within: Range<usize>, index: usize) -> Option<(Range<usize>, usize)> {
    let first = within.clone().find(|at| is_content(lines[*at]))?;
    let dash = indent_of(lines[first]);
    let begins = |at: &usize| indent_of(lines[*at]) == dash && is_dash(lines[*at]);
    let starts: Vec<usize> = within.clone().filter(begins).collect();
    let start = *starts.get(index)?;
    let end = starts.get(index + 1).copied().unwrap_or(within.end);
    let rest = lines[start].get(dash + 1..)?;
    Some((start..end, dash + 1 + indent_of(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Short;
    use serde_json::json;

    const TABLE: Table = Table {
        list: "points",
        identity: &["asset_id", "parameter"],
        short: Some(Short {
            setting: "registers",
            full: |key, value| json!({"address": key, "parameter": value["param"]}),
        }),
        examples: "[]",
    };

    const DOCUMENT: &str = "\
# the line
version: 1
adapters:
  # first
  - adapter_id: a
    registers:
      \"40001\": { param: x }
    unit_id: 2 # the press

  - points: # of b
    # inside
    - { parameter: y, address: \"40002\" }
    -
      parameter: z
      address: \"40003\"
    # about the host
    host: 10.0.0.7
    adapter_id: b

# and where it goes
sinks: []
";

    #[test]
    fn only_the_points_of_one_adapter_are_other_lines() {
        let points = [json!({"parameter": "a b", "address": "40001", "scale": -0.5, "states": {"0": "off"}})];
        let line = "- { parameter: \"a b\", address: \"40001\", scale: -0.5, states: { \"0\": \"off\" } }";
        let a = set_points(DOCUMENT, "a", &TABLE, &points).unwrap();
        let expected = DOCUMENT
            .replace("    registers:\n      \"40001\": { param: x }\n", &format!("    points:\n      {line}\n"));
        assert_eq!(a, expected);
        let b = set_points(DOCUMENT, "b", &TABLE, &points).unwrap();
        let old = &DOCUMENT[DOCUMENT.find("  - points").unwrap()..DOCUMENT.find("    # about").unwrap()];
        assert_eq!(b, DOCUMENT.replace(old, &format!("  - points:\n      {line}\n")));
        // a list that was not there
        let bare = "adapters:\n- adapter_id: a\n  host: h\nsinks: []\n";
        let placed = set_points(bare, "a", &TABLE, &points).unwrap();
        assert_eq!(placed, format!("adapters:\n- adapter_id: a\n  host: h\n  points:\n    {line}\nsinks: []\n"));
    }

    #[test]
    fn an_adapter_is_added_behind_the_others() {
        let settings =
            json!({"adapter_id": "new", "host": "10.0.0.9", "points": [{"parameter": "x", "address": "40001"}]});
        let lines = |margin: &str| {
            let body = [
                "- adapter_id: new",
                "  host: \"10.0.0.9\"",
                "  points:",
                "    - { parameter: x, address: \"40001\" }",
            ];
            body.map(|line| format!("{margin}{line}\n")).concat()
        };
        let added = |text: &str| add_adapter(text, &settings, Some(&TABLE)).unwrap();
        assert_eq!(
            added(DOCUMENT),
            DOCUMENT.replace("    adapter_id: b\n", &format!("    adapter_id: b\n{}", lines("  ")))
        );
        assert_eq!(added("version: 1\n"), format!("version: 1\nadapters:\n{}", lines("  ")));
        assert_eq!(added("adapters: []\nsinks: []\n"), format!("adapters:\n{}sinks: []\n", lines("  ")));
        assert_eq!(added("adapters:\n- adapter_id: a\n"), format!("adapters:\n- adapter_id: a\n{}", lines("")));
        assert!(add_adapter("adapters: [ { adapter_id: a } ]\n", &settings, None).is_err());
    }

    #[test]
    fn a_text_that_cannot_be_changed_safely_is_left_alone() {
        let flow = "adapters: [ { adapter_id: a, points: [] } ]\n";
        assert!(set_points(flow, "a", &TABLE, &[json!({"parameter": "x"})]).unwrap_err().contains("one key a line"));
        assert!(set_points(DOCUMENT, "c", &TABLE, &[]).unwrap_err().contains("no adapter"));
        let json =
            set_points(r#"{"adapters": [{"adapter_id": "a"}]}"#, "a", &TABLE, &[json!({"parameter": "x"})]).unwrap();
        assert_eq!(parse_text(&json).unwrap()["adapters"][0]["points"][0]["parameter"], "x");
    }
}
