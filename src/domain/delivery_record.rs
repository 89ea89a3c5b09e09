//! Delivery records as shown by the API.

use chrono::{DateTime, Utc};

use super::delivery::{Attempt, Outcome};
use super::endpoint::Channel;
use super::event::EventType;
use super::ids::{DeliveryId, EndpointId, EventId};
use super::names::{AgentId, SessionId};

/// Which deliveries of a tenant to list; a delivery must match every part that is set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeliveryFilter {
    pub agent_id: Option<AgentId>,
    pub session_id: Option<SessionId>,
    pub event_type: Option<EventType>,
    pub channel: Option<Channel>,
    pub outcome: Option<Outcome>,
    /// Accepted at or after this time.
    pub from: Option<DateTime<Utc>>,
    /// Accepted before this time.
    pub to: Option<DateTime<Utc>>,
}

/// A delivery with its outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedDelivery {
    pub id: DeliveryId,
    pub event_id: EventId,
    pub endpoint_id: EndpointId,
    pub channel: Channel,
    /// The version of the endpoint's settings at the claim; `None` if it was deleted or paused.
    pub endpoint_version: Option<i32>,
    pub claimed_at: DateTime<Utc>,
    pub finished_at: DateTime<Utc>,
    pub attempt: Attempt,
}

/// The part of a delivery's event that lists show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSummary {
    pub event_type: EventType,
    pub agent_id: AgentId,
    pub session_id: SessionId,
}

/// One row of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedDelivery {
    pub delivery: FinishedDelivery,
    /// `None`: retention removed the event before its replay.
    pub event: Option<EventSummary>,
}

/// The current settings of a webhook, as far as readers of deliveries may see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookTarget {
    pub url: Option<String>,
    /// Names only, because values may be secrets.
    pub header_names: Vec<String>,
    pub version: i32,
}
