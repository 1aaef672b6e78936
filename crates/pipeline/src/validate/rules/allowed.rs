//! Enumeration: the values a tag may take; others are marked, or rejected where that is configured.

use config::rules;
use model::{Quality, Value, reason};

use crate::validate::Finding;

/// The allowed values of a point.
#[derive(Debug, Clone, PartialEq)]
pub struct Allowed {
    /// Index of the configured rule.
    pub rule: u32,
    settings: rules::Allowed,
}

impl Allowed {
    pub fn new(rule: u32, settings: &rules::Allowed) -> Self {
        Self { rule, settings: settings.clone() }
    }

    /// Finds a value, or its label, that is not in the list.
    pub fn check(&self, value: &Value<'_>, label: Option<&str>) -> Option<Finding> {
        let listed = |text: &str| self.settings.texts.iter().any(|allowed| allowed == text);
        let known = match value {
            Value::Text(text) => listed(text),
            Value::Bool(truth) => listed(if *truth { "true" } else { "false" }),
            _ => value.as_number().is_some_and(|number| self.settings.numbers.contains(&number)),
        };
        if known || label.is_some_and(listed) {
            return None;
        }
        let quality = if self.settings.reject_others { Quality::Bad } else { Quality::Suspect };
        Some(Finding { quality, code: reason::UNKNOWN_ENUM, rule: Some(self.rule), limit: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_marked_or_rejected() {
        // VAL table, "enumeration"
        let settings = rules::Allowed { texts: vec!["RUN".to_owned()], numbers: vec![0.0, 1.0], reject_others: false };
        let allowed = Allowed::new(0, &settings);
        assert_eq!(allowed.check(&Value::Text("RUN"), None), None);
        assert_eq!(allowed.check(&Value::Int(1), None), None);
        assert_eq!(allowed.check(&Value::Int(7), Some("RUN")), None, "the state's text counts as well");
        let found = allowed.check(&Value::Int(7), Some("BROKEN")).unwrap();
        assert_eq!((found.quality, found.code), (Quality::Suspect, "UNKNOWN_ENUM"));
        let strict = Allowed::new(0, &rules::Allowed { reject_others: true, ..settings });
        assert_eq!(strict.check(&Value::Text("STOP"), None).unwrap().quality, Quality::Bad);
    }
}
