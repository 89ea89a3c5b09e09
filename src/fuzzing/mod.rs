//! Every parser of external input as a named target, for the fuzzer (`fuzz/`) and for tests.
//!
//! A target accepts any bytes, and panics if a property of the parser does not hold. The submodule `properties` of each
//! parser defines the properties. This module is only compiled for tests and fuzzers.

use crate::channels::{browser_push, properties as addresses, webhook};
use crate::{http, users};

#[cfg(test)]
mod tests;

/// A target: its name, and the function that checks one input. The file in `fuzz/fuzz_targets` and the directory in `fuzz/seeds`
/// have the same name.
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

/// IP addresses to which a host name resolves, and a network that the operator allows.
pub fn address(input: &[u8]) {
    addresses::address(input);
}

/// An endpoint's response to a delivery and to a test event.
pub fn endpoint_answer(input: &[u8]) {
    webhook::properties::answer(input);
}

/// The body of a posted event, and the webhook message for that event.
pub fn event(input: &[u8]) {
    if let Some(event) = http::properties::event(input) {
        webhook::properties::message(event);
    }
}

/// A configured header: the first line is its name, and the rest is its value.
pub fn header(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let (name, value) = text.split_once('\n').unwrap_or((text, ""));
    let body = serde_json::json!({"headers": [{"name": name, "value": value}]});
    if let Some(config) = http::properties::push_config(body.to_string().as_bytes()) {
        webhook::properties::sent_headers(&config.headers);
    }
}

/// A portal user's token.
pub fn jwt(input: &[u8]) {
    users::properties::token(input);
}

/// An identity provider's published keys, and a key file.
pub fn public_keys(input: &[u8]) {
    users::properties::keys(input);
}

/// A push service's response.
pub fn push_answer(input: &[u8]) {
    browser_push::properties::answer(input);
}

/// The body of a push config or of a patch of a push config.
pub fn push_config(input: &[u8]) {
    if let Some(config) = http::properties::push_config(input) {
        webhook::properties::sent_headers(&config.headers);
    }
}

/// A browser's push subscription.
pub fn push_subscription(input: &[u8]) {
    http::properties::subscription(input);
}

/// The query, the headers and the path parameters of a request.
pub fn request(input: &[u8]) {
    http::properties::request(input);
}

/// A webhook URL, which is parsed and checked by the address rules.
pub fn url(input: &[u8]) {
    if let Ok(text) = str::from_utf8(input) {
        addresses::url(text);
    }
}
