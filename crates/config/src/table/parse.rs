//! A table back to rows; every cell that cannot be read is told, by line and column.

use std::collections::HashMap;

use serde_json::Value;

use super::cell::decode;
use super::columns::{Column, header};
use super::{KEY, LineProblem, OP, ROWS_MAX};

/// One line of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Counted from 1; the names are in line 1.
    pub line: u64,
    /// Empty for a new point.
    pub key: String,
    pub delete: bool,
    /// One value for each of [`Parsed::columns`].
    pub values: Vec<Option<Value>>,
}

/// A table without problems of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The columns the table has; settings without one are left as they are.
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
}

/// Reads a table. Columns are found by their names, in any order; commas, semicolons and tabs separate.
pub fn parse(text: &str, columns: &[Column]) -> Result<Parsed, Vec<LineProblem>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let first = text.lines().next().unwrap_or_default();
    let separator = [b'\t', b';', b','].into_iter().max_by_key(|one| first.bytes().filter(|byte| byte == one).count());
    let separator = separator.unwrap_or(b',');
    let mut reader =
        csv::ReaderBuilder::new().delimiter(separator).flexible(true).has_headers(false).from_reader(text.as_bytes());
    let mut problems = Vec::new();
    let mut tell = |line: u64, column: &str, message: String, hint: String| {
        problems.push(LineProblem { line, column: column.to_owned(), message, hint });
    };
    let mut lines = Lines { text, at: 0, line: 1 };
    let mut places: Vec<Place<'_>> = Vec::new();
    let mut rows = Vec::new();
    for (at, record) in reader.records().enumerate() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let line = lines.line_of(error.position().map_or(0, csv::Position::byte));
                tell(line, "", format!("cannot be read: {error}"), String::new());
                break;
            }
        };
        let line = lines.line_of(record.position().map_or(0, csv::Position::byte));
        if at == 0 {
            places = read_header(&record, columns, &mut tell);
            continue;
        }
        if record.iter().all(|cell| cell.trim().is_empty()) {
            continue;
        }
        if rows.len() >= ROWS_MAX {
            tell(line, "", format!("more than {ROWS_MAX} rows"), "split the table".to_owned());
            break;
        }
        if record.len() > places.len() && record.iter().skip(places.len()).any(|cell| !cell.trim().is_empty()) {
            let message = format!("has {} cells, there are {} columns", record.len(), places.len());
            tell(line, "", message, "put a text with a separator in it into quotation marks".to_owned());
            continue;
        }
        let mut row = Row { line, key: String::new(), delete: false, values: Vec::new() };
        for (place, cell) in places.iter().zip(record.iter().chain(std::iter::repeat(""))) {
            match place {
                Place::Key => match decode(cell, &super::cell::Form::Text, false) {
                    Ok(key) => key.as_ref().and_then(Value::as_str).unwrap_or_default().clone_into(&mut row.key),
                    Err(message) => tell(line, KEY, message, String::new()),
                },
                Place::Op => match cell.trim() {
                    "" => {}
                    "delete" => row.delete = true,
                    other => {
                        tell(line, OP, format!("{other:?} is not known"), "leave it empty, or write delete".to_owned());
                    }
                },
                Place::Setting(column) => match decode(cell, &column.form, separator != b',') {
                    Ok(value) => row.values.push(value),
                    Err(message) => tell(line, &column.name, message, String::new()),
                },
                Place::Unknown => {}
            }
        }
        let says_nothing = row.key.is_empty() && !row.delete && row.values.iter().all(Option::is_none);
        if !says_nothing {
            rows.push(row);
        }
    }
    if places.is_empty() {
        tell(
            1,
            "",
            "there is no line with the names of the columns".to_owned(),
            "export a table to see them".to_owned(),
        );
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let used = places.into_iter().filter_map(|place| match place {
        Place::Setting(column) => Some(column.clone()),
        Place::Key | Place::Op | Place::Unknown => None,
    });
    Ok(Parsed { columns: used.collect(), rows })
}

/// Counts lines; the reader's own count is one short where lines end with a carriage return.
struct Lines<'t> {
    text: &'t str,
    at: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line in which the record lies that begins at a byte, or behind the ends of lines there.
    fn line_of(&mut self, byte: u64) -> u64 {
        let bytes = self.text.as_bytes();
        let byte = usize::try_from(byte).unwrap_or(usize::MAX).min(bytes.len());
        let ends = bytes[byte..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let passed = &bytes[self.at..byte + ends];
        self.line += passed.iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
        self.at = byte + ends;
        self.line
    }
}

/// What a column of the table is.
enum Place<'c> {
    Key,
    Op,
    Setting(&'c Column),
    Unknown,
}

fn read_header<'c>(
    record: &csv::StringRecord,
    columns: &'c [Column],
    tell: &mut impl FnMut(u64, &str, String, String),
) -> Vec<Place<'c>> {
    let known = header(columns);
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut places = Vec::new();
    for (at, name) in record.iter().map(str::trim).enumerate() {
        if let Some(before) = seen.insert(name, at)
            && !name.is_empty()
        {
            tell(1, name, format!("is there twice, as column {} and {}", before + 1, at + 1), String::new());
        }
        let setting = columns.iter().find(|column| column.name == name);
        places.push(match (name, setting) {
            (KEY, _) => Place::Key,
            (OP, _) => Place::Op,
            (_, Some(column)) => Place::Setting(column),
            (name, None) => {
                if !name.is_empty() {
                    tell(1, name, "is not a setting of a point".to_owned(), crate::read::suggest(name, &known));
                }
                Place::Unknown
            }
        });
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::cell::Form;

    fn columns() -> Vec<Column> {
        let column = |name: &str, form| Column { name: name.to_owned(), path: vec![name.to_owned()], form };
        vec![column("parameter", Form::Text), column("scale", Form::Number), column("type", Form::Text)]
    }

    #[test]
    fn every_bad_cell_is_told_by_line_and_column() {
        let text =
            "_key,_op,parameter,scale,typ\r\na,,a,x,\r\n\r\nb,remove,\"two\nlines\",1,\r\nc,,c,1,int16,left over\r\n";
        let told: Vec<String> = parse(text, &columns()).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "line 1, column typ: is not a setting of a point (did you mean \"type\"?)",
                "line 2, column scale: \"x\" is not a number",
                "line 4, column _op: \"remove\" is not known (leave it empty, or write delete)",
                "line 6: has 6 cells, there are 5 columns (put a text with a separator in it into quotation marks)",
            ]
        );
        assert_eq!(parse("", &columns()).unwrap_err()[0].line, 1);
    }

    #[test]
    fn what_a_spreadsheet_copies_or_saves_in_another_country_is_read() {
        for (separator, number) in [("\t", "0,5"), (";", "0,5"), (",", "0.5"), (";", "0.5")] {
            let text = format!("\u{feff}scale{separator}parameter\n{number}{separator}t\n");
            let parsed = parse(&text, &columns()).unwrap();
            assert_eq!(parsed.rows[0].values, [Some(0.5.into()), Some("t".into())], "{text}");
            assert_eq!((parsed.rows[0].line, parsed.columns.len()), (2, 2));
        }
    }
}
