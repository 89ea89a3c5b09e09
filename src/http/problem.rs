//! Answers that are errors: RFC 9457 documents with a closed list of codes.
//!
//! Whatever fails inside is logged here once, and the client is told nothing of it. The request's id is filled in at
//! the edge (`edge.rs`), which alone knows it.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::fault::Fault;

/// The media type of every error.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// When to come back after a failure that passes by itself within moments.
pub(super) const RETRY_SOON: Duration = Duration::from_secs(1);

/// The kinds of errors; a closed list that clients may match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    /// The body is not JSON; the detail says where it breaks.
    InvalidJson,
    /// No bearer token, or one that is unknown, expired or revoked.
    Unauthorized,
    /// The role of the caller does not allow this.
    Forbidden,
    /// The token speaks for all tenants and the request does not name one.
    TenantRequired,
    /// Nothing here, or nothing of the caller's tenant.
    NotFound,
    /// The deployment has no keys for browser push.
    BrowserPushNotConfigured,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The idempotency key belongs to another request: another body, or another delivery.
    IdempotencyConflict,
    /// The thing has changed meanwhile in a way that this does not fit.
    Conflict,
    /// `If-Match` names another version than the present one.
    PreconditionFailed,
    /// The body is larger than its limit.
    PayloadTooLarge,
    /// The path and the headers are larger than their limit.
    HeadersTooLarge,
    /// The body is not declared as JSON, or is compressed.
    UnsupportedMediaType,
    /// The content breaks rules; `errors` lists every fault.
    Invalid,
    /// The URL has another origin and headers keep secrets that were meant for the old one; `errors` lists them.
    SecretReentryRequired,
    /// More requests than are allowed in this time.
    RateLimited,
    /// A fault of the service.
    Internal,
    /// As much work is waiting as may wait; nothing was accepted.
    Overloaded,
    /// The service cannot do this now; the database does not answer or the process is stopping.
    Unavailable,
}

impl ProblemCode {
    pub const fn as_str(self) -> &'static str {
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

    pub const fn status(self) -> StatusCode {
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

    /// The same for every occurrence of the code, as RFC 9457 wants it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::InvalidJson => "The body is not JSON",
            Self::Unauthorized => "A valid bearer token is needed",
            Self::Forbidden => "The caller's role does not allow this",
            Self::TenantRequired => "The request must name a tenant",
            Self::NotFound => "There is nothing here",
            Self::BrowserPushNotConfigured => "This deployment has no browser push",
            Self::MethodNotAllowed => "The path does not have this method",
            Self::RequestTimeout => "The request did not arrive in time",
            Self::IdempotencyConflict => "The idempotency key belongs to another request",
            Self::Conflict => "The request does not fit the present state",
            Self::PreconditionFailed => "The thing has changed since it was read",
            Self::PayloadTooLarge => "The body is too large",
            Self::HeadersTooLarge => "The headers are too large",
            Self::UnsupportedMediaType => "The body must be uncompressed application/json",
            Self::Invalid => "The content breaks rules",
            Self::SecretReentryRequired => "Secrets must be entered again for another origin",
            Self::RateLimited => "Too many requests",
            Self::Internal => "The service failed",
            Self::Overloaded => "The service is overloaded",
            Self::Unavailable => "The service is unavailable",
        }
    }
}

/// An error as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    code: ProblemCode,
    detail: Option<String>,
    faults: Vec<Fault>,
    retry_after: Option<Duration>,
}

/// The document of a problem.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "Problem", example = json!({
    "type": "urn:flametree:problem:invalid", "code": "invalid", "title": "The content breaks rules", "status": 422,
    "detail": null, "request_id": "6f1c1e2a9d2f4d0f8a8b0c8e3f5b7a10",
    "errors": [{"pointer": "/text", "code": "required", "message": "is required"}],
}))]
pub struct ProblemDocument<'a> {
    /// A URI that stands for the code.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    type_uri: String,
    code: ProblemCode,
    #[schema(value_type = String)]
    title: &'static str,
    /// The HTTP status again.
    status: u16,
    /// What is special about this occurrence.
    #[schema(value_type = Option<String>)]
    detail: Option<&'a str>,
    /// The answer's `X-Request-Id`, to be named when asking for help.
    #[schema(value_type = Option<String>)]
    request_id: Option<&'a str>,
    /// Every fault of the content, of more than 20 unknown fields the first 20; empty for other errors.
    #[schema(value_type = Vec<Fault>)]
    errors: &'a [Fault],
}

impl Problem {
    pub fn new(code: ProblemCode) -> Self {
        Self { code, detail: None, faults: Vec::new(), retry_after: None }
    }

    /// Content that breaks rules.
    pub fn invalid(faults: Vec<Fault>) -> Self {
        Self::new(ProblemCode::Invalid).faults(faults)
    }

    #[must_use]
    pub fn detail(mut self, text: impl Into<String>) -> Self {
        self.detail = Some(text.into());
        self
    }

    #[must_use]
    pub fn faults(mut self, faults: Vec<Fault>) -> Self {
        self.faults = faults;
        self
    }

    /// When to try again; whole seconds are sent, rounded up, at least one.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// A failure of the database or of the process that passes by itself.
    pub fn unavailable() -> Self {
        Self::new(ProblemCode::Unavailable).retry_after(RETRY_SOON)
    }

    pub fn code(&self) -> ProblemCode {
        self.code
    }

    pub fn after(&self) -> Option<Duration> {
        self.retry_after
    }

    pub fn into_faults(self) -> Vec<Fault> {
        self.faults
    }

    /// The document, with the id of the request where it is known.
    pub(super) fn document(&self, request_id: Option<&str>) -> Body {
        // Strings and numbers: this cannot fail, and an error about an error would help nobody.
        Body::from(serde_json::to_vec(&self.written(request_id)).unwrap_or_default())
    }

    pub(super) fn written<'a>(&'a self, request_id: Option<&'a str>) -> ProblemDocument<'a> {
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

/// Not before the time: whoever comes back a moment early is refused again.
pub(super) fn whole_seconds(after: Duration) -> u64 {
    (after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1)
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        if is_unavailable(&error) {
            tracing::warn!(%error, "the database did not answer a request");
            return Self::unavailable();
        }
        tracing::error!(%error, "a statement of a request failed");
        Self::new(ProblemCode::Internal)
    }
}

/// Whether the database, or the way to it, is missing for now; everything else is a fault of ours.
fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => true,
        // Classes of SQLSTATE: connection exceptions, out of resources, operator intervention; and a standby (25006).
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| ["08", "53", "57"].iter().any(|class| code.starts_with(class)) || code == "25006"),
        _ => false,
    }
}
