//! Error responses: RFC 9457 documents with a closed list of codes.
//!
//! Clients do not get the details of internal errors; this module logs them. `edge.rs` adds the request id.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::fault::{Fault, FaultCode};

/// The media type of every error.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";
/// The retry delay for failures that usually end within a second.
pub(crate) const RETRY_SOON: Duration = Duration::from_secs(1);

/// Error codes: a closed list that clients may match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProblemCode {
    /// The body is not JSON. The field `detail` contains the position of the error.
    InvalidJson,
    /// The bearer token is missing, unknown, expired or revoked.
    Unauthorized,
    /// The role of the caller does not allow the request.
    Forbidden,
    /// The token is valid for all tenants and the request names no tenant.
    TenantRequired,
    /// The resource does not exist, or belongs to another tenant.
    NotFound,
    /// The deployment has no keys for browser push.
    BrowserPushNotConfigured,
    /// The path exists, but not for this method.
    MethodNotAllowed,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The idempotency key was used for a request with another body or for another delivery.
    IdempotencyConflict,
    /// The request conflicts with the current state.
    Conflict,
    /// The header `If-Match` does not match the current version.
    PreconditionFailed,
    /// The body exceeds its limit.
    PayloadTooLarge,
    /// The path and the headers exceed their limit.
    HeadersTooLarge,
    /// The body is not declared as JSON, or is compressed.
    UnsupportedMediaType,
    /// The content is invalid; the field `errors` lists every fault.
    Invalid,
    /// The URL has a new origin, so secret headers need their values again; the field `errors` lists them.
    SecretReentryRequired,
    /// Too many requests in this period.
    RateLimited,
    /// An internal error.
    Internal,
    /// Too much work is already waiting; nothing was accepted.
    Overloaded,
    /// Temporarily unavailable: the database does not respond or the process is stopping.
    Unavailable,
}

impl ProblemCode {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::TenantRequired => "tenant_required",
            Self::NotFound => "not_found",
            Self::BrowserPushNotConfigured => "browser_push_not_configured",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::IdempotencyConflict => "idempotency_conflict",
            Self::Conflict => "conflict",
            Self::PreconditionFailed => "precondition_failed",
            Self::PayloadTooLarge => "payload_too_large",
            Self::HeadersTooLarge => "headers_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Invalid => "invalid",
            Self::SecretReentryRequired => "secret_reentry_required",
            Self::RateLimited => "rate_limited",
            Self::Internal => "internal",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
        }
    }

    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::InvalidJson => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::TenantRequired => StatusCode::FORBIDDEN,
            Self::NotFound | Self::BrowserPushNotConfigured => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::IdempotencyConflict | Self::Conflict => StatusCode::CONFLICT,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Invalid | Self::SecretReentryRequired => StatusCode::UNPROCESSABLE_ENTITY,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Overloaded | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The title is the same for every occurrence of a code, as RFC 9457 requires.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::InvalidJson => "The body is not JSON",
            Self::Unauthorized => "A valid bearer token is required",
            Self::Forbidden => "The caller's role does not allow this",
            Self::TenantRequired => "The request must name a tenant",
            Self::NotFound => "Not found",
            Self::BrowserPushNotConfigured => "This deployment has no browser push",
            Self::MethodNotAllowed => "The path does not support this method",
            Self::RequestTimeout => "The request did not arrive in time",
            Self::IdempotencyConflict => "The idempotency key belongs to another request",
            Self::Conflict => "The request conflicts with the current state",
            Self::PreconditionFailed => "The resource has changed since it was read",
            Self::PayloadTooLarge => "The body is too large",
            Self::HeadersTooLarge => "The headers are too large",
            Self::UnsupportedMediaType => "The body must be uncompressed application/json",
            Self::Invalid => "The content is invalid",
            Self::SecretReentryRequired => "Secrets must be entered again for another origin",
            Self::RateLimited => "Too many requests",
            Self::Internal => "The service failed",
            Self::Overloaded => "The service is overloaded",
            Self::Unavailable => "The service is unavailable",
        }
    }
}

