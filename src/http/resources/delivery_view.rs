//! Deliveries as JSON, without secrets. This module never receives values of headers or URL queries.

use chrono::{DateTime, Utc};
use serde::Serialize;
use url::Url;
use utoipa::ToSchema;

use crate::channels::webhook;
use crate::domain::delivery::Outcome;
use crate::domain::delivery_record::{EventSummary, FinishedDelivery, WebhookTarget};
use crate::domain::endpoint::Channel;
use crate::domain::event::{EventType, StoredEvent};
use crate::domain::ids::{DeliveryId, EndpointId, EventId};

/// A delivery sends one event to one endpoint. It has one attempt and one outcome.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct DeliveryView {
    id: DeliveryId,
    event_id: EventId,
    /// The type, the agent and the session are null if retention has removed the event.
    event_type: Option<EventType>,
    agent_id: Option<String>,
    session_id: Option<String>,
    /// Null until the delivery has an outcome, like all fields below except `accepted_at`.
    channel: Option<Channel>,
    endpoint_id: Option<EndpointId>,
    /// Null while the delivery is unfinished.
    outcome: Option<Outcome>,
    /// The status of the response, if one arrived.
    http_status: Option<u16>,
    /// The duration of the attempt.
    duration_ms: Option<f64>,
    accepted_at: Option<DateTime<Utc>>,
    claimed_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

impl DeliveryView {
    pub(crate) fn finished(delivery: &FinishedDelivery, event: Option<EventSummary>) -> Self {
        let event = event.map(|event| (event.event_type, event.agent_id.into_string(), event.session_id.into_string()));
        let (event_type, agent_id, session_id) = match event {
            Some((event_type, agent, session)) => (Some(event_type), Some(agent), Some(session)),
            None => (None, None, None),
        };
        Self {
            id: delivery.id,
            event_id: delivery.event_id,
            event_type,
            agent_id,
            session_id,
            channel: Some(delivery.channel),
            endpoint_id: Some(delivery.endpoint_id),
            outcome: Some(delivery.attempt.outcome),
            http_status: delivery.attempt.http_status,
            duration_ms: Some(milliseconds(delivery.attempt.duration)),
            accepted_at: delivery.id.accepted_at(),
            claimed_at: Some(delivery.claimed_at),
            finished_at: Some(delivery.finished_at),
        }
    }

    /// A delivery that is ready or in progress.
    pub(crate) fn unfinished(id: DeliveryId, event: &StoredEvent) -> Self {
        Self {
            id,
            event_id: event.id,
            event_type: Some(event.event_type),
            agent_id: Some(event.agent_id.as_str().to_owned()),
            session_id: Some(event.session_id.as_str().to_owned()),
            channel: None,
            endpoint_id: None,
            outcome: None,
            http_status: None,
            duration_ms: None,
            accepted_at: id.accepted_at(),
            claimed_at: None,
            finished_at: None,
        }
    }
}

/// A delivery with its request and response.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryDetailView {
    #[serde(flatten)]
    pub(crate) delivery: DeliveryView,
    /// The reason for a failure, as text.
    pub(crate) note: Option<String>,
    /// Null for browser push, and after the webhook was deleted.
    pub(crate) request: Option<RequestView>,
    /// Null if there was no response.
    pub(crate) response: Option<ResponseView>,
}

/// The request that was sent, without secrets.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RequestView {
    #[schema(value_type = String, example = "POST")]
    method: &'static str,
    /// The URL that is configured now, without its query.
    url: Option<String>,
    /// The names of the currently configured headers.
    header_names: Vec<String>,
    /// Whether the settings are unchanged since the attempt.
    settings_unchanged: bool,
    /// The bytes that were sent, as text; null for callers who may not see messages.
    body: Option<String>,
}

/// The endpoint's response.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ResponseView {
    pub(crate) status: u16,
    /// The start of the body, without the endpoint's secrets; null if the body was empty, for a redirect, and for callers
    /// who may not see messages.
    pub(crate) body: Option<String>,
    /// Whether the shown body was cut off.
    pub(crate) truncated: bool,
}

impl RequestView {
    pub(crate) fn new(target: WebhookTarget, delivery: &FinishedDelivery, body: Option<String>) -> Self {
        Self {
            method: "POST",
            url: target.url.as_deref().and_then(without_secrets),
            header_names: target.header_names,
            settings_unchanged: delivery.endpoint_version == Some(target.version),
            body,
        }
    }
}

/// A URL without the parts that often contain secrets; `None` if it is not a URL.
fn without_secrets(url: &str) -> Option<String> {
    let mut url = Url::parse(url).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    // This fails only for a URL that cannot contain user information.
    let removed = url.set_username("").and_then(|()| url.set_password(None));
    removed.ok().map(|()| url.into())
}

/// The body that was sent. It can be built again, because an event always serializes to the same bytes.
pub(crate) fn sent_body(event: &StoredEvent) -> Option<String> {
    String::from_utf8(webhook::payload(event, false)).ok()
}

/// The duration in milliseconds. Rounds to microseconds, as the database does, to hide floating-point noise.
pub(crate) fn milliseconds(duration: std::time::Duration) -> f64 {
    f64::from(u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)) / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_query_and_user_from_urls() {
        let shown = without_secrets("https://user:pass@example.com:8443/hook?token=s3cret#part");
        assert_eq!(shown.as_deref(), Some("https://example.com:8443/hook"));
        assert_eq!(without_secrets("no url"), None);
    }
}
