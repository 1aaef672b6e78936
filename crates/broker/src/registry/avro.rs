//! Judging Avro schemas: are they valid, are they the same, can one read what the other wrote.

use apache_avro::Schema;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use serde_json::Value;

use super::logical_types;

/// A valid schema in the forms that are needed.
#[derive(Debug, Clone)]
pub(super) struct Parsed {
    /// The text as it is stored and served: as registered, without the white space.
    pub(super) text: String,
    /// Equal for texts that differ in white space and the order of attributes only.
    pub(super) canonical: String,
    schema: Schema,
    /// Schemas that this one refers to by name.
    references: Vec<Schema>,
    json: Value,
    reference_json: Vec<Value>,
}

/// Parses a schema together with the texts of the schemas it refers to, innermost first.
pub(super) fn parse(text: &str, references: &[String]) -> Result<Parsed, String> {
    let json: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let reference_json: Result<Vec<Value>, _> = references.iter().map(|text| serde_json::from_str(text)).collect();
    let reference_json = reference_json.map_err(|error| error.to_string())?;
    let (schema, resolved) = if references.is_empty() {
        (Schema::parse_str(text).map_err(|error| error.to_string())?, Vec::new())
    } else {
        Schema::parse_str_with_list(text, references).map_err(|error| error.to_string())?
    };
    let canonical = serde_json::to_string(&json).map_err(|error| error.to_string())?;
    Ok(Parsed { text: compact(text), canonical, schema, references: resolved, json, reference_json })
}

/// Can `reader` read everything that `writer` wrote? The reasons when it cannot.
pub(super) fn can_read(writer: &Parsed, reader: &Parsed) -> Vec<String> {
    let mut reasons = Vec::new();
    if writer.references.is_empty() && reader.references.is_empty() {
        match SchemaCompatibility::can_read(&writer.schema, &reader.schema) {
            Ok(Compatibility::Full) => {}
            Ok(Compatibility::Partial) => reasons.push("some values of the writer cannot be read".to_owned()),
            Err(error) => reasons.push(error.to_string()),
        }
    } else if writer.canonical != reader.canonical || writer.reference_json != reader.reference_json {
        // the checker follows no references; what it cannot judge is not called compatible
        reasons.push("schemas with references are compatible only when they are the same".to_owned());
    }
    reasons
        .extend(logical_types::changes((&writer.json, &writer.reference_json), (&reader.json, &reader.reference_json)));
    reasons
}

/// Takes the white space between the tokens of valid JSON out.
fn compact(text: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(writer: &str, reader: &str) -> bool {
        let (writer, reader) = (parse(writer, &[]).unwrap(), parse(reader, &[]).unwrap());
        can_read(&writer, &reader).is_empty()
    }

    fn record(fields: &str) -> String {
        format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#)
    }

    #[test]
    fn white_space_goes_but_not_inside_of_texts() {
        let parsed =
            parse("{ \"type\" : \"record\",\n \"name\":\"R\", \"doc\":\"a  \\\" b\", \"fields\":[] }", &[]).unwrap();
        assert_eq!(parsed.text, r#"{"type":"record","name":"R","doc":"a  \" b","fields":[]}"#);
    }

    // STR-21
    #[test]
    fn a_field_with_a_default_may_come_and_one_without_may_not() {
        let old = record(r#"{"name":"a","type":"long"}"#);
        assert!(reads(&old, &record(r#"{"name":"a","type":"long"},{"name":"b","type":"long","default":0}"#)));
        assert!(!reads(&old, &record(r#"{"name":"a","type":"long"},{"name":"b","type":"long"}"#)));
        assert!(reads(&old, &record(r#"{"name":"a","type":"double"}"#)));
        assert!(!reads(&record(r#"{"name":"a","type":"double"}"#), &old));
    }

    // dependencies trap 16
    #[test]
    fn only_a_full_match_counts() {
        let symbols = |list: &str| format!(r#"{{"type":"enum","name":"E","symbols":[{list}]}}"#);
        assert!(!reads(&symbols(r#""A","B""#), &symbols(r#""A""#)));
        assert!(!reads(r#"["null","double"]"#, r#""double""#));
        assert!(reads(r#""double""#, r#"["null","double"]"#));
    }

    // dependencies trap 17
    #[test]
    fn a_changed_unit_of_time_is_incompatible() {
        let time = |kind: &str| record(&format!(r#"{{"name":"t","type":{{"type":"long","logicalType":"{kind}"}}}}"#));
        assert!(!reads(&time("timestamp-millis"), &time("timestamp-micros")));
        assert!(reads(&time("timestamp-micros"), &time("timestamp-micros")));
        assert!(!reads(&record(r#"{"name":"t","type":"long"}"#), &time("timestamp-micros")));
    }

    #[test]
    fn references_are_resolved() {
        let inner = r#"{"type":"record","name":"Inner","namespace":"sf","fields":[]}"#.to_owned();
        let outer = r#"{"type":"record","name":"Outer","fields":[{"name":"i","type":"sf.Inner"}]}"#;
        assert!(parse(outer, &[]).is_err());
        assert!(parse(outer, &[inner]).is_ok());
    }
}
