//! Deliveries. Each delivery gets one attempt and one outcome.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::closed_set::closed_set;
use super::endpoint::Channel;
use super::event::StoredEvent;
use super::ids::{DeliveryId, EndpointId};
use super::trace::Trace;

/// The final outcome of a delivery.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// The endpoint responded with 2xx within the deadline.
    Delivered,
    /// The endpoint responded with a status that no other outcome covers.
    HttpError,
    /// The endpoint responded with 3xx. The service never follows redirects.
    Redirect,
    /// The deadline passed during the attempt.
    Timeout,
    /// The host did not resolve to an address that the operator allows. Nothing was sent.
    DnsError,
    /// The connection could not be opened, or it was lost before the response.
    ConnectError,
    /// The TLS handshake failed because of the certificate, the host name or the protocol version.
    TlsError,
    /// The response was not HTTP.
    ProtocolError,
    /// The URL's host is an address that the operator does not allow. Nothing was sent.
    BlockedAddress,
    /// The endpoint responded that it no longer exists: with 410, or with 404 for browser push.
    Gone,
    /// The delivery waited past its expiry and was not sent.
    Expired,
    /// The worker died after it had claimed the delivery. The message may have been sent; the service never repeats it
    /// automatically.
    Interrupted,
    /// The endpoint was paused or deleted before the delivery started. Nothing was sent.
    Canceled,
    /// The endpoint's settings prevent sending, or the push service refused the VAPID key of the service.
    ConfigError,
    /// The message is too large for the push service.
    PayloadTooLarge,
    /// The endpoint asked for a slower rate (429).
    Throttled,
}

closed_set!(Outcome);

/// A delivery that a worker has claimed. It counts as started.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub id: DeliveryId,
    pub channel: Channel,
    pub endpoint_id: EndpointId,
    /// The version of the endpoint's settings at the time of the claim; `None` if the endpoint was deleted or paused.
    pub endpoint_version: Option<i32>,
    /// The event to send. If a claim contains several deliveries of one event, they share this value.
    pub event: Arc<StoredEvent>,
    /// The event's trace; `None` if the event started its own trace, which is then sampled. A pointer keeps this struct
    /// small, because thousands of deliveries wait at once.
    pub trace: Option<Arc<Trace>>,
    /// The service does not send the delivery after this time.
    pub expires_at: DateTime<Utc>,
    pub claimed_at: DateTime<Utc>,
}

impl Delivery {
    /// The trace of the delivery's event.
    pub fn trace(&self) -> Cow<'_, Trace> {
        self.trace.as_deref().map_or_else(|| Cow::Owned(Trace::of_event(self.event.id)), Cow::Borrowed)
    }
}

/// One attempt and its outcome. A failed request is an outcome, not an error.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    pub outcome: Outcome,
    /// The HTTP status of the response; `None` without a response.
    pub http_status: Option<u16>,
    /// How long the attempt took; zero if nothing was sent.
    pub duration: Duration,
    /// Details; `None` if there is nothing to add to the outcome and the HTTP status.
    pub detail: Option<AttemptDetail>,
}

impl Attempt {
    /// The result of an attempt that sent nothing.
    pub fn not_sent(outcome: Outcome, note: Option<String>) -> Self {
        let detail = note.map(|note| AttemptDetail { note: Some(note), ..AttemptDetail::default() });
        Self { outcome, http_status: None, duration: Duration::ZERO, detail }
    }
}

/// Details for users who inspect a delivery. They contain no secret and no IP address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AttemptDetail {
    /// An explanation of the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The start of the response body, in which invalid UTF-8 and NUL are replaced by U+FFFD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_body: Option<String>,
    /// True if the response body was longer than the stored start.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub response_truncated: bool,
}
