//! Text to expression: precedence climbing, bounded in length, parts and depth before anything is built.

use super::{Binary, Expr, Extreme, Node};

/// A longer text is refused unread.
pub const TEXT_MAX: usize = 512;
/// Parts of an expression; one more is refused. This bounds the time an evaluation takes.
pub const NODES_MAX: usize = 64;
/// How deep parentheses may nest.
pub const DEPTH_MAX: usize = 16;

/// What is wrong with an expression, and at which character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// From 0, in bytes.
    pub at: usize,
    /// Stable code for a problem report.
    pub code: &'static str,
    pub message: String,
    /// What to write instead; may be empty.
    pub hint: &'static str,
}

pub(super) fn parse(text: &str) -> Result<Expr, SyntaxError> {
    if text.len() > TEXT_MAX {
        return Err(SyntaxError {
            at: TEXT_MAX,
            code: "too_long",
            message: format!("longer than {TEXT_MAX} characters"),
            hint: "split it into several rules",
        });
    }
    let mut parser = Parser { text, at: 0, depth: 0, nodes: Vec::new(), operands: Vec::new() };
    parser.choice()?;
    parser.skip_space();
    if parser.at < text.len() {
        return Err(parser.unexpected());
    }
    Ok(Expr { nodes: parser.nodes, operands: parser.operands })
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    nodes: Vec<Node>,
    operands: Vec<Box<str>>,
}

/// Operators by how tightly they bind, loosest first; longer texts stand before their beginnings.
const LEVELS: [&[(&str, Binary)]; 5] = [
    &[("||", Binary::Or), ("or", Binary::Or)],
    &[("&&", Binary::And), ("and", Binary::And)],
    &[
        ("==", Binary::Equal),
        ("!=", Binary::NotEqual),
        ("<=", Binary::LessOrEqual),
        (">=", Binary::GreaterOrEqual),
        ("<", Binary::Less),
        (">", Binary::Greater),
    ],
    &[("+", Binary::Add), ("-", Binary::Subtract)],
    &[("*", Binary::Multiply), ("/", Binary::Divide), ("%", Binary::Remainder)],
];

impl<'t> Parser<'t> {
    fn choice(&mut self) -> Result<usize, SyntaxError> {
        let condition = self.binary(0)?;
        if !self.take("?") {
            return Ok(condition);
        }
        self.deeper(|parser| {
            let then = parser.choice()?;
            parser.expect(":")?;
            let otherwise = parser.choice()?;
            parser.push(Node::Choose(condition, then, otherwise))
        })
    }

