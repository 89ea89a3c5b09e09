//! Properties that must hold for the parsers of queries and headers. The module `crate::fuzzing` checks them.

mod events;
mod push_configs;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

pub use self::events::event;
pub use self::push_configs::push_config;
use crate::channels::browser_push;
use crate::domain::endpoint::Channel;
use crate::domain::page::{Cursor, PageRows};
use crate::domain::properties::{self, assert_told};
use crate::domain::push_hosts::PushHosts;
use crate::domain::push_subscription::{MAX_LABEL_CHARS, NewSubscription, PushSubscription};
use crate::http::auth::caller::bearer;
use crate::http::request::parameters::Parameters;
use crate::http::request::preconditions::IfMatch;
use crate::http::request::problem::{Problem, ProblemCode};
use crate::http::resources::subscription_request::SubscriptionRequest;
use crate::http::server::request_id::{REQUEST_ID, RequestId};

/// The maximum number of faults reported for a query.
const MOST_FAULTS: usize = 50;

/// Parses the bytes as a query, and as the value of each header that the API reads.
pub fn request(input: &[u8]) {
    if let Ok(text) = str::from_utf8(input) {
        query(text);
        properties::texts(text);
    }
    if let Ok(value) = HeaderValue::from_bytes(input) {
        headers(&value);
    }
}

/// Parses the bytes as a browser's subscription and checks each accepted subscription.
pub fn subscription(input: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(input) else { return };
    let hosts = PushHosts::new(Vec::new(), false);
    match SubscriptionRequest::parse(value.clone(), &hosts) {
        Err(faults) => {
            assert_told(&faults, "");
            assert!(faults.iter().all(|fault| !fault.message.contains("https")), "{faults:?}");
        }
        Ok(NewSubscription { subscription, label }) => {
            assert!(label.is_none_or(|label| (1..=MAX_LABEL_CHARS).contains(&label.chars().count())));
            let url = subscription.endpoint.url();
            assert!(value["endpoint"] == json!(url.as_str()) && hosts.allow(url) && url.scheme() == "https", "{url}");
            assert_eq!(PushSubscription::from_text(&subscription.to_text()), Some(subscription.clone()));
            let debug = format!("{subscription:?}");
            assert!(url.path().len() < 12 || !debug.contains(url.path()), "{debug}");
            browser_push::properties::assert_encrypted_for(subscription);
        }
    }
}

fn query(text: &str) {
    let mut parameters = Parameters::of(text);
    let once =
        |name: &str| url::form_urlencoded::parse(text.as_bytes()).filter(|(known, _)| known == name).count() == 1;
    let channel = parameters.one_of("channel", Channel::ALL, Channel::as_str);
    let (from, to) = (parameters.time("from"), parameters.time("to"));
    let cursor = parameters.parsed("cursor", |text| Cursor::parse(&text));
    let limit = parameters.parsed("limit", |text| PageRows::parse(&text));
    let session = parameters.take("session_id");
    for (name, found) in [
        ("channel", channel.is_some()),
        ("from", from.is_some()),
        ("to", to.is_some()),
        ("cursor", cursor.is_some()),
        ("limit", limit.is_some()),
        ("session_id", session.is_some()),
    ] {
        assert!(!found || once(name), "{name} was read but does not occur exactly once in {text:?}");
    }
    if let Err(problem) = parameters.finish() {
        assert_eq!(problem.code(), ProblemCode::Invalid);
        let faults = Problem::into_faults(problem);
        assert!((1..=MOST_FAULTS).contains(&faults.len()), "{} faults", faults.len());
        assert!(faults.iter().all(|fault| !fault.message.is_empty()));
    }
}

fn headers(value: &HeaderValue) {
    let of = |name| HeaderMap::from_iter([(name, value.clone())]);
    if let Ok(token) = bearer(&of(AUTHORIZATION)) {
        assert!(value.as_bytes().ends_with(token.as_bytes()) || token.trim() == token, "{token:?} of {value:?}");
        assert!(value.as_bytes().get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer ")), "{value:?}");
    }
    // Request ids are echoed to clients and written to logs, so they must be one visible word.
    let id = RequestId::of(&of(REQUEST_ID));
    let word = id.as_str().as_bytes();
    assert!((1..=128).contains(&word.len()) && word.iter().all(u8::is_ascii_graphic), "{id}");
    // Only the tag `"unset"` may match a config that is not set.
    let holds = IfMatch::parse([value].into_iter()).check(None).is_ok();
    assert!(!holds || value.as_bytes().windows(7).any(|part| part == b"\"unset\""), "{value:?}");
}
