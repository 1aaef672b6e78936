//! Payloads as trees: a bounded JSON reader, and paths into what it read.
//!
//! Pure. More lenient than the standard where real writers are (`NaN` and `Infinity` of Python stand for themselves, a
//! byte order mark is passed over, of equal keys the last one counts), and never beyond its limits. Numbers stay text, so
//! that 64-bit integers are exact. The tree is one list of nodes that borrows from the payload.

use std::borrow::Cow;

/// Deepest nesting; a deeper payload is refused.
pub const DEPTH_MAX: usize = 32;
/// Values of one payload; one with more is refused.
pub const NODES_MAX: usize = 5_000;
/// Texts are not longer than the payload, which the connection bounds.
const NONE: u32 = u32::MAX;

/// A value of the tree.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar<'p> {
    Null,
    Bool(bool),
    /// As written.
    Number(&'p str),
    Int(i64),
    Unsigned(u64),
    Float(f64),
    /// `NaN`, `Infinity`, `-Infinity`.
    NotFinite,
    Text(Cow<'p, str>),
}

#[derive(Debug, Clone, PartialEq)]
enum Kind<'p> {
    Scalar(Scalar<'p>),
    List,
    Object,
}

#[derive(Debug, Clone)]
struct Node<'p> {
    kind: Kind<'p>,
    key: Option<Cow<'p, str>>,
    first: u32,
    next: u32,
}

/// A payload that was read.
#[derive(Debug, Clone)]
pub struct Document<'p> {
    nodes: Vec<Node<'p>>,
    /// Keys that stood twice in their object.
    pub repeated: u32,
}

/// Why a payload is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("not UTF-8 from byte {at} on")]
    Utf8 { at: usize },
    #[error("not JSON at byte {at}")]
    Syntax { at: usize },
    #[error("nested deeper than {DEPTH_MAX}")]
    TooDeep,
    #[error("more than {NODES_MAX} values")]
    TooMany,
}

impl<'p> Document<'p> {
    /// Reads JSON.
    pub fn parse(payload: &'p [u8]) -> Result<Self, Fault> {
        let payload = payload.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(payload);
        let text = std::str::from_utf8(payload).map_err(|error| Fault::Utf8 { at: error.valid_up_to() })?;
        let mut reader = Reader { text, at: 0, document: Self { nodes: Vec::new(), repeated: 0 } };
        reader.value(0, None)?;
        reader.space();
        if reader.at == text.len() { Ok(reader.document) } else { Err(Fault::Syntax { at: reader.at }) }
    }

    /// A payload that is one value.
    pub fn of(scalar: Scalar<'p>) -> Self {
        Self { nodes: vec![Node { kind: Kind::Scalar(scalar), key: None, first: NONE, next: NONE }], repeated: 0 }
    }

    /// A flat object.
    pub fn of_fields(fields: impl Iterator<Item = (Cow<'p, str>, Scalar<'p>)>) -> Self {
        let mut nodes = vec![Node { kind: Kind::Object, key: None, first: NONE, next: NONE }];
        for (key, scalar) in fields.take(NODES_MAX) {
            let place = u32::try_from(nodes.len()).unwrap_or(NONE);
            if let Some(last) = nodes.last_mut() {
                if place == 1 { last.first = 1 } else { last.next = place }
            }
            nodes.push(Node { kind: Kind::Scalar(scalar), key: Some(key), first: NONE, next: NONE });
        }
        Self { nodes, repeated: 0 }
    }

