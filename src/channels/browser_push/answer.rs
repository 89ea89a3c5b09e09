//! Interprets the responses of push services (RFC 8030, RFC 8292, and additional codes of vendors).

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use crate::domain::delivery::Outcome;

/// The duration of the pause if a push service requests a pause but states no duration.
const DEFAULT_PAUSE: Duration = Duration::from_secs(30);
/// How long a subscription is paused after its push service rejected our token (401, 403). The first message after the pause
/// shows whether the push service accepts the token again.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_mins(1);
/// The maximum pause that a push service can request. A push service that needs a longer pause can ask again.
const MAX_PAUSE: Duration = Duration::from_mins(15);

/// Windows' push service sends 406 instead of 429.
const WINDOWS: &str = ".notify.windows.com";

/// The texts by which vendors report that the browser subscribed with another VAPID key. No vendor has a status code for this
/// error alone.
const KEY_MISMATCHES: [&str; 5] = [
    // Mozilla, 401.
    "vapid public key mismatch",
    // Google, 403 and 400.
    "do not correspond to the credentials used to create the subscription",
    "not correspond to the sender id",
    "unauthorizedregistration",
    // Apple, 400.
    "vapidpkhashmismatch",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The push service has accepted the message and will try to deliver it.
    Accepted,
    Gone,
    TooLarge,
    /// The push service accepts no message for this subscription until the pause is over.
    Throttled(Duration),
    /// The browser has subscribed with another VAPID key.
    KeyMismatch,
    /// The push service rejects our token (401, 403) and would also reject the next message.
    NotBelieved,
    /// The push service rejects the message or the URL (400). The subscriber might have invented the URL, so nothing is paused.
    Malformed,
    Redirect,
    Other,
}

impl Meaning {
    pub(super) fn of(status: StatusCode, headers: &HeaderMap, body: &[u8], host: &str, now: DateTime<Utc>) -> Self {
        match status.as_u16() {
            200..=299 => Self::Accepted,
            300..=399 => Self::Redirect,
            404 | 410 => Self::Gone,
            413 => Self::TooLarge,
            429 => Self::Throttled(pause(headers, now)),
            406 if host.ends_with(WINDOWS) => Self::Throttled(pause(headers, now)),
            400 | 401 | 403 if names_a_key_mismatch(body) => Self::KeyMismatch,
            401 | 403 => Self::NotBelieved,
            400 => Self::Malformed,
            _ => Self::Other,
        }
    }

    pub(super) const fn outcome(self) -> Outcome {
        match self {
            Self::Accepted => Outcome::Delivered,
            Self::Gone => Outcome::Gone,
            Self::TooLarge => Outcome::PayloadTooLarge,
            Self::Throttled(_) => Outcome::Throttled,
            Self::KeyMismatch | Self::NotBelieved | Self::Malformed => Outcome::ConfigError,
            Self::Redirect => Outcome::Redirect,
            Self::Other => Outcome::HttpError,
        }
    }

    /// How long to pause the subscription; `None` if no pause is needed.
    pub(super) const fn pause(self) -> Option<Duration> {
        match self {
            Self::Throttled(pause) => Some(pause),
            Self::NotBelieved => Some(PAUSE_AFTER_REFUSAL),
            Self::Accepted
            | Self::Gone
            | Self::TooLarge
            | Self::KeyMismatch
            | Self::Malformed
            | Self::Redirect
            | Self::Other => None,
        }
    }

    /// An explanation for users who inspect the delivery.
    pub(super) const fn note(self) -> Option<&'static str> {
        match self {
            Self::KeyMismatch => Some("The browser subscribed with another VAPID key; it must subscribe again."),
            Self::NotBelieved => Some("The push service rejected this deployment's VAPID token."),
            Self::Malformed => Some("The push service rejected the request as malformed."),
            Self::Accepted | Self::Gone | Self::TooLarge | Self::Throttled(_) | Self::Redirect | Self::Other => None,
        }
    }
}

