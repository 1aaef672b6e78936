//! Rows laid over the points there are.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::columns::Column;
use super::{KEY, LineProblem, Parsed, Row, Table, keys_of};

/// What becomes of a point.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    Added,
    /// Column, value before, value after.
    Changed(Vec<(String, Value, Value)>),
    Removed,
}

/// One point that would not be as it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub key: String,
    pub what: What,
}

/// The points after a table was laid over them.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    pub points: Vec<Value>,
    /// Line of the table each point was read from.
    pub lines: Vec<Option<u64>>,
    pub changes: Vec<Change>,
    pub unchanged: usize,
}

/// Lays `parsed` over `points`. A row with a key changes that point, one without is the point of that name or a new one;
/// points without a row stay, or go with `replace`.
pub fn merge(table: &Table, points: &[Value], parsed: &Parsed, replace: bool) -> Result<Merged, Vec<LineProblem>> {
    let keys = keys_of(table, points);
    let by_key: HashMap<&str, usize> = keys.iter().enumerate().map(|(at, key)| (key.as_str(), at)).collect();
    let mut problems = Vec::new();
    let mut lines_of: HashMap<usize, u64> = HashMap::new();
    let mut slots: Vec<Option<(Value, Option<u64>)>> = points.iter().map(|point| Some((point.clone(), None))).collect();
    let mut added = Vec::new();
    let mut changes = Vec::new();
    for row in &parsed.rows {
        let mut tell = |column: &str, message: String, hint: &str| {
            problems.push(LineProblem { line: row.line, column: column.to_owned(), message, hint: hint.to_owned() });
        };
        let name = table.key_of(&laid_over(&Value::Null, &parsed.columns, row));
        let wanted = if row.key.is_empty() { &name } else { &row.key };
        let Some(at) = by_key.get(wanted.as_str()).copied() else {
            if !row.key.is_empty() {
                tell(KEY, format!("there is no point {:?}", row.key), "leave the cell empty for a new point");
            } else if row.delete {
                tell(KEY, format!("there is no point {name:?} to delete"), "write the key of the point");
            } else {
                let point = laid_over(&Value::Null, &parsed.columns, row);
                changes.push(Change { key: name, what: What::Added });
                added.push((point, Some(row.line)));
            }
            continue;
        };
        if let Some(line) = lines_of.insert(at, row.line) {
            tell(KEY, format!("line {line} is about the point {wanted:?} already"), "one line for each point");
            continue;
        }
        if row.delete {
            slots[at] = None;
            changes.push(Change { key: wanted.clone(), what: What::Removed });
            continue;
        }
        let after = laid_over(&points[at], &parsed.columns, row);
        let differences = differences(&parsed.columns, &points[at], &after);
        if !differences.is_empty() {
            changes.push(Change { key: wanted.clone(), what: What::Changed(differences) });
        }
        slots[at] = Some((after, Some(row.line)));
    }
    if replace {
        for (at, slot) in slots.iter_mut().enumerate().filter(|(at, _)| !lines_of.contains_key(at)) {
            *slot = None;
            changes.push(Change { key: keys[at].clone(), what: What::Removed });
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let touched = changes.iter().filter(|change| change.what != What::Added).count();
    let unchanged = points.len() - touched;
    let (points, lines) = slots.into_iter().flatten().chain(added).unzip();
    Ok(Merged { points, lines, changes, unchanged })
}

/// A point with the settings of a row; empty cells take a setting away.
fn laid_over(point: &Value, columns: &[Column], row: &Row) -> Value {
    let mut map = point.as_object().cloned().unwrap_or_default();
    for (column, value) in columns.iter().zip(&row.values) {
        set(&mut map, &column.path, value.clone());
    }
    Value::Object(map)
}

/// Sets or removes what lies at `path`; an object that becomes empty goes with it.
fn set(map: &mut Map<String, Value>, path: &[String], value: Option<Value>) {
    let Some((name, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        match value {
            Some(value) => _ = map.insert(name.clone(), value),
            None => _ = map.remove(name),
        }
        return;
    }
    let inner = map.get(name).and_then(Value::as_object).cloned();
    if inner.is_none() && value.is_none() {
        return;
    }
    let mut inner = inner.unwrap_or_default();
    set(&mut inner, rest, value);
    if inner.is_empty() {
        map.remove(name);
    } else {
        map.insert(name.clone(), Value::Object(inner));
    }
}

fn differences(columns: &[Column], before: &Value, after: &Value) -> Vec<(String, Value, Value)> {
    let at = |point: &Value, column: &Column| {
        column.path.iter().try_fold(point, |value, name| value.get(name)).cloned().unwrap_or_default()
    };
    let both = columns.iter().map(|column| (column.name.clone(), at(before, column), at(after, column)));
    both.filter(|(_, before, after)| before != after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{export, parse};
    use serde_json::json;

    const TABLE: Table = Table { list: "points", identity: &["asset_id", "parameter"], short: None, examples: "[]" };

    fn columns() -> Vec<Column> {
        TABLE.columns(&json!({ "properties": { "points": { "items": { "properties": {
            "asset_id": { "type": "string" },
            "parameter": { "type": "string" },
            "scale": { "type": "number" },
            "line": { "properties": { "lo": { "type": "number" }, "hi": { "type": "number" } } }
        } } } } }))
    }

    fn points() -> Vec<Value> {
        vec![
            json!({"asset_id": "press", "parameter": "t", "scale": 0.1}),
            json!({"parameter": "p", "line": {"lo": 0, "hi": 10.5}}),
            json!({"parameter": "p"}),
        ]
    }

    fn laid(text: &str, replace: bool) -> Result<Merged, Vec<String>> {
        let parsed = parse(text, &columns()).unwrap();
        merge(&TABLE, &points(), &parsed, replace).map_err(|all| all.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_table_that_was_only_looked_at_changes_nothing() {
        let text = export(&TABLE, &columns(), &points());
        for replace in [false, true] {
            let merged = laid(&text, replace).unwrap();
            assert_eq!((merged.points, merged.changes, merged.unchanged), (points(), vec![], 3));
        }
    }

    #[test]
    fn rows_change_add_and_remove_and_what_is_not_there_stays() {
        // the column of the scale is not there, so scales stay; p#2 has no row
        let merged =
            laid("_key,_op,parameter,asset_id,line.hi\npress/t,,t2,press,\np,delete,,,\n,,new,,4\n", false).unwrap();
        let expected = [
            json!({"asset_id": "press", "parameter": "t2", "scale": 0.1}),
            json!({"parameter": "p"}),
            json!({"parameter": "new", "line": {"hi": 4}}),
        ];
        assert_eq!((&merged.points[..], &merged.lines[..]), (&expected[..], &[Some(2), None, Some(4)][..]));
        let what: Vec<(&str, &What)> =
            merged.changes.iter().map(|change| (change.key.as_str(), &change.what)).collect();
        let renamed = What::Changed(vec![("parameter".to_owned(), json!("t"), json!("t2"))]);
        assert_eq!(what, [("press/t", &renamed), ("p", &What::Removed), ("new", &What::Added)]);
        assert_eq!(merged.unchanged, 1);
    }

    #[test]
    fn a_table_without_keys_finds_points_by_their_names() {
        let merged = laid("asset_id,parameter,scale\npress,t,0.2\n", true).unwrap();
        assert_eq!(merged.points, [json!({"asset_id": "press", "parameter": "t", "scale": 0.2})]);
        assert_eq!(merged.changes.len(), 3, "one changed, two without a row gone");
    }

    #[test]
    fn points_of_one_name_have_keys_of_their_own() {
        let of = |names: &[&str]| {
            let points: Vec<Value> = names.iter().map(|name| json!({ "parameter": name })).collect();
            keys_of(&TABLE, &points)
        };
        assert_eq!(of(&["a", "a", "a#2", "a", "b"]), ["a", "a#2", "a#2#2", "a#3", "b"]);
        assert_eq!(of(&["a#2", "a", "a"]), ["a#2", "a", "a#3"]);
    }

    #[test]
    fn rows_that_mean_nothing_are_told() {
        let told = laid("_key,_op,parameter\nx,,t\n,delete,y\np,,p\np,,p\n", false).unwrap_err();
        assert_eq!(
            told,
            [
                "line 2, column _key: there is no point \"x\" (leave the cell empty for a new point)",
                "line 3, column _key: there is no point \"y\" to delete (write the key of the point)",
                "line 5, column _key: line 4 is about the point \"p\" already (one line for each point)",
            ]
        );
    }
}
