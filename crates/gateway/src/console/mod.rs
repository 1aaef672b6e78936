//! The status page: one HTML file, one JSON answer a second. The web console replaces it one day; `/health` and
//! `/metrics` of the runtime are served beside it.
//!
//! All text from the field reaches the browser as JSON and is put into the page as text, never as markup (G-11).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderName, header};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use daemon::clock::Watch;
use model::{Clock, Health, Value};
use serde_json::json;
use tokio::sync::watch;

use crate::desired::{Loaded, Rejected};
use crate::modules::{LiveTable, ModuleState};
use crate::rollup::{Part, roll_up};
use crate::{supervisor, timekeeping};

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");
/// Rows of the live table in one answer; a filter reaches the others.
const ROWS_MAX: usize = 500;
/// No script, style or request from anywhere but this server.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the page is made of.
#[derive(Debug, Clone)]
pub struct Console {
    pub clock: Arc<dyn Clock>,
    /// What that clock is worth.
    pub timekeeper: Arc<Watch>,
    pub live: Arc<LiveTable>,
    pub modules: Vec<(&'static str, Arc<ModuleState>)>,
    pub supervisor: supervisor::Handle,
    pub topics: crate::watch::Table,
    pub external: crate::external::Watch,
    pub loaded: watch::Receiver<Loaded>,
    pub rejected: watch::Receiver<Option<Rejected>>,
}

impl Console {
    pub fn routes(self) -> Router {
        Router::new()
            .route("/", get(page))
            .route("/page.js", get(script))
            .route("/page.css", get(style))
            .route("/api/status", get(status))
            .with_state(self)
    }

    /// The gateway's state in one word.
    pub fn health(&self) -> Health {
        let children = self.supervisor.children();
        let parts: Vec<Part> = children
            .iter()
            .map(|child| Part { role: Some(child.role), health: child.health })
            .chain(self.modules.iter().map(|(_, state)| Part { role: None, health: state.health() }))
            .collect();
        roll_up(&parts).max(self.external.health()).max(timekeeping::health(&self.timekeeper.life()))
    }

    /// One sentence about the worst part.
    pub fn reason(&self) -> String {
        let children = self.supervisor.children();
        let worst_child = children.iter().max_by_key(|child| child.health);
        let worst_module = self.modules.iter().max_by_key(|(_, state)| state.health());
        let unwell = self.rejected.borrow().as_ref().map(|rejected| {
            format!(
                "document {} was refused with {} problems, revision {} runs on",
                rejected.revision,
                rejected.problems.len(),
                self.loaded.borrow().revision
            )
        });
        let module = worst_module.filter(|(_, state)| state.health() > Health::Healthy);
        let child = worst_child.filter(|child| child.health > Health::Healthy);
        module
            .map(|(name, state)| format!("{name}: {}", state.reason()))
            .or_else(|| child.map(|child| format!("{}: {}", child.name, child.reason)))
            .or_else(|| self.stream_reason())
            .or_else(|| timekeeping::complaint(&self.timekeeper.life()))
            .or(unwell)
            .unwrap_or_else(|| "all components work".to_owned())
    }
}

impl Console {
    /// What is wrong with an external stream, if it is felt.
    fn stream_reason(&self) -> Option<String> {
        let verdict = self.external.verdict().filter(|verdict| verdict.health() > Health::Healthy)?;
        verdict.reason().map(|reason| format!("external stream: {reason}"))
    }
}

/// The external stream's findings; null in embedded mode, and until it has been looked at.
fn stream_json(console: &Console) -> serde_json::Value {
    console.external.verdict().map_or(serde_json::Value::Null, |verdict| {
        json!({
            "health": verdict.health().as_str(), "remarks": verdict.texts(), "not_checked": verdict.unknown,
        })
    })
}

async fn page() -> Response {
    ([(header::CONTENT_SECURITY_POLICY, CONTENT_POLICY)], Html(PAGE)).into_response()
}

async fn script() -> Response {
    asset("text/javascript; charset=utf-8", SCRIPT)
}

async fn style() -> Response {
    asset("text/css; charset=utf-8", STYLE)
}

fn asset(content_type: &'static str, body: &'static str) -> Response {
    let nosniff = HeaderName::from_static("x-content-type-options");
    ([(header::CONTENT_TYPE, content_type), (nosniff, "nosniff")], body).into_response()
}

async fn status(
    State(console): State<Console>,
    Query(query): Query<HashMap<String, String>>,
) -> Json<serde_json::Value> {
    let filter = query.get("filter").map(|text| text.to_lowercase()).unwrap_or_default();
    let now = console.clock.now();
    let points = console.live.snapshot();
    let matching: Vec<_> = points
        .iter()
        .filter(|point| filter.is_empty() || point.asset_id.contains(&filter) || point.parameter.contains(&filter))
        .collect();
    let rows: Vec<serde_json::Value> = matching
        .iter()
        .take(ROWS_MAX)
        .map(|point| {
            json!({
                "asset": point.asset_id, "parameter": point.parameter, "value": value_json(&point.value.borrowed()),
                "label": point.value_label, "unit": point.unit, "quality": point.quality.as_str(), "reason": point.quality_reason,
                "adapter": point.adapter_id, "device_time": point.device_time.to_string(),
                "age_ms": now.micros_since(point.gateway_time).max(0) / 1000,
            })
        })
        .collect();
    let children: Vec<serde_json::Value> = console
        .supervisor
        .children()
        .iter()
        .map(|child| {
            json!({
                "name": child.name, "role": child.role.as_str(), "type": child.type_name, "health": child.health.as_str(),
                "reason": child.reason, "since": child.since.to_string(), "pid": child.pid, "restarts": child.restarts,
                "lag_records": child.details.get("lag_records"), "oldest_age_s": child.details.get("oldest_age_s"),
                "breaker": child.details.get("breaker_state"), "last_at": child.details.get("last_reading_at").or(child.details.get("last_write_at")),
            })
        })
        .collect();
    let modules: Vec<serde_json::Value> = console
        .modules
        .iter()
        .map(|(name, state)| {
            json!({
                "name": name, "role": "module", "type": "runtime", "health": state.health().as_str(), "reason": state.reason(),
                "lag_records": state.lag_records(),
            })
        })
        .collect();
    let topics: Vec<serde_json::Value> = console
        .topics
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .map(|topic| json!({ "name": topic.topic.name(), "written": topic.written.to_string(), "records_per_s": topic.records_per_s }))
        .collect();
    let loaded = console.loaded.borrow().clone();
    let rejected = console.rejected.borrow().clone();
    Json(json!({
        "gateway_id": loaded.document.gateway_id, "revision": loaded.document.revision.clone().unwrap_or(loaded.revision),
        "now": now.to_string(), "clock_state": console.timekeeper.state().as_str(), "health": console.health().as_str(), "reason": console.reason(),
        "points_total": points.len(), "points_matching": matching.len(), "points": rows,
        "components": children.into_iter().chain(modules).collect::<Vec<_>>(), "topics": topics,
        "external_stream": stream_json(&console),
        "rejected": rejected.map(|rejected| json!({
            "revision": rejected.revision, "problems": rejected.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })),
    }))
}

/// Integers as text, so that no browser rounds them (REC-01).
fn value_json(value: &Value<'_>) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Float(number) => json!(number),
        Value::Int(number) => json!(number.to_string()),
        Value::Bool(truth) => json!(truth),
        Value::Text(text) => json!(text),
    }
}
