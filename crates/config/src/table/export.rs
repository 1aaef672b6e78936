//! Points as a table.

use serde_json::Value;

use super::cell::encode;
use super::columns::{Column, header};
use super::{Table, keys_of};

/// A table of `points`: UTF-8 with a byte order mark, which spreadsheets ask for, commas, one line of names, all columns.
pub fn export(table: &Table, columns: &[Column], points: &[Value]) -> String {
    rows(columns, keys_of(table, points).into_iter().zip(points))
}

impl Table {
    /// A table to begin with: three points without keys, so that all of them are new.
    pub fn example(&self, columns: &[Column]) -> String {
        let points: Vec<Value> = serde_json::from_str(self.examples).unwrap_or_default();
        rows(columns, points.iter().map(|point| (String::new(), point)))
    }
}

fn rows<'p>(columns: &[Column], points: impl Iterator<Item = (String, &'p Value)>) -> String {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(vec![0xef, 0xbb, 0xbf]);
    let infallible = "memory takes everything";
    writer.write_record(header(columns)).expect(infallible);
    for (key, point) in points {
        let key = encode(&Value::String(key), &super::cell::Form::Text);
        let cells = columns.iter().map(|column| {
            let value = column.path.iter().try_fold(point, |value, name| value.get(name));
            value.map_or_else(String::new, |value| encode(value, &column.form))
        });
        let front = [if key == "\"\"" { String::new() } else { key }, String::new()];
        writer.write_record(front.into_iter().chain(cells)).expect(infallible);
    }
    String::from_utf8(writer.into_inner().unwrap_or_default()).expect("made of texts")
}
