//! Avro: is a schema valid, is it the same as another, can it read what another wrote.
//!
//! `schema.rs` reads JSON into a table of types, `defaults.rs` checks the defaults in it, `compare.rs` holds two tables
//! against each other, `canonical.rs` writes the one text that equal schemas share.
//! Why not the Avro library: its checker follows no references, takes partial matches and changed units for compatible,
//! and neither it nor its parser says where something is wrong. Tests hold ours against it.

mod canonical;
mod compare;
mod defaults;
mod schema;

use serde_json::Value;

use super::json;
use super::schema::Difference;

/// A valid schema with everything it refers to.
#[derive(Debug, Clone)]
pub(super) struct Avro(schema::Schema);

/// Reads a schema that may use the names of the schemas in `references`, innermost first.
pub(super) fn parse(value: &Value, references: &[&str]) -> Result<Avro, String> {
    let mut reader = schema::Reader::default();
    for text in references {
        reader.read(&json::parse(text)?).map_err(|reason| format!("in a schema referred to: {reason}"))?;
    }
    let root = reader.read(value)?;
    Ok(Avro(reader.finish(root)))
}

/// Equal for texts that differ in white space, the order of attributes and the spelling of names only.
pub(super) fn canonical(value: &Value) -> String {
    canonical::canonical(value)
}

/// What of the writer's values the reader cannot read; empty when it can read everything.
pub(super) fn differences(writer: &Avro, reader: &Avro) -> Vec<Difference> {
    compare::differences(&writer.0, &reader.0)
}

#[cfg(test)]
mod tests;
