//! The registry's REST interface (STR-20). Every answer has Confluent's content type.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::error::ApiError;
use super::record::Reference;
use super::state::VersionName;
use super::store::{Found, Registry, Submitted};
use crate::limits::REGISTRY_BODY_BYTES_MAX;
use crate::metrics::Metrics;

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

type Answer = Result<Response, ApiError>;
type Shared = State<Arc<Registry>>;
type Parameters = Query<HashMap<String, String>>;
type Body = Result<Bytes, BytesRejection>;

/// Serves until `stop` is cancelled; connections that are open then are dropped, their changes are durable or unsaid.
pub(crate) async fn serve(registry: Arc<Registry>, listener: TcpListener, stop: CancellationToken, metrics: Metrics) {
    let counted = axum::middleware::from_fn(move |request, next: axum::middleware::Next| {
        metrics.registry_requests.inc();
        next.run(request)
    });
    let server = axum::serve(listener, routes(registry).layer(counted));
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
        .route("/subjects", get(subjects))
        .route("/subjects/{subject}", post(lookup).delete(delete_subject))
        .route("/subjects/{subject}/versions", get(versions).post(register))
        .route("/subjects/{subject}/versions/{version}", get(version).delete(delete_version))
        .route("/subjects/{subject}/versions/{version}/schema", get(version_text))
        .route("/subjects/{subject}/versions/{version}/referencedby", get(referenced_by))
        .route("/schemas/types", get(|| async { ok(&json!(["AVRO"])) }))
        .route("/schemas/ids/{id}", get(schema))
        .route("/schemas/ids/{id}/schema", get(schema_text))
        .route("/schemas/ids/{id}/subjects", get(schema_subjects))
        .route("/schemas/ids/{id}/versions", get(schema_versions))
        .route("/config", get(global_level).put(set_global_level).delete(reset_global_level))
        .route("/config/{subject}", get(level).put(set_level).delete(reset_level))
        .route("/mode", get(global_mode).put(set_global_mode))
        .route("/mode/{subject}", get(mode).put(set_mode).delete(reset_mode))
        .route("/compatibility/subjects/{subject}/versions", post(check_all))
        .route("/compatibility/subjects/{subject}/versions/{version}", post(check_one))
        .fallback(|| async { ApiError::not_found() })
        .layer(DefaultBodyLimit::max(REGISTRY_BODY_BYTES_MAX))
        .with_state(registry)
}

/// An answer with the registry's content type.
pub(super) fn json(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, CONTENT_TYPE)], body.to_string()).into_response()
}

fn ok(body: &Value) -> Response {
    json(StatusCode::OK, body)
}

/// A switch in the query, off when absent.
fn on(parameters: &Parameters, name: &str) -> bool {
    parameters.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SchemaBody {
    schema: Option<String>,
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
    id: Option<i64>,
}

fn parse<T: for<'a> Deserialize<'a>>(body: Body) -> Result<T, ApiError> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large(),
        _ => ApiError::body(rejection),
    })?;
    serde_json::from_slice(&body).map_err(ApiError::body)
}

fn submitted(body: Body) -> Result<Submitted, ApiError> {
    let body: SchemaBody = parse(body)?;
    if let Some(kind) = body.schema_type.filter(|kind| kind != "AVRO") {
        return Err(ApiError::invalid_schema(format!("schemas of type {kind} are not supported")));
    }
    if body.id.is_some_and(|id| id >= 0) {
        return Err(ApiError::not_permitted("ids are given by the registry"));
    }
    let text = body.schema.filter(|text| !text.is_empty()).ok_or_else(|| ApiError::invalid_schema("there is none"))?;
    Ok(Submitted { text, references: body.references })
}

fn with_references(mut body: Value, references: &[Reference]) -> Value {
    if !references.is_empty() {
        body["references"] = json!(references);
    }
    body
}

fn describe(found: &Found) -> Value {
    let Found { subject, version, id, text, references } = found;
    with_references(json!({ "subject": subject, "version": version, "id": id, "schema": text }), references)
}

// === subjects ===

async fn subjects(State(registry): Shared, parameters: Parameters) -> Answer {
    let prefix = parameters.get("subjectPrefix").cloned().unwrap_or_default();
    let deleted = on(&parameters, "deleted");
    let names: Vec<String> = registry
        .read(|state| state.subjects(deleted).filter(|name| name.starts_with(&prefix)).map(str::to_owned).collect());
    Ok(ok(&json!(names)))
}

