//! `/api/v1/alarms`: the alarms of this gateway, the figures of their areas, and commands.

use axum::Router;
use axum::extract::{Query, State};
use axum::response::Json;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ApiState, Body, Problem, blocking};
use crate::alarm_commands::Request;

/// Alarms in one answer; a filter reaches the others.
const LIST_MAX: usize = 1000;

pub(super) fn routes() -> Router<ApiState> {
    Router::new().route("/", get(list)).route("/kpis", get(kpis)).route("/commands", post(command))
}

/// Which alarms; those that a person should see when nothing is said.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Filter {
    /// ACTIVE, ACKNOWLEDGED, CLEARED or SUPPRESSED; `all` for every one.
    state: Option<String>,
    asset: Option<String>,
    severity: Option<String>,
}

impl Filter {
    fn wants(&self, alarm: &Value) -> bool {
        let is = |key: &str, wanted: &Option<String>| {
            wanted
                .as_ref()
                .is_none_or(|wanted| alarm[key].as_str().is_some_and(|word| word.eq_ignore_ascii_case(wanted)))
        };
        // of those that are clear, a person sees what nobody has acknowledged (ISA-18.2, state D)
        let shown = match self.state.as_deref() {
            None => alarm["state"] != "CLEARED" || alarm["acked"] == false,
            Some("all") => true,
            Some(_) => is("state", &self.state),
        };
        shown && is("asset_id", &self.asset) && is("severity", &self.severity)
    }
}

async fn list(State(state): State<ApiState>, Query(filter): Query<Filter>) -> Json<Value> {
    let snapshot = state.alarms.table().snapshot();
    let matching: Vec<&Value> = snapshot.alarms.iter().filter(|alarm| filter.wants(alarm)).collect();
    let total = matching.len();
    Json(json!({ "total": total, "alarms": matching.into_iter().take(LIST_MAX).collect::<Vec<_>>() }))
}

async fn kpis(State(state): State<ApiState>) -> Json<Value> {
    Json(json!({ "areas": state.alarms.table().snapshot().kpis }))
}

async fn command(State(state): State<ApiState>, Body(request): Body<Request>) -> Result<Json<Value>, Problem> {
    blocking(move || state.alarms.send(&request)).await.map(Json)
}
