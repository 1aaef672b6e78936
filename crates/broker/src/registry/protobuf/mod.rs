//! Protobuf schemas, as text or as a serialised file descriptor in base64: are they valid, are they the same, can one
//! read what the other wrote.
//!
//! `text.rs` reads files by `tokens.rs`, `descriptor.rs` descriptors, both into the model that stands here, `compare.rs`
//! holds two of them against each other. Extensions, services and options are not looked into.

mod compare;
mod descriptor;
mod text;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};

use super::schema::Difference;

/// Numbers that fields may have, apart from a reserved range in the middle.
const NUMBER_MAX: u32 = 536_870_911;

/// A file with everything it refers to. Names are full and without a dot in front.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Protobuf {
    messages: BTreeMap<String, Message>,
    enums: BTreeSet<String>,
    /// Messages of the file itself, which its records may be.
    own: BTreeSet<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Message {
    fields: BTreeMap<u32, Field>,
}

#[derive(Debug, Clone, PartialEq)]
struct Field {
    name: String,
    label: Label,
    kind: Kind,
    /// The oneof it stands in.
    oneof: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    Single,
    Required,
    Repeated,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Scalar(Scalar),
    /// A message, enum or group.
    Named(String),
}

/// A scalar type; `wire` is equal for types that read each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scalar {
    name: &'static str,
    wire: Wire,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Integer,
    ZigZag,
    Fixed32,
    Fixed64,
    Float,
    Double,
    Text,
}

impl Scalar {
    /// In the order of their numbers in a descriptor, from 1; without names those that are no scalars.
    const ALL: [(&'static str, Wire); 18] = [
        ("double", Wire::Double),
        ("float", Wire::Float),
        ("int64", Wire::Integer),
        ("uint64", Wire::Integer),
        ("int32", Wire::Integer),
        ("fixed64", Wire::Fixed64),
        ("fixed32", Wire::Fixed32),
        ("bool", Wire::Integer),
        ("string", Wire::Text),
        ("", Wire::Text),
        ("", Wire::Text),
        ("bytes", Wire::Text),
        ("uint32", Wire::Integer),
        ("", Wire::Integer),
        ("sfixed32", Wire::Fixed32),
        ("sfixed64", Wire::Fixed64),
        ("sint32", Wire::ZigZag),
        ("sint64", Wire::ZigZag),
    ];

    fn parse(name: &str) -> Option<Self> {
        let (name, wire) = Self::ALL.into_iter().find(|(known, _)| !known.is_empty() && *known == name)?;
        Some(Self { name, wire })
    }

    fn at(number: u64) -> Option<Self> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        let (name, wire) = *Self::ALL.get(index).filter(|(name, _)| !name.is_empty())?;
        Some(Self { name, wire })
    }
}

impl Message {
    fn add(&mut self, number: u32, field: Field) -> Result<(), String> {
        let name = field.name.clone();
        if number == 0 || number > NUMBER_MAX || (19_000..20_000).contains(&number) {
            return Err(format!("{number} is not a number for field {name}"));
        }
        match self.fields.insert(number, field) {
            Some(other) => Err(format!("fields {} and {name} have the number {number}", other.name)),
            None => Ok(()),
        }
    }
}

/// One file as it was read: its types have full names, its fields name types as they are written.
#[derive(Debug, Default)]
struct File {
    package: String,
    imports: usize,
    messages: BTreeMap<String, Message>,
    enums: BTreeSet<String>,
}

impl File {
    fn add_message(&mut self, name: &str, message: Message) -> Result<(), String> {
        let mut names = BTreeSet::new();
        if let Some(field) = message.fields.values().find(|field| !names.insert(field.name.as_str())) {
            return Err(format!("{name}: field {} is there twice", field.name));
        }
        if self.enums.contains(name) || self.messages.insert(name.to_owned(), message).is_some() {
            return Err(format!("{name} is defined twice"));
        }
        Ok(())
    }

    fn add_enum(&mut self, name: &str) -> Result<(), String> {
        if self.messages.contains_key(name) || !self.enums.insert(name.to_owned()) {
            return Err(format!("{name} is defined twice"));
        }
        Ok(())
    }
}

fn qualified(space: &str, name: &str) -> String {
    if space.is_empty() { name.to_owned() } else { format!("{space}.{name}") }
}

/// Reads a schema that may use the types of those in `references`, innermost first.
pub(super) fn parse(text: &str, references: &[&str]) -> Result<Protobuf, String> {
    let mut all = Protobuf::default();
    for reference in references {
        all.add(read(reference).map_err(|reason| format!("in a schema referred to: {reason}"))?)?;
    }
    all.own.clear();
    all.add(read(text)?)?;
    Ok(all)
}

fn read(text: &str) -> Result<File, String> {
    match descriptor::bytes(text.trim()) {
        Some(bytes) => descriptor::read(&bytes),
        None => text::read(text),
    }
}

impl Protobuf {
    /// Adds a file, and makes the names in it full.
    fn add(&mut self, file: File) -> Result<(), String> {
        let File { imports, messages, enums, .. } = file;
        self.own.extend(messages.keys().cloned());
        self.enums.extend(enums);
        let names: Vec<String> = messages.keys().cloned().collect();
        self.messages.extend(messages);
        for name in names {
            let Some(mut message) = self.messages.remove(&name) else { continue };
            self.messages.insert(name.clone(), message.clone()); // it may name itself
            for field in message.fields.values_mut() {
                let Kind::Named(written) = &field.kind else { continue };
                let full = match self.resolve(written, &name) {
                    Some(full) => full,
                    // imported from where we do not see it, as what Protobuf itself brings along
                    None if imports > 0 => written.trim_start_matches('.').to_owned(),
                    None => return Err(format!("{name}: field {}: there is no type {written}", field.name)),
                };
                field.kind = Kind::Named(full);
            }
            self.messages.insert(name, message);
        }
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        self.messages.contains_key(name) || self.enums.contains(name)
    }

    /// The full name of a type that is named inside of `scope`: the innermost one counts.
    fn resolve(&self, written: &str, scope: &str) -> Option<String> {
        if let Some(full) = written.strip_prefix('.') {
            return self.has(full).then(|| full.to_owned());
        }
        let mut scope = scope;
        loop {
            let full = qualified(scope, written);
            if self.has(&full) {
                return Some(full);
            }
            if scope.is_empty() {
                return None;
            }
            scope = scope.rsplit_once('.').map_or("", |(outer, _)| outer);
        }
    }
}

/// Equal for texts that differ in comments and white space only.
pub(super) fn canonical(text: &str) -> Result<String, String> {
    let trimmed = text.trim();
    if is_descriptor(trimmed) { Ok(trimmed.to_owned()) } else { Ok(tokens::tokens(trimmed)?.join(" ")) }
}

/// Clients that have no text send the descriptor itself.
pub(super) fn is_descriptor(text: &str) -> bool {
    descriptor::bytes(text).is_some()
}

/// What of the writer's values the reader cannot read; empty when it can read everything.
pub(super) fn differences(writer: &Protobuf, reader: &Protobuf) -> Vec<Difference> {
    compare::differences(writer, reader)
}

#[cfg(test)]
mod tests;