fn names_a_key_mismatch(body: &[u8]) -> bool {
    let body = String::from_utf8_lossy(body).to_ascii_lowercase();
    KEY_MISMATCHES.iter().any(|words| body.contains(words))
}

/// The pause that `Retry-After` requests, in seconds or as a date (RFC 9110, 10.2.3). The result is at least 1 s and at
/// most [`MAX_PAUSE`].
fn pause(headers: &HeaderMap, now: DateTime<Utc>) -> Duration {
    let asked = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::trim);
    let asked = asked.and_then(|text| match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => DateTime::parse_from_rfc2822(text).ok().map(|at| (at.to_utc() - now).to_std().unwrap_or_default()),
    });
    asked.map_or(DEFAULT_PAUSE, |asked| asked.clamp(Duration::from_secs(1), MAX_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(status: u16, body: &str, host: &str) -> Meaning {
        let status = StatusCode::from_u16(status).unwrap();
        Meaning::of(status, &HeaderMap::new(), body.as_bytes(), host, DateTime::UNIX_EPOCH)
    }

    #[test]
    fn maps_each_response_status_to_a_meaning() {
        let throttled = Meaning::Throttled(DEFAULT_PAUSE);
        for (status, host, expected, outcome) in [
            (201, "x", Meaning::Accepted, Outcome::Delivered),
            (202, "x", Meaning::Accepted, Outcome::Delivered),
            (301, "x", Meaning::Redirect, Outcome::Redirect),
            (400, "x", Meaning::Malformed, Outcome::ConfigError),
            (401, "x", Meaning::NotBelieved, Outcome::ConfigError),
            (403, "x", Meaning::NotBelieved, Outcome::ConfigError),
            (404, "x", Meaning::Gone, Outcome::Gone),
            (406, "x", Meaning::Other, Outcome::HttpError),
            (406, "par02p.notify.windows.com", throttled, Outcome::Throttled),
            (410, "x", Meaning::Gone, Outcome::Gone),
            (413, "x", Meaning::TooLarge, Outcome::PayloadTooLarge),
            (429, "x", throttled, Outcome::Throttled),
            (500, "x", Meaning::Other, Outcome::HttpError),
            (502, "x", Meaning::Other, Outcome::HttpError),
        ] {
            assert_eq!(meaning(status, "", host), expected, "{status} {host}");
            assert_eq!(expected.outcome(), outcome, "{status}");
        }
    }

    #[test]
    fn recognizes_each_vendors_message_for_a_key_mismatch() {
        for (status, body) in [
            (401, r#"{"code":401,"errno":109,"error":"Unauthorized","message":"VAPID public key mismatch"}"#),
            (
                403,
                "the VAPID credentials in the authorization header do not correspond to the credentials used to create \
                 the subscriptions.",
            ),
            (
                403,
                "The key in the authorization header does not correspond to the sender ID used to subscribe this user.",
            ),
            (400, "UnauthorizedRegistration"),
            (400, r#"{"reason":"VapidPkHashMismatch"}"#),
        ] {
            assert_eq!(meaning(status, body, "x"), Meaning::KeyMismatch, "{body}");
        }
        assert_eq!(meaning(403, r#"{"reason":"BadJwtToken"}"#, "x"), Meaning::NotBelieved);
        assert_eq!(meaning(500, "VAPID public key mismatch", "x"), Meaning::Other);
    }

    #[test]
    fn the_retry_after_header_sets_the_pause_within_bounds() {
        let now = DateTime::parse_from_rfc3339("2026-01-01T00:00:00Z").unwrap().to_utc();
        for (value, seconds) in [
            ("7", 7),
            ("0", 1),
            ("86400", 900),
            ("Thu, 01 Jan 2026 00:02:00 GMT", 120),
            ("Wed, 31 Dec 2025 00:00:00 GMT", 1),
            ("Fri, 02 Jan 2026 00:00:00 GMT", 900),
            ("soon", 30),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            assert_eq!(pause(&headers, now), Duration::from_secs(seconds), "{value}");
        }
        assert_eq!(pause(&HeaderMap::new(), now), DEFAULT_PAUSE);
    }
}
