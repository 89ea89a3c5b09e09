//! Responses about push configs and their signing secrets, and their documentation.

use axum::Json;
use axum::http::header::{CACHE_CONTROL, ETAG};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::channels::VetError;
use crate::domain::endpoint::WebhookEvent;
use crate::domain::ids::SigningSecretId;
use crate::domain::push_config::{DisabledReason, Header, ReadableHeader, ReadablePushConfig};
use crate::domain::secret_text::SecretText;
use crate::domain::webhook_url::without_query;
use crate::http::request::preconditions::EntityTag;
use crate::store::push_configs::Revision;
use crate::store::signing_secrets::SigningSecretInfo;

/// A push config. An unset config has only the four fields `enabled`, `url`, `headers` and `events`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PushConfigDocument {
    enabled: bool,
    /// The URL. Roles that may not change the config get the URL without its query, which often contains a token.
    url: Option<String>,
    headers: Vec<HeaderDocument>,
    events: Vec<WebhookEvent>,
    #[serde(flatten)]
    #[schema(value_type = FurtherSettings)]
    further: Option<FurtherSettings>,
    /// Problems that prevent sending, and credentials that other users can read. Present only in responses to changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<Vec<WarningDocument>>,
    /// The new signing secret. Present only after the first save and after a change of the URL's origin. Store the secret; it
    /// is never shown again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "whsec_...")]
    signing_secret: Option<String>,
}

/// Additional fields of a config that is set.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FurtherSettings {
    /// Timeout of an attempt in milliseconds, 1000 to 10000; null for the deployment's default.
    timeout_ms: Option<u64>,
    /// Whether messages are signed.
    #[schema(required = false)]
    signing: bool,
    /// The reason why the service disabled the config; null if the service did not disable it.
    disabled_reason: Option<DisabledReason>,
}

/// A push config as clients send it. Absent fields get their defaults. A config that was read can be sent back unchanged.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "documents the body, which the domain reads field by field to report every fault")]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "enabled": true, "url": "https://example.com/webhook", "timeout_ms": 5_000, "signing": true,
    "headers": [{"name": "Authorization", "value": "Bearer x", "secret": true}],
    "events": ["new_session_started", "user_message"],
}))]
pub(crate) struct PushConfigDraft {
    /// The value `true` requires a URL and at least one event.
    #[schema(default = false)]
    enabled: Option<bool>,
    /// A URL with the scheme https, at most 2048 bytes long, without user info and fragment.
    #[schema(format = "uri", min_length = 1, max_length = 2_048)]
    url: Option<String>,
    /// Null for the deployment's default.
    #[schema(minimum = 1_000, maximum = 10_000)]
    timeout_ms: Option<u64>,
    #[schema(default = true)]
    signing: Option<bool>,
    #[schema(max_items = 20)]
    headers: Option<Vec<HeaderDraft>>,
    #[schema(max_items = 4)]
    events: Option<Vec<WebhookEvent>>,
    /// Ignored, so that a config that was read can be sent back.
    #[schema(value_type = Option<Value>)]
    disabled_reason: (),
    /// Ignored.
    #[schema(value_type = Option<Value>)]
    warnings: (),
}

/// A header as clients send it.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "documents the body, which the domain reads field by field to report every fault")]
#[serde(deny_unknown_fields)]
pub(crate) struct HeaderDraft {
    /// The header's name: a token (RFC 9110) that is unique if case is ignored. Some names are reserved for the service.
    #[schema(min_length = 1, max_length = 128, pattern = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
    name: String,
    /// The header's value: visible ASCII, spaces and tabs. If the value is absent, a secret header keeps the stored value.
    #[schema(min_length = 1, max_length = 4_096, pattern = r"^[\t -~]+$")]
    value: Option<String>,
    /// Always true for the headers `authorization` and `cookie`. Default: the stored setting, else false.
    secret: Option<bool>,
    /// Ignored.
    #[schema(value_type = Option<Value>)]
    value_set: (),
}

/// A header of a push config.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HeaderDocument {
    name: String,
    secret: bool,
    /// Null for a secret header.
    value: Option<String>,
    /// Whether a value is set, even if it is not shown.
    value_set: bool,
}

