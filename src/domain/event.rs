//! Events: what a platform service posts, and what is stored and sent.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::closed_set::closed_set;
use super::endpoint::WebhookEvent;
use super::ids::EventId;
use super::names::{AgentId, CustomerId, SessionId, TenantId, UserId};
use super::trace::Trace;

/// Maximum length of an idempotency key, in bytes.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;
/// Maximum time that a delivery may wait: a week. Retention is always longer, so that it never drops a partition with waiting
/// deliveries.
pub const MAX_EXPIRES_IN_SECONDS: u64 = 7 * 24 * 3600;
/// Maximum size of the `metadata` object, in bytes of JSON.
pub const MAX_METADATA_BYTES: usize = 16 * 1024;

/// What happened in a session.
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
pub enum EventType {
    NewSessionStarted,
    AiAssistantMessage,
    HumanAgentMessage,
    UserMessage,
    TransferredToLiveAgent,
    SessionAssigned,
    SessionResolved,
}

closed_set!(EventType);

impl EventType {
    /// True if the event is a message and must have a text.
    pub const fn is_message(self) -> bool {
        match self {
            Self::AiAssistantMessage | Self::HumanAgentMessage | Self::UserMessage => true,
            Self::NewSessionStarted | Self::TransferredToLiveAgent | Self::SessionAssigned | Self::SessionResolved => {
                false
            }
        }
    }

    /// True if the event may change who handles its session, or whether the session is in the operator workspace.
    pub const fn moves_session(self) -> bool {
        match self {
            Self::TransferredToLiveAgent | Self::SessionAssigned | Self::SessionResolved => true,
            Self::NewSessionStarted | Self::AiAssistantMessage | Self::HumanAgentMessage | Self::UserMessage => false,
        }
    }

    /// The event that a webhook must select to receive this event type; `None` if webhooks never receive it.
    pub const fn webhook_event(self) -> Option<WebhookEvent> {
        match self {
            Self::NewSessionStarted => Some(WebhookEvent::NewSessionStarted),
            Self::AiAssistantMessage | Self::HumanAgentMessage => Some(WebhookEvent::AiAssistantMessage),
            Self::UserMessage => Some(WebhookEvent::UserMessage),
            Self::TransferredToLiveAgent => Some(WebhookEvent::TransferredToLiveAgent),
            Self::SessionAssigned | Self::SessionResolved => None,
        }
    }

    /// The author of the message, as webhooks receive it in `data.author`.
    pub const fn author(self) -> Option<&'static str> {
        match self {
            Self::AiAssistantMessage => Some("ai_assistant"),
            Self::HumanAgentMessage => Some("human_agent"),
            Self::UserMessage => Some("customer"),
            Self::NewSessionStarted | Self::TransferredToLiveAgent | Self::SessionAssigned | Self::SessionResolved => {
                None
            }
        }
    }
}

/// A valid event, ready to be accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    pub tenant_id: TenantId,
    pub event_type: EventType,
    pub agent_id: AgentId,
    pub session_id: SessionId,
    pub customer_id: Option<CustomerId>,
    /// When the event occurred; `None` means that it occurred when it was accepted.
    pub occurred_at: Option<DateTime<Utc>>,
    pub text: Option<String>,
    pub assignee_id: Option<UserId>,
    /// The text of a JSON object, as the caller sent it.
    pub metadata: Option<String>,
    pub idempotency_key: Option<String>,
    /// How long the event's deliveries may wait; `None` means the deployment's default.
    pub expires_in_seconds: Option<u32>,
    /// The trace of the request; `None` means that the event starts its own trace.
    pub trace: Option<Trace>,
}

/// An accepted event, as stored and sent.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    pub id: EventId,
    pub tenant_id: TenantId,
    pub event_type: EventType,
    pub agent_id: AgentId,
    pub session_id: SessionId,
    pub customer_id: Option<CustomerId>,
    pub occurred_at: DateTime<Utc>,
    pub text: Option<String>,
    pub assignee_id: Option<UserId>,
    /// The text of a JSON object; `None` means the empty object.
    pub metadata: Option<String>,
}

impl NewEvent {
    /// An event with only the required fields of each event type.
    pub fn new(tenant_id: TenantId, event_type: EventType, agent_id: AgentId, session_id: SessionId) -> Self {
        Self {
            tenant_id,
            event_type,
            agent_id,
            session_id,
            customer_id: None,
            occurred_at: None,
            text: None,
            assignee_id: None,
            metadata: None,
            idempotency_key: None,
            expires_in_seconds: None,
            trace: None,
        }
    }
}
