//! What a schema registry client is told when something is wrong: status, code and message, as Confluent's clients
//! expect them.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::http::json;
use super::record::Reference;
use crate::limits::{REGISTRY_BODY_BYTES_MAX, SUBJECT_BYTES_MAX};

/// An answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    /// The HTTP status is the first three digits of a five-digit code, or the code itself.
    pub(crate) code: u32,
    pub(crate) message: String,
}

impl ApiError {
    fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn subject_not_found(subject: &str) -> Self {
        Self::new(40401, format!("Subject '{subject}' not found."))
    }

    pub(crate) fn version_not_found(version: &str) -> Self {
        Self::new(40402, format!("Version {version} not found."))
    }

    pub(crate) fn schema_not_found() -> Self {
        Self::new(40403, "Schema not found")
    }

    pub(crate) fn id_not_found(id: &str) -> Self {
        Self::new(40403, format!("Schema {id} not found"))
    }

    pub(crate) fn subject_soft_deleted(subject: &str) -> Self {
        Self::new(40404, format!("Subject '{subject}' was soft deleted. Set permanent=true to delete permanently"))
    }

    pub(crate) fn subject_not_soft_deleted(subject: &str) -> Self {
        Self::new(40405, format!("Subject '{subject}' was not deleted first before being permanently deleted"))
    }

    pub(crate) fn version_soft_deleted(subject: &str, version: i32) -> Self {
        let message =
            format!("Subject '{subject}' Version {version} was soft deleted. Set permanent=true to delete permanently");
        Self::new(40406, message)
    }

    pub(crate) fn version_not_soft_deleted(subject: &str, version: i32) -> Self {
        let message =
            format!("Subject '{subject}' Version {version} was not deleted first before being permanently deleted");
        Self::new(40407, message)
    }

    pub(crate) fn no_level(subject: &str) -> Self {
        Self::new(40408, format!("Subject '{subject}' does not have subject-level compatibility configured"))
    }

    pub(crate) fn no_mode(subject: &str) -> Self {
        Self::new(40409, format!("Subject '{subject}' does not have subject-level mode configured"))
    }

    pub(crate) fn incompatible(subject: &str, messages: &[String]) -> Self {
        let details = messages.join(", ");
        let message = format!(
            "Schema being registered is incompatible with an earlier schema for subject \"{subject}\", details: \
             [{details}]"
        );
        Self::new(409, message)
    }

    pub(crate) fn invalid_schema(reason: impl std::fmt::Display) -> Self {
        Self::new(42201, format!("Invalid schema: {reason}"))
    }

    pub(crate) fn invalid_version(version: &str) -> Self {
        let message = format!(
            "The specified version '{version}' is not a valid version id. Allowed values are between [1, 2^31-1] and \
             the string \"latest\""
        );
        Self::new(42202, message)
    }

    pub(crate) fn invalid_level() -> Self {
        let message = "Invalid compatibility level. Valid values are none, backward, forward, full, \
                       backward_transitive, forward_transitive, and full_transitive";
        Self::new(42203, message)
    }

    pub(crate) fn invalid_mode() -> Self {
        Self::new(42204, "Invalid mode. Valid values are READWRITE, READONLY, READONLY_OVERRIDE and IMPORT")
    }

    pub(crate) fn not_permitted(reason: impl Into<String>) -> Self {
        Self::new(42205, reason)
    }

    pub(crate) fn referenced(subject: &str, version: i32) -> Self {
        let key = format!("{{magic=1,keytype=SCHEMA,subject={subject},version={version}}}");
        Self::new(42206, format!("One or more references exist to the schema {key}."))
    }

    pub(crate) fn dangling(reference: &Reference) -> Self {
        let Reference { name, subject, version } = reference;
        Self::invalid_schema(format!("reference {name} to version {version} of {subject} leads nowhere"))
    }

    pub(crate) fn invalid_subject() -> Self {
        let message = format!(
            "The specified subject is empty, longer than {SUBJECT_BYTES_MAX} bytes, or contains control characters"
        );
        Self::new(42208, message)
    }

    pub(crate) fn schema_too_large() -> Self {
        Self::new(42209, "Register operation failed because schema is too large")
    }

    pub(crate) fn request(reason: impl std::fmt::Display) -> Self {
        Self::new(400, format!("the request cannot be read: {reason}"))
    }

    pub(crate) fn not_found() -> Self {
        Self::new(404, "HTTP 404 Not Found")
    }

    pub(crate) fn method() -> Self {
        Self::new(405, "HTTP 405 Method Not Allowed")
    }

    pub(crate) fn not_acceptable() -> Self {
        Self::new(406, "HTTP 406 Not Acceptable")
    }

    pub(crate) fn too_slow() -> Self {
        Self::new(408, "the request did not arrive or was not answered in time")
    }

    pub(crate) fn too_large() -> Self {
        Self::new(413, format!("the body of the request is larger than {REGISTRY_BODY_BYTES_MAX} bytes"))
    }

    pub(crate) fn media_type() -> Self {
        Self::new(415, "HTTP 415 Unsupported Media Type")
    }

    pub(crate) fn unprocessable(reason: &str) -> Self {
        Self::new(422, reason)
    }

    pub(crate) fn store() -> Self {
        Self::new(50001, "Error in the backend data store")
    }

    fn status(&self) -> StatusCode {
        let digits = if self.code >= 1_000 { self.code / 100 } else { self.code };
        u16::try_from(digits).ok().and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or_default()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "error_code": self.code, "message": self.message });
        json(self.status(), &body)
    }
}
