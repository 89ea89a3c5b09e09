//! An event as platform services post it.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{Object, ObjectBuilder, Schema, Type};

use crate::domain::event::{
    EventType, MAX_EXPIRES_IN_SECONDS, MAX_IDEMPOTENCY_KEY_BYTES, MAX_METADATA_BYTES, NewEvent,
};
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::names::{AgentId, CustomerId, SessionId, TenantId, UserId};
use crate::http::openapi::objects::string;
use crate::http::request::fields::{At, Field, read_and};
use crate::http::request::request_body::request_body;
use crate::http::request::values::{NO_CONTROL_CHARACTERS, Required, Whole, Wrong, texts};

request_body! {
    /// An event as platform services post it.
    #[example = json!({
        "type": "user_message", "agent_id": "agent-1", "session_id": "s-1", "customer_id": "c-1",
        "occurred_at": "2026-01-01T00:00:00.123Z", "text": "Where is my order?", "metadata": {}, "idempotency_key": "m-4711",
    })]
    pub(crate) struct PostedEvent {
        #[name = "type"]
        event_type: Required<EventType>,
        /// Required with a token for all tenants, unless `?tenant_id=` names the tenant. Not allowed with other tokens.
        tenant_id: Option<TenantId>,
        agent_id: Required<AgentId>,
        session_id: Required<SessionId>,
        customer_id: Option<CustomerId>,
        /// When the event happened. Default: the time of acceptance.
        occurred_at: Option<DateTime<Utc>>,
        /// The text of the message. Required for the three message types.
        text: Option<EventText>,
        /// The user who handles the session. Required for `session_assigned`.
        assignee_id: Option<UserId>,
        /// Metadata that is passed to webhooks unchanged, at most 16 KiB of JSON.
        metadata: Option<Metadata>,
        /// A request with the key and the body of an earlier request returns the earlier event. The key may also be in the header
        /// `Idempotency-Key`. The service keeps the key for at least a day.
        idempotency_key: Option<IdempotencyKey>,
        /// How long the event's deliveries may wait to be sent.
        expires_in_seconds: Option<Whole<u32, 1, MAX_EXPIRES_IN_SECONDS>>,
    }
}

/// Parses an event at a JSON pointer in the body. If the caller has no tenant, it may post for any tenant, and the event must
/// name the tenant.
pub fn parse_event(mut value: Value, tenant: Option<&TenantId>, pointer: &str) -> Result<NewEvent, Vec<Fault>> {
    let named = value.as_object_mut().filter(|_| tenant.is_some()).and_then(|fields| fields.remove("tenant_id"));
    read_and(value, pointer, |event: PostedEvent, mut at| {
        if named.is_some() {
            let message = "is only for tokens that are valid for all tenants";
            at.name("tenant_id").fault::<()>(FaultCode::NotAllowed, message);
        }
        event.checked(tenant, at)
    })
}

impl PostedEvent {
    fn checked(self, tenant: Option<&TenantId>, mut at: At<'_>) -> Option<NewEvent> {
        let event_type = self.event_type.0;
        let is_message = event_type.is_some_and(EventType::is_message);
        let tenant_id = tenant.cloned().or(self.tenant_id);
        let text = self.text.map(|EventText(text)| text);
        at.name("tenant_id").require(tenant_id.is_some(), "is required");
        at.name("text").require(text.is_some() || !is_message, "is required");
        if is_message && text.as_deref() == Some("") {
            at.name("text").fault::<()>(FaultCode::InvalidValue, "must not be empty");
        }
        let needs_assignee = event_type == Some(EventType::SessionAssigned);
        at.name("assignee_id").require(self.assignee_id.is_some() || !needs_assignee, "is required");
        Some(NewEvent {
            customer_id: self.customer_id,
            occurred_at: self.occurred_at,
            text,
            assignee_id: self.assignee_id,
            metadata: self.metadata.and_then(|Metadata(json)| json),
            idempotency_key: self.idempotency_key.map(|IdempotencyKey(key)| key),
            expires_in_seconds: self.expires_in_seconds.map(|Whole(seconds)| seconds),
            ..NewEvent::new(tenant_id?, event_type?, self.agent_id.0?, self.session_id.0?)
        })
    }
}

/// The text of a message.
pub(crate) struct EventText(String);

/// The key that makes the post of an event safe to repeat.
pub(crate) struct IdempotencyKey(String);

texts! {
    EventText, ObjectBuilder::new().schema_type(Type::String).pattern(Some(r"^[^\u0000]*$")).into() => |text: String| {
        if text.contains('\0') { Err("must not contain the character U+0000") } else { Ok(EventText(text)) }
    };
    IdempotencyKey, string(1..=MAX_IDEMPOTENCY_KEY_BYTES, NO_CONTROL_CHARACTERS) => |text: String| {
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err("must be text without control characters".into());
        }
        let too_long = || Wrong(FaultCode::TooLong, format!("must be at most {MAX_IDEMPOTENCY_KEY_BYTES} bytes"));
        if text.len() > MAX_IDEMPOTENCY_KEY_BYTES { Err(too_long()) } else { Ok(IdempotencyKey(text)) }
    };
}

/// The text of a JSON object; `None` for the empty object.
pub(crate) struct Metadata(Option<String>);

impl Field for Metadata {
    fn read(value: Value, mut at: At<'_>) -> Option<Self> {
        if !value.is_object() {
            return at.fault(FaultCode::InvalidType, "must be a JSON object");
        }
        let json = value.to_string();
        if json.len() > MAX_METADATA_BYTES {
            return at.fault(FaultCode::TooLong, format!("must be at most {MAX_METADATA_BYTES} bytes of JSON"));
        }
        if has_nul(&value) {
            return at.fault(FaultCode::InvalidValue, "must not contain the character U+0000");
        }
        Some(Self(Some(json).filter(|json| json != "{}")))
    }

    fn schema() -> RefOr<Schema> {
        Object::with_type(Type::Object).into()
    }
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
