//! A delivery, its one attempt and its outcome.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::endpoint::Channel;
use super::event::StoredEvent;
use super::ids::{DeliveryId, EndpointId};
use super::trace::Trace;

/// What became of a delivery; final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The endpoint answered 2xx within the deadline.
    Delivered,
    /// The endpoint answered with another status than the ones named below.
    HttpError,
    /// The endpoint answered 3xx; redirects are never followed.
    Redirect,
    /// The deadline passed, wherever the attempt was.
    Timeout,
    /// The host's name did not resolve to an address that the operator allows; not sent.
    DnsError,
    /// No connection, or it was lost before the answer.
    ConnectError,
    /// The TLS handshake failed: certificate, name or protocol.
    TlsError,
    /// The answer was not HTTP.
    ProtocolError,
    /// The URL's host is an address that the operator does not allow; not sent.
    BlockedAddress,
    /// The endpoint said that it is gone for good (410, for browser push also 404).
    Gone,
    /// The delivery waited past its expiry and was not sent.
    Expired,
    /// The worker died after it had started: perhaps sent, perhaps not; never sent again by itself.
    Interrupted,
    /// The endpoint was paused or deleted before the delivery began; not sent.
    Canceled,
    /// The endpoint's settings do not allow to send; not sent, or refused by the push service for our key.
    ConfigError,
    /// The push service found the message too large.
    PayloadTooLarge,
    /// The endpoint asked to slow down (429).
    Throttled,
}

impl Outcome {
    pub const ALL: [Self; 16] = [
        Self::Delivered,
        Self::HttpError,
        Self::Redirect,
        Self::Timeout,
        Self::DnsError,
        Self::ConnectError,
        Self::TlsError,
        Self::ProtocolError,
        Self::BlockedAddress,
        Self::Gone,
        Self::Expired,
        Self::Interrupted,
        Self::Canceled,
        Self::ConfigError,
        Self::PayloadTooLarge,
        Self::Throttled,
    ];

    /// The name in the API, in metrics and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::HttpError => "http_error",
            Self::Redirect => "redirect",
            Self::Timeout => "timeout",
            Self::DnsError => "dns_error",
            Self::ConnectError => "connect_error",
            Self::TlsError => "tls_error",
            Self::ProtocolError => "protocol_error",
            Self::BlockedAddress => "blocked_address",
            Self::Gone => "gone",
            Self::Expired => "expired",
            Self::Interrupted => "interrupted",
            Self::Canceled => "canceled",
            Self::ConfigError => "config_error",
            Self::PayloadTooLarge => "payload_too_large",
            Self::Throttled => "throttled",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == name)
    }
}

/// A delivery that a worker has claimed: from here on it counts as started.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub id: DeliveryId,
    pub channel: Channel,
    pub endpoint_id: EndpointId,
    /// The version of the endpoint's settings when the delivery was claimed; `None` when it was deleted or paused.
    pub endpoint_version: Option<i32>,
    /// Shared by the deliveries of one claim that have the same event.
    pub event: Arc<StoredEvent>,
    /// What its event belongs to; `None`: the trace that it began, and sampled. Kept small: thousands wait at once.
    pub trace: Option<Arc<Trace>>,
    /// Past this moment the delivery is not sent any more.
    pub expires_at: DateTime<Utc>,
    pub claimed_at: DateTime<Utc>,
}

impl Delivery {
    /// The trace that its event belongs to.
    pub fn trace(&self) -> Cow<'_, Trace> {
        self.trace.as_deref().map_or_else(|| Cow::Owned(Trace::of_event(self.event.id)), Cow::Borrowed)
    }
}

/// One attempt and what became of it. A bad answer is an outcome, not an error.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    pub outcome: Outcome,
    /// The status of the answer, where there was one.
    pub http_status: Option<u16>,
    /// From the first action of the attempt to its end; zero when nothing was sent.
    pub duration: Duration,
    /// `None` where there is nothing to tell beyond the outcome and the status.
    pub detail: Option<AttemptDetail>,
}

impl Attempt {
    /// A delivery that ended without anything being sent.
    pub fn not_sent(outcome: Outcome, note: Option<String>) -> Self {
        let detail = note.map(|note| AttemptDetail { note: Some(note), ..AttemptDetail::default() });
        Self { outcome, http_status: None, duration: Duration::ZERO, detail }
    }
}

/// What a person who looks into a delivery is shown. Holds no secret and no address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AttemptDetail {
    /// What went wrong, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The beginning of the answer's body as text; what is not UTF-8, and NUL, is replaced by U+FFFD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_body: Option<String>,
    /// Whether the answer's body went on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub response_truncated: bool,
}
