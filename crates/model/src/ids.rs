//! Identities: asset, parameter and component names.
//!
//! One grammar for all that becomes a Kafka key, a topic part, a metric label or a file name (REC-24).

use std::fmt;

/// Longest name, in bytes.
pub const NAME_LENGTH_MAX: usize = 128;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidName {
    pub name: String,
    pub reason: &'static str,
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a name: {}", self.name, self.reason)
    }
}

impl std::error::Error for InvalidName {}

/// Checks the grammar `[a-z0-9][a-z0-9_.-]{0,127}` after lower-casing; other characters become `_` (REC-24).
pub fn normalise(text: &str) -> Result<String, InvalidName> {
    let refuse = |reason| Err(InvalidName { name: text.chars().take(NAME_LENGTH_MAX).collect(), reason });
    if text.is_empty() {
        return refuse("it is empty");
    }
    let name: String = text
        .chars()
        .flat_map(char::to_lowercase)
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.' | '-') { c } else { '_' })
        .collect();
    if name.len() > NAME_LENGTH_MAX {
        return refuse("it is longer than 128 characters");
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()) {
        return refuse("it must begin with a letter a-z or a digit");
    }
    Ok(name)
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(String);

        impl $type {
            /// Normalises `text` by the grammar of [`normalise`].
            pub fn new(text: &str) -> Result<Self, InvalidName> {
                normalise(text).map(Self)
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// The thing in the plant a reading belongs to.
    AssetId
);
name_type!(
    /// The measured quantity of an asset.
    Parameter
);
name_type!(
    /// A configured source connector.
    AdapterId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lowered_and_cleaned() {
        // REC-24
        assert_eq!(normalise("Line_1 Sensor/01").unwrap(), "line_1_sensor_01");
        assert_eq!(AssetId::new("Pump-7.b").unwrap().as_str(), "pump-7.b");
    }

    #[test]
    fn what_cannot_be_a_name_says_why() {
        for (text, part) in [("", "empty"), ("_x", "begin"), (&*"a".repeat(129), "128")] {
            assert!(normalise(text).unwrap_err().reason.contains(part), "{text}");
        }
    }
}
