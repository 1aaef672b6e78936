//! The newest reading of every point, for the status page, and how far each stage has come.
//!
//! The validator keeps its own copy and hands over what changed once per batch, so the page's lock is taken once per
//! batch and never while a record is judged. Readers get shared snapshots; a point is copied only when it changes while
//! somebody holds it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{Quality, Reading, Timestamp, Value};

use super::marks::LANES;

/// Points shown; one more is counted and not shown.
const LIVE_POINTS_MAX: usize = 100_000;

/// A value of its own.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum LiveValue {
    #[default]
    Null,
    Float(f64),
    Int(i64),
    Bool(bool),
    Text(String),
}

impl LiveValue {
    pub fn borrowed(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Float(number) => Value::Float(*number),
            Self::Int(number) => Value::Int(*number),
            Self::Bool(truth) => Value::Bool(*truth),
            Self::Text(text) => Value::Text(text),
        }
    }

    fn set(&mut self, value: &Value<'_>) {
        *self = match (&mut *self, *value) {
            (Self::Text(text), Value::Text(new)) => {
                new.clone_into(text);
                return;
            }
            (_, Value::Null) => Self::Null,
            (_, Value::Float(number)) => Self::Float(number),
            (_, Value::Int(number)) => Self::Int(number),
            (_, Value::Bool(truth)) => Self::Bool(truth),
            (_, Value::Text(text)) => Self::Text(text.to_owned()),
        };
    }
}

/// The newest reading of a point, rejected ones included.
#[derive(Debug, Clone, PartialEq)]
pub struct LivePoint {
    pub asset_id: String,
    pub parameter: String,
    pub value: LiveValue,
    pub value_label: Option<String>,
    pub unit: Option<String>,
    /// As judged by the validator.
    pub quality: Quality,
    pub quality_reason: Option<String>,
    pub device_time: Timestamp,
    pub gateway_time: Timestamp,
    pub adapter_id: String,
}

/// A stage whose progress the next one waits for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stage {
    Clean = 0,
    Second = 1,
    Minute = 2,
}

/// Bounded table of [`LivePoint`]s.
#[derive(Debug, Default)]
pub struct LiveTable {
    inner: Mutex<Inner>,
    version: AtomicU64,
    /// Per stage and partition: everything stamped before this, in microseconds, has been written by the stage.
    reached: [[AtomicI64; LANES]; 3],
}

#[derive(Debug, Default)]
struct Inner {
    points: Vec<Arc<LivePoint>>,
    by_name: HashMap<(String, String), usize>,
}

impl LiveTable {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All points in the order they first appeared.
    pub fn snapshot(&self) -> Vec<Arc<LivePoint>> {
        self.lock().points.clone()
    }

    /// Grows with every change.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Place of a point, given to it when it is new; `None` when the table is full.
    fn place(&self, point: &LivePoint) -> Option<usize> {
        let Inner { points, by_name } = &mut *self.lock();
        let name = (point.asset_id.clone(), point.parameter.clone());
        if let Some(place) = by_name.get(&name) {
            return Some(*place);
        }
        if points.len() >= LIVE_POINTS_MAX {
            return None;
        }
        points.push(Arc::new(point.clone()));
        by_name.insert(name, points.len() - 1);
        Some(points.len() - 1)
    }

    /// Everything stamped before `time` has been written by `stage` in this partition and is acknowledged.
    pub(super) fn set_reached(&self, stage: Stage, lane: usize, time: Timestamp) {
        self.reached[stage as usize][lane].fetch_max(time.as_micros(), Ordering::AcqRel);
    }

    pub(super) fn reached(&self, stage: Stage, lane: usize) -> Timestamp {
        Timestamp::from_micros(self.reached[stage as usize][lane].load(Ordering::Acquire))
    }
}

/// The validator's side: its own copy of the points and a list of those that changed.
#[derive(Debug, Default)]
pub(super) struct LiveFeed {
    points: Vec<Fed>,
    changed: Vec<usize>,
}

#[derive(Debug)]
struct Fed {
    point: LivePoint,
    place: usize,
    changed: bool,
}

/// Handle of a point for which there was no room.
const NO_PLACE: u32 = u32::MAX;

impl LiveFeed {
    /// Takes a judged reading in. `handle` is kept with the point by the caller, 0 for a new one. False when a new point
    /// found no room.
    pub(super) fn take(
        &mut self,
        table: &LiveTable,
        handle: &mut u32,
        reading: &Reading<'_>,
        judged: (Quality, Option<&str>, Timestamp),
    ) -> bool {
        if *handle == NO_PLACE {
            return true;
        }
        if *handle == 0 {
            let point = LivePoint {
                asset_id: reading.asset_id.to_owned(),
                parameter: reading.parameter.to_owned(),
                value: LiveValue::Null,
                value_label: None,
                unit: None,
                quality: Quality::Uncertain,
                quality_reason: None,
                device_time: judged.2,
                gateway_time: reading.gateway_time,
                adapter_id: reading.metadata.get("adapter_id").unwrap_or("").to_owned(),
            };
            let next = u32::try_from(self.points.len() + 1).unwrap_or(NO_PLACE);
            let Some(place) = table.place(&point).filter(|_| next != NO_PLACE) else {
                *handle = NO_PLACE;
                return false;
            };
            *handle = next;
            self.points.push(Fed { point, place, changed: false });
        }
        let at = *handle as usize - 1;
        let Some(fed) = self.points.get_mut(at) else { return true };
        let point = &mut fed.point;
        point.value.set(&reading.value);
        set(&mut point.value_label, reading.value_label);
        set(&mut point.unit, reading.unit);
        set(&mut point.quality_reason, judged.1);
        point.quality = judged.0;
        point.device_time = judged.2;
        point.gateway_time = reading.gateway_time;
        if !fed.changed {
            fed.changed = true;
            self.changed.push(at);
        }
        true
    }

    /// Hands over what changed, under one lock.
    pub(super) fn publish(&mut self, table: &LiveTable) {
        if self.changed.is_empty() {
            return;
        }
        let mut inner = table.lock();
        for at in self.changed.drain(..) {
            let Fed { point, place, changed } = &mut self.points[at];
            *changed = false;
            if let Some(shown) = inner.points.get_mut(*place) {
                let shown = Arc::make_mut(shown);
                shown.value.set(&point.value.borrowed());
                set(&mut shown.value_label, point.value_label.as_deref());
                set(&mut shown.unit, point.unit.as_deref());
                set(&mut shown.quality_reason, point.quality_reason.as_deref());
                shown.quality = point.quality;
                shown.device_time = point.device_time;
                shown.gateway_time = point.gateway_time;
            }
        }
        drop(inner);
        table.version.fetch_add(1, Ordering::AcqRel);
    }
}

/// Sets a text without a new allocation where the old one has room.
fn set(target: &mut Option<String>, text: Option<&str>) {
    match (target.as_mut(), text) {
        (Some(old), Some(new)) => {
            if old != new {
                new.clone_into(old);
            }
        }
        (_, new) => *target = new.map(ToOwned::to_owned),
    }
}
