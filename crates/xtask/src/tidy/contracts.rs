//! The contracts folder: every schema has an encoded sample, every sample a schema.

use crate::tidy::Finding;

/// Compares the file names of `contracts/avro` and `contracts/golden`.
pub(crate) fn check(schemas: &[String], samples: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for schema in schemas {
        let Some(name) = schema.strip_suffix(".avsc") else {
            let remedy = "this folder holds <record>.v<number>.avsc only";
            findings.push(Finding::new(&format!("contracts/avro/{schema}"), 1, "is not a schema", remedy));
            continue;
        };
        if !samples.contains(&format!("{name}.bin")) {
            let remedy = format!("write contracts/golden/{name}.bin with crates/stream/tests/it/golden.rs");
            findings.push(Finding::new(&format!("contracts/avro/{schema}"), 1, "has no golden sample", remedy));
        }
    }
    for sample in samples {
        let Some(name) = sample.strip_suffix(".bin") else { continue };
        if !schemas.contains(&format!("{name}.avsc")) {
            let remedy = "a sample stays as long as its schema does, and both keep their names";
            findings.push(Finding::new(&format!("contracts/golden/{sample}"), 1, "belongs to no schema", remedy));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_schema_without_a_sample_and_a_sample_without_a_schema() {
        let findings = check(&names(&["a.v1.avsc", "b.v1.avsc"]), &names(&["a.v1.bin", "c.v1.bin"]));
        let what: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(what.len(), 2, "{what:?}");
        assert!(what[0].starts_with("contracts/avro/b.v1.avsc:1: has no golden sample"));
        assert!(what[1].starts_with("contracts/golden/c.v1.bin:1: belongs to no schema"));
        assert!(check(&names(&["a.v1.avsc"]), &names(&["a.v1.bin"])).is_empty());
    }
}
