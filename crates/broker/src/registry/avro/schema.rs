//! An Avro schema as a table of types, read from JSON by the rules of the specification.
//!
//! Names are resolved while reading, through the schemas referred to as well, so that nothing behind this file deals
//! with names and namespaces. Types point at each other by their place in the table: recursion needs no care.
//! Invariant: what [`Reader::read`] accepted is a valid schema, defaults included (`defaults.rs`).

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::defaults;
use crate::limits::{AVRO_UNION_BRANCHES_MAX, REGISTRY_NAME_BYTES_MAX};

/// Place of a type in the table.
pub(super) type Id = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Primitive {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
}

impl Primitive {
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "null" => Self::Null,
            "boolean" => Self::Boolean,
            "int" => Self::Int,
            "long" => Self::Long,
            "float" => Self::Float,
            "double" => Self::Double,
            "bytes" => Self::Bytes,
            "string" => Self::String,
            _ => return None,
        })
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    Primitive(Primitive),
    Record(Vec<Field>),
    Enum { symbols: Vec<String>, default: Option<String> },
    Fixed(u64),
    Array(Id),
    Map(Id),
    Union(Vec<Id>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    pub(super) of: Id,
    /// A default of null is a default; none is `None`.
    pub(super) default: Option<Value>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Type {
    pub(super) shape: Shape,
    /// Full name of a record, enum or fixed.
    pub(super) name: Option<String>,
    /// Full names that it had before.
    pub(super) aliases: Vec<String>,
    /// Logical type with its parameters.
    pub(super) logical: Option<String>,
}

/// A valid schema.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    types: Vec<Type>,
    pub(super) root: Id,
}

impl Schema {
    pub(super) fn at(&self, id: Id) -> &Type {
        &self.types[id]
    }
}

/// Reads schemas one after the other; later ones may use the names of earlier ones.
#[derive(Debug, Default)]
pub(super) struct Reader {
    types: Vec<Type>,
    names: HashMap<String, Id>,
    /// Primitive types without a logical type are kept once.
    primitives: HashMap<&'static str, Id>,
}

impl Reader {
    /// Reads one schema and checks its defaults; returns its place. An error says what is wrong and where.
    pub(super) fn read(&mut self, value: &Value) -> Result<Id, String> {
        let begin = self.types.len();
        let root = self.read_type(value, "")?;
        let mut check = defaults::Check::new(&self.types);
        for named in &self.types[begin..] {
            let Shape::Record(fields) = &named.shape else { continue };
            for field in fields {
                let Some(default) = &field.default else { continue };
                check.check(field.of, default).map_err(|reason| {
                    let record = named.name.as_deref().unwrap_or_default();
                    format!("the default of field {} of {record} is not valid: {reason}", field.name)
                })?;
            }
        }
        Ok(root)
    }

    pub(super) fn finish(self, root: Id) -> Schema {
        Schema { types: self.types, root }
    }

    fn read_type(&mut self, value: &Value, space: &str) -> Result<Id, String> {
        match value {
            Value::String(name) => self.named(name, space),
            Value::Array(branches) => self.union(branches, space),
            Value::Object(object) => match object.get("type") {
                Some(Value::String(kind)) => self.complex(kind, object, space),
                // {"type": {...}} is what is inside, unless it says more about it
                Some(inner @ (Value::Object(_) | Value::Array(_))) => self.read_type(inner, space),
                Some(_) => Err("\"type\" is neither a name nor a schema".to_owned()),
                None => Err("there is no \"type\"".to_owned()),
            },
            other => Err(format!("{other} is not a schema")),
        }
    }

    /// A type by its name: a primitive, or one defined before.
    fn named(&mut self, name: &str, space: &str) -> Result<Id, String> {
        if let Some(primitive) = Primitive::parse(name) {
            return Ok(self.primitive(primitive, name));
        }
        let found = self.names.get(&qualified(name, space)).or_else(|| self.names.get(name));
        found.copied().ok_or_else(|| format!("there is no type {name:?}"))
    }