/// A warning about a saved setting that will not work or that exposes a credential.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WarningDocument {
    /// JSON Pointer (RFC 6901) into the config.
    #[schema(example = "/url")]
    pointer: String,
    code: WarningCode,
    message: String,
}

/// The kinds of warnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WarningCode {
    /// The host is an address that this deployment does not send to.
    BlockedAddress,
    /// The host name does not resolve to an address that this deployment sends to.
    UnresolvedHost,
    /// The host name did not resolve in time.
    ResolutionTimeout,
    /// A header looks like a credential but is not secret, so everyone who may read the config can read the header's value.
    CredentialNotSecret,
}

/// The signing secrets of a webhook, without their values.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SigningSecretsDocument {
    /// The secrets that currently sign messages, newest first.
    pub(crate) secrets: Vec<SigningSecretDocument>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SigningSecretDocument {
    id: SigningSecretId,
    created_at: DateTime<Utc>,
    /// The time at which the secret stops signing; null for the newest secret.
    expires_at: Option<DateTime<Utc>>,
}

/// The result of a rotation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RotatedSecretDocument {
    /// The new secret. Store it; it is never shown again.
    #[schema(example = "whsec_...")]
    pub(crate) signing_secret: String,
    #[serde(flatten)]
    pub(crate) info: SigningSecretDocument,
}

impl PushConfigDocument {
    pub(crate) fn unset() -> Self {
        Self {
            enabled: false,
            url: None,
            headers: Vec::new(),
            events: Vec::new(),
            further: None,
            warnings: None,
            signing_secret: None,
        }
    }

    /// Removes the query of the URL.
    #[must_use]
    pub(crate) fn without_query(mut self) -> Self {
        self.url = self.url.map(without_query);
        self
    }

    #[must_use]
    pub(crate) fn with_warnings(mut self, warnings: Vec<WarningDocument>) -> Self {
        self.warnings = Some(warnings);
        self
    }

    /// Adds the newly created secret, if there is one.
    #[must_use]
    pub(crate) fn with_signing_secret(mut self, secret: Option<&SecretText>) -> Self {
        self.signing_secret = secret.map(|secret| secret.expose().to_owned());
        self
    }
}

impl From<ReadablePushConfig> for PushConfigDocument {
    fn from(config: ReadablePushConfig) -> Self {
        Self {
            enabled: config.enabled,
            url: config.url,
            headers: config.headers.into_iter().map(HeaderDocument::from).collect(),
            events: config.events,
            further: Some(FurtherSettings {
                timeout_ms: config.timeout_ms,
                signing: config.signing,
                disabled_reason: config.disabled_reason,
            }),
            warnings: None,
            signing_secret: None,
        }
    }
}

impl From<ReadableHeader> for HeaderDocument {
    fn from(header: ReadableHeader) -> Self {
        Self { name: header.name, secret: header.secret, value: header.value, value_set: header.value_set }
    }
}

impl From<VetError> for WarningDocument {
    fn from(error: VetError) -> Self {
        let code = match error {
            VetError::BlockedAddress => WarningCode::BlockedAddress,
            VetError::Unresolved => WarningCode::UnresolvedHost,
            VetError::TimedOut => WarningCode::ResolutionTimeout,
        };
        Self { pointer: "/url".to_owned(), code, message: error.to_string() }
    }
}

impl WarningDocument {
    /// A warning for each header that looks like a credential but is not secret.
    pub(crate) fn of_headers(headers: &[Header]) -> impl Iterator<Item = Self> {
        headers.iter().enumerate().filter(|(_, header)| header.shows_credential()).map(|(index, _)| Self {
            pointer: format!("/headers/{index}"),
            code: WarningCode::CredentialNotSecret,
            message: "looks like a credential: set `secret` to true, so that its value is not shown".to_owned(),
        })
    }
}

impl From<SigningSecretInfo> for SigningSecretDocument {
    fn from(info: SigningSecretInfo) -> Self {
        Self { id: info.id, created_at: info.created_at, expires_at: info.expires_at }
    }
}

/// A response with the config's `ETag`. Disables caching, because the response may contain a secret.
pub(crate) fn tagged(revision: Option<Revision>, document: impl Serialize) -> Response {
    let headers: [(HeaderName, HeaderValue); 2] =
        [(ETAG, EntityTag::of(revision).to_header()), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (headers, Json(document)).into_response()
}
