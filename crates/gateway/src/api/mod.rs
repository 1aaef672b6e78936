//! The API of a gateway for programs of its own machine: `/api/v1`, JSON over the status page's server.
//!
//! [`guard`] lets requests in, [`problem`] is how they are refused, one file per subject has its routes. What waits for
//! the stream runs on a blocking thread ([`blocking`]). Integers of 64 bits are text, so that nobody rounds them (REC-01).

mod alarms;
mod dead_letters;
pub mod guard;
mod problem;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde::de::DeserializeOwned;
use serde_json::json;

pub use guard::Guard;
pub use problem::Problem;

use crate::alarm_commands::AlarmDesk;
use crate::dead_letters::DeadLetters;

/// Bytes of a request; a longer one is refused.
const BODY_MAX: usize = 1024 * 1024;

/// What the routes work with; a subject adds its own handle. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ApiState {
    pub gateway_id: String,
    pub dead_letters: DeadLetters,
    pub alarms: AlarmDesk,
}

/// Every route below `/api/v1`.
pub fn routes(state: ApiState, guard: Guard) -> Router {
    Router::new()
        .route("/api/v1", get(about))
        .nest("/api/v1/dead-letters", dead_letters::routes())
        .nest("/api/v1/alarms", alarms::routes())
        .with_state(state)
        .route("/api/v1/{*rest}", axum::routing::any(nowhere))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn_with_state(guard, guard::guard))
}

async fn about(State(state): State<ApiState>) -> Response {
    Json(json!({ "gateway_id": state.gateway_id, "version": env!("CARGO_PKG_VERSION") })).into_response()
}

async fn nowhere() -> Problem {
    Problem::not_found("there is nothing at this path")
}

/// A JSON body, refused in our own words.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            let status = rejection.into_response().status();
            match status {
                StatusCode::PAYLOAD_TOO_LARGE => {
                    Problem::new(status, "TOO_LARGE", format!("a request has at most {BODY_MAX} bytes"))
                }
                _ => Problem::bad_request("the request was cut off"),
            }
        })?;
        let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(bytes).map(Self).map_err(|error| Problem::bad_request(format!("the request: {error}")))
    }
}

/// Runs what waits for the stream where it may wait.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "DEFECT", "the request failed; the log names the place"))
    })
}
