//! Computes the next config from the stored config and a draft. The function is pure and reports every fault.

use std::time::Duration;

use serde_json::{Value, json};

use super::changed_fields::{Setting, changed_fields, changed_settings};
use super::headers::{self, Keeping, Stored};
use super::merge_patch::merge;
use super::readable::ReadablePushConfig;
use super::{DisabledReason, Header, PushConfig, TIMEOUT_MS};
use crate::domain::endpoint::WebhookEvent;
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::fields::Fields;
use crate::domain::webhook_url::{UrlError, WebhookUrl};

/// Fields that requests cannot change. Clients may send them back, because responses contain them.
const READ_ONLY: [&str; 2] = ["disabled_reason", "warnings"];

/// A change that a request asks for.
#[derive(Debug, Clone)]
pub enum Draft {
    /// The whole config. Absent fields become defaults; stored secrets keep their values.
    Replacement(Value),
    /// A JSON Merge Patch (RFC 7396) of the readable config.
    MergePatch(Value),
}

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

/// Applies a draft to the current config.
pub fn apply(current: Option<&PushConfig>, draft: Draft, rules: Rules) -> Result<Change, Vec<Fault>> {
    let body = match draft {
        Draft::Replacement(body) => body,
        Draft::MergePatch(patch) => merge(readable(current), patch),
    };
    let mut fields = Fields::of(body, "").map_err(|fault| vec![fault])?;
    for name in READ_ONLY {
        let _: Option<Value> = fields.take(name);
    }
    let enabled = fields.boolean("enabled").unwrap_or(false);
    let url = url(&mut fields, current, rules);
    let timeout = fields.integer("timeout_ms", TIMEOUT_MS).map(Duration::from_millis);
    let signing = fields.boolean("signing").unwrap_or(true);
    let headers = headers(&mut fields, current, url.as_ref());
    let events = events(&mut fields);
    let mut faults = fields.finish();
    if enabled {
        require(&mut faults, "/url", url.is_some());
        require(&mut faults, "/events", !events.is_empty());
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let disabled_reason = disabled_reason(current, enabled, url.as_ref());
    let config = PushConfig { enabled, disabled_reason, url, timeout, signing, headers, events };
    let settings = changed_settings(current, &config);
    let mut fields = changed_fields(current, &config, &settings);
    let old_url = current.and_then(|current| current.url.as_ref());
    let new_origin = old_url.is_some()
        && (config.url.is_none() || keeping(old_url, config.url.as_ref()) == Keeping::RefusedForNewOrigin);
    if new_origin {
        fields.push("signing_secret".to_owned());
    }
    Ok(Change { config, new_origin, settings, fields })
}

/// The target of a merge patch. It is empty if there is no config yet, because absent fields have defaults.
fn readable(current: Option<&PushConfig>) -> Value {
    current.map_or_else(|| json!({}), |config| json!(ReadablePushConfig::from(config)))
}

fn url(fields: &mut Fields, current: Option<&PushConfig>, rules: Rules) -> Option<WebhookUrl> {
    let text = fields.text("url")?;
    // The stored URL stays valid, so that a user can pause a config after the operator's rules became stricter. Every send
    // checks the host's addresses again.
    if let Some(stored) = current.and_then(|config| config.url.as_ref()).filter(|url| url.as_str() == text) {
        return Some(stored.clone());
    }
    match WebhookUrl::parse(&text, rules.allow_http) {
        Ok(url) => Some(url),
        Err(error) => fields.fault("url", url_fault(error), error.to_string()),
    }
}

fn url_fault(error: UrlError) -> FaultCode {
    match error {
        UrlError::TooLong => FaultCode::TooLong,
        UrlError::UserInfo | UrlError::Fragment | UrlError::HttpNotAllowed => FaultCode::NotAllowed,
        UrlError::InvalidCharacter | UrlError::Malformed(_) | UrlError::UnknownScheme | UrlError::PortZero => {
            FaultCode::InvalidValue
        }
    }
}

fn headers(fields: &mut Fields, current: Option<&PushConfig>, url: Option<&WebhookUrl>) -> Vec<Header> {
    let Some(items) = fields.list("headers") else { return Vec::new() };
    let stored = Stored {
        headers: current.map_or(&[], |config| &config.headers),
        keeping: keeping(current.and_then(|config| config.url.as_ref()), url),
    };
    let (headers, faults) = headers::read(items, &stored);
    fields.faults(faults);
    headers
}

/// Secrets may stay in a config without a URL, because nothing is sent. But such secrets belong to no origin, so a user who sets
/// the next URL must enter them again. Otherwise a user could remove the URL first and then send the secrets to any origin.
fn keeping(before: Option<&WebhookUrl>, after: Option<&WebhookUrl>) -> Keeping {
    match (before, after) {
        (_, None) => Keeping::Allowed,
        (Some(before), Some(after)) if before.origin() == after.origin() => Keeping::Allowed,
        (_, Some(_)) => Keeping::RefusedForNewOrigin,
    }
}

fn events(fields: &mut Fields) -> Vec<WebhookEvent> {
    let mut events = Vec::new();
    for (index, item) in fields.list("events").unwrap_or_default().into_iter().enumerate() {
        // A list that is longer than the list of all events contains a duplicate, so one fault is enough.
        if index > WebhookEvent::ALL.len() {
            break;
        }
        let place = format!("events/{index}");
        match item.as_str().map(WebhookEvent::from_name) {
            None => {
                fields.fault::<()>(&place, FaultCode::InvalidType, "must be a string");
            }
            Some(None) => {
                let names = WebhookEvent::ALL.map(WebhookEvent::as_str).join(", ");
                fields.fault::<()>(&place, FaultCode::InvalidValue, format!("must be one of {names}"));
            }
            Some(Some(event)) if events.contains(&event) => {
                fields.fault::<()>(&place, FaultCode::Duplicate, "is already in the list");
            }
            Some(Some(event)) => events.push(event),
        }
    }
    events
}

/// Records that an enabled config lacks a required field, unless that field already has a fault.
fn require(faults: &mut Vec<Fault>, pointer: &str, present: bool) {
    let is_faulty = faults.iter().any(|fault| fault.pointer.starts_with(pointer));
    if !present && !is_faulty {
        faults.push(Fault::new(pointer, FaultCode::Required, "is required for the config to be enabled"));
    }
}

/// The reason why the service disabled the config. The reason remains until the config is enabled again or gets another URL.
fn disabled_reason(current: Option<&PushConfig>, enabled: bool, url: Option<&WebhookUrl>) -> Option<DisabledReason> {
    current.filter(|config| !enabled && config.url.as_ref() == url).and_then(|config| config.disabled_reason)
}
