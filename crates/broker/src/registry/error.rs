//! What a schema registry client is told when something is wrong: status, code and message, as Confluent's clients
//! expect them.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::http::json;

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

    pub(crate) fn subject_not_soft_deleted(subject: &str) -> Self {
        Self::new(40405, format!("Subject '{subject}' was not deleted first before being permanently deleted"))
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

    pub(crate) fn incompatible(messages: &[String]) -> Self {
        Self::new(
            409,
            format!("Schema being registered is incompatible with an earlier schema: {}", messages.join("; ")),
        )
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
        Self::new(42204, "Invalid mode. Valid values are READWRITE and READONLY")
    }

    pub(crate) fn not_permitted(reason: &str) -> Self {
        Self::new(42205, reason)
    }

    pub(crate) fn referenced() -> Self {
        Self::new(42206, "One or more references exist to the schema")
    }

    pub(crate) fn invalid_subject() -> Self {
        Self::new(42208, "The specified subject is empty, too long, or contains control characters")
    }

    pub(crate) fn body(reason: impl std::fmt::Display) -> Self {
        Self::new(400, format!("the body of the request cannot be read: {reason}"))
    }

    pub(crate) fn too_large() -> Self {
        Self::new(413, "the body of the request is larger than 1 MiB")
    }

    pub(crate) fn not_found() -> Self {
        Self::new(404, "HTTP 404 Not Found")
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
