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
            Some(state) if state.eq_ignore_ascii_case("all") => true,
            Some(_) => is("state", &self.state),
        };
        shown && is("asset_id", &self.asset) && is("severity", &self.severity)
    }
}

const STATES: [&str; 5] = ["ACTIVE", "ACKNOWLEDGED", "CLEARED", "SUPPRESSED", "all"];
const SEVERITIES: [&str; 4] = ["LOW", "MEDIUM", "HIGH", "CRITICAL"];

/// A word that is none of these must not read as "nothing is wrong".
fn check(name: &str, given: Option<&String>, words: &[&str]) -> Result<(), Problem> {
    match given {
        Some(given) if !words.iter().any(|word| word.eq_ignore_ascii_case(given)) => {
            Err(Problem::bad_request(format!("{name} {given:?} is not one of {}", words.join(", "))))
        }
        _ => Ok(()),
    }
}

async fn list(State(state): State<ApiState>, Query(filter): Query<Filter>) -> Result<Json<Value>, Problem> {
    check("state", filter.state.as_ref(), &STATES)?;
    check("severity", filter.severity.as_ref(), &SEVERITIES)?;
    let snapshot = state.alarms.table().snapshot();
    if !snapshot.is_complete {
        return Err(Problem::unavailable("the gateway is still reading its alarms; ask again in some seconds"));
    }
    let asset = filter.asset.as_ref();
    let is_known = |asset: &String| snapshot.alarms.iter().any(|alarm| alarm["asset_id"] == **asset);
    if let Some(asset) = asset.filter(|asset| !is_known(asset)) {
        return Err(Problem::not_found(format!("no alarm watches an asset {asset:?}")));
    }
    let matching: Vec<&Value> = snapshot.alarms.iter().filter(|alarm| filter.wants(alarm)).collect();
    let total = matching.len();
    Ok(Json(json!({ "total": total, "alarms": matching.into_iter().take(LIST_MAX).collect::<Vec<_>>() })))
}

async fn kpis(State(state): State<ApiState>) -> Json<Value> {
    Json(json!({ "areas": state.alarms.table().snapshot().kpis }))
}

async fn command(State(state): State<ApiState>, Body(request): Body<Request>) -> Result<Json<Value>, Problem> {
    blocking(move || state.alarms.send(&request)).await.map(Json)
}
