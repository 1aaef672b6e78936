//! `check` and `catalog`: the document's problems, and what this binary can run.

use std::path::Path;

use config::{Catalog, Kind};
use serde_json::json;

use crate::exit::{BAD_CONFIG, Failure, USAGE};
use crate::say;

/// All component types of this binary.
pub(crate) fn catalog() -> Catalog {
    Catalog::new(adapters::catalog::specs().into_iter().chain(sinks::catalog::SPECS))
}

/// Prints every problem of a document, or what it would run.
pub(crate) fn check(file: &Path) -> Result<(), Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::new(USAGE, format!("{} cannot be read: {error}", file.display())))?;
    match config::parse(&text, &catalog()) {
        Ok(document) => {
            let count = |kind| document.components.iter().filter(|component| component.kind == kind).count();
            say::line(&format!(
                "{}: good. Gateway {}, {} adapters, {} sinks, {} validation rules.",
                file.display(),
                document.gateway_id,
                count(Kind::Adapter),
                count(Kind::Sink),
                document.validation.rules.len()
            ));
            Ok(())
        }
        Err(problems) => {
            for problem in &problems {
                say::line(&problem.to_string());
            }
            let plural = if problems.len() == 1 { "problem" } else { "problems" };
            Err(Failure::new(BAD_CONFIG, format!("{}: {} {plural}", file.display(), problems.len())))
        }
    }
}

/// Prints the catalog as JSON.
pub(crate) fn catalog_json() -> Result<(), Failure> {
    let catalog = catalog();
    let entry = |spec: &config::Spec| json!({ "kind": spec.kind.as_str(), "type": spec.type_name, "summary": spec.summary, "schema": (spec.schema)() });
    let body: Vec<_> = catalog.specs().iter().map(entry).collect();
    say::line(&serde_json::to_string_pretty(&body).map_err(|error| Failure::from_error(crate::exit::BUG, &error))?);
    Ok(())
}
