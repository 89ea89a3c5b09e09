//! Invariants of parsing a posted event.

use chrono::Datelike as _;
use serde_json::{Value, json};

use crate::domain::event::{MAX_EXPIRES_IN_SECONDS, MAX_IDEMPOTENCY_KEY_BYTES, MAX_METADATA_BYTES, NewEvent};
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::names::{AgentId, CustomerId, MAX_NAME_BYTES, SessionId, TenantId, UserId};
use crate::domain::properties::assert_told;
use crate::http::resources::posted_event::parse_event;

/// Parses the bytes as an event, for a caller of one tenant and for a caller of all tenants. Returns the accepted event.
pub fn event(input: &[u8]) -> Option<NewEvent> {
    let value: Value = serde_json::from_slice(input).ok()?;
    let own = TenantId::from_stored("acme".to_owned());
    let of_own = check(&value, Some(&own));
    let of_all = check(&value, None);
    assert!(of_own.is_none() || of_all.is_none(), "accepted with and without a tenant");
    of_own.or(of_all)
}

fn check(value: &Value, tenant: Option<&TenantId>) -> Option<NewEvent> {
    const POINTER: &str = "/events/3";
    match parse_event(value.clone(), tenant, POINTER) {
        Ok(event) => {
            assert_bounded(&event);
            assert_eq!(parse_event(written(&event, tenant), tenant, POINTER), Ok(event.clone()));
            Some(event)
        }
        Err(faults) => {
            assert_told(&faults, POINTER);
            assert_deserved(&faults, value);
            None
        }
    }
}

fn assert_bounded(event: &NewEvent) {
    let names = [event.tenant_id.as_str(), event.agent_id.as_str(), event.session_id.as_str()];
    let more = [event.customer_id.as_ref().map(CustomerId::as_str), event.assignee_id.as_ref().map(UserId::as_str)];
    for name in names.into_iter().chain(more.into_iter().flatten()) {
        assert!((1..=MAX_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control), "{name:?}");
    }
    assert!(!event.event_type.is_message() || event.text.as_ref().is_some_and(|text| !text.is_empty()));
    for text in [&event.text, &event.metadata, &event.idempotency_key].into_iter().flatten() {
        assert!(!text.contains('\0'), "PostgreSQL stores no NUL: {text:?}");
    }
    assert!(event.metadata.as_ref().is_none_or(|json| json.len() <= MAX_METADATA_BYTES));
    assert!(event.idempotency_key.as_ref().is_none_or(|key| (1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&key.len())));
    assert!(event.expires_in_seconds.is_none_or(|seconds| (1..=MAX_EXPIRES_IN_SECONDS).contains(&seconds.into())));
    assert!(event.occurred_at.is_none_or(|at| (1..=9999).contains(&at.year())), "{:?}", event.occurred_at);
}

/// The JSON that a client would send for this event.
fn written(event: &NewEvent, tenant: Option<&TenantId>) -> Value {
    json!({
        "tenant_id": tenant.is_none().then(|| event.tenant_id.as_str()),
        "type": event.event_type.as_str(),
        "agent_id": AgentId::as_str(&event.agent_id),
        "session_id": SessionId::as_str(&event.session_id),
        "customer_id": event.customer_id.as_ref().map(CustomerId::as_str),
        "occurred_at": event.occurred_at,
        "text": event.text,
        "assignee_id": event.assignee_id.as_ref().map(UserId::as_str),
        "metadata": event.metadata.as_deref().and_then(|json| serde_json::from_str::<Value>(json).ok()),
        "idempotency_key": event.idempotency_key,
        "expires_in_seconds": event.expires_in_seconds,
    })
    .as_object()
    .map(|fields| fields.iter().filter(|(_, value)| !value.is_null()))
    .map_or(Value::Null, |fields| fields.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// Asserts that a value rejected because of NUL contains NUL, and that a field reported as unknown is unknown.
fn assert_deserved(faults: &[Fault], value: &Value) {
    for fault in faults {
        if fault.pointer.ends_with("/metadata") && fault.code == FaultCode::InvalidValue {
            assert!(value.get("metadata").is_some_and(has_nul), "{fault:?}, but {value}");
        }
    }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
