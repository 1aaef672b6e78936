//! Is the default of a field a value of the field's type?
//!
//! A union's default may be a value of any of its branches (specification 1.12). A record's default may leave out fields
//! that have a default themselves.

use serde_json::Value;

use super::schema::{Id, Primitive, Shape, Type};

/// Levels of a default, fields that are left out included; a deeper one contains itself.
const DEPTH_MAX: usize = 64;
/// Values looked at for all defaults of a schema, before they count as too many.
const STEPS_MAX: usize = 1_000_000;

/// Checks the defaults of one schema.
pub(super) struct Check<'t> {
    types: &'t [Type],
    steps: usize,
}

impl<'t> Check<'t> {
    pub(super) fn new(types: &'t [Type]) -> Self {
        Self { types, steps: 0 }
    }

    /// Why `value` is no value of the type at `id`.
    pub(super) fn check(&mut self, id: Id, value: &Value) -> Result<(), String> {
        self.check_at(id, value, 0)
    }

    fn check_at(&mut self, id: Id, value: &Value, depth: usize) -> Result<(), String> {
        self.steps += 1;
        if depth > DEPTH_MAX || self.steps > STEPS_MAX {
            return Err("it contains itself without an end, or too many values".to_owned());
        }
        let wrong = |wanted: &str| Err(format!("{} is not {wanted}", shorten(value)));
        match &self.types[id].shape {
            Shape::Primitive(primitive) => check_primitive(*primitive, value),
            Shape::Enum { symbols, .. } => match value {
                Value::String(symbol) if symbols.contains(symbol) => Ok(()),
                _ => wrong("one of the symbols"),
            },
            Shape::Fixed(size) => match bytes(value) {
                Some(length) if u64::try_from(length) == Ok(*size) => Ok(()),
                _ => wrong(&format!("a text of {size} characters up to U+00FF")),
            },
            Shape::Array(items) => match value {
                Value::Array(list) => list.iter().try_for_each(|item| self.check_at(*items, item, depth + 1)),
                _ => wrong("an array"),
            },
            Shape::Map(values) => match value {
                Value::Object(map) => map.values().try_for_each(|item| self.check_at(*values, item, depth + 1)),
                _ => wrong("an object"),
            },
            Shape::Union(branches) => {
                let mut last = wrong("a value of any branch");
                for branch in branches {
                    match self.check_at(*branch, value, depth + 1) {
                        Ok(()) => return Ok(()),
                        Err(reason) if self.steps > STEPS_MAX => return Err(reason),
                        Err(reason) if branches.len() == 1 => last = Err(reason),
                        Err(_) => {}
                    }
                }
                last
            }
            Shape::Record(fields) => {
                let Value::Object(object) = value else { return wrong("an object") };
                for field in fields {
                    let Some(inner) = object.get(&field.name).or(field.default.as_ref()) else {
                        return Err(format!("it leaves out field {}, which has no default", field.name));
                    };
                    self.check_at(field.of, inner, depth + 1).map_err(|reason| {
                        if depth == 0 { format!("field {}: {reason}", field.name) } else { reason }
                    })?;
                }
                Ok(())
            }
        }
    }
}

fn check_primitive(primitive: Primitive, value: &Value) -> Result<(), String> {
    let (good, wanted) = match primitive {
        Primitive::Null => (value.is_null(), "null"),
        Primitive::Boolean => (value.is_boolean(), "a boolean"),
        Primitive::Int => (value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()), "an int"),
        Primitive::Long => (value.as_i64().is_some(), "a long"),
        Primitive::Float | Primitive::Double => (value.is_number(), "a number"),
        Primitive::Bytes => (bytes(value).is_some(), "a text of characters up to U+00FF"),
        Primitive::String => (value.is_string(), "a text"),
    };
    if good { Ok(()) } else { Err(format!("{} is not {wanted}", shorten(value))) }
}

/// Bytes are written as text, one character each.
fn bytes(value: &Value) -> Option<usize> {
    let text = value.as_str()?;
    text.chars().all(|character| u32::from(character) <= 0xff).then(|| text.chars().count())
}

fn shorten(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    fn valid(kind: &str, default: &str) -> bool {
        let text =
            format!(r#"{{"type":"record","name":"R","fields":[{{"name":"f","type":{kind},"default":{default}}}]}}"#);
        parse(&serde_json::from_str(&text).unwrap(), &[]).is_ok()
    }

    // STR-21: a default must be a value of its type
    #[test]
    fn defaults_are_values_of_their_type() {
        let record = r#"{"type":"record","name":"I","fields":[{"name":"a","type":"int"},
            {"name":"b","type":"string","default":"x"}]}"#;
        let symbols = r#"{"type":"enum","name":"E","symbols":["A","B"]}"#;
        let fixed = r#"{"type":"fixed","name":"F","size":2}"#;
        for (kind, good, bad) in [
            (r#""null""#, "null", "0"),
            (r#""boolean""#, "true", "\"true\""),
            (r#""int""#, "2147483647", "2147483648"),
            (r#""int""#, "-1", "1.5"),
            (r#""long""#, "-9223372036854775808", "9223372036854775808"),
            (r#""long""#, "1", "null"),
            (r#""float""#, "1", "\"1\""),
            (r#""double""#, "1.5", "null"),
            (r#""bytes""#, "\"\\u00ff\"", "\"\\u0100\""),
            (r#""string""#, "\"x\"", "1"),
            (symbols, "\"A\"", "\"C\""),
            (fixed, "\"ab\"", "\"abc\""),
            (r#"{"type":"array","items":"int"}"#, "[1,2]", "[1,\"2\"]"),
            (r#"{"type":"map","values":"int"}"#, "{\"a\":1}", "{\"a\":null}"),
            (r#"["null","int"]"#, "null", "\"null\""),
            (r#"["null","int"]"#, "7", "7.5"),
            (record, "{\"a\":1}", "{\"b\":\"y\"}"),
            (record, "{\"a\":1,\"b\":\"y\"}", "{\"a\":1,\"b\":2}"),
        ] {
            assert!(valid(kind, good), "{kind} {good}");
            assert!(!valid(kind, bad), "{kind} {bad}");
        }
    }

    // security 44: recursion
    #[test]
    fn a_default_without_an_end_is_refused() {
        let text = r#"{"type":"record","name":"R","fields":[{"name":"r","type":"R","default":{}}]}"#;
        let error = parse(&serde_json::from_str(text).unwrap(), &[]).unwrap_err();
        assert!(error.contains("without an end"), "{error}");
        let two = r#"["null",
            {"type":"record","name":"A","fields":[{"name":"x","type":["A","B"],"default":{}}]},
            {"type":"record","name":"B","fields":[{"name":"x","type":["A","B"],"default":{}}]}]"#;
        let text = two.replace(
            "\"name\":\"A\",\"fields\":[",
            r#""name":"A","fields":[{"name":"b","type":
            {"type":"record","name":"B","fields":[{"name":"x","type":["A","B"],"default":{}}]}},"#,
        );
        let text = text.rsplit_once(",\n").map(|(most, _)| format!("{most}]")).unwrap();
        assert!(parse(&serde_json::from_str(&text).unwrap(), &[]).is_err(), "{text}");
        let text = r#"{"type":"record","name":"R","fields":[{"name":"r","type":["null","R"],"default":null}]}"#;
        assert!(parse(&serde_json::from_str(text).unwrap(), &[]).is_ok());
    }
}
