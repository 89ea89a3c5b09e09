//! The readable form of a push config: everything except the values of secret headers.

use serde::Serialize;

use super::{DisabledReason, Header, HeaderValue, PushConfig};
use crate::domain::endpoint::WebhookEvent;

/// A push config as responses show it, and the target of merge patches. Clients may send it back as a replacement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReadablePushConfig {
    pub enabled: bool,
    pub url: Option<String>,
    /// The deadline of an attempt; `None` means the deployment's default.
    pub timeout_ms: Option<u64>,
    pub signing: bool,
    pub headers: Vec<ReadableHeader>,
    pub events: Vec<WebhookEvent>,
    pub disabled_reason: Option<DisabledReason>,
}

/// A header as responses show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReadableHeader {
    pub name: String,
    pub secret: bool,
    /// The header's value; `None` for a secret header.
    pub value: Option<String>,
    /// True if the header has a value, even if the value is not shown.
    pub value_set: bool,
}

impl From<&PushConfig> for ReadablePushConfig {
    fn from(config: &PushConfig) -> Self {
        Self {
            enabled: config.enabled,
            url: config.url.as_ref().map(|url| url.as_str().to_owned()),
            timeout_ms: config.timeout.and_then(|timeout| u64::try_from(timeout.as_millis()).ok()),
            signing: config.signing,
            headers: config.headers.iter().map(ReadableHeader::from).collect(),
            events: config.events.clone(),
            disabled_reason: config.disabled_reason,
        }
    }
}

impl From<&Header> for ReadableHeader {
    fn from(header: &Header) -> Self {
        let value = match &header.value {
            HeaderValue::Plain(text) => Some(text.expose().to_owned()),
            HeaderValue::Secret(_) => None,
        };
        Self { name: header.name.to_string(), secret: header.value.is_secret(), value, value_set: true }
    }
}