    fn primitive(&mut self, primitive: Primitive, name: &str) -> Id {
        const NAMES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];
        let key = NAMES.into_iter().find(|known| *known == name).unwrap_or_default();
        if let Some(id) = self.primitives.get(key) {
            return *id;
        }
        let id = self.add(Shape::Primitive(primitive), None);
        self.primitives.insert(key, id);
        id
    }

    fn add(&mut self, shape: Shape, logical: Option<String>) -> Id {
        self.types.push(Type { shape, name: None, aliases: Vec::new(), logical });
        self.types.len() - 1
    }

    fn union(&mut self, branches: &[Value], space: &str) -> Result<Id, String> {
        if branches.len() > AVRO_UNION_BRANCHES_MAX {
            return Err(format!("a union has more than {AVRO_UNION_BRANCHES_MAX} branches"));
        }
        let mut ids = Vec::with_capacity(branches.len());
        let mut seen = HashSet::new();
        for branch in branches {
            let id = self.read_type(branch, space).map_err(|reason| format!("branch {}: {reason}", ids.len()))?;
            let kind = match &self.types[id] {
                Type { shape: Shape::Union(_), .. } => return Err("a union stands directly in a union".to_owned()),
                Type { shape: Shape::Array(_), .. } => "array".to_owned(),
                Type { shape: Shape::Map(_), .. } => "map".to_owned(),
                Type { shape: Shape::Primitive(primitive), .. } => format!("{primitive:?}").to_lowercase(),
                Type { name, .. } => name.clone().unwrap_or_default(),
            };
            if !seen.insert(kind.clone()) {
                return Err(format!("a union has two branches of {kind}"));
            }
            ids.push(id);
        }
        Ok(self.add(Shape::Union(ids), None))
    }

    fn complex(&mut self, kind: &str, object: &Map<String, Value>, space: &str) -> Result<Id, String> {
        match kind {
            "record" | "error" | "enum" | "fixed" => self.definition(kind, object, space),
            "array" | "map" => {
                let key = if kind == "array" { "items" } else { "values" };
                let inner = object.get(key).ok_or_else(|| format!("a type {kind} has no \"{key}\""))?;
                let inner = self.read_type(inner, space).map_err(|reason| format!("{key}: {reason}"))?;
                let shape = if kind == "array" { Shape::Array(inner) } else { Shape::Map(inner) };
                Ok(self.add(shape, logical(object)))
            }
            name => match (Primitive::parse(name), logical(object)) {
                (Some(primitive), Some(logical)) => Ok(self.add(Shape::Primitive(primitive), Some(logical))),
                (_, _) => self.named(name, space),
            },
        }
    }

    fn definition(&mut self, kind: &str, object: &Map<String, Value>, space: &str) -> Result<Id, String> {
        let (name, space) = full_name(object, space)?;
        if self.names.contains_key(&name) {
            return Err(format!("{name} is defined twice"));
        }
        let aliases = texts(object, "aliases")?.into_iter().map(|alias| qualified(&alias, &space)).collect();
        // the name is known inside of the definition, the shape follows
        self.types.push(Type {
            shape: Shape::Record(Vec::new()),
            name: Some(name.clone()),
            aliases,
            logical: logical(object),
        });
        let id = self.types.len() - 1;
        self.names.insert(name.clone(), id);
        let shape = match kind {
            "enum" => symbols(object),
            "fixed" => match object.get("size").and_then(Value::as_u64) {
                Some(size) => Ok(Shape::Fixed(size)),
                None => Err("a type fixed has no \"size\"".to_owned()),
            },
            _ => self.fields(object, &space).map(Shape::Record),
        };
        self.types[id].shape = shape.map_err(|reason| format!("{name}: {reason}"))?;
        Ok(id)
    }

    fn fields(&mut self, object: &Map<String, Value>, space: &str) -> Result<Vec<Field>, String> {
        let Some(Value::Array(list)) = object.get("fields") else { return Err("there are no \"fields\"".to_owned()) };
        let mut fields = Vec::with_capacity(list.len());
        let mut seen = HashSet::new();
        for field in list {
            let Value::Object(field) = field else { return Err(format!("{field} is not a field")) };
            let Some(Value::String(name)) = field.get("name") else { return Err("a field has no name".to_owned()) };
            check_part(name)?;
            if !seen.insert(name.as_str()) {
                return Err(format!("field {name} is there twice"));
            }
            let of = field.get("type").ok_or_else(|| format!("field {name} has no type"))?;
            let of = self.read_type(of, space).map_err(|reason| format!("field {name}: {reason}"))?;
            let aliases = texts(field, "aliases").map_err(|reason| format!("field {name}: {reason}"))?;
            fields.push(Field { name: name.clone(), aliases, of, default: field.get("default").cloned() });
        }
        Ok(fields)
    }
}

fn symbols(object: &Map<String, Value>) -> Result<Shape, String> {
    if !object.contains_key("symbols") {
        return Err("a type enum has no \"symbols\"".to_owned());
    }
    let symbols = texts(object, "symbols")?;
    let mut seen = HashSet::new();
    for symbol in &symbols {
        check_part(symbol)?;
        if !seen.insert(symbol.as_str()) {
            return Err(format!("symbol {symbol} is there twice"));
        }
    }
    let default = match object.get("default") {
        None => None,
        Some(Value::String(default)) if seen.contains(default.as_str()) => Some(default.clone()),
        Some(other) => return Err(format!("the default {other} is not one of the symbols")),
    };
    Ok(Shape::Enum { symbols, default })
}

