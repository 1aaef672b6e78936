//! One value as the text of a cell, and back to exactly that value.
//!
//! A text that a spreadsheet would run as a formula gets an apostrophe in front, which is taken away again; a text that
//! would be read as something else stands in quotation marks, as JSON has them.

use serde_json::{Map, Number, Value};

/// Texts that begin with one of these are formulas to a spreadsheet, or begin with our own guard.
const GUARDED: [char; 7] = ['=', '+', '-', '@', '\t', '\r', '\''];
/// Separates the entries of a list or map; none of these may stand inside of an entry that is written short.
const ENTRY: char = ';';
const SPECIAL: [char; 6] = [ENTRY, '=', '"', '{', '[', '\n'];

/// How the values of a column are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Integer,
    Number,
    Boolean,
    /// A text, and perhaps a number or a truth; objects and lists as JSON.
    Mixed {
        number: bool,
        boolean: bool,
    },
    /// Texts by their names: `0=off; 1=running`.
    Map,
    /// `1; 2; 3`.
    List(Box<Form>),
    Json,
}

impl Form {
    /// A text that needs no quotation marks to stay one.
    fn reads_as_text(&self, text: &str) -> bool {
        match self {
            Self::Text => true,
            Self::Mixed { number, boolean } => !is_other(text, *number, *boolean),
            _ => false,
        }
    }
}

/// The text of a cell; nothing for null.
pub(super) fn encode(value: &Value, form: &Form) -> String {
    let text = match (form, value) {
        (_, Value::Null) => return String::new(),
        (Form::Integer | Form::Number | Form::Boolean, Value::Number(_) | Value::Bool(_))
        | (Form::Mixed { number: true, .. }, Value::Number(_))
        | (Form::Mixed { boolean: true, .. }, Value::Bool(_)) => return value.to_string(),
        (form, Value::String(text)) if is_plain(text) && form.reads_as_text(text) => text.clone(),
        (Form::Map, Value::Object(map)) => short_map(map).unwrap_or_else(|| value.to_string()),
        (Form::List(item), Value::Array(list)) => short_list(list, item).unwrap_or_else(|| value.to_string()),
        _ => value.to_string(),
    };
    if text.starts_with(GUARDED) { format!("'{text}") } else { text }
}

/// The value of a cell, `None` for an empty one. `decimal_comma` where the separator of columns is no comma.
pub(super) fn decode(text: &str, form: &Form, decimal_comma: bool) -> Result<Option<Value>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let bare = text.strip_prefix('\'').unwrap_or(text);
    match form {
        Form::Text => as_text(bare),
        Form::Integer => integer(text),
        Form::Number => number(text, decimal_comma),
        Form::Boolean => match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" => Ok(Value::Bool(true)),
            "false" | "0" | "no" => Ok(Value::Bool(false)),
            _ => Err(format!("{text:?} is neither true nor false")),
        },
        Form::Mixed { number, boolean } => {
            if is_other(text, *number, *boolean) || text.starts_with(['{', '[']) {
                json(text)
            } else {
                as_text(bare)
            }
        }
        Form::Map if bare.starts_with('{') => json(bare),
        Form::Map => map(bare),
        Form::List(_) if bare.starts_with('[') => json(bare),
        Form::List(item) => bare
            .split(ENTRY)
            .map(|entry| decode(entry, item, decimal_comma)?.ok_or_else(|| "an entry of the list is empty".to_owned()))
            .collect::<Result<Vec<_>, _>>()
            .map(Value::Array),
        Form::Json => json(bare),
    }
    .map(|value| Some(value).filter(|value| !value.is_null()))
}

/// A text that is read as it stands.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.trim() == text && !text.starts_with(['"', '{', '['])
}

/// A text that would be read as a number or a truth.
fn is_other(text: &str, number: bool, boolean: bool) -> bool {
    match serde_json::from_str(text) {
        Ok(Value::Number(_)) => number,
        Ok(Value::Bool(_)) => boolean,
        _ => false,
    }
}

fn as_text(text: &str) -> Result<Value, String> {
    if !text.starts_with('"') {
        return Ok(Value::String(text.to_owned()));
    }
    let quoted: Result<String, _> = serde_json::from_str(text);
    quoted
        .map(Value::String)
        .map_err(|_| "begins with a quotation mark and is not a text in quotation marks".to_owned())
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))
}

fn integer(text: &str) -> Result<Value, String> {
    let whole = text.parse::<i64>().map(Number::from).or_else(|_| text.parse::<u64>().map(Number::from));
    // a spreadsheet may have made 1000 into 1000.0 or 1E+3
    let of_float = || text.parse::<f64>().ok().filter(|number| number.fract() == 0.0 && number.abs() < 9e15);
    match whole {
        Ok(number) => Ok(Value::Number(number)),
        Err(_) => match of_float() {
            #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
            Some(number) => Ok(Value::from(number as i64)),
            None => Err(format!("{text:?} is not a whole number")),
        },
    }
}

