//! The list of points of a component as a table for a spreadsheet: every setting of a point is a column, every point a
//! row, and what is read back is what was written.
//!
//! The columns come from the component's own schema, so a setting that is added there is a column here. [`export`]
//! writes, [`parse`] reads rows and tells every bad cell by its line, [`merge`] lays rows over the points there are and
//! says what would change; [`crate::edit`] puts the result into the text of a document.
//!
//! | File | Holds |
//! |---|---|
//! | `columns.rs` | from a schema to columns |
//! | `cell.rs` | one value as the text of a cell and back |
//! | `export.rs`, `parse.rs` | whole tables |
//! | `merge.rs` | rows over points |

mod cell;
mod columns;
mod export;
mod merge;
mod parse;

use serde_json::Value;

pub use columns::Column;
pub use export::export;
pub use merge::{Change, Merged, What, merge};
pub use parse::{Parsed, Row, parse};

/// The column that names the point a row is about.
pub const KEY: &str = "_key";
/// The column that says what is to be done with it: nothing, or `delete`.
pub const OP: &str = "_op";
/// More rows are refused.
pub const ROWS_MAX: usize = 100_000;

/// What of a component's settings is a table.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// The setting that holds the list.
    pub list: &'static str,
    /// Settings of a point that together name it, the last of them always there.
    pub identity: &'static [&'static str],
    /// Another setting that holds points in a short form, and how one of them is written in full.
    pub short: Option<Short>,
    /// Three points for a table to begin with, as a JSON list.
    pub examples: &'static str,
}

/// Points in a short form: a map.
#[derive(Debug, Clone, Copy)]
pub struct Short {
    pub setting: &'static str,
    /// A key and its value in the full form.
    pub full: fn(&str, &Value) -> Value,
}

/// What is wrong with a table: where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineProblem {
    /// Counted from 1, as an editor does.
    pub line: u64,
    /// Empty when the line as a whole is meant.
    pub column: String,
    pub message: String,
    pub hint: String,
}

impl std::fmt::Display for LineProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}", self.line)?;
        if !self.column.is_empty() {
            write!(f, ", column {}", self.column)?;
        }
        write!(f, ": {}", self.message)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, " ({})", self.hint) }
    }
}

impl Table {
    /// The points of valid settings, those in the short form written in full.
    pub fn points(&self, settings: &Value) -> Vec<Value> {
        let listed = settings.get(self.list).and_then(Value::as_array).into_iter().flatten().cloned();
        let short = self.short.and_then(|short| Some((short, settings.get(short.setting)?.as_object()?)));
        let in_full =
            short.into_iter().flat_map(|(short, map)| map.iter().map(move |(key, value)| (short.full)(key, value)));
        listed.chain(in_full).collect()
    }

    /// Settings with other points; the short form goes.
    #[must_use]
    pub fn with_points(&self, settings: &Value, points: Vec<Value>) -> Value {
        let mut settings = settings.clone();
        if let Some(map) = settings.as_object_mut() {
            if let Some(short) = self.short {
                map.remove(short.setting);
            }
            map.insert(self.list.to_owned(), Value::Array(points));
        }
        settings
    }

    /// The name of a point: `asset/parameter`, or what it has of it.
    pub fn key_of(&self, point: &Value) -> String {
        let parts = self.identity.iter().filter_map(|setting| point.get(setting)?.as_str());
        parts.collect::<Vec<_>>().join("/")
    }
}

/// The names of all points; where one is there several times, the further ones are numbered, and no two are alike.
fn keys_of(table: &Table, points: &[Value]) -> Vec<String> {
    let mut seen: std::collections::HashMap<String, u32> = std::collections::HashMap::new();
    let mut keys = Vec::with_capacity(points.len());
    for point in points {
        let name = table.key_of(point);
        let mut key = name.clone();
        while seen.contains_key(&key) {
            let times = seen.entry(name.clone()).or_insert(1);
            *times += 1;
            key = format!("{name}#{times}");
        }
        seen.insert(key.clone(), 1);
        keys.push(key);
    }
    keys
}