/// An error response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    code: ProblemCode,
    detail: Option<String>,
    faults: Vec<Fault>,
    retry_after: Option<Duration>,
}

/// The document of a problem.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "Problem", example = json!({
    "type": "urn:flametree:problem:invalid", "code": "invalid", "title": "The content is invalid", "status": 422,
    "detail": null, "request_id": "6f1c1e2a9d2f4d0f8a8b0c8e3f5b7a10",
    "errors": [{"pointer": "/text", "code": "required", "message": "is required"}],
}))]
pub(crate) struct ProblemDocument<'a> {
    /// A URI that identifies the code.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    type_uri: String,
    code: ProblemCode,
    #[schema(value_type = String)]
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// Details of this occurrence.
    #[schema(value_type = Option<String>)]
    detail: Option<&'a str>,
    /// The id from the response header `X-Request-Id`; include it in support requests.
    #[schema(value_type = Option<String>)]
    request_id: Option<&'a str>,
    /// Every fault of the content, but at most 20 unknown fields. Empty for other errors.
    #[schema(value_type = Vec<Fault>)]
    errors: &'a [Fault],
}

impl Problem {
    pub(crate) fn new(code: ProblemCode) -> Self {
        Self { code, detail: None, faults: Vec::new(), retry_after: None }
    }

    /// Invalid content.
    pub(crate) fn invalid(faults: Vec<Fault>) -> Self {
        Self::new(ProblemCode::Invalid).faults(faults)
    }

    #[must_use]
    pub(crate) fn detail(mut self, text: impl Into<String>) -> Self {
        self.detail = Some(text.into());
        self
    }

    #[must_use]
    pub(crate) fn faults(mut self, faults: Vec<Fault>) -> Self {
        self.faults = faults;
        self
    }

    /// Sets the header `Retry-After` in whole seconds, rounded up, at least one second.
    #[must_use]
    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// A temporary failure of the database or of the process.
    pub(crate) fn unavailable() -> Self {
        Self::new(ProblemCode::Unavailable).retry_after(RETRY_SOON)
    }

    pub(crate) fn code(&self) -> ProblemCode {
        self.code
    }

    pub(crate) fn after(&self) -> Option<Duration> {
        self.retry_after
    }

    pub(crate) fn into_faults(self) -> Vec<Fault> {
        self.faults
    }

    /// The document, with the request id if known.
    pub(crate) fn document(&self, request_id: Option<&str>) -> Body {
        // A problem has only strings and numbers, so serialization cannot fail.
        Body::from(serde_json::to_vec(&self.written(request_id)).unwrap_or_default())
    }

    pub(crate) fn written<'a>(&'a self, request_id: Option<&'a str>) -> ProblemDocument<'a> {
        ProblemDocument {
            type_uri: format!("urn:flametree:problem:{}", self.code.as_str()),
            code: self.code,
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: self.detail.as_deref(),
            request_id,
            errors: &self.faults,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.document(None).into_response();
        *response.status_mut() = self.code.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(after) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
        }
        if self.code == ProblemCode::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Rounds up, because a client that retried earlier would be refused again.
pub(crate) fn whole_seconds(after: Duration) -> u64 {
    (after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1)
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        if is_unavailable(&error) {
            tracing::warn!(%error, "the database did not respond to a request");
            return Self::unavailable();
        }
        tracing::error!(%error, "a statement of a request failed");
        Self::new(ProblemCode::Internal)
    }
}

/// Whether the database or the connection to it is temporarily unavailable; other errors are internal.
fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => true,
        // SQLSTATE classes for connection exceptions, lack of resources and operator intervention. Code 25006: a standby server.
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| ["08", "53", "57"].iter().any(|class| code.starts_with(class)) || code == "25006"),
        _ => false,
    }
}

/// If only secrets are missing, the response has a specific code, so that a form can request only these secrets.
pub(crate) fn refused(faults: Vec<Fault>) -> Problem {
    let only_secrets = faults.iter().all(|fault| fault.code == FaultCode::SecretReentryRequired);
    let code = if only_secrets { ProblemCode::SecretReentryRequired } else { ProblemCode::Invalid };
    Problem::new(code).faults(faults)
}
