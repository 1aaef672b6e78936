//! Serialised file descriptors: what clients without a text send, in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Field, File, Kind, Label, Message, Scalar, qualified};

/// Messages inside of each other; more are refused.
const DEPTH_MAX: usize = 64;

/// The bytes behind base64, when they can be those of a descriptor: it begins with its file name, field 1, a text.
pub(super) fn bytes(text: &str) -> Option<Vec<u8>> {
    if !text.starts_with('C') {
        return None; // spares decoding texts
    }
    STANDARD.decode(text).ok().filter(|bytes| bytes.first() == Some(&0x0a))
}

/// One field on the wire.
enum Value<'b> {
    Number(u64),
    Bytes(&'b [u8]),
    /// Fixed widths, which no descriptor needs.
    Other,
}

/// Splits a message into its fields.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in 0..10 {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f).checked_shl(7 * shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn read(&mut self) -> Option<(u64, Value<'b>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Other)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Other)?,
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

impl<'b> Iterator for Fields<'b> {
    type Item = Result<(u64, Value<'b>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_none() {
            self.0 = &[];
        }
        Some(read.ok_or_else(|| "the descriptor is torn".to_owned()))
    }
}

fn text(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "a name in the descriptor is not UTF-8".to_owned())
}

/// The first text in field 1 of a message: the name of what it describes.
fn name_of(bytes: &[u8]) -> Result<String, String> {
    for field in Fields(bytes) {
        if let (1, Value::Bytes(name)) = field? {
            return text(name);
        }
    }
    Err("something in the descriptor has no name".to_owned())
}

/// A `FileDescriptorProto`.
pub(super) fn read(bytes: &[u8]) -> Result<File, String> {
    let mut file = File::default();
    let (mut messages, mut enums) = (Vec::new(), Vec::new());
    for field in Fields(bytes) {
        match field? {
            (2, Value::Bytes(package)) => file.package = text(package)?,
            (3, Value::Bytes(_)) => file.imports += 1,
            (4, Value::Bytes(message)) => messages.push(message),
            (5, Value::Bytes(kind)) => enums.push(kind),
            _ => {}
        }
    }
    let package = file.package.clone();
    for message in messages {
        read_message(&mut file, message, &package, 0)?;
    }
    for kind in enums {
        let name = qualified(&package, &name_of(kind)?);
        file.add_enum(&name)?;
    }
    Ok(file)
}

/// A `DescriptorProto`.
fn read_message(file: &mut File, bytes: &[u8], space: &str, depth: usize) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("messages are nested more than {DEPTH_MAX} deep"));
    }
    let name = qualified(space, &name_of(bytes)?);
    let mut oneofs = Vec::new();
    for field in Fields(bytes) {
        match field? {
            (3, Value::Bytes(nested)) => read_message(file, nested, &name, depth + 1)?,
            (4, Value::Bytes(kind)) => file.add_enum(&qualified(&name, &name_of(kind)?))?,
            (8, Value::Bytes(oneof)) => oneofs.push(name_of(oneof)?),
            _ => {}
        }
    }
    let mut message = Message::default();
    for field in Fields(bytes) {
        if let (2, Value::Bytes(field)) = field? {
            let (number, field) = read_field(field, &oneofs)?;
            message.add(number, field).map_err(|reason| format!("{name}: {reason}"))?;
        }
    }
    file.add_message(&name, message)
}

/// A `FieldDescriptorProto`.
fn read_field(bytes: &[u8], oneofs: &[String]) -> Result<(u32, Field), String> {
    let name = name_of(bytes)?;
    let (mut number, mut label, mut kind, mut named, mut oneof) = (0, Label::Single, 0, None, None);
    for field in Fields(bytes) {
        match field? {
            (3, Value::Number(value)) => number = u32::try_from(value).unwrap_or_default(),
            (4, Value::Number(2)) => label = Label::Required,
            (4, Value::Number(3)) => label = Label::Repeated,
            (5, Value::Number(value)) => kind = value,
            (6, Value::Bytes(value)) => named = Some(text(value)?),
            (9, Value::Number(index)) => {
                oneof = usize::try_from(index).ok().and_then(|index| oneofs.get(index)).cloned();
            }
            // presence in proto3 is written as a oneof of one
            (17, Value::Number(1)) => oneof = Some(String::new()),
            _ => {}
        }
    }
    let kind = match (Scalar::at(kind), named) {
        (Some(scalar), _) => Kind::Scalar(scalar),
        (None, Some(named)) => Kind::Named(named),
        (None, None) => return Err(format!("field {name} has no type")),
    };
    Ok((number, Field { name, label, kind, oneof: oneof.filter(|oneof| !oneof.is_empty()) }))
}
