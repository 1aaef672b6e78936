//! The page of the metrics, read from the places that register them.
//!
//! A metric is a string that begins with `sf_` and is followed by another string, its description; that holds for every
//! form of registration. One that is described differently in one process is an error: two texts would disagree.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use anyhow::bail;

use crate::r#gen::MARK;
use crate::tidy::lines;
use crate::workspace::Source;

/// Processes and the folders whose metrics they show.
const PROCESSES: [(&str, &str); 5] = [
    ("Clock (broker, adapters, gateway)", "crates/daemon/src/clock/"),
    ("Broker", "crates/broker/src/"),
    ("Adapters", "crates/adapters/src/"),
    ("Sinks", "crates/sinks/src/"),
    ("Gateway", "crates/gateway/src/"),
];

/// The page.
pub(crate) fn page(sources: &[Source]) -> anyhow::Result<String> {
    let mut parts = vec![format!(
        "{MARK}\n\n# Metrics\n\n\
        Every process answers `GET /metrics` on its admin address in OpenMetrics text. All figures carry the label \
        `component`. Counters are shown with `_total` behind their name, histograms as `_bucket`, `_sum` and `_count`.\n"
    )];
    for (process, folder) in PROCESSES {
        let mut metrics = BTreeMap::new();
        for source in sources.iter().filter(|source| source.path.starts_with(folder)) {
            collect(source, &mut metrics)?;
        }
        if metrics.is_empty() {
            bail!("no metric is registered in {folder}");
        }
        let rows: Vec<String> = metrics.iter().map(|(name, help)| format!("| `{name}` | {help} |\n")).collect();
        let rows = rows.concat();
        parts.push(format!("## {process}\n\n| Metric | Meaning |\n|---|---|\n{rows}"));
    }
    Ok(parts.join("\n"))
}

/// Adds the metrics of a file.
fn collect(source: &Source, metrics: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    let code: Vec<&str> = lines::shipped(&source.text).into_iter().map(|(_, line)| lines::code(line).trim()).collect();
    // the odd parts stand between quotes; those that begin no string are taken out first
    let code = code.join(" ").replace("\\\"", "").replace("'\"'", "");
    let parts: Vec<&str> = code.split('"').collect();
    for at in (1..parts.len()).step_by(2).filter(|at| parts[*at].starts_with("sf_")) {
        let (name, between) = (parts[at], parts.get(at + 1).unwrap_or(&"").trim());
        let Some(help) = parts.get(at + 2).filter(|_| between == ",") else { continue };
        match metrics.entry(name.to_owned()) {
            Entry::Occupied(there) if there.get() != help => {
                bail!("{}: {name} is described as {help:?} and as {:?}", source.path, there.get());
            }
            Entry::Occupied(_) => {}
            Entry::Vacant(place) => {
                place.insert((*help).to_owned());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(text: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let mut metrics = BTreeMap::new();
        collect(&Source { path: "a.rs".to_owned(), text: text.to_owned() }, &mut metrics)?;
        Ok(metrics)
    }

    #[test]
    fn every_form_of_registration_is_found() {
        let text = "let a = r.register(\"sf_a\", \"All of it\", Counter::default());\n\
            let b = r.register(\n    \"sf_b\", // why\n    \"Part of it\",\n);\n\
            let thread = \"sf_c\";\nlet other = \"text\";\n#[cfg(test)]\nmod tests {\n    \"sf_d\", \"Not shipped\"\n}\n";
        let found = metrics(text).unwrap();
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [("sf_a".to_owned(), "All of it".to_owned()), ("sf_b".to_owned(), "Part of it".to_owned()),]
        );
    }

    #[test]
    fn two_texts_for_one_metric_are_refused() {
        assert!(metrics("f(\"sf_a\", \"One\"); f(\"sf_a\", \"One\");").is_ok());
        assert!(metrics("f(\"sf_a\", \"One\"); f(\"sf_a\", \"Two\");").is_err());
    }
}