    fn node(&self, at: u32) -> Option<&Node<'p>> {
        self.nodes.get(usize::try_from(at).ok()?)
    }

    /// The value itself, if the place holds one and not a list or an object.
    pub fn scalar(&self, place: Place) -> Option<&Scalar<'p>> {
        match &self.node(place.0)?.kind {
            Kind::Scalar(scalar) => Some(scalar),
            Kind::List | Kind::Object => None,
        }
    }

    /// True for a list.
    pub fn is_list(&self, place: Place) -> bool {
        self.node(place.0).is_some_and(|node| node.kind == Kind::List)
    }

    /// The values in a list or object, with their keys.
    pub fn children(&self, place: Place) -> impl Iterator<Item = (Option<&str>, Place)> {
        let mut at = self.node(place.0).map_or(NONE, |node| node.first);
        std::iter::from_fn(move || {
            let node = self.node(at)?;
            let here = at;
            at = node.next;
            Some((node.key.as_deref(), Place(here)))
        })
    }

    /// Where a path without a star leads, seen from a place.
    pub fn find(&self, from: Place, steps: &[Step]) -> Option<Place> {
        let mut place = from;
        for step in steps {
            place = match (step, &self.node(place.0)?.kind) {
                (Step::Key(key), Kind::Object) => {
                    // of equal keys the last one counts
                    self.children(place).filter(|(name, _)| *name == Some(key)).last()?.1
                }
                (Step::Key(key), Kind::List) => self.children(place).nth(key.parse().ok()?)?.1,
                (Step::Index(index), Kind::List) => self.children(place).nth(*index)?.1,
                (Step::Index(index), Kind::Object) => {
                    let key = index.to_string();
                    self.children(place).filter(|(name, _)| *name == Some(&key)).last()?.1
                }
                _ => return None,
            };
        }
        Some(place)
    }
}

/// A place in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(u32);

impl Place {
    pub const ROOT: Self = Self(0);
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Index(usize),
    /// Each element of a list.
    Each,
}

/// Reads a JSON Pointer (`/a/b/0`, `/list/*`) or a simple JSONPath (`$.a.b[0]`, `$.list[*].v`); the empty text is the
/// payload itself.
pub fn path(text: &str) -> Result<Vec<Step>, String> {
    let step = |word: &str| match word {
        "*" => Step::Each,
        word => match word.parse() {
            Ok(index) if word == "0" || !word.starts_with('0') => Step::Index(index),
            _ => Step::Key(word.to_owned()),
        },
    };
    if text.is_empty() || text == "$" {
        return Ok(Vec::new());
    }
    if let Some(pointer) = text.strip_prefix('/') {
        return Ok(pointer.split('/').map(|word| step(&word.replace("~1", "/").replace("~0", "~"))).collect());
    }
    let Some(mut rest) = text.strip_prefix('$') else {
        return Err("must begin with / or $".to_owned());
    };
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            if end == 0 {
                return Err("has an empty name".to_owned());
            }
            steps.push(step(&after[..end]));
            rest = &after[end..];
        } else if let Some(after) = rest.strip_prefix('[') {
            let (inside, after) = after.split_once(']').ok_or("has a [ without its ]")?;
            let quoted = ['\'', '"'].iter().find_map(|q| inside.strip_prefix(*q)?.strip_suffix(*q));
            steps.push(quoted.map_or_else(|| step(inside), |key| Step::Key(key.to_owned())));
            rest = after;
        } else {
            return Err("goes on with neither . nor [".to_owned());
        }
    }
    Ok(steps)
}

struct Reader<'p> {
    text: &'p str,
    at: usize,
    document: Document<'p>,
}

impl<'p> Reader<'p> {
    fn fault<T>(&self) -> Result<T, Fault> {
        Err(Fault::Syntax { at: self.at })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, word: &str) -> bool {
        let found = self.text[self.at..].starts_with(word);
        self.at += if found { word.len() } else { 0 };
        found
    }

