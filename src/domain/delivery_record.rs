//! Delivery records as shown by the API.

use chrono::{DateTime, Utc};

use super::delivery::{Attempt, Outcome};
use super::endpoint::Channel;
use super::event::EventType;
use super::ids::{DeliveryId, EndpointId, EventId};
use super::names::{AgentId, SessionId};

/// A filter for the deliveries of a tenant. A delivery must match every field that is set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeliveryFilter {
    pub agent_id: Option<AgentId>,
    pub session_id: Option<SessionId>,
    pub event_type: Option<EventType>,
    pub channel: Option<Channel>,
    pub outcome: Option<Outcome>,
    /// Selects deliveries accepted at or after this time.
    pub from: Option<DateTime<Utc>>,
    /// Selects deliveries accepted before this time.
    pub to: Option<DateTime<Utc>>,
}

/// A delivery with its outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedDelivery {
    pub id: DeliveryId,
    pub event_id: EventId,
    pub endpoint_id: EndpointId,
    pub channel: Channel,
    /// The version of the endpoint's settings at the time of the claim; `None` if the endpoint was deleted or paused.
    pub endpoint_version: Option<i32>,
    pub claimed_at: DateTime<Utc>,
    pub finished_at: DateTime<Utc>,
    pub attempt: Attempt,
}

/// The fields of an event in a list of deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSummary {
    pub event_type: EventType,
    pub agent_id: AgentId,
    pub session_id: SessionId,
}

/// One delivery in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedDelivery {
    pub delivery: FinishedDelivery,
    /// The delivered event; `None` if retention has removed the event.
    pub event: Option<EventSummary>,
}

/// The current webhook settings that readers of deliveries may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookTarget {
    pub url: Option<String>,
    /// Only the names of the headers, because header values may be secrets.
    pub header_names: Vec<String>,
    pub version: i32,
}
