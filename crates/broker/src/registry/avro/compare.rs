//! Can one Avro schema read what another one wrote? The specification's rules of resolution, walked over both at once.
//!
//! Stricter than the specification in one point: a logical type that differs, appears or disappears is a difference.
//! Why: Avro resolves a long to a long, whatever it counts; milliseconds read as microseconds are wrong by a factor of a
//! thousand and nobody notices.
//! Only a full match counts: what may fail for some values of the writer is a difference.
//! Bounded: pairs of records are compared once, and the walk gives up (as different) after a number of steps.

use std::collections::{HashMap, HashSet};

use super::schema::{Field, Id, Primitive, Schema, Shape, Type};
use crate::limits::{COMPARE_DEPTH_MAX, COMPARE_STEPS_MAX, DIFFERENCES_MAX};
use crate::registry::schema::Difference;

/// What the reader cannot read; empty when it can read everything.
pub(super) fn differences(writer: &Schema, reader: &Schema) -> Vec<Difference> {
    let mut walk =
        Walk { writer, reader, assumed: HashSet::new(), trail: Vec::new(), steps: 0, depth: 0, found: Vec::new() };
    walk.compare(writer.root, reader.root, "");
    walk.found
}

struct Walk<'s> {
    writer: &'s Schema,
    reader: &'s Schema,
    /// Pairs of records that are readable as far as is known; schemas may be recursive.
    assumed: HashSet<(Id, Id)>,
    /// The same in order, so that what was built on a pair that turned out different can be forgotten.
    trail: Vec<(Id, Id)>,
    steps: usize,
    depth: usize,
    found: Vec<Difference>,
}

impl<'s> Walk<'s> {
    fn say(&mut self, kind: &'static str, place: &str, info: impl Into<String>) {
        self.found.push(Difference {
            kind,
            place: if place.is_empty() { "/" } else { place }.to_owned(),
            info: info.into(),
        });
    }

    /// Compares two types at a place in the reader's schema.
    fn compare(&mut self, writer: Id, reader: Id, place: &str) {
        if self.found.len() >= DIFFERENCES_MAX {
            return;
        }
        self.steps += 1;
        if self.steps > COMPARE_STEPS_MAX || self.depth > COMPARE_DEPTH_MAX {
            self.say("TOO_LARGE", place, "the schemas are too large or nested too deeply to be compared");
            return;
        }
        self.depth += 1;
        self.compare_types(writer, reader, place);
        self.depth -= 1;
    }

    fn compare_types(&mut self, writer: Id, reader: Id, place: &str) {
        let (theirs, ours) = (self.writer.at(writer), self.reader.at(reader));
        match (&theirs.shape, &ours.shape) {
            (Shape::Union(branches), _) => {
                for (index, branch) in branches.iter().enumerate() {
                    // a union that is read by a union: the place is the writer's branch
                    self.compare(*branch, reader, &format!("{place}/{index}"));
                }
            }
            (_, Shape::Union(branches)) => self.find_branch(writer, branches, place),
            _ => self.compare_single(writer, reader, place),
        }
    }

    /// The branch that a reader would take: of the same type and name, else of the same type, else a promotion.
    fn find_branch(&mut self, writer: Id, branches: &[Id], place: &str) {
        let theirs = self.writer.at(writer);
        let mut ranked: Vec<(u8, Id)> =
            branches.iter().filter_map(|id| Some((rank(theirs, self.reader.at(*id))?, *id))).collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        for (_, branch) in ranked {
            let before = std::mem::take(&mut self.found);
            self.compare_single(writer, branch, place);
            let found = std::mem::replace(&mut self.found, before);
            if found.iter().all(|difference| difference.kind == "LOGICAL_TYPE_CHANGED") {
                self.found.extend(found);
                return;
            }
        }
        let name = describe(theirs);
        self.say("MISSING_UNION_BRANCH", place, format!("reader union lacking writer type: {name}"));
    }

    /// Neither is a union.
    fn compare_single(&mut self, writer: Id, reader: Id, place: &str) {
        let (theirs, ours) = (self.writer.at(writer), self.reader.at(reader));
        match (&theirs.shape, &ours.shape) {
            (Shape::Primitive(from), Shape::Primitive(to)) if from == to || promotes(*from, *to) => {}
            (Shape::Array(from), Shape::Array(to)) => self.compare(*from, *to, &format!("{place}/items")),
            (Shape::Map(from), Shape::Map(to)) => self.compare(*from, *to, &format!("{place}/values")),
            (
                Shape::Fixed(_) | Shape::Enum { .. } | Shape::Record(_),
                Shape::Fixed(_) | Shape::Enum { .. } | Shape::Record(_),
            ) if same_kind(theirs, ours) => {
                if !same_name(theirs, ours) {
                    let expected = theirs.name.clone().unwrap_or_default();
                    self.say("NAME_MISMATCH", &format!("{place}/name"), format!("expected: {expected}"));
                    return;
                }
                self.compare_named(writer, reader, place);
            }
            _ => {
                let info =
                    format!("reader type: {} not compatible with writer type: {}", describe(ours), describe(theirs));
                self.say("TYPE_MISMATCH", place, info);
                return;
            }
        }
        if theirs.logical != ours.logical {
            let name = |logical: &Option<String>| logical.clone().unwrap_or_else(|| "none".to_owned());
            let info = format!("writer: {}, reader: {}", name(&theirs.logical), name(&ours.logical));
            self.say("LOGICAL_TYPE_CHANGED", place, info);
        }
    }

