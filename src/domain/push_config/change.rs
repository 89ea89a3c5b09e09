//! How the next config differs from the current config, and which stored values it may keep. The functions are pure.

use super::changed_fields::{Setting, changed_fields, changed_settings};
use super::{DisabledReason, Header, HeaderValue, PushConfig};
use crate::domain::fault::FaultCode;
use crate::domain::secret_text::SecretText;
use crate::domain::webhook_url::WebhookUrl;

/// What the operator allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    pub allow_http: bool,
}

/// The next config, and how it differs from the current config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub config: PushConfig,
    /// True if the config no longer sends to its previous origin. Its signing secret must then be removed. A config that had
    /// no URL keeps its signing secret, because the receiver may already use this secret.
    pub new_origin: bool,
    /// The settings that the request changes; empty if it changes nothing.
    pub settings: Vec<Setting>,
    /// The names of changed fields and headers, for the history. Never contains a value.
    pub fields: Vec<String>,
}

impl Change {
    /// The change from the current config to the next config.
    pub fn between(current: Option<&PushConfig>, config: PushConfig) -> Self {
        let settings = changed_settings(current, &config);
        let mut fields = changed_fields(current, &config, &settings);
        let old_url = current.and_then(|current| current.url.as_ref());
        let new_origin = old_url.is_some()
            && (config.url.is_none() || keeping(old_url, config.url.as_ref()) == Keeping::RefusedForNewOrigin);
        if new_origin {
            fields.push("signing_secret".to_owned());
        }
        Self { config, new_origin, settings, fields }
    }
}

/// Whether a draft may omit the stored values to keep them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    Allowed,
    /// The draft's URL has a new origin. The editor may not know the secrets, so the editor must not be able to send them to that
    /// origin.
    RefusedForNewOrigin,
}

/// Secrets may stay in a config without a URL, because nothing is sent. But such secrets belong to no origin, so a user who sets
/// the next URL must enter them again. Otherwise a user could remove the URL first and then send the secrets to any origin.
pub fn keeping(before: Option<&WebhookUrl>, after: Option<&WebhookUrl>) -> Keeping {
    match (before, after) {
        (_, None) => Keeping::Allowed,
        (Some(before), Some(after)) if before.origin() == after.origin() => Keeping::Allowed,
        (_, Some(_)) => Keeping::RefusedForNewOrigin,
    }
}

/// The stored value of a header that a draft contains without a value. The error is the fault of the draft's value.
pub fn kept_value(
    before: Option<&Header>,
    secret: bool,
    keeping: Keeping,
) -> Result<SecretText, (FaultCode, &'static str)> {
    let Some(Header { value, .. }) = before else { return Err((FaultCode::Required, "is required")) };
    match (secret, value, keeping) {
        (false, HeaderValue::Plain(_), _) => Err((FaultCode::Required, "is required")),
        (false, HeaderValue::Secret(_), _) => {
            Err((FaultCode::Required, "must be entered again for the header to become readable"))
        }
        (true, _, Keeping::Allowed) => Ok(value.text().clone()),
        (true, _, Keeping::RefusedForNewOrigin) => {
            let message = "must be entered again: the URL now has another scheme, host or port";
            Err((FaultCode::SecretReentryRequired, message))
        }
    }
}

/// The reason why the service disabled the config. The reason remains until the config is enabled again or gets another URL.
pub fn disabled_reason(
    current: Option<&PushConfig>,
    enabled: bool,
    url: Option<&WebhookUrl>,
) -> Option<DisabledReason> {
    current.filter(|config| !enabled && config.url.as_ref() == url).and_then(|config| config.disabled_reason)
}
