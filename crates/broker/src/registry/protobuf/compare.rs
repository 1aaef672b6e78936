//! Can one Protobuf schema read what another one wrote? By the rules of Confluent's registry, which are those of the wire
//! and some for the people who use the generated code.

use std::collections::BTreeMap;

use super::{Field, Kind, Label, Message, Protobuf, Wire};
use crate::limits::DIFFERENCES_MAX;
use crate::registry::schema::Difference;

/// What the reader cannot read; empty when it can read everything.
pub(super) fn differences(writer: &Protobuf, reader: &Protobuf) -> Vec<Difference> {
    let mut found = Vec::new();
    for (name, theirs) in &writer.messages {
        if found.len() >= DIFFERENCES_MAX {
            break;
        }
        match reader.messages.get(name) {
            Some(ours) => Pair { writer, reader, place: name, found: &mut found }.compare(theirs, ours),
            // what is only referred to shows in the fields that refer to it
            None if writer.own.contains(name) => {
                found.push(Difference { kind: "MESSAGE_REMOVED", place: format!("#/{name}"), info: name.clone() });
            }
            None => {}
        }
    }
    found
}

/// A message on both sides.
struct Pair<'p> {
    writer: &'p Protobuf,
    reader: &'p Protobuf,
    place: &'p str,
    found: &'p mut Vec<Difference>,
}

impl Pair<'_> {
    fn say(&mut self, kind: &'static str, number: u32, info: String) {
        self.found.push(Difference { kind, place: format!("#/{}/{number}", self.place), info });
    }

    fn compare(&mut self, theirs: &Message, ours: &Message) {
        let mut moved: BTreeMap<&str, u32> = BTreeMap::new();
        for (number, was) in &theirs.fields {
            match ours.fields.get(number) {
                Some(is) => {
                    self.compare_field(*number, was, is);
                    if let (None, Some(oneof)) = (&was.oneof, &is.oneof) {
                        *moved.entry(oneof).or_default() += 1;
                    }
                }
                None if was.oneof.is_some() => self.say("ONEOF_FIELD_REMOVED", *number, was.name.clone()),
                None if was.label == Label::Required => self.say("REQUIRED_FIELD_REMOVED", *number, was.name.clone()),
                None => {}
            }
        }
        for (number, is) in &ours.fields {
            if is.label == Label::Required && theirs.fields.get(number).is_none_or(|was| was.label != Label::Required) {
                self.say("REQUIRED_FIELD_ADDED", *number, is.name.clone());
            }
        }
        // fields that were set together would put each other out
        for (oneof, _) in moved.into_iter().filter(|(_, count)| *count > 1) {
            self.say("MULTIPLE_FIELDS_MOVED_TO_ONEOF", 0, oneof.to_owned());
        }
    }

    fn compare_field(&mut self, number: u32, was: &Field, is: &Field) {
        let info = || format!("writer: {}, reader: {}", describe(was), describe(is));
        let (their_wire, our_wire) = (wire(self.writer, &was.kind), wire(self.reader, &is.kind));
        match (&was.kind, &is.kind) {
            // enums read each other's numbers
            (Kind::Named(before), Kind::Named(after))
                if before != after && (their_wire.is_none() || their_wire != our_wire) =>
            {
                self.say("FIELD_NAMED_TYPE_CHANGED", number, info());
                return;
            }
            (Kind::Scalar(_), Kind::Scalar(_)) if their_wire != our_wire => {
                self.say("FIELD_SCALAR_KIND_CHANGED", number, info());
                return;
            }
            _ if their_wire != our_wire => {
                self.say("FIELD_KIND_CHANGED", number, info());
                return;
            }
            _ => {}
        }
        let repeated = |field: &Field| field.label == Label::Repeated;
        if repeated(was) != repeated(is) && our_wire.is_some_and(|wire| wire != Wire::Text) {
            self.say("FIELD_NUMERIC_LABEL_CHANGED", number, info());
        }
    }
}

/// How values stand on the wire; `None` for messages.
fn wire(all: &Protobuf, kind: &Kind) -> Option<Wire> {
    match kind {
        Kind::Scalar(scalar) => Some(scalar.wire),
        Kind::Named(name) => all.enums.contains(name).then_some(Wire::Integer),
    }
}

fn describe(field: &Field) -> String {
    let kind = match &field.kind {
        Kind::Scalar(scalar) => scalar.name,
        Kind::Named(name) => name.as_str(),
    };
    if field.label == Label::Repeated { format!("repeated {kind}") } else { kind.to_owned() }
}
