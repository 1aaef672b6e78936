//! Expressions over the readings of one asset: arithmetic, comparison, and/or/not, `abs`, `min`, `max` (VAL-24).
//!
//! The syntax is a small part of CEL's. There is nothing to loop with, an expression has at most [`NODES_MAX`] parts and
//! each is visited at most once, so evaluation ends within microseconds whatever is written. Parameters are named as they
//! are configured; a name with other characters than letters, digits, `_` and `.` stands in backquotes. Types are checked
//! when the values are there: what cannot be computed, such as the sum of a text and a number, is "not evaluated", never a
//! guess.

mod parse;

use std::collections::BTreeSet;

pub use parse::{DEPTH_MAX, NODES_MAX, SyntaxError, TEXT_MAX};

/// A value of an operand or a result. Integers are widened to float64, as statistics are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar<'a> {
    Number(f64),
    Truth(bool),
    Text(&'a str),
}

/// A compiled expression. Nodes refer to earlier nodes only; the last one is the result.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    nodes: Vec<Node>,
    /// Parameters in the order of their first mention.
    operands: Vec<Box<str>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Number(f64),
    Truth(bool),
    Text(Box<str>),
    /// Place in `operands`.
    Operand(usize),
    Not(usize),
    Negate(usize),
    Abs(usize),
    Binary(Binary, usize, usize),
    /// Smallest or largest of the numbers.
    Extreme(Extreme, Vec<usize>),
    /// Condition, then, else.
    Choose(usize, usize, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
    And,
    Or,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extreme {
    Min,
    Max,
}

impl Expr {
    /// Compiles `text`, or says where it is wrong.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        parse::parse(text)
    }

    /// The parameters it reads, each once.
    pub fn operands(&self) -> impl Iterator<Item = &str> {
        self.operands.iter().map(AsRef::as_ref)
    }

    /// Its value; `None` when an operand is missing or the types do not fit.
    pub fn evaluate<'a>(&'a self, operand: &mut dyn FnMut(&str) -> Option<Scalar<'a>>) -> Option<Scalar<'a>> {
        self.value(self.nodes.len().checked_sub(1)?, operand)
    }

    /// Its truth; `None` also when it is a number or a text.
    pub fn holds<'a>(&'a self, operand: &mut dyn FnMut(&str) -> Option<Scalar<'a>>) -> Option<bool> {
        match self.evaluate(operand)? {
            Scalar::Truth(truth) => Some(truth),
            _ => None,
        }
    }

    /// True when it can only yield a truth, as far as that shows without values.
    pub fn is_condition(&self) -> bool {
        self.nodes.last().is_some_and(|node| match node {
            Node::Number(_) | Node::Text(_) | Node::Negate(_) | Node::Abs(_) | Node::Extreme(..) => false,
            Node::Truth(_) | Node::Not(_) | Node::Operand(_) | Node::Choose(..) => true,
            Node::Binary(binary, _, _) => !matches!(
                binary,
                Binary::Add | Binary::Subtract | Binary::Multiply | Binary::Divide | Binary::Remainder
            ),
        })
    }

    fn value<'a>(&'a self, at: usize, operand: &mut dyn FnMut(&str) -> Option<Scalar<'a>>) -> Option<Scalar<'a>> {
        match &self.nodes[at] {
            Node::Number(number) => Some(Scalar::Number(*number)),
            Node::Truth(truth) => Some(Scalar::Truth(*truth)),
            Node::Text(text) => Some(Scalar::Text(text)),
            Node::Operand(place) => operand(&self.operands[*place]),
            Node::Not(of) => Some(Scalar::Truth(!self.truth(*of, operand)?)),
            Node::Negate(of) => Some(Scalar::Number(-self.number(*of, operand)?)),
            Node::Abs(of) => Some(Scalar::Number(self.number(*of, operand)?.abs())),
            Node::Extreme(which, of) => {
                let mut best: Option<f64> = None;
                for of in of {
                    let number = self.number(*of, operand)?;
                    best = Some(match (best, which) {
                        (None, _) => number,
                        (Some(best), Extreme::Min) => best.min(number),
                        (Some(best), Extreme::Max) => best.max(number),
                    });
                }
                best.map(Scalar::Number)
            }
            Node::Choose(condition, then, otherwise) => {
                let chosen = if self.truth(*condition, operand)? { *then } else { *otherwise };
                self.value(chosen, operand)
            }
            Node::Binary(Binary::And, left, right) => {
                Some(Scalar::Truth(self.truth(*left, operand)? && self.truth(*right, operand)?))
            }
            Node::Binary(Binary::Or, left, right) => {
                Some(Scalar::Truth(self.truth(*left, operand)? || self.truth(*right, operand)?))
            }
            Node::Binary(binary, left, right) => {
                let (left, right) = (self.value(*left, operand)?, self.value(*right, operand)?);
                apply(*binary, left, right)
            }
        }
    }

    fn number<'a>(&'a self, at: usize, operand: &mut dyn FnMut(&str) -> Option<Scalar<'a>>) -> Option<f64> {
        match self.value(at, operand)? {
            Scalar::Number(number) => Some(number),
            _ => None,
        }
    }

    fn truth<'a>(&'a self, at: usize, operand: &mut dyn FnMut(&str) -> Option<Scalar<'a>>) -> Option<bool> {
        match self.value(at, operand)? {
            Scalar::Truth(truth) => Some(truth),
            _ => None,
        }
    }
}

