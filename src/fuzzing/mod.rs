//! Every parser of outside input under one name each, for the fuzzer (`fuzz/`) and for the tests.
//!
//! A target takes any bytes, and panics if what must hold does not. What must hold stands beside the parsers, in their
//! modules' `properties`. Only compiled for tests and fuzzers.

use crate::channels::{browser_push, properties as addresses, webhook};
use crate::{domain, http, users};

#[cfg(test)]
mod tests;

/// A target's name, as its file in `fuzz/fuzz_targets` and its directory in `fuzz/seeds` have it, and its property.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 11] = [
    ("address", address),
    ("endpoint_answer", endpoint_answer),
    ("event", event),
    ("header", header),
    ("jwt", jwt),
    ("public_keys", public_keys),
    ("push_answer", push_answer),
    ("push_config", push_config),
    ("push_subscription", push_subscription),
    ("request", request),
    ("url", url),
];

/// Addresses that a name resolves to, beside a network that the operator opened.
pub fn address(input: &[u8]) {
    addresses::address(input);
}

/// What an endpoint answers to a delivery and to a test event.
pub fn endpoint_answer(input: &[u8]) {
    webhook::properties::answer(input);
}

/// The body of a posted event, and the message about it.
pub fn event(input: &[u8]) {
    if let Some(event) = domain::properties::event(input) {
        webhook::properties::message(event);
    }
}

/// The name of a configured header in the first line, and its value in the rest.
pub fn header(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let (name, value) = text.split_once('\n').unwrap_or((text, ""));
    let body = serde_json::json!({"headers": [{"name": name, "value": value}]});
    if let Some(config) = domain::properties::push_config(body.to_string().as_bytes()) {
        webhook::properties::sent_headers(&config.headers);
    }
}

/// A portal user's token.
pub fn jwt(input: &[u8]) {
    users::properties::token(input);
}

/// What an identity provider publishes, and a key file.
pub fn public_keys(input: &[u8]) {
    users::properties::keys(input);
}

/// What a push service answers.
pub fn push_answer(input: &[u8]) {
    browser_push::properties::answer(input);
}

/// The body of a push config or of a patch of one.
pub fn push_config(input: &[u8]) {
    if let Some(config) = domain::properties::push_config(input) {
        webhook::properties::sent_headers(&config.headers);
    }
}

/// A browser's push subscription.
pub fn push_subscription(input: &[u8]) {
    browser_push::properties::subscription(input);
}

/// The query, the headers and the parts of the path of a request.
pub fn request(input: &[u8]) {
    http::properties::request(input);
}

/// The URL of a webhook, and the guard of addresses.
pub fn url(input: &[u8]) {
    if let Ok(text) = str::from_utf8(input) {
        addresses::url(text);
    }
}
