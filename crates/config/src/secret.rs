//! References to secrets. A document never holds a secret itself, so it can be shown, compared and kept in Git (G-10).

use serde_json::Value;

use crate::Problem;

/// `{"secret": "name"}`; the value is kept by the gateway and handed to the component at its start.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretRef(pub String);

impl SecretRef {
    /// Reads a reference that stands at `pointer`; anything else is a problem, above all a secret in clear.
    pub fn read(value: &Value, pointer: &str) -> Result<Self, Problem> {
        let name =
            value.as_object().filter(|map| map.len() == 1).and_then(|map| map.get("secret")).and_then(Value::as_str);
        match name {
            Some(name) if is_secret_name(name) => Ok(Self(name.to_owned())),
            Some(_) => Err(Problem::new(
                pointer,
                "secret_name",
                "the name of a secret has 1 to 64 characters of a-z, 0-9, - and _",
                "",
            )),
            None => Err(Problem::new(
                pointer,
                "secret_in_clear",
                "must be a reference to a secret",
                "write {\"secret\": \"some-name\"} and store the value with `streamforge ctl secret set some-name`",
            )),
        }
    }
}

/// True for names that are safe as file names.
pub fn is_secret_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

/// Every secret a component's settings refer to, however deep.
pub fn secrets_in(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) => match map.get("secret") {
            Some(Value::String(name)) if map.len() == 1 => vec![name.clone()],
            _ => map.values().flat_map(secrets_in).collect(),
        },
        Value::Array(list) => list.iter().flat_map(secrets_in).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_secret_in_clear_is_refused() {
        // G-10
        assert_eq!(SecretRef::read(&json!("hunter2"), "/p").unwrap_err().code, "secret_in_clear");
        assert_eq!(SecretRef::read(&json!({"secret": "../etc"}), "/p").unwrap_err().code, "secret_name");
        assert_eq!(SecretRef::read(&json!({"secret": "plc-7"}), "/p"), Ok(SecretRef("plc-7".to_owned())));
        assert_eq!(secrets_in(&json!({"a": [{"secret": "x"}], "b": {"c": {"secret": "y"}}})), ["x", "y"]);
    }
}
