//! Tables as payloads: lines of values with a delimiter, with or without a line of names (MQ-14).
//!
//! Pure. Quotes as in RFC 4180; a line that ends inside quotes is refused.

use std::borrow::Cow;

use super::json::{Document, Scalar};

/// Lines of one payload; one with more is refused.
const LINES_MAX: usize = 5_000;

/// The lines as objects, whose keys are the names of the columns, or their numbers from 0.
pub fn rows(text: &str, delimiter: char, header: bool) -> Result<Vec<Document<'_>>, String> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let names: Option<Vec<Cow<'_, str>>> = if header {
        let Some(first) = lines.next() else { return Err("it has no line of names".to_owned()) };
        Some(cells(first, delimiter)?)
    } else {
        None
    };
    let mut rows = Vec::new();
    for line in lines {
        if rows.len() >= LINES_MAX {
            return Err(format!("it has more than {LINES_MAX} lines"));
        }
        let cells = cells(line, delimiter)?;
        if let Some(names) = &names
            && names.len() != cells.len()
        {
            return Err(format!("a line has {} values for {} names", cells.len(), names.len()));
        }
        let fields = cells.into_iter().enumerate().map(|(place, cell)| {
            let key = names.as_ref().and_then(|names| names.get(place)).map(|name| name.trim().to_owned());
            let scalar = if cell.trim().is_empty() { Scalar::Null } else { Scalar::Text(cell) };
            (Cow::Owned(key.unwrap_or_else(|| place.to_string())), scalar)
        });
        rows.push(Document::of_fields(fields));
    }
    if rows.is_empty() { Err("it has no line of values".to_owned()) } else { Ok(rows) }
}

fn cells(line: &str, delimiter: char) -> Result<Vec<Cow<'_, str>>, String> {
    let mut cells = Vec::new();
    let mut rest = line;
    loop {
        let Some(quoted) = rest.trim_start().strip_prefix('"') else {
            match rest.split_once(delimiter) {
                Some((cell, after)) => {
                    cells.push(Cow::Borrowed(cell));
                    rest = after;
                    continue;
                }
                None => {
                    cells.push(Cow::Borrowed(rest));
                    return Ok(cells);
                }
            }
        };
        let mut cell = String::new();
        let mut letters = quoted.char_indices().peekable();
        let end = loop {
            match letters.next() {
                None => return Err("a line ends inside quotes".to_owned()),
                Some((_, '"')) if letters.peek().is_some_and(|(_, next)| *next == '"') => {
                    letters.next();
                    cell.push('"');
                }
                Some((at, '"')) => break at + 1,
                Some((_, letter)) => cell.push(letter),
            }
        };
        cells.push(Cow::Owned(cell));
        rest = quoted[end..].trim_start();
        match rest.strip_prefix(delimiter) {
            Some(after) => rest = after,
            None if rest.is_empty() => return Ok(cells),
            None => return Err("something stands between quotes and the delimiter".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::json::{Place, Step};

    fn at(document: &Document<'_>, key: &str) -> Option<String> {
        let place = document.find(Place::ROOT, &[Step::Key(key.to_owned())])?;
        document.scalar(place).map(super::super::value::text_of)
    }

    // MQ-14
    #[test]
    fn tables_with_and_without_names() {
        let table = rows("time; \"temp;1\" ;n\n1;2,5;\"a \"\"b\"\"\"\n\n2;;x\r\n", ';', true).unwrap();
        assert_eq!(table.len(), 2);
        assert_eq!(at(&table[0], "temp;1").as_deref(), Some("2,5"));
        assert_eq!(at(&table[0], "n").as_deref(), Some("a \"b\""));
        assert_eq!(at(&table[1], "temp;1").as_deref(), Some("null"));
        let bare = rows("7,8", ',', false).unwrap();
        assert_eq!(at(&bare[0], "1").as_deref(), Some("8"));
        for bad in ["a,b\n1", "a\n\"x", "a", "", "a,b\n\"1\"2,3"] {
            assert!(rows(bad, ',', true).is_err(), "{bad}");
        }
    }
}
