//! An endpoint test: sends one test event at once and reports every step to the endpoint's admin.
//!
//! A test sends the event in the same way as a delivery, with the same address rules. Unlike a delivery, a test measures
//! its steps and is not recorded.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::header::{CONTENT_LOCATION, HeaderName, LOCATION, REFRESH, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use url::Url;

use super::diagnosis::{self, Answered, Diagnosis};
use super::redact::REDACTED;
use super::{Endpoint, headers, outcome_of, payload};
use crate::channels::http_client::{ExchangeFailure, Post};
use crate::channels::measured::Measured;
use crate::channels::{HttpClient, MAX_TIMEOUT, Redactor, Timings};
use crate::domain::delivery::{Delivery, Outcome};

/// How many bytes of a response body are shown.
pub(super) const MAX_SHOWN_BYTES: usize = 4 * 1024;

/// How many headers of a response are shown, and how many bytes of each value.
pub(super) const MAX_SHOWN_HEADERS: usize = 64;
pub(super) const MAX_SHOWN_VALUE_BYTES: usize = 1024;

/// Response headers whose values are URLs. Only the origin of the URL is shown.
const TARGETS: [HeaderName; 2] = [LOCATION, CONTENT_LOCATION];
/// Response headers whose values are never shown, because cookies are secrets and `Refresh` contains the target of a
/// redirect.
const HIDDEN: [HeaderName; 2] = [SET_COOKIE, REFRESH];

/// A test event and its result.
#[derive(Debug, Clone)]
pub struct EndpointTest {
    pub outcome: Outcome,
    /// The headers of the request. The configured headers are marked as sensitive.
    pub headers: HeaderMap,
    /// The body of the request, as it was signed.
    pub body: Bytes,
    /// `None` if the endpoint did not respond or nothing was sent.
    pub response: Option<EndpointTestResponse>,
    pub timings: Timings,
    pub diagnosis: Diagnosis,
}

/// The response without the parts that must not be shown. It contains only the origin of a redirect's target, and no secret
/// that the endpoint echoed.
#[derive(Debug, Clone)]
pub struct EndpointTestResponse {
    pub status: StatusCode,
    /// Names and values of the headers, as text.
    pub headers: Vec<(String, String)>,
    /// The beginning of the body, as text. `None` if no body arrived. A redirect also has `None`, because its body repeats
    /// its target.
    pub body: Option<String>,
    /// True if the body was longer than the shown text.
    pub truncated: bool,
}

/// Sends the delivery's event once, marked as a test. Not cancel-safe, like [`send`](super::send).
pub async fn test_endpoint(
    client: &HttpClient,
    endpoint: &Endpoint,
    delivery: &Delivery,
    now: DateTime<Utc>,
) -> EndpointTest {
    let body = Bytes::from(payload(&delivery.event, true));
    let write_headers = || headers(endpoint, delivery, now, &body);
    let timeout = endpoint.timeout.min(MAX_TIMEOUT);
    let post = Post { to: &endpoint.target, headers: &write_headers, body: body.clone(), timeout };
    let measured = client.post_measured(&post).await;
    let redactor = &endpoint.redactor;
    let (outcome, mut diagnosis) = diagnose(endpoint, &measured, timeout);
    diagnosis.hint = redactor.apply(diagnosis.hint);
    let response = response(endpoint.target.url(), &measured, redactor);
    let headers = write_headers().unwrap_or_default();
    EndpointTest { outcome, headers, body, response, timings: measured.timings, diagnosis }
}

fn diagnose(endpoint: &Endpoint, measured: &Measured, timeout: Duration) -> (Outcome, Diagnosis) {
    match &measured.result {
        Ok(answer) => {
            let (own, location) =
                (endpoint.target.url().origin().ascii_serialization(), measured.headers.get(LOCATION));
            let target = location.and_then(|location| origin(endpoint.target.url(), location));
            let target = target.as_deref().map(|target| (target, target == own));
            let answered = Answered { status: answer.status, total: measured.timings.total, target };
            (outcome_of(answer.status), diagnosis::of_answer(&answered))
        }
        Err(ExchangeFailure { failure, .. }) => {
            (failure.outcome(), diagnosis::of_failure(*failure, measured.step, timeout))
        }
    }
}

/// The response in the form that users may see; `None` if no response arrived.
fn response(url: &Url, measured: &Measured, redactor: &Redactor) -> Option<EndpointTestResponse> {
    let (status, body, truncated) = match &measured.result {
        Ok(answer) => {
            let readable = redactor.readable(answer, MAX_SHOWN_BYTES);
            let truncated = readable.as_ref().is_some_and(|(_, truncated)| *truncated);
            (answer.status, readable.map(|(text, _)| text), truncated)
        }
        Err(ExchangeFailure { status, .. }) => ((*status)?, None, false),
    };
    let headers = measured.headers.iter().take(MAX_SHOWN_HEADERS).map(|(name, value)| {
        let mut text = redactor.apply(shown(url, name, value));
        text.truncate(text.floor_char_boundary(MAX_SHOWN_VALUE_BYTES));
        (name.to_string(), text)
    });
    Some(EndpointTestResponse { status, headers: headers.collect(), body, truncated })
}

/// The value of a response header in the form that users may see.
fn shown(url: &Url, name: &HeaderName, value: &HeaderValue) -> String {
    if HIDDEN.contains(name) {
        return REDACTED.to_owned();
    }
    if TARGETS.contains(name) {
        return origin(url, value).unwrap_or_else(|| REDACTED.to_owned());
    }
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// The origin of the URL in a response header. A relative URL is resolved against the URL of the request.
fn origin(url: &Url, value: &HeaderValue) -> Option<String> {
    let target = url.join(str::from_utf8(value.as_bytes()).ok()?).ok()?;
    target.has_host().then(|| target.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_only_the_origin_of_a_redirects_target() {
        let url = Url::parse("https://hooks.test/a?key=b").unwrap();
        for (location, origin) in [
            ("https://user:pass@New.Test:8443/login?token=s3cret#x", Some("https://new.test:8443")),
            ("/elsewhere?token=s3cret", Some("https://hooks.test")),
            ("//other.test/x", Some("https://other.test")),
            ("http://hooks.test/", Some("http://hooks.test")),
            ("javascript:alert('s3cret')", None),
            ("http://", None),
        ] {
            let value = HeaderValue::from_static(location);
            assert_eq!(super::origin(&url, &value).as_deref(), origin, "{location}");
            assert_eq!(shown(&url, &LOCATION, &value), origin.unwrap_or(REDACTED));
        }
    }
}
