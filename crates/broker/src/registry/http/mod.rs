//! The registry's REST interface (STR-20).
//!
//! `extract.rs` reads requests, `contexts.rs` those within a context, `subjects.rs`, `schemas.rs`, `settings.rs` and `compatibility.rs` answer them. What is
//! common to all is here: routes, content types, how many at once and for how long.

mod compatibility;
mod contexts;
mod extract;
mod schemas;
mod settings;
mod subjects;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::error::ApiError;
use super::schema::Kind;
use super::store::Registry;
use crate::limits::{REGISTRY_BODY_BYTES_MAX, REGISTRY_REQUEST_DEADLINE, REGISTRY_REQUESTS_MAX};
use crate::metrics::Metrics;

/// What is spoken, best first.
const CONTENT_TYPES: [&str; 3] =
    ["application/vnd.schemaregistry.v1+json", "application/vnd.schemaregistry+json", "application/json"];

type Answer = Result<Response, ApiError>;

/// Serves until `stop` is cancelled; connections that are open then are dropped, their changes are durable or unsaid.
pub(crate) async fn serve(registry: Arc<Registry>, listener: TcpListener, stop: CancellationToken, metrics: Metrics) {
    let turns = Arc::new(Semaphore::new(REGISTRY_REQUESTS_MAX));
    let bounded = from_fn(move |request: Request, next: Next| {
        metrics.registry_requests.inc();
        bound(Arc::clone(&turns), request, next)
    });
    // around the routes, since a context in the path changes which one is taken
    let all = Router::new().fallback_service(routes(registry)).layer(from_fn(contexts::in_context)).layer(bounded);
    let server = axum::serve(listener, all);
    tokio::select! { // cancel-safe: nothing is lost that was answered
        ended = IntoFuture::into_future(server) => if let Err(error) = ended {
            tracing::error!(%error, "the schema registry ended");
        },
        () = stop.cancelled() => {}
    }
}

fn routes(registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/", get(|| async { ok(&json!({})) }))
        .route("/contexts", get(subjects::contexts))
        .route("/subjects", get(subjects::list))
        .route("/subjects/{subject}", post(subjects::lookup).delete(subjects::delete))
        .route("/subjects/{subject}/versions", get(subjects::versions).post(subjects::register))
        .route("/subjects/{subject}/metadata", get(subjects::with_metadata))
        .route("/subjects/{subject}/versions/{version}", get(subjects::version).delete(subjects::delete_version))
        .route("/subjects/{subject}/versions/{version}/schema", get(subjects::version_text))
        .route("/subjects/{subject}/versions/{version}/referencedby", get(subjects::referenced_by))
        .route("/schemas", get(schemas::search))
        .route("/schemas/types", get(|| async { ok(&json!(Kind::ALL.map(Kind::name))) }))
        .route("/schemas/ids/{id}", get(schemas::schema))
        .route("/schemas/ids/{id}/schema", get(schemas::text))
        .route("/schemas/ids/{id}/subjects", get(schemas::subjects))
        .route("/schemas/ids/{id}/versions", get(schemas::versions))
        .route("/schemas/guids/{guid}", get(schemas::by_guid))
        .route("/schemas/guids/{guid}/ids", get(schemas::ids_of_guid))
        .route(
            "/config",
            get(settings::config_of_all).put(settings::set_config_of_all).delete(settings::reset_config_of_all),
        )
        .route("/config/{subject}", get(settings::config).put(settings::set_config).delete(settings::reset_config))
        .route("/mode", get(settings::mode_of_all).put(settings::set_mode_of_all).delete(settings::reset_mode_of_all))
        .route("/mode/{subject}", get(settings::mode).put(settings::set_mode).delete(settings::reset_mode))
        .route("/compatibility/subjects/{subject}/versions", post(compatibility::check_all))
        .route("/compatibility/subjects/{subject}/versions/{version}", post(compatibility::check_one))
        .fallback(|| async { ApiError::not_found() })
        .method_not_allowed_fallback(|| async { ApiError::method() })
        .layer(DefaultBodyLimit::max(REGISTRY_BODY_BYTES_MAX))
        .layer(from_fn(negotiate))
        .with_state(registry)
}

/// An answer with the registry's content type.
pub(super) fn json(status: StatusCode, body: &Value) -> Response {
    text(status, body.to_string())
}

fn text(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, CONTENT_TYPES[0])], body).into_response()
}

fn ok(body: &Value) -> Response {
    json(StatusCode::OK, body)
}

/// A request waits for its turn, and ends in time.
async fn bound(turns: Arc<Semaphore>, request: Request, next: Next) -> Response {
    let answered = async {
        let _turn = turns.acquire().await;
        next.run(request).await
    };
    let answered = tokio::time::timeout(REGISTRY_REQUEST_DEADLINE, answered).await;
    answered.unwrap_or_else(|_| ApiError::too_slow().into_response())
}

/// Answers in the content type that the client likes best of ours.
async fn negotiate(request: Request, next: Next) -> Response {
    let Some(wanted) = wanted(request.headers()) else { return ApiError::not_acceptable().into_response() };
    let mut response = next.run(request).await;
    if response.headers().contains_key(header::CONTENT_TYPE) {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(wanted));
    }
    response
}

/// `None` when the client accepts none of ours.
fn wanted(headers: &HeaderMap) -> Option<&'static str> {
    let accepts: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    if accepts.is_empty() {
        return Some(CONTENT_TYPES[0]);
    }
    let mut best: Option<(f32, &'static str)> = None;
    for range in accepts.iter().flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
        let ours = match kind {
            "*/*" | "application/*" => Some(CONTENT_TYPES[0]),
            kind => CONTENT_TYPES.into_iter().find(|ours| kind.eq_ignore_ascii_case(ours)),
        };
        if let Some(ours) = ours
            && weight > best.map_or(0.0, |(weight, _)| weight)
        {
            best = Some((weight, ours));
        }
    }
    best.map(|(_, ours)| ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    // STR-20
    #[test]
    fn the_client_chooses_the_content_type() {
        let of = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            wanted(&headers)
        };
        assert_eq!(wanted(&HeaderMap::new()), Some(CONTENT_TYPES[0]));
        assert_eq!(of("*/*"), Some(CONTENT_TYPES[0]));
        assert_eq!(of("application/json"), Some(CONTENT_TYPES[2]));
        assert_eq!(of("text/html, application/json;q=0.5"), Some(CONTENT_TYPES[2]));
        assert_eq!(of("application/json;q=0.5, application/vnd.schemaregistry+json;q=0.9"), Some(CONTENT_TYPES[1]));
        assert_eq!(of("text/html"), None);
        assert_eq!(of("application/json;q=0"), None);
    }
}
