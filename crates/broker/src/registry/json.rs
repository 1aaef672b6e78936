//! JSON from outside, read strictly and within bounds: no key twice, a limited number of values. The JSON library itself
//! refuses nesting beyond 128 levels, lone surrogates and numbers that are too large.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::limits::REGISTRY_JSON_VALUES_MAX;

/// Reads a whole text. Two readers could disagree about a key that is there twice, so it is refused.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let mut left = REGISTRY_JSON_VALUES_MAX;
    let value = Strict(&mut left).deserialize(&mut deserializer).map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// Takes the white space between the tokens of valid JSON out.
pub(super) fn compact(text: &str) -> String {
    let mut compact = String::with_capacity(text.len());
    let (mut quoted, mut escaped) = (false, false);
    for character in text.chars() {
        if quoted {
            quoted = escaped || character != '"';
            escaped = !escaped && character == '\\';
        } else if character.is_ascii_whitespace() {
            continue;
        } else {
            quoted = character == '"';
        }
        compact.push(character);
    }
    compact
}

/// Writes a value with the keys of its objects in order: equal for texts that differ in white space and order only.
pub(super) fn write_sorted(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_sorted(item, out);
            }
            out.push(']');
        }
        Value::Object(object) => {
            write_object(object.iter().map(|(key, value)| (key.as_str(), value)), out, write_sorted);
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// Writes an object with its keys in order and its values as `write` wants them.
pub(super) fn write_object<'a, T>(
    entries: impl Iterator<Item = (&'a str, T)>,
    out: &mut String,
    mut write: impl FnMut(T, &mut String),
) {
    let mut entries: Vec<(&str, T)> = entries.collect();
    entries.sort_by_key(|(key, _)| *key);
    out.push('{');
    for (index, (key, value)) in entries.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_text(key, out);
        out.push(':');
        write(value, out);
    }
    out.push('}');
}

pub(super) fn write_text(text: &str, out: &mut String) {
    out.push_str(&Value::from(text).to_string());
}

/// Reads one value; counts down to zero over all of them.
struct Strict<'c>(&'c mut usize);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        *self.0 = self.0.checked_sub(1).ok_or_else(|| {
            D::Error::custom(format!("there are more than {REGISTRY_JSON_VALUES_MAX} values in this JSON"))
        })?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Number::from_f64(number).map(Value::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(Strict(&mut *self.0))? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Strict(&mut *self.0))?;
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("the key {key:?} is there twice")));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_goes_but_not_inside_of_texts() {
        let text = "{ \"type\" : \"record\",\n \"name\":\"R\", \"doc\":\"a  \\\" b\", \"fields\":[] }";
        assert_eq!(compact(text), r#"{"type":"record","name":"R","doc":"a  \" b","fields":[]}"#);
    }

    // security 45
    #[test]
    fn hostile_json_is_an_error() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"{"x":{"type":"long","type":"int"}}"#,
            "NaN",
            "1e999",
            r#""\ud800""#,
            "[1,]",
            "{} {}",
            "",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"[".repeat(10_000)).is_err());
        assert!(parse(&format!("[{}0]", "0,".repeat(REGISTRY_JSON_VALUES_MAX))).unwrap_err().contains("more than"));
    }

    #[test]
    fn values_are_read_as_the_library_reads_them() {
        let text = r#"{"b":[1,-2,1.5,null,true,"t\u00e9"],"a":{"z":18446744073709551615,"y":{}}}"#;
        let value = parse(text).unwrap();
        assert_eq!(value, serde_json::from_str::<Value>(text).unwrap());
        let mut sorted = String::new();
        write_sorted(&value, &mut sorted);
        assert_eq!(sorted, r#"{"a":{"y":{},"z":18446744073709551615},"b":[1,-2,1.5,null,true,"té"]}"#);
    }
}