    /// Reads a value, and returns its place.
    fn value(&mut self, depth: usize, key: Option<Cow<'p, str>>) -> Result<u32, Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::TooDeep);
        }
        if self.document.nodes.len() >= NODES_MAX {
            return Err(Fault::TooMany);
        }
        self.space();
        let place = u32::try_from(self.document.nodes.len()).unwrap_or(NONE);
        let kind = match self.peek() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::List,
            _ => Kind::Scalar(self.scalar()?),
        };
        let is_object = kind == Kind::Object;
        let is_scalar = matches!(kind, Kind::Scalar(_));
        self.document.nodes.push(Node { kind, key, first: NONE, next: NONE });
        if !is_scalar {
            self.at += 1;
            self.inside(depth, place, is_object)?;
        }
        Ok(place)
    }

    fn inside(&mut self, depth: usize, parent: u32, is_object: bool) -> Result<(), Fault> {
        let close = if is_object { b'}' } else { b']' };
        self.space();
        if self.take(close) {
            return Ok(());
        }
        let mut last = NONE;
        loop {
            self.space();
            let key = if is_object {
                let key = self.string()?;
                self.space();
                if !self.take(b':') {
                    return self.fault();
                }
                // one look back is enough to notice the habit; finding takes the last one anyway
                let twice = self.document.node(last).is_some_and(|node| node.key.as_ref() == Some(&key));
                self.document.repeated += u32::from(twice);
                Some(key)
            } else {
                None
            };
            let place = self.value(depth + 1, key)?;
            let before = if last == NONE { parent } else { last };
            if let Some(node) = usize::try_from(before).ok().and_then(|at| self.document.nodes.get_mut(at)) {
                if last == NONE { node.first = place } else { node.next = place }
            }
            last = place;
            self.space();
            if self.take(close) {
                return Ok(());
            }
            if !self.take(b',') {
                return self.fault();
            }
        }
    }

    fn scalar(&mut self) -> Result<Scalar<'p>, Fault> {
        match self.peek() {
            Some(b'"') => Ok(Scalar::Text(self.string()?)),
            Some(b't') if self.word("true") => Ok(Scalar::Bool(true)),
            Some(b'f') if self.word("false") => Ok(Scalar::Bool(false)),
            Some(b'n') if self.word("null") => Ok(Scalar::Null),
            Some(b'N') if self.word("NaN") => Ok(Scalar::NotFinite),
            Some(b'I') if self.word("Infinity") => Ok(Scalar::NotFinite),
            Some(b'-') if self.word("-Infinity") => Ok(Scalar::NotFinite),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.fault(),
        }
    }

    fn number(&mut self) -> Result<Scalar<'p>, Fault> {
        let begin = self.at;
        self.take(b'-');
        let digits = |reader: &mut Self| {
            let from = reader.at;
            while matches!(reader.peek(), Some(b'0'..=b'9')) {
                reader.at += 1;
            }
            reader.at - from
        };
        let leading_zero = self.peek() == Some(b'0');
        let whole = digits(self);
        if whole == 0 || (leading_zero && whole > 1) {
            return self.fault();
        }
        if self.take(b'.') && digits(self) == 0 {
            return self.fault();
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'-') {
                self.take(b'+');
            }
            if digits(self) == 0 {
                return self.fault();
            }
        }
        Ok(Scalar::Number(&self.text[begin..self.at]))
    }

    fn string(&mut self) -> Result<Cow<'p, str>, Fault> {
        if !self.take(b'"') {
            return self.fault();
        }
        let begin = self.at;
        loop {
            match self.peek() {
                None | Some(0..=0x1F) => return self.fault(),
                Some(b'"') => {
                    let text = &self.text[begin..self.at];
                    self.at += 1;
                    return Ok(Cow::Borrowed(text));
                }
                Some(b'\\') => break,
                Some(_) => self.at += 1,
            }
        }
        let mut text = self.text[begin..self.at].to_owned();
        loop {
            match self.peek() {
                None | Some(0..=0x1F) => return self.fault(),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(text));
                }
                Some(b'\\') => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                Some(_) => {
                    let rest = &self.text[self.at..];
                    let end = rest.find(|c: char| c == '"' || c == '\\' || c < ' ').unwrap_or(rest.len());
                    text.push_str(&rest[..end]);
                    self.at += end;
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, Fault> {
        let Some(byte) = self.peek() else { return self.fault() };
        self.at += 1;
        Ok(match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex()?;
                if !(0xD800..0xDC00).contains(&high) {
                    return char::from_u32(high).map_or_else(|| self.fault(), Ok);
                }
                if !self.word("\\u") {
                    return self.fault();
                }
                let low = self.hex()?;
                if !(0xDC00..0xE000).contains(&low) {
                    return self.fault();
                }
                let code = 0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00);
                return char::from_u32(code).map_or_else(|| self.fault(), Ok);
            }
            _ => return self.fault(),
        })
    }

    fn hex(&mut self) -> Result<u32, Fault> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let text = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let plain = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let Some(code) = plain.and_then(|text| u32::from_str_radix(text, 16).ok()) else { return self.fault() };
        self.at += 4;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<'d>(document: &'d Document<'_>, text: &str) -> Option<&'d Scalar<'d>> {
        document.scalar(document.find(Place::ROOT, &path(text).unwrap())?)
    }

    // MQ-12, AC-049
    #[test]
    fn values_are_found_by_pointer_and_path() {
        let text = "\u{feff}{\"t\":21.5,\"p\":NaN,\"list\":[{\"v\":-Infinity},[7,\"x\"]],\"a/b\":{\"~\":null},\"big\":9007199254740993,\"t\":1e3}";
        let document = Document::parse(text.as_bytes()).unwrap();
        assert_eq!(at(&document, "/t"), Some(&Scalar::Number("1e3")), "the last one counts");
        assert_eq!(at(&document, "$.p"), Some(&Scalar::NotFinite));
        assert_eq!(at(&document, "/list/0/v"), Some(&Scalar::NotFinite));
        assert_eq!(at(&document, "$.list[1][0]"), Some(&Scalar::Number("7")));
        assert_eq!(at(&document, "/a~1b/~0"), Some(&Scalar::Null));
        assert_eq!(at(&document, "$['a/b']['~']"), Some(&Scalar::Null));
        assert_eq!(at(&document, "/big"), Some(&Scalar::Number("9007199254740993")));
        assert_eq!(at(&document, "/list/2"), None);
        assert_eq!(Document::parse(b"{\"a\":1,\"a\":2}").unwrap().repeated, 1);
        assert_eq!(path("$.e[*].v").unwrap()[1], Step::Each);
        for bad in ["a", "$a", "$..a", "$[0"] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn texts_are_unescaped() {
        let document = Document::parse(r#""a\u00e4\ud83d\ude00\n\"b""#.as_bytes()).unwrap();
        assert_eq!(document.scalar(Place::ROOT), Some(&Scalar::Text("aä😀\n\"b".into())));
    }

    // MQ-12: limits, and what is no JSON
    #[test]
    fn nonsense_and_bombs_are_refused() {
        let deep = "[".repeat(100_000);
        assert_eq!(Document::parse(deep.as_bytes()).unwrap_err(), Fault::TooDeep);
        let many = format!("[{}0]", "0,".repeat(NODES_MAX));
        assert_eq!(Document::parse(many.as_bytes()).unwrap_err(), Fault::TooMany);
        assert_eq!(Document::parse(b"{\"a\":\"\xFF\"}").unwrap_err(), Fault::Utf8 { at: 6 });
        for bad in [
            "",
            "{",
            "{\"a\":}",
            "[1,]",
            "01",
            "1.",
            "-",
            "nul",
            "\"\\ud800\"",
            "\"\\x\"",
            "{a:1}",
            "1 2",
            "\"a\nb\"",
            "+1",
            "\"\\u+123\"",
        ] {
            assert!(Document::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    // AC-102
    #[test]
    fn random_bytes_never_panic() {
        let words: [&[u8]; 16] = [
            b"{", b"}", b"[", b"]", b"\"", b":", b",", b"1", b"-", b"e", b"\\u", b"NaN", b"\xC3", b"\xA4", b" ", b"tr",
        ];
        let mut state = 1_442_695_040_888_963_407_u64;
        for _ in 0..100_000 {
            let mut bytes = Vec::new();
            for _ in 0..24 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                bytes.extend_from_slice(words[usize::try_from(state >> 60).unwrap()]);
            }
            if let Ok(document) = Document::parse(&bytes) {
                assert!(document.nodes.len() <= 30);
            }
        }
    }
}
