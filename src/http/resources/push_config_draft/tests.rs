//! Tests each rule with tables of drafts and stored configs.

use super::*;
use crate::domain::push_config::{DisabledReason, Setting};

const RULES: Rules = Rules { allow_http: false };

fn replaced(current: Option<&PushConfig>, body: Value) -> Result<PushConfig, Vec<Fault>> {
    apply(current, Draft::Replacement(body), RULES).map(|change| change.config)
}

fn patched(current: &PushConfig, patch: Value) -> Result<PushConfig, Vec<Fault>> {
    apply(Some(current), Draft::MergePatch(patch), RULES).map(|change| change.config)
}

/// The JSON pointers and codes of the faults, sorted.
fn places(result: Result<PushConfig, Vec<Fault>>) -> Vec<(String, FaultCode)> {
    let mut places: Vec<_> = result.unwrap_err().into_iter().map(|fault| (fault.pointer, fault.code)).collect();
    places.sort_by(|a, b| a.0.cmp(&b.0));
    places
}

fn value_of<'a>(config: &'a PushConfig, name: &str) -> &'a str {
    let header = config.headers.iter().find(|header| header.name.as_str().eq_ignore_ascii_case(name)).unwrap();
    header.value.text().expose()
}

fn full_body() -> Value {
    json!({
        "enabled": true, "url": "https://example.com/webhook", "timeout_ms": 5000, "signing": true,
        "headers": [
            {"name": "Authorization", "value": "Bearer x", "secret": true},
            {"name": "X-Env", "value": "prod", "secret": false},
        ],
        "events": ["new_session_started", "ai_assistant_message", "user_message", "transferred_to_live_agent"],
    })
}

fn full() -> PushConfig {
    replaced(None, full_body()).unwrap()
}

#[test]
fn reading_a_config_returns_everything_except_secrets() {
    let mut expected = full_body();
    expected["headers"] = json!([
        {"name": "Authorization", "secret": true, "value": null, "value_set": true},
        {"name": "X-Env", "secret": false, "value": "prod", "value_set": true},
    ]);
    expected["disabled_reason"] = Value::Null;
    assert_eq!(json!(PushConfigDocument::from(&full())), expected);
}

#[test]
fn sending_back_a_config_that_was_read_changes_nothing() {
    let read = json!(PushConfigDocument::from(&full()));
    let change = apply(Some(&full()), Draft::Replacement(read), RULES).unwrap();
    assert_eq!((change.config, change.settings), (full(), vec![]));
}

#[test]
fn an_empty_body_creates_a_paused_config_with_defaults() {
    let config = replaced(Some(&full()), json!({})).unwrap();
    assert_eq!(
        json!(PushConfigDocument::from(&config)),
        json!({"enabled": false, "url": null, "timeout_ms": null, "signing": true, "headers": [], "events": [],
               "disabled_reason": null})
    );
}

#[test]
fn reports_every_fault_of_a_body_at_once() {
    let body = json!({
        "enabled": "yes", "url": "ftp://example.com", "timeout_ms": 999, "signing": 1, "colour": "red",
        "events": ["user_message", "session_resolved", "user_message", 7],
        "headers": [
            {"name": "Host", "value": "a"},
            {"name": "X-Key", "value": "a\nb", "note": 1},
            {"name": "x-key", "value": "b"},
            {"value": 3},
            "X-Env: prod",
            {"name": "X-New"},
        ],
    });
    let expected = [
        ("/colour", FaultCode::UnknownField),
        ("/enabled", FaultCode::InvalidType),
        ("/events/1", FaultCode::InvalidValue),
        ("/events/2", FaultCode::Duplicate),
        ("/events/3", FaultCode::InvalidType),
        ("/headers/0/name", FaultCode::NotAllowed),
        ("/headers/1/note", FaultCode::UnknownField),
        ("/headers/1/value", FaultCode::InvalidValue),
        ("/headers/2/name", FaultCode::Duplicate),
        ("/headers/3/name", FaultCode::Required),
        ("/headers/3/value", FaultCode::InvalidType),
        ("/headers/4", FaultCode::InvalidType),
        ("/headers/5/value", FaultCode::Required),
        ("/signing", FaultCode::InvalidType),
        ("/timeout_ms", FaultCode::InvalidValue),
        ("/url", FaultCode::InvalidValue),
    ];
    let mut found = places(replaced(None, body));
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(found, expected.map(|(pointer, code)| (pointer.to_owned(), code)));
}

