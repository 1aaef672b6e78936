//! What is aggregated, as written; `pipeline` turns it into windows.

use model::Resolution;
use serde_json::Value;

use crate::{Object, Problem};

/// The aggregator's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregation {
    pub resolutions: Vec<Resolution>,
}

impl Default for Aggregation {
    fn default() -> Self {
        Self { resolutions: Resolution::ALL.to_vec() }
    }
}

impl Aggregation {
    /// Reads `{"resolutions": ["1s", "1min", "1hour"]}`.
    pub fn read(value: &Value, pointer: &str) -> (Self, Vec<Problem>) {
        let mut object = Object::new(value, pointer);
        let mut resolutions = Vec::new();
        let Some(list) = object.list("resolutions") else { return (Self::default(), object.finish()) };
        for (i, entry) in list.iter().enumerate() {
            match entry.as_str().and_then(Resolution::parse) {
                Some(resolution) if !resolutions.contains(&resolution) => resolutions.push(resolution),
                Some(_) => {}
                None => object.extend([Problem::new(
                    format!("{pointer}/resolutions/{i}"),
                    "unknown_word",
                    format!("{entry} is not one of 1s, 1min, 1hour"),
                    "",
                )]),
            }
        }
        // a longer window is the merge of the shorter ones (AGG-05)
        for (longer, shorter) in [(Resolution::Minute, Resolution::Second), (Resolution::Hour, Resolution::Minute)] {
            if resolutions.contains(&longer) && !resolutions.contains(&shorter) {
                let message = format!(
                    "{} windows are merged from {} windows, which are not produced",
                    longer.as_str(),
                    shorter.as_str()
                );
                object.problem("resolutions", "missing", message, format!("add {:?}", shorter.as_str()));
            }
        }
        resolutions.sort_unstable();
        (Self { resolutions }, object.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_hour_needs_its_minutes() {
        let (_, problems) = Aggregation::read(&json!({"resolutions": ["1s", "1hour"]}), "/aggregation");
        assert_eq!(problems.len(), 1);
        assert!(problems[0].hint.contains("1min"));
    }
}
