//! Names as clients give them: subjects, versions, levels and modes.

use std::fmt;

use super::error::ApiError;
use crate::limits::SUBJECT_BYTES_MAX;

/// How new schemas of a subject must relate to older ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    /// The new schema reads what the old ones wrote.
    pub(super) backward: bool,
    /// The old schemas read what the new one writes.
    pub(super) forward: bool,
    /// All old versions count, not only the newest.
    pub(super) transitive: bool,
}

impl Level {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_uppercase();
        let (kind, transitive) = match name.strip_suffix("_TRANSITIVE") {
            Some(kind) => (kind, true),
            None => (name.as_str(), false),
        };
        let (backward, forward) = match kind {
            "BACKWARD" => (true, false),
            "FORWARD" => (false, true),
            "FULL" => (true, true),
            "NONE" if !transitive => (false, false),
            _ => return None,
        };
        Some(Self { backward, forward, transitive })
    }
}

/// The modes; FORWARD belongs to links between clusters and is not one of ours.
pub(super) const MODES: [&str; 4] = ["READWRITE", "READONLY", "READONLY_OVERRIDE", "IMPORT"];

/// A version number as a client gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VersionName {
    Latest,
    Number(i32),
}

impl VersionName {
    pub(super) fn parse(text: &str) -> Result<Self, ApiError> {
        match text {
            "latest" | "-1" => Ok(Self::Latest),
            number => match number.parse() {
                Ok(number @ 1..) => Ok(Self::Number(number)),
                _ => Err(ApiError::invalid_version(&text.chars().take(80).collect::<String>())),
            },
        }
    }
}

impl fmt::Display for VersionName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => formatter.write_str("latest"),
            Self::Number(number) => number.fmt(formatter),
        }
    }
}

/// A subject as it is kept. `:.:name` is a name in the default context, which is left out; other contexts stay part of
/// the name, and all contexts share one row of ids.
pub(super) fn subject(given: String) -> Result<String, ApiError> {
    let name = match given.strip_prefix(":.:") {
        Some(name) => name.to_owned(),
        None => given,
    };
    if name.is_empty() || name.len() > SUBJECT_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(ApiError::invalid_subject());
    }
    Ok(name)
}

/// Where settings of a subject's context are kept: under the context itself. The default context has none of its own.
pub(super) fn context_subject(subject: &str) -> Option<&str> {
    match context(subject) {
        "." => None,
        context => subject.get(..context.len() + 2),
    }
}

/// A subject that is named inside of another one's schema stands in the same context, unless it says which.
pub(super) fn beside(parent: &str, given: String) -> Result<String, ApiError> {
    match context_subject(parent) {
        Some(context) if !given.starts_with(":.") => subject(format!("{context}{given}")),
        _ => subject(given),
    }
}

/// The context of a subject: `.` unless the name begins with `:.context:`.
pub(super) fn context(subject: &str) -> &str {
    let named = subject.strip_prefix(':').and_then(|rest| rest.split_once(':'));
    named.map(|(context, _)| context).filter(|context| context.starts_with('.')).unwrap_or(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    // STR-21
    #[test]
    fn levels() {
        assert_eq!(Level::parse("backward"), Some(Level { backward: true, forward: false, transitive: false }));
        assert_eq!(Level::parse("FULL_TRANSITIVE"), Some(Level { backward: true, forward: true, transitive: true }));
        assert_eq!(Level::parse("NONE"), Some(Level { backward: false, forward: false, transitive: false }));
        for wrong in ["NONE_TRANSITIVE", "SIDEWAYS", ""] {
            assert_eq!(Level::parse(wrong), None);
        }
    }

    // STR-20
    #[test]
    fn subjects_keep_their_names_and_contexts() {
        assert_eq!(subject("a/b c:é".to_owned()).unwrap(), "a/b c:é");
        assert_eq!(subject(":.:a".to_owned()).unwrap(), "a");
        assert_eq!(subject(":.site:a".to_owned()).unwrap(), ":.site:a");
        assert_eq!((context("a"), context(":.site:a"), context(":a:b")), (".", ".site", "."));
        assert_eq!((context_subject("a"), context_subject(":.site:a")), (None, Some(":.site:")));
        assert_eq!(beside(":.site:a", "b".to_owned()).unwrap(), ":.site:b");
        assert_eq!(beside(":.site:a", ":.:b".to_owned()).unwrap(), "b");
        assert_eq!(beside("a", "b".to_owned()).unwrap(), "b");
        for wrong in [String::new(), ":.:".to_owned(), "a\nb".to_owned(), "x".repeat(SUBJECT_BYTES_MAX + 1)] {
            assert!(subject(wrong).is_err());
        }
    }
}
