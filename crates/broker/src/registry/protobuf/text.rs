//! Protobuf files as text: messages, enums and fields. What else a file may hold is stepped over.

use super::tokens::tokens;
use super::{Field, File, Kind, Label, Message, Scalar, qualified};

/// Reads a file of any syntax or edition.
pub(super) fn read(text: &str) -> Result<File, String> {
    let tokens = tokens(text)?;
    let mut reader = Reader { rest: &tokens, file: File::default() };
    reader.file()?;
    Ok(reader.file)
}

struct Reader<'t> {
    rest: &'t [&'t str],
    file: File,
}

impl<'t> Reader<'t> {
    fn peek(&self, ahead: usize) -> &'t str {
        self.rest.get(ahead).copied().unwrap_or_default()
    }

    fn next(&mut self) -> Result<&'t str, String> {
        let (first, rest) = self.rest.split_first().ok_or("it ends in the middle of a statement")?;
        self.rest = rest;
        Ok(first)
    }

    fn expect(&mut self, wanted: &str) -> Result<(), String> {
        match self.next()? {
            found if found == wanted => Ok(()),
            found => Err(format!("{wanted:?} is wanted and {found:?} found")),
        }
    }

    fn name(&mut self) -> Result<&'t str, String> {
        let name = self.next()?;
        let legal = !name.starts_with(|first: char| first.is_ascii_digit())
            && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_');
        if legal { Ok(name) } else { Err(format!("{name:?} is not a name")) }
    }

    /// A name with dots in it.
    fn path(&mut self) -> Result<&'t str, String> {
        let path = self.next()?;
        let part = |part: &str| {
            !part.is_empty()
                && !part.starts_with(|first: char| first.is_ascii_digit())
                && part.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
        };
        if path.trim_start_matches('.').split('.').all(part) {
            Ok(path)
        } else {
            Err(format!("{path:?} is not a name"))
        }
    }

    fn number(&mut self) -> Result<u32, String> {
        let text = self.next()?;
        let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None if text.len() > 1 && text.starts_with('0') => u32::from_str_radix(text, 8).ok(),
            None => text.parse().ok(),
        };
        number.ok_or_else(|| format!("{text:?} is not the number of a field"))
    }

    fn quoted(&mut self) -> Result<&'t str, String> {
        let text = self.next()?;
        if text.starts_with(['"', '\'']) {
            Ok(&text[1..text.len() - 1])
        } else {
            Err(format!("{text:?} is not a text"))
        }
    }

    /// Steps over the rest of a statement, to its semicolon.
    fn skip_statement(&mut self) -> Result<(), String> {
        let mut depth = 0_usize;
        loop {
            match self.next()? {
                "{" | "[" | "(" => depth += 1,
                "}" | "]" | ")" => depth = depth.checked_sub(1).ok_or("a statement does not end")?,
                ";" if depth == 0 => return Ok(()),
                _ => {}
            }
        }
    }

    /// Steps over a name and what stands in braces behind it.
    fn skip_block(&mut self) -> Result<(), String> {
        self.path()?;
        let mut depth = 0_usize;
        loop {
            match self.next()? {
                "{" => depth += 1,
                "}" if depth <= 1 => return Ok(()),
                "}" => depth -= 1,
                ";" if depth == 0 => return Err("a block is wanted".to_owned()),
                _ => {}
            }
        }
    }

    fn file(&mut self) -> Result<(), String> {
        let mut first = true;
        while !self.rest.is_empty() {
            match self.next()? {
                "syntax" | "edition" if first => {
                    self.expect("=")?;
                    let syntax = self.quoted()?;
                    let known = matches!(syntax, "proto2" | "proto3") || syntax.parse::<u16>().is_ok();
                    if !known {
                        return Err(format!("there is no syntax {syntax:?}"));
                    }
                    self.expect(";")?;
                }
                "package" => {
                    if !self.file.package.is_empty() {
                        return Err("there are two packages".to_owned());
                    }
                    self.path()?.clone_into(&mut self.file.package);
                    self.expect(";")?;
                }
                "import" => {
                    if matches!(self.peek(0), "public" | "weak" | "option") {
                        self.next()?;
                    }
                    self.quoted()?;
                    self.file.imports += 1;
                    self.expect(";")?;
                }
                "option" => self.skip_statement()?,
                "export" | "local" if matches!(self.peek(0), "message" | "enum") => {}
                "message" => {
                    let package = self.file.package.clone();
                    self.message(&package)?;
                }
                "enum" => {
                    let package = self.file.package.clone();
                    self.enumeration(&package)?;
                }
                "service" | "extend" => self.skip_block()?,
                ";" => {}
                other => {
                    let other: String = other.chars().take(40).collect();
                    return Err(format!("a Protobuf file has no statement {other:?}"));
                }
            }
            first = false;
        }
        if first { Err("there is nothing in it".to_owned()) } else { Ok(()) }
    }

    fn message(&mut self, space: &str) -> Result<(), String> {
        let name = qualified(space, self.name()?);
        self.expect("{")?;
        self.body(&name)
    }

    /// A message's statements, to the closing brace.
    fn body(&mut self, name: &str) -> Result<(), String> {
        let mut message = Message::default();
        self.statements(name, &mut message, None).map_err(|reason| format!("{name}: {reason}"))?;
        self.file.add_message(name, message)
    }

    fn statements(&mut self, name: &str, message: &mut Message, oneof: Option<&str>) -> Result<(), String> {
        loop {
            let second = self.peek(1);
            match self.peek(0) {
                "}" => {
                    self.next()?;
                    return Ok(());
                }
                ";" => {
                    self.next()?;
                }
                "option" => self.skip_statement()?,
                "export" | "local" if matches!(second, "message" | "enum") => {
                    self.next()?;
                }
                "message" if oneof.is_none() && self.peek(2) == "{" => {
                    self.next()?;
                    self.message(name)?;
                }
                "enum" if oneof.is_none() && self.peek(2) == "{" => {
                    self.next()?;
                    self.enumeration(name)?;
                }
                "reserved" | "extensions" if oneof.is_none() && self.peek(2) != "=" => self.skip_statement()?,
                "extend" if oneof.is_none() && self.peek(2) == "{" => {
                    self.next()?;
                    self.skip_block()?;
                }
                "oneof" if oneof.is_none() && self.peek(2) == "{" => {
                    self.next()?;
                    let group = self.name()?;
                    self.expect("{")?;
                    self.statements(name, message, Some(group))?;
                }
                _ => self.field(name, message, oneof)?,
            }
        }
    }

    fn field(&mut self, name: &str, message: &mut Message, oneof: Option<&str>) -> Result<(), String> {
        let label = match (self.peek(0), self.peek(1)) {
            ("map", "<") if oneof.is_none() => return self.map(name, message),
            (_, "=") => Err("a field has no type")?,
            ("optional", _) => Some(Label::Single),
            ("required", _) => Some(Label::Required),
            ("repeated", _) => Some(Label::Repeated),
            _ => None,
        };
        if label.is_some() {
            if oneof.is_some() {
                return Err("a field of a oneof has no label".to_owned());
            }
            self.next()?;
        }
        let label = label.unwrap_or(Label::Single);
        let oneof = oneof.map(str::to_owned);
        if self.peek(0) == "group" && self.peek(2) == "=" {
            self.next()?;
            let group = self.name()?;
            self.expect("=")?;
            let number = self.number()?;
            self.options()?;
            self.expect("{")?;
            self.body(&qualified(name, group))?;
            let kind = Kind::Named(group.to_owned());
            return message.add(number, Field { name: group.to_ascii_lowercase(), label, kind, oneof });
        }
        let kind = self.kind()?;
        let field = self.name()?.to_owned();
        self.expect("=")?;
        let number = self.number()?;
        self.options()?;
        self.expect(";")?;
        message.add(number, Field { name: field, label, kind, oneof })
    }

    fn kind(&mut self) -> Result<Kind, String> {
        let written = self.path()?;
        Ok(Scalar::parse(written).map_or_else(|| Kind::Named(written.to_owned()), Kind::Scalar))
    }

    /// A map is a repeated message with a key and a value; on the wire there is no other map.
    fn map(&mut self, name: &str, message: &mut Message) -> Result<(), String> {
        self.next()?;
        self.expect("<")?;
        let key = self.kind()?;
        let fits = |scalar: &Scalar| !matches!(scalar.name, "float" | "double" | "bytes");
        if !matches!(&key, Kind::Scalar(scalar) if fits(scalar)) {
            return Err("the key of a map is an integer, a bool or a string".to_owned());
        }
        self.expect(",")?;
        let value = self.kind()?;
        self.expect(">")?;
        let field = self.name()?.to_owned();
        self.expect("=")?;
        let number = self.number()?;
        self.options()?;
        self.expect(";")?;
        let mut entry = Message::default();
        for (number, part, kind) in [(1, "key", key), (2, "value", value)] {
            entry.add(number, Field { name: part.to_owned(), label: Label::Single, kind, oneof: None })?;
        }
        let entry_name = format!("{}Entry", camel_case(&field));
        self.file.add_message(&qualified(name, &entry_name), entry)?;
        message.add(number, Field { name: field, label: Label::Repeated, kind: Kind::Named(entry_name), oneof: None })
    }

    /// What may stand in brackets behind a field.
    fn options(&mut self) -> Result<(), String> {
        if self.peek(0) != "[" {
            return Ok(());
        }
        let mut depth = 0_usize;
        loop {
            match self.next()? {
                "[" => depth += 1,
                "]" if depth == 1 => return Ok(()),
                "]" => depth -= 1,
                _ => {}
            }
        }
    }

    fn enumeration(&mut self, space: &str) -> Result<(), String> {
        let name = qualified(space, self.name()?);
        self.expect("{")?;
        let mut constants = 0;
        loop {
            match self.peek(0) {
                "}" => break,
                ";" => {
                    self.next()?;
                }
                "option" | "reserved" if self.peek(1) != "=" => self.skip_statement()?,
                _ => {
                    self.name().map_err(|reason| format!("{name}: {reason}"))?;
                    self.expect("=")?;
                    self.skip_statement()?;
                    constants += 1;
                }
            }
        }
        self.expect("}")?;
        if constants == 0 {
            return Err(format!("{name} has no constants"));
        }
        self.file.add_enum(&name)
    }
}

/// As the compiler names the message behind a map.
fn camel_case(name: &str) -> String {
    let mut upper = true;
    let letters = name.chars().filter_map(|character| {
        if character == '_' {
            upper = true;
            return None;
        }
        let letter = if upper { character.to_ascii_uppercase() } else { character };
        upper = false;
        Some(letter)
    });
    letters.collect()
}
