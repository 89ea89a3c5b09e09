//! The push config: where the service sends an agent's events, which events it sends, and with which headers.
//!
//! A push config is always valid. The HTTP API turns a request into a config (`http::resources::push_config_draft`). Other
//! modules store configs and check the addresses of hosts.

mod change;
mod changed_fields;
mod credential;
mod header;
mod history;

use std::time::Duration;

pub use change::{Change, Keeping, Rules, disabled_reason, keeping, kept_value};
pub use changed_fields::Setting;
pub use header::{
    Header, HeaderName, HeaderNameError, HeaderValue, HeaderValueError, MAX_NAME_BYTES as MAX_HEADER_NAME_BYTES,
    MAX_VALUE_BYTES as MAX_HEADER_VALUE_BYTES, parse_value as parse_header_value,
};
pub use history::{ChangeAction, PushConfigChange};

use super::endpoint::WebhookEvent;
use super::webhook_url::WebhookUrl;
use crate::domain::closed_set::closed_set;

/// Maximum number of headers per config.
pub const MAX_HEADERS: usize = 20;
/// Allowed deadlines of an attempt, in milliseconds.
pub const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 1_000..=10_000;

/// An agent's settings for webhooks. An enabled config has a URL and at least one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushConfig {
    pub enabled: bool,
    /// The reason why the service disabled the config; `None` if the config is enabled, or if a user paused it.
    pub disabled_reason: Option<DisabledReason>,
    pub url: Option<WebhookUrl>,
    /// The deadline of an attempt; `None` means the deployment's default.
    pub timeout: Option<Duration>,
    /// True if messages are signed.
    pub signing: bool,
    /// The headers, in the order of the request. Their names are unique regardless of case.
    pub headers: Vec<Header>,
    /// The selected events, in the order of the request, without duplicates.
    pub events: Vec<WebhookEvent>,
}

/// The reason why the service disabled a config.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum DisabledReason {
    /// The endpoint responded with 410.
    Gone,
}

closed_set!(DisabledReason);