/// A result that is no number, such as 1 / 0, is none.
fn apply<'a>(binary: Binary, left: Scalar<'a>, right: Scalar<'a>) -> Option<Scalar<'a>> {
    match binary {
        Binary::Equal => return same(left, right).map(Scalar::Truth),
        Binary::NotEqual => return same(left, right).map(|same| Scalar::Truth(!same)),
        _ => {}
    }
    let (Scalar::Number(left), Scalar::Number(right)) = (left, right) else { return None };
    let number = match binary {
        Binary::Less => return Some(Scalar::Truth(left < right)),
        Binary::LessOrEqual => return Some(Scalar::Truth(left <= right)),
        Binary::Greater => return Some(Scalar::Truth(left > right)),
        Binary::GreaterOrEqual => return Some(Scalar::Truth(left >= right)),
        Binary::Add => left + right,
        Binary::Subtract => left - right,
        Binary::Multiply => left * right,
        Binary::Divide => left / right,
        Binary::Remainder => left % right,
        Binary::Equal | Binary::NotEqual | Binary::And | Binary::Or => return None, // answered before
    };
    number.is_finite().then_some(Scalar::Number(number))
}

/// `None` for values of different types.
fn same(left: Scalar<'_>, right: Scalar<'_>) -> Option<bool> {
    match (left, right) {
        (Scalar::Number(left), Scalar::Number(right)) => Some(left == right),
        (Scalar::Truth(left), Scalar::Truth(right)) => Some(left == right),
        (Scalar::Text(left), Scalar::Text(right)) => Some(left == right),
        _ => None,
    }
}

/// Every parameter any of the expressions reads.
pub fn all_operands<'e>(expressions: impl Iterator<Item = &'e Expr>) -> BTreeSet<Box<str>> {
    expressions.flat_map(|expression| expression.operands.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(expression: &'a Expr, operands: &'a [(&str, Scalar<'a>)]) -> Option<Scalar<'a>> {
        expression.evaluate(&mut |name| operands.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
    }

    fn number(text: &str) -> Option<f64> {
        let expression = Expr::parse(text).unwrap();
        match value(&expression, &[("a", Scalar::Number(6.0)), ("b.c_2", Scalar::Number(4.0))]) {
            Some(Scalar::Number(number)) => Some(number),
            _ => None,
        }
    }

    fn truth(text: &str) -> Option<bool> {
        let expression = Expr::parse(text).unwrap();
        let operands = [
            ("flow", Scalar::Number(3.5)),
            ("running", Scalar::Truth(true)),
            ("state", Scalar::Text("RUN")),
            ("odd-name", Scalar::Number(1.0)),
        ];
        expression.holds(&mut |name| operands.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
    }

    #[test]
    fn arithmetic_binds_as_everywhere() {
        // VAL-24
        assert_eq!(number("1 + 2 * 3"), Some(7.0));
        assert_eq!(number("(1 + 2) * 3 - -4"), Some(13.0));
        assert_eq!(number("10 - 4 - 3"), Some(3.0));
        assert_eq!(number("a / b.c_2 % 1"), Some(0.5));
        assert_eq!(number("max(a, 7, abs(-9.5)) + min(1e3, 2)"), Some(11.5));
        assert_eq!(number("a > 5 ? 1 : 2"), Some(1.0));
        assert_eq!(number("1 / 0"), None, "no number");
        assert_eq!(number("missing + 1"), None);
    }

    #[test]
    fn conditions_compare_and_combine() {
        assert_eq!(truth("flow > 3 && running"), Some(true));
        assert_eq!(truth("!(flow >= 3.5) || state == 'RUN'"), Some(true));
        assert_eq!(truth("state != \"STOP\" && `odd-name` == 1"), Some(true));
        assert_eq!(truth("running == false"), Some(false));
        assert_eq!(truth("not running or flow < 0"), Some(false), "the words are read as well");
        assert_eq!(truth("state > 1"), None, "types do not fit");
        assert_eq!(truth("flow"), None, "a number is no truth");
        assert_eq!(truth("running || missing > 1"), Some(true), "what decides is enough");
        assert_eq!(truth("missing > 1 || running"), None);
    }

    #[test]
    fn operands_are_named_once_and_conditions_are_told_from_numbers() {
        let expression = Expr::parse("a > b && abs(a - b) < 3").unwrap();
        assert_eq!(expression.operands().collect::<Vec<_>>(), ["a", "b"]);
        assert!(expression.is_condition());
        assert!(!Expr::parse("a + b").unwrap().is_condition());
    }

    #[test]
    fn no_text_panics_and_what_is_read_is_bounded() {
        let letters: Vec<char> = "abc019+*/%()!<>=&|?:,'`. -".chars().collect();
        let mut state = 7_usize;
        let mut read = 0;
        for _ in 0..20_000 {
            let text: String = (0..state % 12)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    letters[(state >> 33) % letters.len()]
                })
                .collect();
            state = state.wrapping_add(0x9e37_79b9);
            if let Ok(expression) = Expr::parse(&text) {
                read += 1;
                assert!(expression.nodes.len() <= NODES_MAX);
                let _: Option<Scalar<'_>> = expression.evaluate(&mut |_| Some(Scalar::Number(2.0)));
            }
        }
        assert!(read > 100, "{read} were expressions");
    }
}