fn number(text: &str, decimal_comma: bool) -> Result<Value, String> {
    let with_point = if decimal_comma { text.replace(',', ".") } else { text.to_owned() };
    if let Ok(whole) = with_point.parse::<i64>() {
        return Ok(Value::from(whole));
    }
    let number = with_point.parse::<f64>().ok().and_then(Number::from_f64);
    let hint = if text.contains(',') { ", write a point for the decimals" } else { "" };
    number.map(Value::Number).ok_or_else(|| format!("{text:?} is not a number{hint}"))
}

fn map(text: &str) -> Result<Value, String> {
    let mut map = Map::new();
    for entry in text.split(ENTRY) {
        let Some((key, value)) = entry.split_once('=') else {
            return Err(format!("{:?} is not of the form 0=off; 1=running", entry.trim()));
        };
        if map.insert(key.trim().to_owned(), Value::String(value.trim().to_owned())).is_some() {
            return Err(format!("{:?} is there twice", key.trim()));
        }
    }
    Ok(Value::Object(map))
}

/// `None` when an entry would not come back as it is.
fn short_map(map: &Map<String, Value>) -> Option<String> {
    let entries = map.iter().map(|(key, value)| {
        let value = value.as_str()?;
        (is_entry(key) && is_entry(value)).then(|| format!("{key}={value}"))
    });
    let text = entries.collect::<Option<Vec<_>>>()?.join("; ");
    (!text.is_empty() && !text.starts_with('\'')).then_some(text)
}

fn short_list(list: &[Value], item: &Form) -> Option<String> {
    let entries = list.iter().map(|entry| match entry {
        Value::Number(_) if *item != Form::Text => Some(entry.to_string()),
        Value::String(text) if *item == Form::Text => (is_entry(text) && !text.starts_with('\'')).then(|| text.clone()),
        _ => None,
    });
    let text = entries.collect::<Option<Vec<_>>>()?.join("; ");
    (!text.is_empty()).then_some(text)
}

fn is_entry(text: &str) -> bool {
    !text.is_empty() && text.trim() == text && !text.contains(SPECIAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ANY: Form = Form::Mixed { number: true, boolean: true };

    fn list(item: Form) -> Form {
        Form::List(Box::new(item))
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let texts = [
            "Pump 7",
            "=cmd|' /C calc'!A0",
            "-5",
            "'quoted",
            "\"x",
            "",
            " x ",
            "{",
            "[1",
            "40001",
            "true",
            "ä;=\n,",
            "1;2",
        ];
        for text in texts {
            for form in [Form::Text, ANY] {
                let cell = encode(&json!(text), &form);
                assert_eq!(decode(&cell, &form, false), Ok(Some(json!(text))), "{text:?} as {cell:?} in {form:?}");
                assert!(!cell.starts_with(['=', '+', '-', '@']), "{cell:?} would be run");
            }
        }
        let others = [
            (json!(-5), Form::Integer),
            (json!(18_446_744_073_709_551_615_u64), Form::Integer),
            (json!(-0.1), Form::Number),
            (json!(1e300), Form::Number),
            (json!(true), Form::Boolean),
            (json!(40001), ANY),
            (json!({"table": "input", "number": 1}), ANY),
            (json!({"0": "off", "1": "locked out"}), Form::Map),
            (json!({"0": "a=b; c"}), Form::Map),
            (json!({"-1": "x"}), Form::Map),
            (json!({}), Form::Map),
            (json!([-32768, 5]), list(Form::Integer)),
            (json!([]), list(Form::Integer)),
            (json!(["a", "b;c", "'"]), list(Form::Text)),
            (json!([{"path": "/a"}]), Form::Json),
        ];
        for (value, form) in others {
            let cell = encode(&value, &form);
            assert_eq!(decode(&cell, &form, false), Ok(Some(value)), "{cell:?} in {form:?}");
        }
        assert_eq!(encode(&json!({"0": "off", "1": "locked out"}), &Form::Map), "0=off; 1=locked out");
        assert_eq!((encode(&Value::Null, &ANY), decode("  ", &ANY, false)), (String::new(), Ok(None)));
    }

    #[test]
    fn what_people_and_spreadsheets_write_is_understood_or_named() {
        assert_eq!(decode("1000.0", &Form::Integer, false), Ok(Some(json!(1000))));
        assert_eq!(decode("1,5", &Form::Number, true), Ok(Some(json!(1.5))));
        assert_eq!(decode("TRUE", &Form::Boolean, false), Ok(Some(json!(true))));
        assert_eq!(
            decode("40001.3", &Form::Mixed { number: false, boolean: false }, false),
            Ok(Some(json!("40001.3")))
        );
        let told = |text: &str, form: &Form| decode(text, form, false).unwrap_err();
        assert_eq!(told("1,5", &Form::Number), "\"1,5\" is not a number, write a point for the decimals");
        assert_eq!(told("1.5", &Form::Integer), "\"1.5\" is not a whole number");
        assert_eq!(told("nan", &Form::Number), "\"nan\" is not a number");
        assert_eq!(told("0=off; running", &Form::Map), "\"running\" is not of the form 0=off; 1=running");
        assert_eq!(told("0=a;0=b", &Form::Map), "\"0\" is there twice");
        assert!(told("{", &Form::Json).starts_with("is not JSON"));
    }
}