#[test]
fn reports_a_fault_for_each_broken_rule() {
    let headers =
        |count: usize| (0..count).map(|n| json!({"name": format!("X-{n}"), "value": "a"})).collect::<Vec<_>>();
    let table = [
        (json!([]), "", FaultCode::InvalidType),
        (json!({"enabled": true, "events": ["user_message"]}), "/url", FaultCode::Required),
        (json!({"enabled": true, "url": "https://example.com"}), "/events", FaultCode::Required),
        (json!({"url": "http://example.com"}), "/url", FaultCode::NotAllowed),
        (json!({"url": "https://user:hunter2@example.com"}), "/url", FaultCode::NotAllowed),
        (json!({"url": "https://example.com/#x"}), "/url", FaultCode::NotAllowed),
        (json!({"url": format!("https://example.com/{}", "x".repeat(2_048))}), "/url", FaultCode::TooLong),
        (json!({"timeout_ms": 10_001}), "/timeout_ms", FaultCode::InvalidValue),
        (json!({"timeout_ms": 1_000.5}), "/timeout_ms", FaultCode::InvalidValue),
        (json!({"headers": headers(21)}), "/headers", FaultCode::TooLong),
        (json!({"headers": {"X-Key": "a"}}), "/headers", FaultCode::InvalidType),
        (json!({"headers": [{"name": "X-Key", "value": ""}]}), "/headers/0/value", FaultCode::InvalidValue),
        (json!({"headers": [{"name": "X-Key", "value": "x".repeat(4_097)}]}), "/headers/0/value", FaultCode::TooLong),
        (json!({"headers": [{"name": "x".repeat(129), "value": "x"}]}), "/headers/0/name", FaultCode::TooLong),
        (json!({"signing_secret": "whsec_x"}), "/signing_secret", FaultCode::UnknownField),
    ];
    for (body, pointer, code) in table {
        assert_eq!(places(replaced(None, body.clone())), [(pointer.to_owned(), code)], "{body}");
    }
    assert_eq!(replaced(None, json!({"headers": headers(20)})).unwrap().headers.len(), 20);
    for (timeout, expected) in [(json!(1_000), Some(1)), (json!(10_000), Some(10)), (Value::Null, None)] {
        let config = replaced(None, json!({"timeout_ms": timeout})).unwrap();
        assert_eq!(config.timeout, expected.map(Duration::from_secs));
    }
}

#[test]
fn credentials_are_always_secret() {
    for secret in [json!(false), json!(true), Value::Null] {
        for name in ["AUTHORIZATION", "cookie"] {
            let body = json!({"headers": [{"name": name, "value": "a", "secret": secret}]});
            assert!(replaced(None, body).unwrap().headers[0].value.is_secret());
        }
    }
}

#[test]
fn a_secret_without_a_value_is_kept_even_if_the_case_of_its_name_changes() {
    let body = json!({"url": "https://example.com/other", "headers": [{"name": "AUTHORIZATION", "secret": true}]});
    let config = replaced(Some(&full()), body).unwrap();
    assert_eq!(value_of(&config, "authorization"), "Bearer x");
    assert_eq!(config.headers[0].name.as_str(), "AUTHORIZATION");
}

