//! A push config as clients send it, and the next config that it leads to.

mod headers;
#[cfg(test)]
mod sequence_tests;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::time::Duration;

use serde_json::{Value, json};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{Ref, RefOr};

use self::headers::Headers;
use crate::domain::endpoint::WebhookEvent;
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::push_config::{Change, PushConfig, Rules, TIMEOUT_MS, disabled_reason, keeping};
use crate::domain::webhook_url::{MAX_URL_BYTES, UrlError, WebhookUrl};
use crate::http::request::fields::{At, Field, read_and};
use crate::http::request::merge_patch::merge;
use crate::http::request::request_body::request_body;
use crate::http::request::values::{Whole, texts};
use crate::http::resources::push_config_answers::PushConfigDocument;

request_body! {
    /// A push config as clients send it. Absent fields get their defaults. A config that was read can be sent back unchanged.
    #[example = json!({
        "enabled": true, "url": "https://example.com/webhook", "timeout_ms": 5_000, "signing": true,
        "headers": [{"name": "Authorization", "value": "Bearer x", "secret": true}],
        "events": ["new_session_started", "user_message"],
    })]
    pub(crate) struct PushConfigDraft {
        /// The value `true` requires a URL and at least one event.
        #[default = false]
        enabled: Option<bool>,
        /// A URL with the scheme https, at most 2048 bytes long, without user info and fragment.
        url: Option<EnteredUrl>,
        /// Null for the deployment's default.
        timeout_ms: Option<Whole<u64, { *TIMEOUT_MS.start() }, { *TIMEOUT_MS.end() }>>,
        #[default = true]
        signing: Option<bool>,
        headers: Option<Headers>,
        events: Option<Events>,
        /// Ignored, so that a config that was read can be sent back.
        #[name = "disabled_reason"]
        _disabled_reason: Option<Value>,
        /// Ignored.
        #[name = "warnings"]
        _warnings: Option<Value>,
    }
}

/// A change that a request asks for.
#[derive(Debug, Clone)]
pub(crate) enum Draft {
    /// The whole config. Absent fields become defaults; stored secrets keep their values.
    Replacement(Value),
    /// A JSON Merge Patch (RFC 7396) of the config that responses show.
    MergePatch(Value),
}

/// Applies a draft to the current config.
pub(crate) fn apply(current: Option<&PushConfig>, draft: Draft, rules: Rules) -> Result<Change, Vec<Fault>> {
    let body = match draft {
        Draft::Replacement(body) => body,
        // The target is empty if there is no config yet, because absent fields have defaults.
        Draft::MergePatch(patch) => {
            merge(current.map_or_else(|| json!({}), |config| json!(PushConfigDocument::from(config))), patch)
        }
    };
    read_and(body, "", |draft: PushConfigDraft, mut at| Some(draft.apply(current, rules, &mut at)))
}

impl PushConfigDraft {
    /// The next config. It is only valid if no fault is recorded.
    pub(crate) fn apply(self, current: Option<&PushConfig>, rules: Rules, at: &mut At<'_>) -> Change {
        let enabled = self.enabled.unwrap_or(false);
        let stored = current.and_then(|config| config.url.as_ref());
        let url = self.url.and_then(|EnteredUrl(text)| url(&text, stored, rules, at.name("url")));
        let headers = self.headers.map(|headers| {
            let before = current.map_or(&[][..], |config| &config.headers);
            headers.complete(before, keeping(stored, url.as_ref()), at.name("headers"))
        });
        let events = self.events.map(|Events(events)| events).unwrap_or_default();
        if enabled {
            let message = "is required for the config to be enabled";
            at.name("url").require(url.is_some(), message);
            at.name("events").require(!events.is_empty(), message);
        }
        let config = PushConfig {
            enabled,
            disabled_reason: disabled_reason(current, enabled, url.as_ref()),
            url,
            timeout: self.timeout_ms.map(|Whole(timeout)| Duration::from_millis(timeout)),
            signing: self.signing.unwrap_or(true),
            headers: headers.unwrap_or_default(),
            events,
        };
        Change::between(current, config)
    }
}

fn url(text: &str, stored: Option<&WebhookUrl>, rules: Rules, mut at: At<'_>) -> Option<WebhookUrl> {
    // The stored URL stays valid, so that a user can pause a config after the operator's rules became stricter. Every send
    // checks the host's addresses again.
    if let Some(stored) = stored.filter(|url| url.as_str() == text) {
        return Some(stored.clone());
    }
    let url = WebhookUrl::parse(text, rules.allow_http);
    url.map_err(|error| at.fault::<()>(url_fault(error), error.to_string())).ok()
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

/// The text of a URL, which the operator's rules and the stored URL make valid.
pub(crate) struct EnteredUrl(String);

texts! {
    EnteredUrl, url_schema() => |text| Ok::<_, Infallible>(EnteredUrl(text));
}

fn url_schema() -> RefOr<Schema> {
    let url = ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::Custom("uri".to_owned())));
    url.min_length(Some(1)).max_length(Some(MAX_URL_BYTES)).into()
}

/// The selected events without duplicates, in the order of the request.
pub(crate) struct Events(Vec<WebhookEvent>);

impl Field for Events {
    fn read(value: Value, mut at: At<'_>) -> Option<Self> {
        let mut events = Vec::new();
        // A list that is longer than the list of all events contains a duplicate, so one fault is enough.
        let items = at.list(value)?.into_iter().take(WebhookEvent::ALL.len() + 1);
        for (index, item) in items.enumerate() {
            match WebhookEvent::read(item, at.index(index)) {
                Some(event) if events.contains(&event) => {
                    at.index(index).fault::<()>(FaultCode::Duplicate, "is already in the list");
                }
                event => events.extend(event),
            }
        }
        Some(Self(events))
    }

    fn schema() -> RefOr<Schema> {
        let events = ArrayBuilder::new().items(Ref::from_schema_name("WebhookEvent"));
        events.max_items(Some(WebhookEvent::ALL.len())).into()
    }

    fn named_schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        <WebhookEvent as Field>::named_schemas(schemas);
    }
}
