//! Schemas by their id, and the search over all.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::extract::{Guid, Parameters, SchemaId};
use super::subjects::{check_format, describe, with_attached};
use super::{Answer, ok, text as plain};
use crate::limits::SEARCH_MAX;
use crate::registry::error::ApiError;
use crate::registry::store::{Registry, found};

type Shared = State<Arc<Registry>>;

pub(super) async fn schema(State(registry): Shared, SchemaId(id): SchemaId, parameters: Parameters) -> Answer {
    answer(&registry, id, &parameters)
}

/// By the name that does not depend on the id: clients put it into the headers of records.
pub(super) async fn by_guid(State(registry): Shared, Guid(guid): Guid, parameters: Parameters) -> Answer {
    let id = registry.read(|state| state.id_of_guid(&guid))?;
    answer(&registry, id, &parameters)
}

pub(super) async fn ids_of_guid(State(registry): Shared, Guid(guid): Guid) -> Answer {
    let id = registry.read(|state| state.id_of_guid(&guid))?;
    Ok(ok(&json!([{ "context": ".", "id": id }])))
}

fn answer(registry: &Registry, id: i32, parameters: &Parameters) -> Answer {
    let (stored, last_id) = registry.read(|state| Ok::<_, ApiError>((state.schema(id)?.clone(), state.last_id())))?;
    check_format(parameters, stored.kind, &stored.text)?;
    let mut body = json!({ "schema": stored.text, "guid": stored.guid.to_string() });
    if parameters.on("fetchMaxId") {
        body["maxId"] = json!(last_id);
    }
    let (metadata, rule_set) = (stored.metadata.as_ref(), stored.rule_set.as_ref());
    Ok(ok(&with_attached(body, stored.kind, &stored.references, metadata, rule_set)))
}

pub(super) async fn text(State(registry): Shared, SchemaId(id): SchemaId, parameters: Parameters) -> Answer {
    let stored = registry.read(|state| state.schema(id).cloned())?;
    check_format(&parameters, stored.kind, &stored.text)?;
    Ok(plain(StatusCode::OK, stored.text))
}

fn uses(registry: &Registry, id: i32, parameters: &Parameters) -> Result<Vec<(String, i32)>, ApiError> {
    registry.read(|state| {
        state.schema(id).map_err(|_| ApiError::schema_not_found())?;
        let uses = state.uses(id, parameters.on("deleted"));
        let wanted = parameters.text("subject");
        let uses = uses.filter(|(subject, _)| wanted.is_empty() || *subject == wanted);
        Ok(uses.map(|(subject, version)| (subject.to_owned(), version)).collect())
    })
}

pub(super) async fn subjects(State(registry): Shared, SchemaId(id): SchemaId, parameters: Parameters) -> Answer {
    let uses = uses(&registry, id, &parameters)?;
    let mut names: Vec<String> = uses.into_iter().map(|(subject, _)| subject).collect();
    names.dedup();
    Ok(ok(&json!(parameters.page(names.into_iter())?)))
}

pub(super) async fn versions(State(registry): Shared, SchemaId(id): SchemaId, parameters: Parameters) -> Answer {
    let uses = uses(&registry, id, &parameters)?.into_iter();
    let rows: Vec<Value> =
        parameters.page(uses.map(|(subject, version)| json!({ "subject": subject, "version": version })))?;
    Ok(ok(&json!(rows)))
}

/// All versions, at most [`SEARCH_MAX`] at once.
pub(super) async fn search(State(registry): Shared, parameters: Parameters) -> Answer {
    let (deleted, latest_only) = (parameters.on("deleted"), parameters.on("latestOnly"));
    let rows: Vec<Value> = registry.read(|state| {
        let wanted =
            state.all().filter(|(subject, _, version)| (deleted || !version.deleted) && parameters.wants(subject));
        let wanted: Vec<_> = wanted.collect();
        let latest = |index: usize| wanted.get(index + 1).is_none_or(|(next, ..)| *next != wanted[index].0);
        let chosen = (0..wanted.len()).filter(|index| !latest_only || latest(*index));
        let page = parameters.page(chosen)?;
        let rows = page.into_iter().take(SEARCH_MAX).map(|index| {
            let (subject, number, version) = wanted[index];
            found(state, subject, number, version.id).map(|found| describe(&found))
        });
        rows.collect::<Result<_, ApiError>>()
    })?;
    Ok(ok(&json!(rows)))
}