fn texts(object: &Map<String, Value>, key: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("\"{key}\" is not a list of texts");
    match object.get(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => {
            list.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

/// The logical type with the parameters that change the meaning of its values.
fn logical(object: &Map<String, Value>) -> Option<String> {
    let kind = object.get("logicalType")?.as_str()?;
    if kind != "decimal" {
        return Some(kind.to_owned());
    }
    let number = |name: &str| object.get(name).and_then(Value::as_u64).unwrap_or(0);
    Some(format!("decimal({}, {})", number("precision"), number("scale")))
}

/// A name in the namespace it stands in; names with dots are full already.
pub(super) fn qualified(name: &str, space: &str) -> String {
    if name.contains('.') || space.is_empty() { name.to_owned() } else { format!("{space}.{name}") }
}

/// The full name of a definition, and the namespace in force inside of it.
pub(super) fn full_name(object: &Map<String, Value>, space: &str) -> Result<(String, String), String> {
    let Some(Value::String(name)) = object.get("name") else { return Err("a named type has no name".to_owned()) };
    let space = match (name.rsplit_once('.'), object.get("namespace")) {
        (Some((space, _)), _) => space,
        (None, Some(Value::String(space))) => space.as_str(),
        (None, Some(other)) => return Err(format!("the namespace {other} is not a text")),
        (None, None) => space,
    };
    let full = qualified(name, space);
    full.split('.').try_for_each(check_part)?;
    if Primitive::parse(&full).is_some() {
        return Err(format!("{full} is the name of a primitive type"));
    }
    Ok((full, space.to_owned()))
}

/// One part of a name: letters, digits and underscores, no digit in front.
fn check_part(part: &str) -> Result<(), String> {
    let legal =
        |(index, byte): (usize, u8)| byte == b'_' || byte.is_ascii_alphabetic() || (index > 0 && byte.is_ascii_digit());
    if part.is_empty() || !part.bytes().enumerate().all(legal) {
        return Err(format!("{:?} is not a name", part.chars().take(80).collect::<String>()));
    }
    if part.len() > REGISTRY_NAME_BYTES_MAX {
        return Err(format!("a name is longer than {REGISTRY_NAME_BYTES_MAX} bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Schema, String> {
        let mut reader = Reader::default();
        let root = reader.read(&serde_json::from_str(text).unwrap())?;
        Ok(reader.finish(root))
    }

    #[test]
    fn names_are_resolved_in_their_namespace() {
        let schema = read(
            r#"{"type":"record","name":"Tree","namespace":"n","fields":[
                {"name":"left","type":["null","Tree"]},{"name":"right","type":["null","n.Tree"]},
                {"name":"leaf","type":{"type":"enum","name":"m.Leaf","symbols":["A"]}},
                {"name":"again","type":"m.Leaf"}]}"#,
        )
        .unwrap();
        let Shape::Record(fields) = &schema.at(schema.root).shape else { panic!() };
        assert_eq!(schema.at(schema.root).name.as_deref(), Some("n.Tree"));
        let Shape::Union(branches) = &schema.at(fields[0].of).shape else { panic!() };
        assert_eq!(branches[1], schema.root);
        assert_eq!(fields[2].of, fields[3].of);
    }

    // STR-20: what is not a schema is refused, with the place
    #[test]
    fn malformed_schemas_say_what_and_where() {
        for (text, wanted) in [
            (r#""strin""#, "no type"),
            ("17", "not a schema"),
            (r#"{"type":"record","name":"R"}"#, "no \"fields\""),
            (r#"{"type":"record","fields":[]}"#, "no name"),
            (r#"{"type":"record","name":"1R","fields":[]}"#, "not a name"),
            (r#"{"type":"record","name":"R","namespace":"a..b","fields":[]}"#, "not a name"),
            (r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#, "twice"),
            (r#"{"type":"record","name":"R","fields":[{"name":"a","type":"Missing"}]}"#, "field a: there is no type"),
            (r#"{"type":"record","name":"R","fields":[{"name":"a"}]}"#, "has no type"),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":
                {"type":"fixed","name":"R","size":1}}]}"#,
                "R is defined twice",
            ),
            (r#"{"type":"enum","name":"E","symbols":["A","A"]}"#, "twice"),
            (r#"{"type":"enum","name":"E","symbols":["A-B"]}"#, "not a name"),
            (r#"{"type":"enum","name":"E","symbols":["A"],"default":"B"}"#, "not one of the symbols"),
            (r#"{"type":"fixed","name":"F","size":-1}"#, "no \"size\""),
            (r#"{"type":"fixed","name":"int","size":1}"#, "primitive"),
            (r#"{"type":"array"}"#, "no \"items\""),
            (r#"["int","int"]"#, "two branches of int"),
            (r#"[{"type":"long","logicalType":"date"},"long"]"#, "two branches of long"),
            (r#"["int",["null"]]"#, "directly in a union"),
            (r#"{"type":7}"#, "neither"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
