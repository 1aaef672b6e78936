//! Readings made up at a chosen rate, sent through the same host and the same stream as real ones.
//!
//! For load tests and trials. It calls itself `simulated` wherever readings name their adapter, so that nobody takes
//! them for a plant.

pub mod schema;

use std::sync::Arc;
use std::time::Duration;

use config::rules::PointGlob;
use config::{Kind, Object, Problem, Spec};
use model::{Classification, Clock, ValueType};
use serde_json::Value;

use crate::adapter::{Adapter, Group, LinkError, Tag};
use crate::common::Common;
use crate::sample::{self, Cycle, Sample};

/// Points of one adapter; more are refused.
pub const POINTS_MAX: i64 = 100_000;

/// The entry of the catalog.
pub const SPEC: Spec = Spec {
    kind: Kind::Adapter,
    type_name: "simulated",
    summary: "Makes readings up at a chosen rate, for load tests and trials.",
    schema: schema::schema,
    validate: |value, pointer| plan(value, pointer).err().unwrap_or_default(),
    points: |value| plan(value, "").ok().map(|plan| plan.points()),
    table: None,
    claim: |_| None,
};

/// Valid settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub common: Common,
    pub points: u32,
    pub assets: u32,
    pub period: Duration,
}

/// Reads settings that stand at `pointer` of a document.
pub fn plan(value: &Value, pointer: &str) -> Result<Plan, Vec<Problem>> {
    let mut object = Object::new(value, pointer);
    let common = Common::read(&mut object);
    let count = |number: Option<i64>, default| number.and_then(|n| u32::try_from(n).ok()).unwrap_or(default);
    let points = count(object.integer("points", 1, POINTS_MAX), 100);
    let assets = count(object.integer("assets", 1, 1000), 1);
    let period_ms = count(object.integer("poll_interval_ms", 10, 86_400_000), 1000);
    if assets > points {
        object.problem("assets", "out_of_range", format!("{assets} assets share {points} points"), "");
    }
    let problems = object.finish();
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Plan { common, points, assets, period: Duration::from_millis(period_ms.into()) })
}

impl Plan {
    fn asset_of(&self, point: u32) -> String {
        let base = self.common.asset_id.as_ref().unwrap_or(&self.common.adapter_id);
        match self.assets {
            1 => base.clone(),
            assets => format!("{base}_{:04}", point % assets),
        }
    }

    fn points(&self) -> Vec<PointGlob> {
        let of_asset = |asset| PointGlob { asset: self.asset_of(asset), parameter: "value_*".to_owned() };
        (0..self.assets).map(of_asset).collect()
    }
}

/// The adapter.
#[derive(Debug)]
pub struct Simulated {
    tags: Vec<Tag>,
    groups: [Group; 1],
    devices: [String; 1],
    clock: Arc<dyn Clock>,
}

impl Simulated {
    /// From a valid plan. With several assets the asset names get a number each.
    pub fn new(plan: &Plan, clock: Arc<dyn Clock>) -> Self {
        let tags = (0..plan.points)
            .map(|point| Tag {
                asset_id: plan.asset_of(point),
                asset_path: plan.common.asset_path.clone(),
                parameter: format!("value_{:05}", point / plan.assets),
                unit: None,
                value_type: ValueType::Float,
                classification: Classification::Telemetry,
                source_ref: format!("point={point}"),
                group: 0,
                device: 0,
            })
            .collect();
        let groups = [Group { name: "default".to_owned(), period: plan.period }];
        Self { tags, groups, devices: ["simulation".to_owned()], clock }
    }
}

impl Adapter for Simulated {
    fn tags(&self) -> &[Tag] {
        &self.tags
    }

    fn groups(&self) -> &[Group] {
        &self.groups
    }

    fn devices(&self) -> &[String] {
        &self.devices
    }

    async fn connect(&mut self) -> Result<(), LinkError> {
        Ok(())
    }

    async fn poll(&mut self, _group: usize, cycle: &mut Cycle) -> Result<(), LinkError> {
        let now = self.clock.now();
        let note = &mut cycle.devices[0];
        (note.asked, note.answered) = (true, true);
        // A wave of ten minutes; each point is a little further along it.
        let millis = u32::try_from(now.as_millis().rem_euclid(600_000)).unwrap_or_default();
        let turn = f64::from(millis) / 600_000.0;
        let mut shift = 0.0;
        for tag in 0..self.tags.len() {
            let value = 50.0 + 40.0 * (std::f64::consts::TAU * (turn + shift)).sin();
            cycle.samples.push(Sample::new(tag, sample::Value::Float(value), now));
            shift += 0.01;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_are_checked() {
        let good = json!({"adapter_id": "load", "adapter_type": "simulated", "points": 10, "assets": 2});
        let plan = plan(&good, "").unwrap();
        let adapter = Simulated::new(&plan, Arc::new(model::SystemClock));
        assert_eq!(adapter.tags()[3].asset_id, "load_0001");
        assert_eq!(adapter.tags()[3].parameter, "value_00001");
        let bad = json!({"adapter_id": "load", "adapter_type": "simulated", "points": 0, "rate": 5});
        assert_eq!((SPEC.validate)(&bad, "/adapters/0").len(), 2);
    }
}