async fn versions(State(registry): Shared, Path(subject): Path<String>, parameters: Parameters) -> Answer {
    let versions = registry.read(|state| state.versions(&subject, on(&parameters, "deleted")))?;
    Ok(ok(&json!(versions.iter().map(|(number, _)| *number).collect::<Vec<i32>>())))
}

async fn register(State(registry): Shared, Path(subject): Path<String>, body: Body) -> Answer {
    let id = registry.register(&subject, submitted(body)?).await?;
    Ok(ok(&json!({ "id": id })))
}

async fn lookup(State(registry): Shared, Path(subject): Path<String>, parameters: Parameters, body: Body) -> Answer {
    let found = registry.lookup(&subject, &submitted(body)?, on(&parameters, "deleted"))?;
    Ok(ok(&describe(&found)))
}

async fn version(
    State(registry): Shared,
    Path((subject, version)): Path<(String, String)>,
    parameters: Parameters,
) -> Answer {
    let found = registry.version(&subject, VersionName::parse(&version)?, on(&parameters, "deleted"))?;
    Ok(ok(&describe(&found)))
}

async fn version_text(
    State(registry): Shared,
    Path((subject, version)): Path<(String, String)>,
    parameters: Parameters,
) -> Answer {
    let found = registry.version(&subject, VersionName::parse(&version)?, on(&parameters, "deleted"))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], found.text).into_response())
}

async fn referenced_by(State(registry): Shared, Path((subject, version)): Path<(String, String)>) -> Answer {
    let name = VersionName::parse(&version)?;
    let ids = registry.read(|state| {
        let (number, _) = state.version(&subject, name, false)?;
        Ok::<_, ApiError>(state.referenced_by(&subject, number))
    })?;
    Ok(ok(&json!(ids)))
}

async fn delete_subject(State(registry): Shared, Path(subject): Path<String>, parameters: Parameters) -> Answer {
    let versions = registry.delete_subject(&subject, on(&parameters, "permanent")).await?;
    Ok(ok(&json!(versions)))
}

async fn delete_version(
    State(registry): Shared,
    Path((subject, version)): Path<(String, String)>,
    parameters: Parameters,
) -> Answer {
    let name = VersionName::parse(&version)?;
    let number = registry.delete_version(&subject, name, on(&parameters, "permanent")).await?;
    Ok(ok(&json!(number)))
}

// === schemas by id ===

fn parse_id(id: &str) -> Result<i32, ApiError> {
    id.parse().map_err(|_| ApiError::not_found())
}

async fn schema(State(registry): Shared, Path(id): Path<String>) -> Answer {
    let id = parse_id(&id)?;
    let stored = registry.read(|state| state.schema(id).cloned())?;
    Ok(ok(&with_references(json!({ "schema": stored.text }), &stored.references)))
}

async fn schema_text(State(registry): Shared, Path(id): Path<String>) -> Answer {
    let id = parse_id(&id)?;
    let stored = registry.read(|state| state.schema(id).cloned())?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], stored.text).into_response())
}

fn uses(registry: &Registry, id: &str, deleted: bool) -> Result<Vec<(String, i32)>, ApiError> {
    let id = parse_id(id)?;
    registry.read(|state| {
        state.schema(id)?;
        Ok(state.uses(id, deleted).map(|(subject, version)| (subject.to_owned(), version)).collect())
    })
}

async fn schema_subjects(State(registry): Shared, Path(id): Path<String>, parameters: Parameters) -> Answer {
    let mut names: Vec<String> =
        uses(&registry, &id, on(&parameters, "deleted"))?.into_iter().map(|(subject, _)| subject).collect();
    names.dedup();
    Ok(ok(&json!(names)))
}

async fn schema_versions(State(registry): Shared, Path(id): Path<String>, parameters: Parameters) -> Answer {
    let uses = uses(&registry, &id, on(&parameters, "deleted"))?;
    let rows: Vec<Value> =
        uses.into_iter().map(|(subject, version)| json!({ "subject": subject, "version": version })).collect();
    Ok(ok(&json!(rows)))
}

// === levels ===

#[derive(Debug, Deserialize)]
struct LevelBody {
    compatibility: String,
}

async fn global_level(State(registry): Shared) -> Answer {
    let level = registry.read(|state| state.level_of(None).map(str::to_owned));
    Ok(ok(&json!({ "compatibilityLevel": level })))
}