    fn compare_named(&mut self, writer: Id, reader: Id, place: &str) {
        match (&self.writer.at(writer).shape, &self.reader.at(reader).shape) {
            (Shape::Fixed(from), Shape::Fixed(to)) if from != to => {
                self.say("FIXED_SIZE_MISMATCH", &format!("{place}/size"), format!("expected: {from}, found: {to}"));
            }
            (Shape::Enum { symbols: from, .. }, Shape::Enum { symbols: to, default: None }) => {
                let known: HashSet<&str> = to.iter().map(String::as_str).collect();
                let missing: Vec<&str> =
                    from.iter().map(String::as_str).filter(|symbol| !known.contains(symbol)).collect();
                if !missing.is_empty() {
                    self.say("MISSING_ENUM_SYMBOLS", &format!("{place}/symbols"), format!("[{}]", missing.join(", ")));
                }
            }
            (Shape::Record(from), Shape::Record(to)) => {
                if !self.assumed.insert((writer, reader)) {
                    return;
                }
                let mark = self.trail.len();
                self.trail.push((writer, reader));
                let before = self.found.len();
                self.compare_fields(from, to, place);
                if self.found.len() > before {
                    for pair in self.trail.drain(mark..) {
                        self.assumed.remove(&pair);
                    }
                }
            }
            _ => {}
        }
    }

    fn compare_fields(&mut self, written: &'s [Field], read: &'s [Field], place: &str) {
        let names: HashMap<&str, &Field> = written.iter().map(|field| (field.name.as_str(), field)).collect();
        for (index, field) in read.iter().enumerate() {
            let mut wanted = std::iter::once(&field.name).chain(&field.aliases);
            match wanted.find_map(|name| names.get(name.as_str())) {
                Some(found) => self.compare(found.of, field.of, &format!("{place}/fields/{index}/type")),
                None if field.default.is_some() => {}
                None => {
                    let place = format!("{place}/fields/{index}");
                    self.say("READER_FIELD_MISSING_DEFAULT_VALUE", &place, field.name.as_str());
                }
            }
        }
    }
}

/// How well a branch of the reader's union fits, 0 best; `None` when it cannot fit.
fn rank(writer: &Type, branch: &Type) -> Option<u8> {
    match (&writer.shape, &branch.shape) {
        (Shape::Primitive(from), Shape::Primitive(to)) if from == to => Some(0),
        (Shape::Primitive(from), Shape::Primitive(to)) => promotes(*from, *to).then_some(2),
        (Shape::Array(_), Shape::Array(_)) | (Shape::Map(_), Shape::Map(_)) => Some(0),
        _ if !same_kind(writer, branch) || !same_name(writer, branch) => None,
        _ => Some(u8::from(writer.name != branch.name)),
    }
}

fn promotes(from: Primitive, to: Primitive) -> bool {
    use Primitive as P;
    matches!(
        (from, to),
        (P::Int, P::Long | P::Float | P::Double)
            | (P::Long, P::Float | P::Double)
            | (P::Float, P::Double)
            | (P::String, P::Bytes)
            | (P::Bytes, P::String)
    )
}

fn same_kind(a: &Type, b: &Type) -> bool {
    std::mem::discriminant(&a.shape) == std::mem::discriminant(&b.shape)
}

/// Without their namespaces, as the specification wants it; or the reader had the writer's name before.
fn same_name(writer: &Type, reader: &Type) -> bool {
    let (Some(theirs), Some(ours)) = (&writer.name, &reader.name) else { return false };
    let last = |name: &str| name.rsplit_once('.').map_or_else(|| name.to_owned(), |(_, last)| last.to_owned());
    last(theirs) == last(ours) || reader.aliases.contains(theirs)
}

/// The kind of a type, with the name of a named one.
fn describe(kind: &Type) -> String {
    let word = match &kind.shape {
        Shape::Primitive(primitive) => return format!("{primitive:?}").to_uppercase(),
        Shape::Record(_) => "RECORD",
        Shape::Enum { .. } => "ENUM",
        Shape::Fixed(_) => "FIXED",
        Shape::Array(_) => "ARRAY",
        Shape::Map(_) => "MAP",
        Shape::Union(_) => "UNION",
    };
    kind.name.as_ref().map_or_else(|| word.to_owned(), |name| format!("{word} {name}"))
}
