//! Could this schema be registered? Asked without registering it.

use std::sync::Arc;

use axum::extract::State;
use serde_json::json;

use super::extract::{Body, Parameters, SchemaBody, Subject, SubjectVersion};
use super::{Answer, ok};
use crate::registry::decide::Against;
use crate::registry::store::Registry;

type Shared = State<Arc<Registry>>;

pub(super) async fn check_one(
    State(registry): Shared,
    SubjectVersion(subject, name): SubjectVersion,
    parameters: Parameters,
    Body(body): Body<SchemaBody>,
) -> Answer {
    check(&registry, &subject, Against::One(name), &parameters, body).await
}

pub(super) async fn check_all(
    State(registry): Shared,
    Subject(subject): Subject,
    parameters: Parameters,
    Body(body): Body<SchemaBody>,
) -> Answer {
    check(&registry, &subject, Against::Level, &parameters, body).await
}

async fn check(
    registry: &Registry,
    subject: &str,
    against: Against,
    parameters: &Parameters,
    body: SchemaBody,
) -> Answer {
    let (normalize, verbose) = (parameters.on("normalize"), parameters.on("verbose"));
    let checked = match body.submitted(subject) {
        Ok(submitted) => registry.check(subject, &submitted, normalize, against).await,
        Err(error) => Err(error),
    };
    let messages = match checked {
        // who wants to know why is told why a schema is none
        Err(error) if verbose && error.code == 42201 => vec![error.message],
        checked => checked?,
    };
    let mut body = json!({ "is_compatible": messages.is_empty() });
    if verbose {
        body["messages"] = json!(messages);
    }
    Ok(ok(&body))
}
