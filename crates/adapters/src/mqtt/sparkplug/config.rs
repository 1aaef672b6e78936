//! Settings of the section `sparkplug`.

use std::time::Duration;

use ::config::{Object, Problem};
use serde_json::Value;

/// Groups of one adapter; more are refused.
const GROUPS_MAX: usize = 100;

/// Valid settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub groups: Vec<String>,
    /// Globs of edge nodes; empty means all.
    pub edge_nodes: Vec<String>,
    /// Births may be asked for.
    pub rebirth: bool,
    /// How long a message may be overtaken by later ones.
    pub reorder: Duration,
}

impl Plan {
    /// What to subscribe to.
    pub fn filters(&self) -> Vec<String> {
        self.groups.iter().map(|group| format!("spBv1.0/{group}/#")).collect()
    }
}

/// Reads settings that stand at `pointer`.
pub fn read(value: &Value, pointer: &str) -> (Plan, Vec<Problem>) {
    let mut object = Object::new(value, pointer);
    let texts = |object: &mut Object<'_>, key: &'static str| -> Vec<String> {
        object.list(key).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let groups = texts(&mut object, "groups");
    if groups.is_empty() || groups.len() > GROUPS_MAX {
        object.problem("groups", "bad_count", format!("{} groups, 1 to {GROUPS_MAX} are possible", groups.len()), "");
    }
    for group in &groups {
        if group.is_empty() || (group != "+" && group.contains(['/', '+', '#', '\0'])) || group.starts_with('$') {
            object.problem("groups", "bad_group", format!("{group:?} is no group"), "+ alone means all groups");
        }
    }
    let plan = Plan {
        groups,
        edge_nodes: texts(&mut object, "edge_nodes"),
        rebirth: object.boolean("rebirth").unwrap_or(true),
        reorder: Duration::from_millis(super::super::config::number(&mut object, "reorder_ms", 0, 60_000, 5_000)),
    };
    (plan, object.finish())
}
