//! Compatibility levels and modes, of one subject or of all.

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::extract::{Body, Parameters, Subject};
use super::{Answer, ok};
use crate::registry::error::ApiError;
use crate::registry::record::Config;
use crate::registry::store::Registry;

type Shared = State<Arc<Registry>>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConfigBody {
    compatibility: Option<String>,
    /// What the setting is called in answers; some clients send it back.
    compatibility_level: Option<String>,
    normalize: Option<bool>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ModeBody {
    mode: Option<String>,
}

/// The settings of a subject as they are in force; `None` when it has none of its own and those of all are not wanted.
fn describe(registry: &Registry, subject: Option<&str>, to_global: bool) -> Option<Value> {
    registry.read(|state| {
        let own = state.config(subject);
        if own.is_none() && subject.is_some() && !to_global {
            return None;
        }
        let mut body = json!({ "compatibilityLevel": state.level(subject) });
        let normalize = if to_global { state.normalizes(subject) } else { own.and_then(|own| own.normalize) };
        if let Some(normalize) = normalize {
            body["normalize"] = json!(normalize);
        }
        Some(body)
    })
}

pub(super) async fn config_of_all(State(registry): Shared) -> Answer {
    Ok(ok(&json!(describe(&registry, None, true))))
}

pub(super) async fn config(State(registry): Shared, Subject(subject): Subject, parameters: Parameters) -> Answer {
    let body = describe(&registry, Some(&subject), parameters.on("defaultToGlobal"));
    Ok(ok(&body.ok_or_else(|| ApiError::no_level(&subject))?))
}

pub(super) async fn set_config_of_all(State(registry): Shared, Body(body): Body<ConfigBody>) -> Answer {
    put_config(&registry, None, body).await
}

pub(super) async fn set_config(
    State(registry): Shared,
    Subject(subject): Subject,
    Body(body): Body<ConfigBody>,
) -> Answer {
    put_config(&registry, Some(&subject), body).await
}

async fn put_config(registry: &Registry, subject: Option<&str>, given: ConfigBody) -> Answer {
    let ConfigBody { compatibility, compatibility_level, normalize, other } = given;
    let compatibility = compatibility.or(compatibility_level);
    // a setting that would do nothing is not taken
    if let Some((name, _)) = other.iter().find(|(_, value)| !matches!(value, Value::Null | Value::Bool(false))) {
        return Err(ApiError::unprocessable(&format!(
            "there is no setting {}",
            name.chars().take(80).collect::<String>()
        )));
    }
    if compatibility.is_none() && normalize.is_none() {
        return Err(ApiError::invalid_level());
    }
    let mut body = json!({});
    if let Some(level) = &compatibility {
        body["compatibility"] = json!(level.to_ascii_uppercase());
    }
    if let Some(normalize) = normalize {
        body["normalize"] = json!(normalize);
    }
    let config = Config { normalize, compatibility_level: compatibility, ..Config::default() };
    registry.set_config(subject, Some(config)).await?;
    Ok(ok(&body))
}

pub(super) async fn reset_config_of_all(State(registry): Shared) -> Answer {
    let before = describe(&registry, None, true);
    registry.set_config(None, None).await?;
    Ok(ok(&json!(before)))
}

pub(super) async fn reset_config(State(registry): Shared, Subject(subject): Subject) -> Answer {
    let before = describe(&registry, Some(&subject), false).ok_or_else(|| ApiError::subject_not_found(&subject))?;
    registry.set_config(Some(&subject), None).await?;
    Ok(ok(&before))
}

pub(super) async fn mode_of_all(State(registry): Shared) -> Answer {
    let mode = registry.read(|state| state.mode_of(None).map(str::to_owned));
    Ok(ok(&json!({ "mode": mode })))
}

pub(super) async fn mode(State(registry): Shared, Subject(subject): Subject, parameters: Parameters) -> Answer {
    let mode = registry.read(|state| {
        let own = state.mode_of(Some(&subject));
        let mode = if parameters.on("defaultToGlobal") { Some(state.mode(Some(&subject))) } else { own };
        mode.map(str::to_owned)
    });
    let mode = mode.ok_or_else(|| ApiError::no_mode(&subject))?;
    Ok(ok(&json!({ "mode": mode })))
}

pub(super) async fn set_mode_of_all(
    State(registry): Shared,
    parameters: Parameters,
    Body(body): Body<ModeBody>,
) -> Answer {
    put_mode(&registry, None, &parameters, body).await
}

pub(super) async fn set_mode(
    State(registry): Shared,
    Subject(subject): Subject,
    parameters: Parameters,
    Body(body): Body<ModeBody>,
) -> Answer {
    put_mode(&registry, Some(&subject), &parameters, body).await
}

async fn put_mode(registry: &Registry, subject: Option<&str>, parameters: &Parameters, body: ModeBody) -> Answer {
    let mode = body.mode.ok_or_else(ApiError::invalid_mode)?;
    registry.set_mode(subject, Some(&mode), parameters.on("force")).await?;
    Ok(ok(&json!({ "mode": mode.to_ascii_uppercase() })))
}

pub(super) async fn reset_mode_of_all(State(registry): Shared) -> Answer {
    let before = registry.read(|state| state.mode_of(None).map(str::to_owned));
    registry.set_mode(None, None, false).await?;
    Ok(ok(&json!({ "mode": before })))
}

pub(super) async fn reset_mode(State(registry): Shared, Subject(subject): Subject) -> Answer {
    let before = registry.read(|state| state.mode_of(Some(&subject)).map(str::to_owned));
    let before = before.ok_or_else(|| ApiError::subject_not_found(&subject))?;
    registry.set_mode(Some(&subject), None, false).await?;
    Ok(ok(&json!({ "mode": before })))
}
