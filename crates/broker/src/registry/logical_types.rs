//! Finds logical types that changed between two schemas.
//!
//! Why: Avro resolves a long to a long, whatever it counts; milliseconds read as microseconds are wrong by a factor of
//! a thousand and nobody notices. So a logical type that differs, appears or disappears is incompatible here.
//! Both schemas are walked side by side, the way a reader resolves them: fields by name or the reader's aliases,
//! branches of unions by their type.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// A schema and those it refers to.
type Source<'a> = (&'a Value, &'a [Value]);

/// One sentence for each place where the logical type differs.
pub(super) fn changes<'a>(writer: (&'a Value, &'a Vec<Value>), reader: (&'a Value, &'a Vec<Value>)) -> Vec<String> {
    let (writer, reader): (Source<'a>, Source<'a>) = ((writer.0, writer.1), (reader.0, reader.1));
    let mut walk =
        Walk { writer_names: names(writer), reader_names: names(reader), seen: HashSet::new(), changes: Vec::new() };
    walk.compare((writer.0, ""), (reader.0, ""), "the schema");
    walk.changes
}

/// A part of a schema and the namespace it stands in.
type Node<'a> = (&'a Value, &'a str);

struct Walk<'a> {
    writer_names: HashMap<String, Node<'a>>,
    reader_names: HashMap<String, Node<'a>>,
    /// Named types compared already; schemas may be recursive.
    seen: HashSet<(String, String)>,
    changes: Vec<String>,
}

impl<'a> Walk<'a> {
    fn compare(&mut self, writer: Node<'a>, reader: Node<'a>, place: &str) {
        let writer = resolve(writer, &self.writer_names);
        let reader = resolve(reader, &self.reader_names);
        match (writer.0, reader.0) {
            (Value::Array(branches), _) => {
                for branch in branches {
                    self.compare((branch, writer.1), reader, place);
                }
            }
            (_, Value::Array(branches)) => {
                let kind = kind(resolve(writer, &self.writer_names));
                let same = branches.iter().map(|branch| resolve((branch, reader.1), &self.reader_names));
                let same: Vec<Node<'a>> = same.filter(|branch| self::kind(*branch) == kind).collect();
                if let Some(first) = same.first() {
                    self.compare(writer, *first, place);
                }
            }
            _ => self.compare_single(writer, reader, place),
        }
    }

    fn compare_single(&mut self, writer: Node<'a>, reader: Node<'a>, place: &str) {
        let (theirs, ours) = (logical(writer.0), logical(reader.0));
        // types that do not resolve at all are the checker's business
        if theirs != ours && kind(writer) == kind(reader) {
            let name = |kind: &Option<String>| kind.clone().unwrap_or_else(|| "none".to_owned());
            self.changes.push(format!("the logical type of {place} changed from {} to {}", name(&theirs), name(&ours)));
        }
        match (type_of(writer.0), type_of(reader.0)) {
            ("record" | "error", "record" | "error") => self.compare_fields(writer, reader),
            ("array", "array") => {
                self.compare(
                    (&writer.0["items"], writer.1),
                    (&reader.0["items"], reader.1),
                    &format!("items of {place}"),
                );
            }
            ("map", "map") => {
                self.compare(
                    (&writer.0["values"], writer.1),
                    (&reader.0["values"], reader.1),
                    &format!("values of {place}"),
                );
            }
            _ => {}
        }
    }

