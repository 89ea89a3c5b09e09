//! Delivery records as the API shows them.

use chrono::{DateTime, Utc};

use super::delivery::{Attempt, Outcome};
use super::endpoint::Channel;
use super::event::EventType;
use super::ids::{DeliveryId, EndpointId, EventId};
use super::names::{AgentId, SessionId};

/// Which deliveries of a tenant to list; every part that is set must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeliveryFilter {
    pub agent_id: Option<AgentId>,
    pub session_id: Option<SessionId>,
    pub event_type: Option<EventType>,
    pub channel: Option<Channel>,
    pub outcome: Option<Outcome>,
    /// Accepted at this moment or later.
    pub from: Option<DateTime<Utc>>,
    /// Accepted before this moment.
    pub to: Option<DateTime<Utc>>,
}

/// A delivery that has its outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedDelivery {
    pub id: DeliveryId,
    pub event_id: EventId,
    pub endpoint_id: EndpointId,
    pub channel: Channel,
    /// The version of the endpoint's settings when it was claimed; `None` when it was deleted or paused.
    pub endpoint_version: Option<i32>,
    pub claimed_at: DateTime<Utc>,
    pub finished_at: DateTime<Utc>,
    pub attempt: Attempt,
}

/// What a list tells of a delivery's event.
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
    /// `None`: retention has taken the event before its replay.
    pub event: Option<EventSummary>,
}

/// The settings of a webhook as they are today, as far as a reader of deliveries may see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookTarget {
    pub url: Option<String>,
    /// Names only: values are secrets or may be.
    pub header_names: Vec<String>,
    pub version: i32,
}
