//! Parses events from JSON, reporting every fault, and defines their stored form.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::closed_set::closed_set;
use super::endpoint::WebhookEvent;
use super::fault::{Fault, FaultCode};
use super::fields::Fields;
use super::ids::EventId;
use super::names::{AgentId, CustomerId, SessionId, TenantId, UserId};
use super::timestamp;
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
    /// Parses an event at a JSON pointer in the body. If the caller has no tenant, it may post for any tenant, and the event must
    /// name the tenant.
    pub fn parse(value: Value, tenant: Option<&TenantId>, pointer: &str) -> Result<Self, Vec<Fault>> {
        let mut fields = Fields::of(value, pointer).map_err(|fault| vec![fault])?;
        let event_type = event_type(&mut fields);
        let tenant_id = tenant_id(&mut fields, tenant);
        let agent_id = fields.required_text("agent_id").and_then(|id| fields.parsed("agent_id", AgentId::parse(id)));
        let session_id =
            fields.required_text("session_id").and_then(|id| fields.parsed("session_id", SessionId::parse(id)));
        let customer_id = fields.text("customer_id").and_then(|id| fields.parsed("customer_id", CustomerId::parse(id)));
        let occurred_at = occurred_at(&mut fields);
        let text = text(&mut fields, event_type);
        let assignee_id = assignee_id(&mut fields, event_type);
        let metadata = metadata(&mut fields);
        let idempotency_key = idempotency_key(&mut fields);
        let expires_in_seconds = fields
            .integer("expires_in_seconds", 1..=MAX_EXPIRES_IN_SECONDS)
            .and_then(|seconds| u32::try_from(seconds).ok());
        let faults = fields.finish();
        match (tenant_id, event_type, agent_id, session_id) {
            (Some(tenant_id), Some(event_type), Some(agent_id), Some(session_id)) if faults.is_empty() => Ok(Self {
                tenant_id,
                event_type,
                agent_id,
                session_id,
                customer_id,
                occurred_at,
                text,
                assignee_id,
                metadata,
                idempotency_key,
                expires_in_seconds,
                trace: None,
            }),
            _ => Err(faults),
        }
    }
}

fn event_type(fields: &mut Fields) -> Option<EventType> {
    let name = fields.required_text("type")?;
    EventType::from_name(&name).or_else(|| {
        let names = EventType::ALL.map(EventType::as_str).join(", ");
        fields.fault("type", FaultCode::InvalidValue, format!("must be one of {names}"))
    })
}

fn tenant_id(fields: &mut Fields, tenant: Option<&TenantId>) -> Option<TenantId> {
    match tenant {
        Some(tenant) if fields.has("tenant_id") => {
            let _: Option<Value> = fields.take("tenant_id");
            fields.fault::<()>("tenant_id", FaultCode::NotAllowed, "is only for tokens that are valid for all tenants");
            Some(tenant.clone())
        }
        Some(tenant) => Some(tenant.clone()),
        None => fields.required_text("tenant_id").and_then(|id| fields.parsed("tenant_id", TenantId::parse(id))),
    }
}

fn occurred_at(fields: &mut Fields) -> Option<DateTime<Utc>> {
    let text = fields.text("occurred_at")?;
    fields.parsed("occurred_at", timestamp::parse(&text))
}

fn text(fields: &mut Fields, event_type: Option<EventType>) -> Option<String> {
    let is_message = event_type.is_some_and(EventType::is_message);
    let text = if is_message { fields.required_text("text") } else { fields.text("text") }?;
    if text.contains('\0') {
        return fields.fault("text", FaultCode::InvalidValue, "must not contain the character U+0000");
    }
    if is_message && text.is_empty() {
        return fields.fault("text", FaultCode::InvalidValue, "must not be empty");
    }
    Some(text)
}

fn assignee_id(fields: &mut Fields, event_type: Option<EventType>) -> Option<UserId> {
    let id = match event_type {
        Some(EventType::SessionAssigned) => fields.required_text("assignee_id"),
        _ => fields.text("assignee_id"),
    }?;
    fields.parsed("assignee_id", UserId::parse(id))
}

fn metadata(fields: &mut Fields) -> Option<String> {
    let value = fields.take("metadata")?;
    if !value.is_object() {
        return fields.fault("metadata", FaultCode::InvalidType, "must be a JSON object");
    }
    let json = value.to_string();
    if json.len() > MAX_METADATA_BYTES {
        let message = format!("must be at most {MAX_METADATA_BYTES} bytes of JSON");
        return fields.fault("metadata", FaultCode::TooLong, message);
    }
    if has_nul(&value) {
        return fields.fault("metadata", FaultCode::InvalidValue, "must not contain the character U+0000");
    }
    Some(json).filter(|json| json != "{}")
}

/// True if a string inside the value contains NUL, which PostgreSQL cannot store. The JSON reader bounds the recursion.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn idempotency_key(fields: &mut Fields) -> Option<String> {
    let key = fields.text("idempotency_key")?;
    if key.is_empty() || key.chars().any(char::is_control) {
        return fields.fault("idempotency_key", FaultCode::InvalidValue, "must be text without control characters");
    }
    if key.len() > MAX_IDEMPOTENCY_KEY_BYTES {
        let message = format!("must be at most {MAX_IDEMPOTENCY_KEY_BYTES} bytes");
        return fields.fault("idempotency_key", FaultCode::TooLong, message);
    }
    Some(key)
}
