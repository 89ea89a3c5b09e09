//! The webhook channel: sends a signed POST request to the URL of an agent's push config.
//!
//! One call is one attempt. This module does not decide when a delivery is due or what happens after its outcome.

mod configured;
mod diagnosis;
mod diagnosis_code;
mod endpoint_test;
mod payload;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod redact;
mod signature;

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, InvalidHeaderValue, USER_AGENT};
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

pub use self::configured::configured_headers;
pub use self::diagnosis::Diagnosis;
pub use self::diagnosis_code::DiagnosisCode;
pub use self::endpoint_test::{EndpointTest, EndpointTestResponse, test_endpoint};
pub use self::payload::payload;
pub use self::redact::redactor;
pub use self::signature::{NoRandomness, SecretError, SigningSecret};

use super::http_client::{Answer, ExchangeFailure, Post};
use super::{HttpClient, MAX_TIMEOUT, Redactor, Target};
use crate::domain::delivery::{Attempt, AttemptDetail, Delivery, Outcome};
use crate::domain::trace::SpanId;

/// How many bytes of a response body are stored.
pub(super) const MAX_EXCERPT_BYTES: usize = 1024;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const EVENT: HeaderName = HeaderName::from_static("x-flametree-event");
const DELIVERY: HeaderName = HeaderName::from_static("x-flametree-delivery");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Capacity for our own headers and for the headers that the client adds: host, accept and content-length. One more header
/// would double the map's size, and each waiting request would use 1.2 KiB more.
const OWN_HEADERS: usize = 12;

/// Headers that frame or route the message. Configured headers with these names are skipped, although the rules for push
/// configs already reject them.
const TRANSPORT_HEADERS: [&str; 8] =
    ["host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect"];

/// The settings for sending the events of an agent.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub target: Target,
    /// The configured headers. Their values are marked as sensitive.
    pub headers: HeaderMap,
    /// The valid signing secrets, newest first. If empty, messages are not signed.
    pub secrets: Vec<SigningSecret>,
    /// The deadline of the whole attempt, at most [`MAX_TIMEOUT`].
    pub timeout: Duration,
    /// Removes the secrets of these settings from responses.
    pub redactor: Redactor,
}

/// Attempts the delivery. Reports every failure as an outcome; never panics. Not cancel-safe: when the future is dropped, it is
/// unknown whether the endpoint received the message.
pub async fn send(
    client: &HttpClient,
    endpoint: &Endpoint,
    delivery: &Delivery,
    test: bool,
    now: DateTime<Utc>,
) -> Attempt {
    let body = Bytes::from(payload(&delivery.event, test));
    let post = Post {
        to: &endpoint.target,
        headers: &|| headers(endpoint, delivery, now, &body),
        body: body.clone(),
        timeout: endpoint.timeout.min(MAX_TIMEOUT),
    };
    fail::fail_point!("send::before_request");
    let started = Instant::now();
    let result = client.post(&post).await;
    let duration = started.elapsed();
    let attempt = match result {
        Ok(answer) => answered(endpoint, &answer, duration),
        Err(failed) => unanswered(failed, duration),
    };
    fail::fail_point!("send::after_response");
    attempt
}

fn outcome_of(status: StatusCode) -> Outcome {
    match status.as_u16() {
        200..=299 => Outcome::Delivered,
        300..=399 => Outcome::Redirect,
        410 => Outcome::Gone,
        429 => Outcome::Throttled,
        _ => Outcome::HttpError,
    }
}

fn answered(endpoint: &Endpoint, answer: &Answer, duration: Duration) -> Attempt {
    let readable = (!answer.body.is_empty()).then(|| endpoint.redactor.readable(answer, MAX_EXCERPT_BYTES)).flatten();
    let detail = readable.map(|(text, truncated)| AttemptDetail {
        note: None,
        response_body: Some(text),
        response_truncated: truncated,
    });
    Attempt { outcome: outcome_of(answer.status), http_status: Some(answer.status.as_u16()), duration, detail }
}

/// Describes a request without a complete response, for the delivery record.
pub(super) fn unanswered(failed: ExchangeFailure, duration: Duration) -> Attempt {
    Attempt {
        outcome: failed.failure.outcome(),
        http_status: failed.status.map(|status| status.as_u16()),
        duration,
        detail: Some(AttemptDetail { note: Some(failed.failure.note().to_owned()), ..AttemptDetail::default() }),
    }
}

fn headers(
    endpoint: &Endpoint,
    delivery: &Delivery,
    now: DateTime<Utc>,
    body: &[u8],
) -> Result<HeaderMap, InvalidHeaderValue> {
    let id = String::from(delivery.event.id);
    let timestamp = now.timestamp().to_string();
    let (trace, span) = (delivery.trace(), SpanId::of_attempt(delivery.id));
    let seldom = usize::from(trace.state().is_some()) + endpoint.headers.len();
    let mut headers = HeaderMap::with_capacity(OWN_HEADERS + seldom);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(super::USER_AGENT));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(signatures) = signature::signatures(&endpoint.secrets, &id, &timestamp, body) {
        headers.insert(WEBHOOK_SIGNATURE, HeaderValue::try_from(signatures)?);
    }
    headers.insert(WEBHOOK_ID, HeaderValue::try_from(id)?);
    headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::try_from(timestamp)?);
    headers.insert(EVENT, HeaderValue::from_static(payload::event_name(&delivery.event)));
    headers.insert(DELIVERY, HeaderValue::try_from(String::from(delivery.id))?);
    headers.insert(TRACEPARENT, HeaderValue::try_from(trace.traceparent(span))?);
    if let Some(state) = trace.state() {
        headers.insert(TRACESTATE, HeaderValue::try_from(state)?);
    }
    for (name, value) in &endpoint.headers {
        if !headers.contains_key(name) && !is_reserved(name) {
            headers.insert(name, value.clone());
        }
    }
    Ok(headers)
}

/// True for names that configured headers may not use, even if this message does not contain a header with the name.
fn is_reserved(name: &HeaderName) -> bool {
    name == WEBHOOK_SIGNATURE || TRANSPORT_HEADERS.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_each_status_to_one_outcome() {
        for (status, outcome) in [
            (200, Outcome::Delivered),
            (204, Outcome::Delivered),
            (299, Outcome::Delivered),
            (301, Outcome::Redirect),
            (304, Outcome::Redirect),
            (308, Outcome::Redirect),
            (400, Outcome::HttpError),
            (404, Outcome::HttpError),
            (410, Outcome::Gone),
            (413, Outcome::HttpError),
            (429, Outcome::Throttled),
            (500, Outcome::HttpError),
            (503, Outcome::HttpError),
            (999, Outcome::HttpError),
        ] {
            assert_eq!(outcome_of(StatusCode::from_u16(status).unwrap()), outcome, "{status}");
        }
    }
}
