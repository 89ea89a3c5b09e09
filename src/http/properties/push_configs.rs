//! Invariants of parsing a push config, as a replacement and as a merge patch.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::domain::properties::assert_told;
use crate::domain::push_config::{HeaderValue, MAX_HEADERS, PushConfig, Rules, TIMEOUT_MS};
use crate::http::resources::push_config_answers::PushConfigDocument;
use crate::http::resources::push_config_draft::{Draft, apply};

/// The stored secret values, which no output may show.
const KEPT: [&str; 2] = ["Bearer kept-hunter2", "kept-hunter3"];
const URL: &str = "https://example.com/webhook";

static STORED: LazyLock<PushConfig> = LazyLock::new(|| {
    let body = json!({
        "enabled": true, "url": URL, "timeout_ms": 5000, "events": ["user_message", "ai_assistant_message"],
        "headers": [
            {"name": "Authorization", "value": KEPT[0]},
            {"name": "X-Key", "value": KEPT[1], "secret": true},
            {"name": "X-Env", "value": "prod"},
        ],
    });
    let Ok(change) = apply(None, Draft::Replacement(body), Rules { allow_http: false }) else {
        panic!("the stored config is valid");
    };
    change.config
});

/// Parses the bytes as a draft, without a stored config and with a stored config that has secrets. Returns the result
/// without a stored config.
pub fn push_config(input: &[u8]) -> Option<PushConfig> {
    let value: Value = serde_json::from_slice(input).ok()?;
    for allow_http in [false, true] {
        for current in [None, Some(&*STORED)] {
            for draft in [Draft::Replacement(value.clone()), Draft::MergePatch(value.clone())] {
                check(current, draft, Rules { allow_http }, &value);
            }
        }
    }
    apply(None, Draft::Replacement(value), Rules { allow_http: true }).ok().map(|change| change.config)
}

fn check(current: Option<&PushConfig>, draft: Draft, rules: Rules, value: &Value) {
    match apply(current, draft, rules) {
        Ok(change) => {
            assert_sound(&change.config);
            assert_eq!(change.settings.is_empty(), change.fields.is_empty());
            assert_eq!(change.settings.is_empty(), current == Some(&change.config));
            assert_kept_at_home(&change.config, value);
            let read = json!(PushConfigDocument::from(&change.config));
            for draft in [Draft::Replacement(read), Draft::MergePatch(json!({}))] {
                let again = apply(Some(&change.config), draft, rules).map(|again| (again.config, again.settings));
                assert_eq!(again, Ok((change.config.clone(), Vec::new())), "a config that was read can be sent back");
            }
        }
        Err(faults) => {
            assert_told(&faults, "");
            assert!(!json!(faults).to_string().contains("hunter") || value.to_string().contains("hunter"));
        }
    }
}

/// Invariants of every config.
fn assert_sound(config: &PushConfig) {
    assert!(!config.enabled || (config.url.is_some() && !config.events.is_empty()));
    assert!(!config.enabled || config.disabled_reason.is_none());
    let milliseconds = config.timeout.map(|timeout| timeout.as_millis());
    assert!(milliseconds.is_none_or(|timeout| u64::try_from(timeout).is_ok_and(|all| TIMEOUT_MS.contains(&all))));
    assert!(config.headers.len() <= MAX_HEADERS);
    for (index, header) in config.headers.iter().enumerate() {
        assert!(config.headers[..index].iter().all(|earlier| earlier.name != header.name), "{} twice", header.name);
        assert!(!header.name.is_always_secret() || header.value.is_secret(), "{} is readable", header.name);
    }
    for (index, event) in config.events.iter().enumerate() {
        assert!(!config.events[..index].contains(event), "{event:?} twice");
    }
    let read = json!(PushConfigDocument::from(config));
    for (shown, header) in read["headers"].as_array().into_iter().flatten().zip(&config.headers) {
        let readable = match &header.value {
            HeaderValue::Plain(text) => Some(text.expose()),
            HeaderValue::Secret(_) => None,
        };
        assert_eq!(shown["value"].as_str(), readable);
    }
}

/// Asserts that a stored secret is only sent to the origin that it was entered for, and stays secret.
fn assert_kept_at_home(config: &PushConfig, value: &Value) {
    for header in &config.headers {
        let text = header.value.text().expose();
        let is_kept = KEPT.contains(&text) && !value.to_string().contains("hunter");
        let origin = config.url.as_ref().map(crate::domain::webhook_url::WebhookUrl::origin);
        assert!(!is_kept || header.value.is_secret(), "{} became readable", header.name);
        assert!(!is_kept || origin.is_none_or(|origin| URL.starts_with(&origin)), "{} went elsewhere", header.name);
    }
}
