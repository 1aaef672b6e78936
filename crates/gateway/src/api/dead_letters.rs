//! `/api/v1/dead-letters`: looking at dead letters and deciding about them.
//!
//! Ids hold slashes and travel in the query or in the body. A command answers when its job is over, or after a few seconds
//! with where it stands.

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::Value;

use super::{ApiState, Body, Problem, blocking};
use crate::dead_letters::{Action, Command, Filter, Selection};

/// How long an answer is held for a job to end.
const PATIENCE: Duration = Duration::from_secs(3);
/// Ids in one request; more are selected by a filter.
const IDS_MAX: usize = 1000;

pub(super) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/", get(list))
        .route("/groups", get(groups))
        .route("/entry", get(show))
        .route("/preview", post(preview))
        .route("/dry-run", post(dry_run))
        .route("/approve", post(approve))
        .route("/reject", post(reject))
        .route("/reprocess", post(reprocess))
        .route("/jobs", get(jobs))
        .route("/jobs/{id}", get(job))
        .route("/jobs/{id}/cancel", post(cancel))
}

/// A query of the list: a filter and a page.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Page {
    reason: Option<String>,
    rule: Option<String>,
    adapter: Option<String>,
    asset: Option<String>,
    parameter: Option<String>,
    status: Option<String>,
    since: Option<String>,
    until: Option<String>,
    before: Option<String>,
    limit: Option<usize>,
}

impl Page {
    fn filter(&self) -> Filter {
        Filter {
            reason: self.reason.clone(),
            rule: self.rule.clone(),
            adapter: self.adapter.clone(),
            asset: self.asset.clone(),
            parameter: self.parameter.clone(),
            status: self.status.clone(),
            since: self.since.clone(),
            until: self.until.clone(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    id: String,
}

/// A command: exactly one of `ids`, `filter` and `token`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wanted {
    ids: Option<Vec<String>>,
    filter: Option<Filter>,
    token: Option<String>,
    by: Option<String>,
    role: Option<String>,
    comment: Option<String>,
    command_id: Option<String>,
}

impl Wanted {
    fn split(self) -> Result<(Selection, Command), Problem> {
        let Self { ids, filter, token, by, role, comment, command_id } = self;
        let selection = match (ids, filter, token) {
            (Some(ids), None, None) if ids.len() <= IDS_MAX => Selection::Ids(ids),
            (Some(_), None, None) => {
                return Err(Problem::bad_request(format!("ids: at most {IDS_MAX}; a filter selects more")));
            }
            (None, Some(filter), None) => Selection::Filter(filter),
            (None, None, Some(token)) => Selection::Frozen(token),
            _ => return Err(Problem::bad_request("name the letters by one of ids, filter and token")),
        };
        Ok((selection, Command { by, role, comment, command_id }))
    }
}

type Asked<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

fn understood<T>(query: Asked<T>) -> Result<T, Problem> {
    query.map(|Query(query)| query).map_err(|error| Problem::bad_request(error.body_text()))
}

async fn list(State(state): State<ApiState>, query: Asked<Page>) -> Result<Json<Value>, Problem> {
    let page = understood(query)?;
    blocking(move || state.dead_letters.list(&page.filter(), page.before.as_deref(), page.limit)).await.map(Json)
}

async fn groups(State(state): State<ApiState>, query: Asked<Page>) -> Result<Json<Value>, Problem> {
    let page = understood(query)?;
    blocking(move || state.dead_letters.groups(&page.filter())).await.map(Json)
}

async fn show(State(state): State<ApiState>, query: Asked<One>) -> Result<Json<Value>, Problem> {
    let one = understood(query)?;
    blocking(move || state.dead_letters.show(&one.id)).await.map(Json)
}

async fn preview(State(state): State<ApiState>, Body(wanted): Body<Wanted>) -> Result<Json<Value>, Problem> {
    let (selection, _) = wanted.split()?;
    blocking(move || state.dead_letters.preview(selection)).await.map(Json)
}

async fn dry_run(State(state): State<ApiState>, Body(wanted): Body<Wanted>) -> Result<Response, Problem> {
    command(state, Action::DryRun, wanted).await
}

async fn approve(State(state): State<ApiState>, Body(wanted): Body<Wanted>) -> Result<Response, Problem> {
    command(state, Action::Approve, wanted).await
}

async fn reject(State(state): State<ApiState>, Body(wanted): Body<Wanted>) -> Result<Response, Problem> {
    command(state, Action::Reject, wanted).await
}

async fn reprocess(State(state): State<ApiState>, Body(wanted): Body<Wanted>) -> Result<Response, Problem> {
    command(state, Action::Reprocess, wanted).await
}

/// 200 with what came of it, or 202 while it is under way.
async fn command(state: ApiState, action: Action, wanted: Wanted) -> Result<Response, Problem> {
    let (selection, command) = wanted.split()?;
    let job = blocking(move || {
        let job = state.dead_letters.submit(action, selection, command)?;
        Ok(job.after(PATIENCE))
    })
    .await?;
    let over = job["finished_at"].is_string();
    Ok((if over { StatusCode::OK } else { StatusCode::ACCEPTED }, Json(job)).into_response())
}

async fn jobs(State(state): State<ApiState>) -> Json<Value> {
    Json(state.dead_letters.jobs())
}

async fn job(State(state): State<ApiState>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    state.dead_letters.job(&id).map(|job| Json(job.after(Duration::ZERO)))
}

async fn cancel(State(state): State<ApiState>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    state.dead_letters.cancel(&id).map(|job| Json(job.after(Duration::ZERO)))
}
