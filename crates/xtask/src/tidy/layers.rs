//! Which crate may import which: the table of ARCHITECTURE.md as data, held against the manifests.
//!
//! Invariants: imports point to a lower layer only, nobody imports sideways, and a crate without a row is an error, so
//! that a new crate is placed on purpose.

use crate::tidy::Finding;
use crate::workspace::{Crate, Import, Need};

/// One crate's place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// 0 is the lowest.
    pub(crate) layer: u8,
    /// What it may import.
    pub(crate) imports: &'static [&'static str],
}

/// The table. Change it together with ARCHITECTURE.md, and say why in the change.
pub(crate) const ROWS: [Row; 17] = [
    Row { name: "model", layer: 0, imports: &[] },
    Row { name: "modbus", layer: 0, imports: &[] },
    Row { name: "kafka", layer: 0, imports: &[] },
    Row { name: "commitlog", layer: 0, imports: &[] },
    Row { name: "config", layer: 1, imports: &["model"] },
    Row { name: "stream", layer: 1, imports: &["model", "kafka"] },
    Row { name: "daemon", layer: 1, imports: &["model"] },
    // for tests, and in the binary because `streamforge sim` ships
    Row { name: "testkit", layer: 1, imports: &["model", "modbus"] },
    Row { name: "broker", layer: 2, imports: &["kafka", "commitlog", "config", "daemon", "model"] },
    Row { name: "adapters", layer: 2, imports: &["stream", "kafka", "config", "daemon", "model", "modbus"] },
    Row { name: "sinks", layer: 2, imports: &["stream", "kafka", "config", "daemon", "model"] },
    Row { name: "pipeline", layer: 2, imports: &["config", "model"] },
    Row { name: "gateway", layer: 3, imports: &["pipeline", "stream", "kafka", "config", "daemon", "model"] },
    Row {
        name: "streamforge",
        layer: 4,
        imports: &[
            "gateway",
            "adapters",
            "sinks",
            "broker",
            "pipeline",
            "testkit",
            "stream",
            "config",
            "daemon",
            "model",
            "modbus",
            "kafka",
            "commitlog",
        ],
    },
    // outside the product: measures it, and automates the repository
    Row { name: "bench", layer: 4, imports: &["adapters", "testkit", "stream", "model", "modbus", "kafka", "daemon"] },
    Row { name: "fuzz", layer: 4, imports: &["adapters", "commitlog", "config", "kafka", "modbus", "model"] },
    Row { name: "xtask", layer: 4, imports: &[] },
];

/// What any crate may import for its tests: devices, a real broker, and the context a broker is started with.
const FOR_TESTS: [&str; 3] = ["testkit", "broker", "daemon"];

/// Holds the manifests against the table.
pub(crate) fn check(crates: &[Crate]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for crate_ in crates {
        let Some(row) = ROWS.iter().find(|row| row.name == crate_.name) else {
            let remedy = "give it a row in crates/xtask/src/tidy/layers.rs and a paragraph in ARCHITECTURE.md";
            findings.push(Finding::new(&crate_.manifest, 1, format!("crate {} has no layer", crate_.name), remedy));
            continue;
        };
        for import in crate_.imports.iter().filter(|import| !allowed(row, import)) {
            let what = format!("{} (layer {}) must not import {}", row.name, row.layer, import.name);
            let remedy = match row.imports {
                [] => "it may import none of our crates; see ARCHITECTURE.md".to_owned(),
                imports => format!("it may import {}; see ARCHITECTURE.md", imports.join(", ")),
            };
            findings.push(Finding::new(&crate_.manifest, 1, what, remedy));
        }
    }
    findings
}

fn allowed(row: &Row, import: &Import) -> bool {
    row.imports.contains(&import.name.as_str())
        || (import.need == Need::Dev && FOR_TESTS.contains(&import.name.as_str()) && row.name != "xtask")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crate_with(name: &str, import: &str, need: Need) -> Vec<Crate> {
        let imports = vec![Import { name: import.to_owned(), need }];
        vec![Crate { name: name.to_owned(), manifest: format!("crates/{name}/Cargo.toml"), imports }]
    }

    #[test]
    fn the_table_itself_points_downwards_and_names_known_crates() {
        for row in ROWS {
            for import in row.imports {
                let lower = ROWS.iter().find(|other| other.name == *import).unwrap();
                assert!(lower.layer < row.layer, "{} -> {import}", row.name);
            }
        }
    }

    #[test]
    fn an_upward_or_sideways_import_is_a_finding() {
        for (name, import) in
            [("model", "stream"), ("gateway", "adapters"), ("gateway", "broker"), ("adapters", "sinks")]
        {
            let findings = check(&crate_with(name, import, Need::Normal));
            assert_eq!(findings.len(), 1, "{name} -> {import}");
            assert!(findings[0].what.contains("must not import"), "{}", findings[0]);
        }
        assert!(check(&crate_with("gateway", "pipeline", Need::Normal)).is_empty());
    }

    #[test]
    fn the_testkit_is_for_tests() {
        assert!(check(&crate_with("adapters", "testkit", Need::Dev)).is_empty());
        assert!(check(&crate_with("sinks", "broker", Need::Dev)).is_empty());
        assert_eq!(check(&crate_with("adapters", "testkit", Need::Normal)).len(), 1);
        assert_eq!(check(&crate_with("adapters", "testkit", Need::Build)).len(), 1);
        assert_eq!(check(&crate_with("adapters", "gateway", Need::Dev)).len(), 1);
    }

    #[test]
    fn a_new_crate_needs_a_place() {
        let findings = check(&crate_with("opcua", "model", Need::Normal));
        assert_eq!(findings.len(), 1);
        assert!(findings[0].what.contains("has no layer"), "{}", findings[0]);
    }
}