    fn compare_fields(&mut self, writer: Node<'a>, reader: Node<'a>) {
        let (written_name, written_space) = full_name(writer);
        let (read_name, read_space) = full_name(reader);
        if !self.seen.insert((written_name, read_name)) {
            return;
        }
        for field in reader.0["fields"].as_array().into_iter().flatten() {
            let name = field["name"].as_str().unwrap_or_default();
            let aliases = field["aliases"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let wanted: Vec<&str> = std::iter::once(name).chain(aliases).collect();
            let written = writer.0["fields"].as_array().into_iter().flatten();
            let named = |field: &&Value, wanted: &str| field["name"].as_str() == Some(wanted);
            let found = wanted.iter().find_map(|wanted| written.clone().find(|field| named(field, wanted)));
            if let Some(found) = found {
                self.compare((&found["type"], written_space), (&field["type"], read_space), &format!("field {name}"));
            }
        }
    }
}

/// Follows a name to its definition, and `{"type": {...}}` to what is inside.
fn resolve<'a>(node: Node<'a>, names: &HashMap<String, Node<'a>>) -> Node<'a> {
    match node.0 {
        Value::String(name) => names.get(&qualified(name, node.1)).or_else(|| names.get(name)).copied().unwrap_or(node),
        Value::Object(object) => match object.get("type") {
            Some(inner @ (Value::Object(_) | Value::Array(_))) if !object.contains_key("logicalType") => {
                resolve((inner, node.1), names)
            }
            Some(Value::String(name)) if !is_built_in(name) && !object.contains_key("logicalType") => {
                names.get(&qualified(name, node.1)).or_else(|| names.get(name)).copied().unwrap_or(node)
            }
            _ => node,
        },
        _ => node,
    }
}

fn is_built_in(name: &str) -> bool {
    matches!(name, "record" | "error" | "enum" | "fixed" | "array" | "map") || is_primitive(name)
}

fn is_primitive(name: &str) -> bool {
    matches!(name, "null" | "boolean" | "int" | "long" | "float" | "double" | "bytes" | "string")
}

fn qualified(name: &str, space: &str) -> String {
    if name.contains('.') || space.is_empty() { name.to_owned() } else { format!("{space}.{name}") }
}

fn type_of(value: &Value) -> &str {
    match value {
        Value::String(name) => name,
        Value::Object(object) => object.get("type").and_then(Value::as_str).unwrap_or_default(),
        _ => "",
    }
}

/// What decides which branch of a union belongs to which: the type, and the name of a named one.
fn kind(node: Node<'_>) -> String {
    match type_of(node.0) {
        "record" | "error" | "enum" | "fixed" => full_name(node).0,
        other => other.to_owned(),
    }
}

/// The logical type with its parameters.
fn logical(value: &Value) -> Option<String> {
    let kind = value.get("logicalType")?.as_str()?;
    if kind != "decimal" {
        return Some(kind.to_owned());
    }
    let number = |name: &str| value.get(name).and_then(Value::as_u64).unwrap_or(0);
    Some(format!("decimal({}, {})", number("precision"), number("scale")))
}

/// The full name of a named type, and the namespace in force inside of it.
fn full_name(node: Node<'_>) -> (String, &str) {
    let name = node.0.get("name").and_then(Value::as_str).unwrap_or_default();
    if let Some((space, _)) = name.rsplit_once('.') {
        return (name.to_owned(), space);
    }
    let space = node.0.get("namespace").and_then(Value::as_str).unwrap_or(node.1);
    (qualified(name, space), space)
}

/// All named types of a schema and of those it refers to.
fn names(source: Source<'_>) -> HashMap<String, Node<'_>> {
    let mut names = HashMap::new();
    for value in source.1.iter().chain([source.0]) {
        collect((value, ""), &mut names);
    }
    names
}

fn collect<'a>(node: Node<'a>, names: &mut HashMap<String, Node<'a>>) {
    match node.0 {
        Value::Array(branches) => {
            for branch in branches {
                collect((branch, node.1), names);
            }
        }
        Value::Object(object) => match object.get("type") {
            Some(Value::String(kind)) => {
                let mut space = node.1;
                if matches!(kind.as_str(), "record" | "error" | "enum" | "fixed") {
                    let (name, inner) = full_name(node);
                    space = inner;
                    names.insert(name, node);
                }
                for field in object.get("fields").and_then(Value::as_array).into_iter().flatten() {
                    collect((&field["type"], space), names);
                }
                for inner in ["items", "values"].iter().filter_map(|key| object.get(*key)) {
                    collect((inner, space), names);
                }
            }
            Some(inner) => collect((inner, node.1), names),
            None => {}
        },
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(writer: &str, reader: &str) -> usize {
        let (writer, reader): (Value, Value) =
            (serde_json::from_str(writer).unwrap(), serde_json::from_str(reader).unwrap());
        changes((&writer, &Vec::new()), (&reader, &Vec::new())).len()
    }

    const MILLIS: &str = r#"{"type":"long","logicalType":"timestamp-millis"}"#;
    const MICROS: &str = r#"{"type":"long","logicalType":"timestamp-micros"}"#;

    fn field(kind: &str) -> String {
        format!(r#"{{"type":"record","name":"R","namespace":"n","fields":[{{"name":"t","type":{kind}}}]}}"#)
    }

    #[test]
    fn changes_are_found_wherever_they_hide() {
        let wraps: [fn(&str) -> String; 6] = [
            |kind| kind.to_owned(),
            |kind| format!(r#"["null",{kind}]"#),
            |kind| format!(r#"{{"type":"array","items":{kind}}}"#),
            |kind| format!(r#"{{"type":"map","values":["null",{kind}]}}"#),
            |kind| format!(r#"{{"type":"record","name":"I","fields":[{{"name":"x","type":{kind}}}]}}"#),
            |kind| format!(r#"{{"type":{kind}}}"#),
        ];
        for wrap in wraps {
            assert_eq!(changed(&field(&wrap(MILLIS)), &field(&wrap(MILLIS))), 0, "{}", wrap(MILLIS));
            assert_eq!(changed(&field(&wrap(MILLIS)), &field(&wrap(MICROS))), 1, "{}", wrap(MILLIS));
        }
        assert_eq!(changed(&field(MILLIS), &field(&format!(r#"["null",{MICROS}]"#))), 1);
        assert_eq!(changed(&field(&format!(r#"["null",{MICROS}]"#)), &field(MICROS)), 0);
    }

    #[test]
    fn names_are_followed_and_recursion_ends() {
        let tree = |kind: &str| {
            format!(
                r#"{{"type":"record","name":"Tree","namespace":"n","fields":[
                    {{"name":"at","type":{kind}}},{{"name":"left","type":["null","Tree"]}},
                    {{"name":"right","type":["null","n.Tree"]}}]}}"#
            )
        };
        assert_eq!(changed(&tree(MILLIS), &tree(MILLIS)), 0);
        assert_eq!(changed(&tree(MILLIS), &tree(MICROS)), 1);
    }

    #[test]
    fn decimals_compare_with_their_scale() {
        let decimal =
            |scale: u32| field(&format!(r#"{{"type":"bytes","logicalType":"decimal","precision":9,"scale":{scale}}}"#));
        assert_eq!(changed(&decimal(2), &decimal(2)), 0);
        assert_eq!(changed(&decimal(2), &decimal(3)), 1);
    }
}
