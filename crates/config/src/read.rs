//! Reading a JSON object field by field while collecting every problem: wrong types, ranges, missing and unknown keys.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::Problem;

/// Escapes one reference token of a JSON Pointer (RFC 6901, section 3).
pub fn token(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// An object being read. Each key is asked for once; [`Object::finish`] reports what nobody asked for.
#[derive(Debug)]
pub struct Object<'v> {
    map: Option<&'v Map<String, Value>>,
    pointer: String,
    asked: BTreeSet<&'static str>,
    problems: Vec<Problem>,
}

impl<'v> Object<'v> {
    /// Begins reading `value`, which stands at `pointer` of the document.
    pub fn new(value: &'v Value, pointer: &str) -> Self {
        let mut object =
            Self { map: value.as_object(), pointer: pointer.to_owned(), asked: BTreeSet::new(), problems: Vec::new() };
        if object.map.is_none() {
            object.problem_here("wrong_type", format!("must be an object, not {}", kind(value)), "");
        }
        object
    }

    /// Pointer of a key of this object.
    pub fn at(&self, key: &str) -> String {
        format!("{}/{}", self.pointer, token(key))
    }

    /// The value under `key`; null counts as absent.
    pub fn value(&mut self, key: &'static str) -> Option<&'v Value> {
        self.asked.insert(key);
        self.map?.get(key).filter(|value| !value.is_null())
    }

    /// Reports a problem with `key`.
    pub fn problem(&mut self, key: &str, code: &'static str, message: impl Into<String>, hint: impl Into<String>) {
        let pointer = self.at(key);
        self.problems.push(Problem::new(pointer, code, message, hint));
    }

    /// Reports a problem with the object as a whole.
    pub fn problem_here(&mut self, code: &'static str, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem::new(self.pointer.clone(), code, message, hint));
    }

    /// Takes over problems found by others.
    pub fn extend(&mut self, problems: impl IntoIterator<Item = Problem>) {
        self.problems.extend(problems);
    }

    fn typed<T>(&mut self, key: &'static str, what: &str, convert: impl FnOnce(&'v Value) -> Option<T>) -> Option<T> {
        let value = self.value(key)?;
        let converted = convert(value);
        if converted.is_none() {
            self.problem(key, "wrong_type", format!("must be {what}, not {}", kind(value)), "");
        }
        converted
    }

    pub fn text(&mut self, key: &'static str) -> Option<&'v str> {
        self.typed(key, "a text", Value::as_str)
    }

    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        self.typed(key, "true or false", Value::as_bool)
    }

    pub fn number(&mut self, key: &'static str) -> Option<f64> {
        self.typed(key, "a number", Value::as_f64)
    }

    pub fn list(&mut self, key: &'static str) -> Option<&'v Vec<Value>> {
        self.typed(key, "a list", Value::as_array)
    }

    pub fn object(&mut self, key: &'static str) -> Option<&'v Map<String, Value>> {
        self.typed(key, "an object", Value::as_object)
    }

    /// A whole number within `min..=max`.
    pub fn integer(&mut self, key: &'static str, min: i64, max: i64) -> Option<i64> {
        let number = self.typed(key, "a whole number", Value::as_i64)?;
        if (min..=max).contains(&number) {
            return Some(number);
        }
        self.problem(key, "out_of_range", format!("{number} is outside {min} to {max}"), "");
        None
    }

    /// A length of time as people write it, `15min`, in milliseconds within `min_ms..=max_ms`.
    pub fn duration_ms(&mut self, key: &'static str, min_ms: i64, max_ms: i64) -> Option<i64> {
        let text = self.text(key)?;
        let Some(ms) = parse_duration_ms(text) else {
            let hint = "write for example 30s, 15min, 2h or 1d";
            self.problem(key, "bad_duration", format!("{text:?} is not a length of time"), hint);
            return None;
        };
        if (min_ms..=max_ms).contains(&ms) {
            return Some(ms);
        }
        let message = format!("{text} is outside {} to {}", duration_text(min_ms), duration_text(max_ms));
        self.problem(key, "out_of_range", message, "");
        None
    }

    /// One of a closed list of words.
    pub fn word(&mut self, key: &'static str, words: &[&'static str]) -> Option<&'static str> {
        let text = self.text(key)?;
        let found = words.iter().copied().find(|word| *word == text);
        if found.is_none() {
            self.problem(
                key,
                "unknown_word",
                format!("{text:?} is not one of {}", words.join(", ")),
                suggest(text, words),
            );
        }
        found
    }

