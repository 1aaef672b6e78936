//! A problem in a document: where, what, and what to do.

use std::fmt;

use serde::Serialize;

/// Prints as `path: reason (hint)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// JSON Pointer into the document, `/adapters/2/registers/40001`.
    pub pointer: String,
    /// Stable word for programs, `unknown_key`.
    pub code: &'static str,
    /// What is wrong, for a person.
    pub message: String,
    /// What to do, empty when the message says it.
    pub hint: String,
}

impl Problem {
    pub fn new(
        pointer: impl Into<String>,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { pointer: pointer.into(), code, message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pointer = if self.pointer.is_empty() { "/" } else { &self.pointer };
        write!(f, "{pointer}: {}", self.message)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, " ({})", self.hint) }
    }
}