    fn binary(&mut self, level: usize) -> Result<usize, SyntaxError> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while let Some((_, binary)) = operators.iter().find(|(text, _)| self.take(text)) {
            let right = self.binary(level + 1)?;
            left = self.push(Node::Binary(*binary, left, right))?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<usize, SyntaxError> {
        self.skip_space();
        if !self.rest().starts_with("!=") && (self.take("!") || self.take("not")) {
            return self.deeper(|parser| {
                let of = parser.unary()?;
                parser.push(Node::Not(of))
            });
        }
        if self.take("-") {
            return self.deeper(|parser| {
                let of = parser.unary()?;
                parser.push(Node::Negate(of))
            });
        }
        self.primary()
    }

    fn primary(&mut self) -> Result<usize, SyntaxError> {
        if self.take("(") {
            return self.deeper(|parser| {
                let inner = parser.choice()?;
                parser.expect(")")?;
                Ok(inner)
            });
        }
        self.skip_space();
        let begin = self.at;
        match self.rest().chars().next() {
            Some('0'..='9') => self.number(),
            Some(quote @ ('\'' | '"')) => {
                let text = self.quoted(quote)?;
                self.push(Node::Text(text.into()))
            }
            Some('`') => {
                let name = self.quoted('`')?;
                self.operand(name, begin)
            }
            Some(first) if first.is_ascii_alphabetic() || first == '_' => {
                let name = self.name();
                match name {
                    "true" => self.push(Node::Truth(true)),
                    "false" => self.push(Node::Truth(false)),
                    "abs" | "min" | "max" if self.take("(") => self.call(name, begin),
                    _ if self.rest().starts_with('(') => Err(error(
                        begin,
                        "unknown_function",
                        format!("{name} is not a function"),
                        "abs(x), min(x, y, ...) and max(x, y, ...) are; there are no loops",
                    )),
                    _ => self.operand(name, begin),
                }
            }
            _ => Err(self.unexpected()),
        }
    }

    fn call(&mut self, name: &str, begin: usize) -> Result<usize, SyntaxError> {
        self.deeper(|parser| {
            let mut of = vec![parser.choice()?];
            while parser.take(",") {
                of.push(parser.choice()?);
            }
            parser.expect(")")?;
            let node = match (name, of.as_slice()) {
                ("abs", [one]) => Node::Abs(*one),
                ("abs", _) => {
                    return Err(error(begin, "syntax", "abs takes one number", ""));
                }
                ("min", _) => Node::Extreme(Extreme::Min, of),
                _ => Node::Extreme(Extreme::Max, of),
            };
            parser.push(node)
        })
    }

    fn operand(&mut self, name: &str, begin: usize) -> Result<usize, SyntaxError> {
        // VAL-24: other assets may lie in other partitions, between which there is no order
        if self.rest().starts_with([':', '[']) && !self.rest().starts_with(": ") || name.contains([':', '/']) {
            return Err(error(
                begin,
                "cross_asset",
                format!("{name} names another asset"),
                "an expression reads parameters of its own asset, by their bare names",
            ));
        }
        let known = self.operands.iter().position(|known| **known == *name);
        let place = known.unwrap_or_else(|| {
            self.operands.push(name.into());
            self.operands.len() - 1
        });
        self.push(Node::Operand(place))
    }

    fn number(&mut self) -> Result<usize, SyntaxError> {
        let begin = self.at;
        let bytes = self.text.as_bytes();
        let digits = |at: &mut usize| {
            while bytes.get(*at).is_some_and(u8::is_ascii_digit) {
                *at += 1;
            }
        };
        digits(&mut self.at);
        if bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            digits(&mut self.at);
        }
        if matches!(bytes.get(self.at), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(self.at + 1), Some(b'+' | b'-')));
            if bytes.get(self.at + 1 + sign).is_some_and(u8::is_ascii_digit) {
                self.at += 1 + sign;
                digits(&mut self.at);
            }
        }
        match self.text[begin..self.at].parse::<f64>() {
            Ok(number) if number.is_finite() => self.push(Node::Number(number)),
            _ => Err(error(begin, "syntax", "not a number", "")),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<&'t str, SyntaxError> {
        let begin = self.at;
        let inner = &self.text[begin + 1..];
        let Some(end) = inner.find(quote) else {
            return Err(error(begin, "syntax", format!("{quote} is not closed"), ""));
        };
        self.at = begin + end + 2;
        Ok(&inner[..end])
    }

    fn name(&mut self) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.').unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, SyntaxError>) -> Result<T, SyntaxError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let message = format!("nested deeper than {DEPTH_MAX}");
            return Err(error(self.at, "too_complex", message, "split it into several rules"));
        }
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn push(&mut self, node: Node) -> Result<usize, SyntaxError> {
        if self.nodes.len() >= NODES_MAX {
            let message = format!("more than {NODES_MAX} parts");
            return Err(error(self.at, "too_complex", message, "split it into several rules"));
        }
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Takes an operator or a word that is not the beginning of a longer one.
    fn take(&mut self, text: &str) -> bool {
        self.skip_space();
        let Some(after) = self.rest().strip_prefix(text) else { return false };
        let is_word = text.ends_with(|c: char| c.is_ascii_alphabetic());
        if is_word && after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.') {
            return false;
        }
        self.at += text.len();
        true
    }

    fn expect(&mut self, text: &'static str) -> Result<(), SyntaxError> {
        if self.take(text) { Ok(()) } else { Err(error(self.at, "syntax", format!("{text} is missing"), "")) }
    }

    fn unexpected(&self) -> SyntaxError {
        let message = match self.rest().chars().next() {
            None => "it ends too early".to_owned(),
            Some(found) => format!("{found:?} is not expected"),
        };
        error(self.at, "syntax", message, "for example: flow > 10 && abs(speed - setpoint) < 5")
    }
}

fn error(at: usize, code: &'static str, message: impl std::fmt::Display, hint: &'static str) -> SyntaxError {
    SyntaxError { at, code, message: format!("{message} (at character {})", at + 1), hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (&'static str, String) {
        let error = parse(text).unwrap_err();
        (error.code, error.message)
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        assert_eq!(refused("a + "), ("syntax", "it ends too early (at character 5)".to_owned()));
        assert_eq!(refused("(a"), ("syntax", ") is missing (at character 3)".to_owned()));
        assert_eq!(refused("a ~ b").0, "syntax");
        assert_eq!(refused("'open").1, "' is not closed (at character 1)");
        assert_eq!(refused("while(true)").0, "unknown_function");
        assert_eq!(refused("abs(1, 2)").0, "syntax");
    }

    #[test]
    fn other_assets_are_refused() {
        // VAL-24
        for text in ["pump_02:flow > 1", "`pump_02/flow` > 1", "assets[3] > 1"] {
            assert_eq!(refused(text).0, "cross_asset", "{text}");
        }
        assert!(parse("a > 1 ? b : c").is_ok(), "a choice is none");
        assert!(parse("a / b > 1").is_ok(), "a division is none");
    }

    #[test]
    fn an_endless_expression_is_refused_before_it_costs_anything() {
        // VAL-24
        assert_eq!(refused(&"(".repeat(100)).0, "too_complex");
        assert_eq!(refused(&"-".repeat(100)).0, "too_complex");
        assert_eq!(refused(&format!("1{}", "+1".repeat(100))).0, "too_complex");
        assert_eq!(refused(&"a".repeat(1000)).0, "too_long");
        assert_eq!(refused(&format!("a{}", "?1:a".repeat(60))).0, "too_complex");
    }
}