    /// A text that must be there.
    pub fn required_text(&mut self, key: &'static str) -> Option<&'v str> {
        if self.value(key).is_none() && self.map.is_some() {
            self.problem(key, "missing", "is missing", "");
            return None;
        }
        self.text(key)
    }

    /// Reports unknown keys and hands back every problem.
    pub fn finish(mut self) -> Vec<Problem> {
        if let Some(map) = self.map {
            let known: Vec<&str> = self.asked.iter().copied().collect();
            for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
                let pointer = self.at(key);
                self.problems.push(Problem::new(pointer, "unknown_key", "is not a known key", suggest(key, &known)));
            }
        }
        self.problems
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Units of a length of time in milliseconds, the longest first; a minute may be written in two ways.
const DURATION_UNITS: [(&str, i64); 6] =
    [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Milliseconds of `15min`, `30 s`, `2h`; a whole number and one unit.
pub fn parse_duration_ms(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = unit.trim_start();
    let (_, ms) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<i64>().ok()?.checked_mul(*ms)
}

/// The reverse of [`parse_duration_ms`] in the largest unit that is exact.
pub fn duration_text(ms: i64) -> String {
    let exact = DURATION_UNITS.iter().find(|(_, unit)| ms != 0 && ms % unit == 0);
    let (unit, in_ms) = exact.copied().unwrap_or(("ms", 1));
    format!("{}{unit}", ms / in_ms)
}

/// `did you mean "x"?` for the nearest of `words`, when it is near.
pub fn suggest(text: &str, words: &[&str]) -> String {
    let far = |word: &&&str| if text.len() > 2 && word.starts_with(text) { 0 } else { distance(text, word) };
    let nearest = words.iter().map(|word| (far(&word), word)).min();
    match nearest {
        Some((distance, word)) if distance <= 2.max(text.chars().count() / 3) => format!("did you mean {word:?}?"),
        _ => String::new(),
    }
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_problem_is_reported_with_its_path_and_a_hint() {
        // G-06
        let value = json!({"host": 5, "prt": 502, "unit": 300, "mode": "rta"});
        let mut object = Object::new(&value, "/adapters/0");
        assert_eq!(object.text("host"), None);
        assert_eq!(object.integer("port", 1, 65_535), None);
        assert_eq!(object.integer("unit", 0, 255), None);
        assert_eq!(object.word("mode", &["rtu", "tcp"]), None);
        let printed: Vec<String> = object.finish().iter().map(ToString::to_string).collect();
        assert_eq!(
            printed,
            [
                "/adapters/0/host: must be a text, not a number",
                "/adapters/0/unit: 300 is outside 0 to 255",
                "/adapters/0/mode: \"rta\" is not one of rtu, tcp (did you mean \"rtu\"?)",
                "/adapters/0/prt: is not a known key (did you mean \"port\"?)",
            ]
        );
    }

    #[test]
    fn lengths_of_time_are_read_as_people_write_them() {
        for (text, ms) in [("15min", 900_000), ("15 m", 900_000), ("90s", 90_000), ("2h", 7_200_000), ("250ms", 250)] {
            assert_eq!(parse_duration_ms(text), Some(ms), "{text}");
        }
        for text in ["", "15", "min", "1.5h", "-1s", "1h30m", "99999999999999999999d", "9223372036854775807d"] {
            assert_eq!(parse_duration_ms(text), None, "{text}");
        }
        assert_eq!([900_000, 86_400_000, 90_000, 0].map(duration_text), ["15min", "1d", "90s", "0ms"]);
        let value = json!({"a": "15 minutes", "b": "3d", "c": 15});
        let mut object = Object::new(&value, "");
        let asked = [("a", 0), ("b", 0), ("c", 0)].map(|(key, min)| object.duration_ms(key, min, 86_400_000));
        assert_eq!(asked, [None; 3]);
        let printed: Vec<String> = object.finish().iter().map(ToString::to_string).collect();
        assert!(printed[0].contains("30s, 15min"), "{printed:?}");
        assert_eq!(printed[1], "/b: 3d is outside 0ms to 1d");
    }

    #[test]
    fn pointer_tokens_are_escaped() {
        assert_eq!(token("a/b~c"), "a~1b~0c");
    }
}
