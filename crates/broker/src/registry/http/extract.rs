//! Reading requests: every fault of a client is an answer in the registry's form.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::decide::Submitted;
use super::super::error::ApiError;
use super::super::record::Reference;
use super::super::schema::Kind;
use super::super::{json, names};
use super::CONTENT_TYPES;
use crate::registry::names::VersionName;

/// A subject in the path.
pub(super) struct Subject(pub(super) String);

/// A subject and a version in the path.
pub(super) struct SubjectVersion(pub(super) String, pub(super) VersionName);

/// The id of a schema in the path.
pub(super) struct SchemaId(pub(super) i32);

/// The name of a schema in the path, whatever it is.
pub(super) struct Guid(pub(super) String);

async fn path<T: DeserializeOwned + Send, S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<T, ApiError> {
    let Path(found) = Path::<T>::from_request_parts(parts, state).await.map_err(ApiError::request)?;
    Ok(found)
}

impl<S: Send + Sync> FromRequestParts<S> for Subject {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Ok(Self(names::subject(path(parts, state).await?)?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for SubjectVersion {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let (subject, version): (String, String) = path(parts, state).await?;
        Ok(Self(names::subject(subject)?, VersionName::parse(&version)?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for SchemaId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let id: String = path(parts, state).await?;
        id.parse().map(Self).map_err(|_| ApiError::not_found())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Guid {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Ok(Self(path(parts, state).await?))
    }
}

/// The query. Of a name that is there twice, the first counts.
pub(super) struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        query.map(|Query(parameters)| Self(parameters)).map_err(ApiError::request)
    }
}

impl Parameters {
    /// A switch, off when absent.
    pub(super) fn on(&self, name: &str) -> bool {
        self.text(name).eq_ignore_ascii_case("true")
    }

    pub(super) fn text<'p>(&'p self, name: &'p str) -> &'p str {
        self.all(name).next().unwrap_or_default()
    }

    pub(super) fn all<'p>(&'p self, name: &'p str) -> impl Iterator<Item = &'p str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The part of a list that the client asks for: `offset`, and `limit`, which is everything when absent or negative.
    pub(super) fn page<T>(&self, items: impl Iterator<Item = T>) -> Result<Vec<T>, ApiError> {
        let number = |name: &str| match self.text(name) {
            "" => Ok(None),
            text => match text.parse::<i64>() {
                Ok(number) => Ok(usize::try_from(number).ok()),
                Err(_) => Err(ApiError::request(format!("{name} is not a number"))),
            },
        };
        let (offset, limit) = (number("offset")?.unwrap_or(0), number("limit")?.unwrap_or(usize::MAX));
        Ok(items.skip(offset).take(limit).collect())
    }

    /// Does the client ask for subjects like this one? `:*:` in front of the prefix stands for all contexts.
    pub(super) fn wants(&self, subject: &str) -> bool {
        let prefix = self.text("subjectPrefix");
        let own_name = || match names::context(subject) {
            "." => subject,
            context => &subject[context.len() + 2..],
        };
        match (prefix.strip_prefix(":*:"), prefix.strip_prefix(":.:")) {
            (Some(rest), _) => own_name().starts_with(rest),
            (None, Some(rest)) => names::context(subject) == "." && subject.starts_with(rest),
            (None, None) => subject.starts_with(prefix),
        }
    }
}

/// A body of JSON.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if let Some(kind) = request.headers().get(header::CONTENT_TYPE) {
            let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
            let known = CONTENT_TYPES.into_iter().chain(["application/octet-stream"]);
            if !known.into_iter().any(|ours| kind.eq_ignore_ascii_case(ours)) {
                return Err(ApiError::media_type());
            }
        }
        let body = Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large(),
            _ => ApiError::request(rejection),
        })?;
        let text = std::str::from_utf8(&body).map_err(ApiError::request)?;
        let value = json::parse(text).map_err(ApiError::request)?;
        serde_json::from_value(value).map(Self).map_err(|error| ApiError::unprocessable(&error.to_string()))
    }
}

/// A schema to register, look up or check. What else is in the body is none of our business.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SchemaBody {
    schema: Option<String>,
    schema_type: Option<String>,
    references: Option<Vec<Reference>>,
    metadata: Option<serde_json::Value>,
    rule_set: Option<serde_json::Value>,
    id: Option<i32>,
    version: Option<i32>,
}

impl SchemaBody {
    /// `subject` is where it is to be registered, looked up or checked.
    pub(super) fn submitted(self, subject: &str) -> Result<Submitted, ApiError> {
        let kind = Kind::parse(self.schema_type.as_deref()).ok_or_else(|| {
            let name: String = self.schema_type.unwrap_or_default().chars().take(80).collect();
            ApiError::invalid_schema(format!("there is no schema type {name}"))
        })?;
        let text = self.schema.filter(|text| !text.trim().is_empty());
        let text = text.ok_or_else(|| ApiError::invalid_schema("Empty schema"))?;
        let references = self.references.unwrap_or_default().into_iter().map(|reference| {
            let subject = names::beside(subject, reference.subject)?;
            Ok(Reference { subject, ..reference })
        });
        Ok(Submitted {
            kind,
            text,
            references: references.collect::<Result<_, ApiError>>()?,
            metadata: self.metadata,
            rule_set: self.rule_set,
            id: self.id.filter(|id| *id >= 0),
            version: self.version.filter(|version| *version > 0),
        })
    }
}