async fn level(State(registry): Shared, Path(subject): Path<String>, parameters: Parameters) -> Answer {
    let to_global = on(&parameters, "defaultToGlobal");
    let level = registry.read(|state| {
        let own = state.level_of(Some(&subject));
        let level = if to_global { Some(state.level(&subject)) } else { own };
        level.map(str::to_owned)
    });
    let level = level.ok_or_else(|| ApiError::no_level(&subject))?;
    Ok(ok(&json!({ "compatibilityLevel": level })))
}

async fn set_global_level(State(registry): Shared, body: Body) -> Answer {
    put_level(&registry, None, body).await
}

async fn set_level(State(registry): Shared, Path(subject): Path<String>, body: Body) -> Answer {
    put_level(&registry, Some(&subject), body).await
}

async fn put_level(registry: &Registry, subject: Option<&str>, body: Body) -> Answer {
    let LevelBody { compatibility } = parse(body)?;
    registry.set_level(subject, Some(&compatibility)).await?;
    Ok(ok(&json!({ "compatibility": compatibility.to_ascii_uppercase() })))
}

async fn reset_global_level(State(registry): Shared) -> Answer {
    let before = registry.read(|state| state.level_of(None).map(str::to_owned));
    registry.set_level(None, None).await?;
    Ok(ok(&json!({ "compatibilityLevel": before })))
}

async fn reset_level(State(registry): Shared, Path(subject): Path<String>) -> Answer {
    let before = registry.read(|state| state.level_of(Some(&subject)).map(str::to_owned));
    let before = before.ok_or_else(|| ApiError::no_level(&subject))?;
    registry.set_level(Some(&subject), None).await?;
    Ok(ok(&json!({ "compatibilityLevel": before })))
}

// === modes ===

#[derive(Debug, Deserialize)]
struct ModeBody {
    mode: String,
}

async fn global_mode(State(registry): Shared) -> Answer {
    let mode = registry.read(|state| state.mode_of(None).map(str::to_owned));
    Ok(ok(&json!({ "mode": mode })))
}

async fn mode(State(registry): Shared, Path(subject): Path<String>, parameters: Parameters) -> Answer {
    let to_global = on(&parameters, "defaultToGlobal");
    let mode = registry.read(|state| {
        let own = state.mode_of(Some(&subject));
        let mode = if to_global { own.or_else(|| state.mode_of(None)) } else { own };
        mode.map(str::to_owned)
    });
    let mode = mode.ok_or_else(|| ApiError::no_mode(&subject))?;
    Ok(ok(&json!({ "mode": mode })))
}

async fn set_global_mode(State(registry): Shared, body: Body) -> Answer {
    put_mode(&registry, None, body).await
}

async fn set_mode(State(registry): Shared, Path(subject): Path<String>, body: Body) -> Answer {
    put_mode(&registry, Some(&subject), body).await
}

async fn put_mode(registry: &Registry, subject: Option<&str>, body: Body) -> Answer {
    let ModeBody { mode } = parse(body)?;
    registry.set_mode(subject, Some(&mode)).await?;
    Ok(ok(&json!({ "mode": mode.to_ascii_uppercase() })))
}

async fn reset_mode(State(registry): Shared, Path(subject): Path<String>) -> Answer {
    let before = registry.read(|state| state.mode_of(Some(&subject)).map(str::to_owned));
    let before = before.ok_or_else(|| ApiError::no_mode(&subject))?;
    registry.set_mode(Some(&subject), None).await?;
    Ok(ok(&json!({ "mode": before })))
}

// === compatibility ===

fn verdict(messages: &[String], parameters: &Parameters) -> Response {
    let mut body = json!({ "is_compatible": messages.is_empty() });
    if on(parameters, "verbose") {
        body["messages"] = json!(messages);
    }
    ok(&body)
}

async fn check_one(
    State(registry): Shared,
    Path((subject, version)): Path<(String, String)>,
    parameters: Parameters,
    body: Body,
) -> Answer {
    let name = VersionName::parse(&version)?;
    let messages = registry.check(&subject, &submitted(body)?, Some(name))?;
    Ok(verdict(&messages, &parameters))
}

async fn check_all(State(registry): Shared, Path(subject): Path<String>, parameters: Parameters, body: Body) -> Answer {
    let messages = registry.check(&subject, &submitted(body)?, None)?;
    Ok(verdict(&messages, &parameters))
}
