//! Subjects and their versions.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::extract::{Body, Parameters, SchemaBody, Subject, SubjectVersion};
use super::{Answer, ok, text};
use crate::registry::error::ApiError;
use crate::registry::names;
use crate::registry::protobuf;
use crate::registry::record::Reference;
use crate::registry::schema::{Kind, with_kind};
use crate::registry::store::{Found, Registry, found};

type Shared = State<Arc<Registry>>;

/// Adds what a schema has besides its text.
pub(super) fn with_attached(
    body: Value,
    kind: Kind,
    references: &[Reference],
    metadata: Option<&Value>,
    rule_set: Option<&Value>,
) -> Value {
    let mut body = with_kind(body, kind);
    if !references.is_empty() {
        body["references"] = json!(references);
    }
    for (key, value) in [("metadata", metadata), ("ruleSet", rule_set)] {
        if let Some(value) = value {
            body[key] = value.clone();
        }
    }
    body
}

pub(super) fn describe(found: &Found) -> Value {
    let Found { subject, version, id, kind, text, references, metadata, rule_set, guid } = found;
    let body = json!({ "subject": subject, "version": version, "id": id, "guid": guid.to_string(), "schema": text });
    with_attached(body, *kind, references, metadata.as_ref(), rule_set.as_ref())
}

/// A descriptor cannot be made from a file's text here; the other way round the text is what was registered.
pub(super) fn check_format(parameters: &Parameters, kind: Kind, text: &str) -> Result<(), ApiError> {
    if kind == Kind::Protobuf && parameters.text("format") == "serialized" && !protobuf::is_descriptor(text) {
        return Err(ApiError::invalid_schema("it was registered as text and cannot be served serialized"));
    }
    Ok(())
}

pub(super) async fn contexts(State(registry): Shared, parameters: Parameters) -> Answer {
    let contexts: BTreeSet<String> = registry.read(|state| {
        let used = state.subjects().map(|(subject, _)| names::context(subject).to_owned());
        used.chain([".".to_owned()]).collect()
    });
    Ok(ok(&json!(parameters.page(contexts.into_iter())?)))
}

pub(super) async fn list(State(registry): Shared, parameters: Parameters) -> Answer {
    let (deleted, deleted_only) = (parameters.on("deleted"), parameters.on("deletedOnly"));
    let subjects: Vec<String> = registry.read(|state| {
        let chosen = state.subjects().filter(|(_, live)| if deleted_only { !live } else { deleted || *live });
        let chosen = chosen.filter(|(subject, _)| parameters.wants(subject));
        parameters.page(chosen.map(|(subject, _)| subject.to_owned()))
    })?;
    Ok(ok(&json!(subjects)))
}

pub(super) async fn versions(State(registry): Shared, Subject(subject): Subject, parameters: Parameters) -> Answer {
    let deleted_only = parameters.on("deletedOnly");
    let versions = registry.read(|state| state.versions(&subject, deleted_only || parameters.on("deleted")))?;
    let chosen = versions.iter().filter(|(_, version)| !deleted_only || version.deleted).map(|(number, _)| *number);
    let numbers = parameters.page(chosen)?;
    if numbers.is_empty() && deleted_only {
        return Err(ApiError::subject_not_found(&subject));
    }
    Ok(ok(&json!(numbers)))
}

pub(super) async fn register(
    State(registry): Shared,
    Subject(subject): Subject,
    parameters: Parameters,
    Body(body): Body<SchemaBody>,
) -> Answer {
    let id = registry.register(&subject, body.submitted(&subject)?, parameters.on("normalize")).await?;
    let guid = registry.read(|state| state.schema(id).map(|stored| stored.guid.to_string()))?;
    Ok(ok(&json!({ "id": id, "guid": guid })))
}

pub(super) async fn lookup(
    State(registry): Shared,
    Subject(subject): Subject,
    parameters: Parameters,
    Body(body): Body<SchemaBody>,
) -> Answer {
    let (normalize, deleted) = (parameters.on("normalize"), parameters.on("deleted"));
    let found = registry.lookup(&subject, &body.submitted(&subject)?, normalize, deleted).await?;
    check_format(&parameters, found.kind, &found.text)?;
    Ok(ok(&describe(&found)))
}

pub(super) async fn version(
    State(registry): Shared,
    SubjectVersion(subject, name): SubjectVersion,
    parameters: Parameters,
) -> Answer {
    let found = registry.version(&subject, name, parameters.on("deleted"))?;
    check_format(&parameters, found.kind, &found.text)?;
    Ok(ok(&describe(&found)))
}

/// The newest version whose metadata has all these properties: `key` and `value`, as often as wanted.
pub(super) async fn with_metadata(
    State(registry): Shared,
    Subject(subject): Subject,
    parameters: Parameters,
) -> Answer {
    let wanted: Vec<(&str, &str)> = parameters.all("key").zip(parameters.all("value")).collect();
    let found = registry.read(|state| {
        let versions = state.versions(&subject, parameters.on("deleted"))?;
        for (number, version) in versions.into_iter().rev() {
            let properties =
                state.schema(version.id)?.metadata.as_ref().and_then(|metadata| metadata.get("properties"));
            let has = |(key, value): &(&str, &str)| properties.and_then(|all| all.get(*key)?.as_str()) == Some(*value);
            if wanted.iter().all(has) {
                return found(state, &subject, number, version.id);
            }
        }
        Err(ApiError::schema_not_found())
    })?;
    check_format(&parameters, found.kind, &found.text)?;
    Ok(ok(&describe(&found)))
}

pub(super) async fn version_text(
    State(registry): Shared,
    SubjectVersion(subject, name): SubjectVersion,
    parameters: Parameters,
) -> Answer {
    let found = registry.version(&subject, name, parameters.on("deleted"))?;
    check_format(&parameters, found.kind, &found.text)?;
    Ok(text(StatusCode::OK, found.text))
}

pub(super) async fn referenced_by(
    State(registry): Shared,
    SubjectVersion(subject, name): SubjectVersion,
    parameters: Parameters,
) -> Answer {
    let ids = registry.read(|state| {
        let (number, _) = state.version(&subject, name, parameters.on("deleted"))?;
        Ok::<_, ApiError>(state.referenced_by(&subject, number, parameters.on("deleted")))
    })?;
    Ok(ok(&json!(parameters.page(ids.into_iter())?)))
}

pub(super) async fn delete(State(registry): Shared, Subject(subject): Subject, parameters: Parameters) -> Answer {
    let versions = registry.delete_subject(&subject, parameters.on("permanent")).await?;
    Ok(ok(&json!(versions)))
}

pub(super) async fn delete_version(
    State(registry): Shared,
    SubjectVersion(subject, name): SubjectVersion,
    parameters: Parameters,
) -> Answer {
    let number = registry.delete_version(&subject, name, parameters.on("permanent")).await?;
    Ok(ok(&json!(number)))
}
