//! Responses about push configs and their signing secrets, and their documentation.

use axum::Json;
use axum::http::header::{CACHE_CONTROL, ETAG};
use axum::http::{self, HeaderName};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::channels::VetError;
use crate::domain::endpoint::WebhookEvent;
use crate::domain::ids::SigningSecretId;
use crate::domain::push_config::{DisabledReason, Header, HeaderValue, PushConfig};
use crate::domain::secret_text::SecretText;
use crate::domain::webhook_url::without_query;
use crate::http::request::preconditions::EntityTag;
use crate::store::push_configs::Revision;
use crate::store::signing_secrets::SigningSecretInfo;

/// A push config. An unset config has only the four fields `enabled`, `url`, `headers` and `events`.
#[derive(Debug, Default, Serialize, ToSchema)]
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

impl From<&PushConfig> for PushConfigDocument {
    fn from(config: &PushConfig) -> Self {
        Self {
            enabled: config.enabled,
            url: config.url.as_ref().map(|url| url.as_str().to_owned()),
            headers: config.headers.iter().map(HeaderDocument::from).collect(),
            events: config.events.clone(),
            further: Some(FurtherSettings {
                timeout_ms: config.timeout.and_then(|timeout| u64::try_from(timeout.as_millis()).ok()),
                signing: config.signing,
                disabled_reason: config.disabled_reason,
            }),
            ..Self::default()
        }
    }
}

impl From<&Header> for HeaderDocument {
    fn from(header: &Header) -> Self {
        let value = match &header.value {
            HeaderValue::Plain(text) => Some(text.expose().to_owned()),
            HeaderValue::Secret(_) => None,
        };
        Self { name: header.name.to_string(), secret: header.value.is_secret(), value, value_set: true }
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
    let headers: [(HeaderName, http::HeaderValue); 2] =
        [(ETAG, EntityTag::of(revision).to_header()), (CACHE_CONTROL, http::HeaderValue::from_static("no-store"))];
    (headers, Json(document)).into_response()
}
