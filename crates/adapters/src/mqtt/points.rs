//! The points an adapter learns from its messages: names to tags, bounded (MQ-15).

use std::collections::HashMap;

use model::{Classification, ValueType, reason};

use crate::adapter::{NO_GROUP, Tag};

/// Points of one adapter; a message that would bring another one becomes a dead letter.
pub const POINTS_MAX: usize = 200_000;

/// All points so far; a tag keeps its number for ever.
#[derive(Debug)]
pub struct Points {
    tags: Vec<Tag>,
    assets: HashMap<String, Asset>,
    assets_max: usize,
}

#[derive(Debug, Default)]
struct Asset {
    /// As it stood in the topic that brought it.
    spelling: String,
    parameters: HashMap<String, usize>,
}

/// What a new point is, besides its name.
#[derive(Debug, Clone)]
pub struct Nature {
    pub asset_path: Option<String>,
    pub unit: Option<String>,
    pub value_type: ValueType,
    pub classification: Classification,
    pub source_ref: String,
}

/// Why a name leads to no point; a reason code.
pub type NoPoint = &'static str;

impl Points {
    pub fn new(assets_max: usize) -> Self {
        Self { tags: Vec::new(), assets: HashMap::new(), assets_max }
    }

    pub fn tags(&self) -> &[Tag] {
        &self.tags
    }

    /// Assets so far.
    pub fn assets(&self) -> usize {
        self.assets.len()
    }

    /// True if another spelling has this name already: two things would become one.
    pub fn is_taken(&self, asset: &str, spelling: &str) -> bool {
        self.assets.get(asset).is_some_and(|known| known.spelling != spelling)
    }

    /// The tag of a point, a new one if need be.
    pub fn tag(
        &mut self,
        asset: &str,
        spelling: &str,
        parameter: &str,
        nature: impl FnOnce() -> Nature,
    ) -> Result<usize, NoPoint> {
        if let Some(known) = self.assets.get(asset)
            && let Some(tag) = known.parameters.get(parameter)
        {
            return Ok(*tag);
        }
        let is_new = !self.assets.contains_key(asset);
        if self.tags.len() >= POINTS_MAX || (is_new && self.assets.len() >= self.assets_max) {
            return Err(reason::CARDINALITY_LIMIT);
        }
        let nature = nature();
        let number = self.tags.len();
        self.tags.push(Tag {
            asset_id: asset.to_owned(),
            asset_path: nature.asset_path,
            parameter: parameter.to_owned(),
            unit: nature.unit,
            value_type: nature.value_type,
            classification: nature.classification,
            source_ref: nature.source_ref,
            group: NO_GROUP,
            device: 0,
        });
        let known = self.assets.entry(asset.to_owned()).or_default();
        if is_new {
            spelling.clone_into(&mut known.spelling);
        }
        known.parameters.insert(parameter.to_owned(), number);
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // AC-054
    #[test]
    fn a_point_keeps_its_number_and_the_limit_holds() {
        let mut points = Points::new(2);
        let nature = || Nature {
            asset_path: None,
            unit: None,
            value_type: ValueType::Float,
            classification: Classification::Telemetry,
            source_ref: String::new(),
        };
        assert_eq!(points.tag("a", "A", "x", nature), Ok(0));
        assert_eq!(points.tag("b", "b", "x", nature), Ok(1));
        assert_eq!(points.tag("a", "A", "x", nature), Ok(0));
        assert_eq!(points.tag("c", "c", "x", nature), Err(reason::CARDINALITY_LIMIT));
        assert_eq!(points.tag("a", "A", "y", nature), Ok(2));
        assert!(points.is_taken("a", "a") && !points.is_taken("a", "A") && !points.is_taken("d", "d"));
    }
}
