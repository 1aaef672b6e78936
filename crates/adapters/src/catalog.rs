//! The adapter types of this binary: an explicit list, in the order people see it.

use config::Spec;

/// One line per adapter type.
pub(crate) const SPECS: [Spec; 5] =
    [crate::modbus::SPEC, crate::modbus::SERIAL, crate::mqtt::SPEC, crate::opcua::SPEC, crate::simulated::SPEC];

/// The list, for those who compose a catalog of several crates.
pub fn specs() -> [Spec; 5] {
    SPECS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_schema_describes_an_object() {
        for (place, spec) in SPECS.iter().enumerate() {
            assert!(SPECS[..place].iter().all(|other| other.type_name != spec.type_name));
            let schema = (spec.schema)();
            assert_eq!(schema["type"], "object", "{}", spec.type_name);
        }
    }

    // Every key the schema promises is one the settings are read for.
    #[test]
    fn schema_and_reader_know_the_same_keys() {
        for spec in SPECS {
            let schema = (spec.schema)();
            let keys = schema["properties"].as_object().unwrap().keys();
            let settings: serde_json::Map<_, _> = keys.map(|key| (key.clone(), serde_json::Value::Null)).collect();
            let problems = (spec.validate)(&serde_json::Value::Object(settings), "");
            let unknown: Vec<_> = problems.iter().filter(|problem| problem.code == "unknown_key").collect();
            assert!(unknown.is_empty(), "{}: {unknown:?}", spec.type_name);
        }
    }
}