#[test]
fn a_stored_secret_must_be_entered_again_if_the_url_gets_another_origin() {
    for url in [
        "https://example.org/webhook",
        "https://example.com:8443/webhook",
        "http://example.com/webhook",
        "https://example.com./webhook",
    ] {
        let change = apply(Some(&full()), Draft::MergePatch(json!({"url": url})), Rules { allow_http: true });
        let expected = [("/headers/0/value".to_owned(), FaultCode::SecretReentryRequired)];
        assert_eq!(places(change.map(|change| change.config)), expected, "{url}");
    }
    let headers = json!([{"name": "Authorization", "value": "Bearer y"}]);
    let config = patched(&full(), json!({"url": "https://example.org/", "headers": headers})).unwrap();
    assert_eq!(value_of(&config, "authorization"), "Bearer y");
}

#[test]
fn a_stored_secret_must_be_entered_again_for_a_new_origin_even_if_the_url_was_removed_first() {
    let paused = patched(&full(), json!({"enabled": false, "url": null})).unwrap();
    assert_eq!(value_of(&paused, "authorization"), "Bearer x");
    let reentry = [("/headers/0/value".to_owned(), FaultCode::SecretReentryRequired)];
    for url in ["https://example.org/", "https://example.com/webhook"] {
        assert_eq!(places(patched(&paused, json!({"url": url}))), reentry);
    }
}

#[test]
fn a_secret_becomes_readable_only_with_a_new_value() {
    let headers = json!([{"name": "X-Key", "value": "k1", "secret": true}]);
    let config = replaced(None, json!({"headers": headers})).unwrap();
    let plain = json!({"headers": [{"name": "X-Key", "secret": false}]});
    assert_eq!(places(replaced(Some(&config), plain)), [("/headers/0/value".to_owned(), FaultCode::Required)]);
    let unstated = json!({"headers": [{"name": "X-Key", "value": "k2"}]});
    assert!(replaced(Some(&config), unstated).unwrap().headers[0].value.is_secret());
    let plain = json!({"headers": [{"name": "X-Key", "value": "k2", "secret": false}]});
    assert!(!replaced(Some(&config), plain).unwrap().headers[0].value.is_secret());
}

#[test]
fn a_plain_header_can_become_secret_and_keeps_its_value() {
    let headers = json!([{"name": "X-Env", "secret": true}]);
    let config = patched(&full(), json!({"headers": headers})).unwrap();
    assert!(config.headers[0].value.is_secret());
    assert_eq!(value_of(&config, "X-Env"), "prod");
}

#[test]
fn a_patch_changes_only_the_fields_that_it_contains() {
    let change = apply(Some(&full()), Draft::MergePatch(json!({"enabled": false, "timeout_ms": null})), RULES).unwrap();
    assert_eq!(change.settings, [Setting::Enabled, Setting::TimeoutMs]);
    assert_eq!(change.config, PushConfig { enabled: false, timeout: None, ..full() });
    assert_eq!(places(patched(&full(), json!("x"))), [(String::new(), FaultCode::InvalidType)]);
    let config = apply(None, Draft::MergePatch(json!({"events": ["user_message"]})), RULES).unwrap().config;
    assert_eq!(config.events, [WebhookEvent::UserMessage]);
}

#[test]
fn a_config_can_be_paused_although_its_url_is_no_longer_allowed() {
    let body = json!({"enabled": true, "url": "http://example.com/", "events": ["user_message"]});
    let config = apply(None, Draft::Replacement(body), Rules { allow_http: true }).unwrap().config;
    assert!(!patched(&config, json!({"enabled": false})).unwrap().enabled);
    let other = patched(&config, json!({"url": "http://example.com/other"}));
    assert_eq!(places(other), [("/url".to_owned(), FaultCode::NotAllowed)]);
}

#[test]
fn the_disabled_reason_lasts_until_the_config_is_enabled_or_gets_another_url() {
    let stopped = PushConfig { enabled: false, disabled_reason: Some(DisabledReason::Gone), ..full() };
    let reason = |patch| patched(&stopped, patch).unwrap().disabled_reason;
    assert_eq!(reason(json!({"timeout_ms": 2_000})), Some(DisabledReason::Gone));
    assert_eq!(reason(json!({"enabled": true})), None);
    assert_eq!(reason(json!({"url": "https://example.com/new"})), None);
}
