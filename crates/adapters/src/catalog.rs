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

    // The three points a table begins with are good ones, and what is exported is what is read back.
    #[test]
    fn tables_of_points_come_back_as_they_were() {
        let settings = |type_name: &str| {
            let connection = match type_name {
                "modbus_tcp" => serde_json::json!({"host": "10.0.0.5"}),
                "modbus_rtu" => serde_json::json!({"serial": {"port": "/dev/ttyUSB0", "baud": 9600}}),
                "mqtt" => serde_json::json!({"url": "mqtt://10.0.0.5", "allow_insecure": true}),
                _ => serde_json::json!({"url": "opc.tcp://10.0.0.5:4840"}),
            };
            let mut settings = connection.as_object().unwrap().clone();
            settings.insert("adapter_id".to_owned(), "a".into());
            settings.insert("adapter_type".to_owned(), type_name.into());
            serde_json::Value::Object(settings)
        };
        let mut seen = Vec::new();
        for (spec, table) in SPECS.iter().filter_map(|spec| Some((spec, spec.table?))) {
            seen.push(spec.type_name);
            let columns = table.columns(&(spec.schema)());
            let read = |text: &str, points: &[serde_json::Value]| {
                let parsed = config::table::parse(text, &columns).unwrap();
                config::table::merge(&table, points, &parsed, true).unwrap()
            };
            let examples: Vec<serde_json::Value> = serde_json::from_str(table.examples).unwrap();
            let began = read(&table.example(&columns), &[]);
            assert_eq!((&began.points, began.changes.len()), (&examples, 3), "{}", spec.type_name);
            let problems = (spec.validate)(&table.with_points(&settings(spec.type_name), began.points), "");
            assert!(problems.is_empty(), "{}: {problems:?}", spec.type_name);
            let again = read(&config::table::export(&table, &columns, &examples), &examples);
            assert_eq!((again.points, again.changes), (examples, vec![]), "{}", spec.type_name);
        }
        assert_eq!(seen, ["modbus_tcp", "modbus_rtu", "mqtt", "opcua"]);
    }
}
