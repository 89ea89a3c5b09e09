//! Properties that must hold for every message. The message has an accepted event and the headers of an accepted push
//! config.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use http::HeaderMap;
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::super::{
    DELIVERY, EVENT, Endpoint, TRACEPARENT, TRANSPORT_HEADERS, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP,
    configured_headers, headers, payload, redactor,
};
use crate::channels::Target;
use crate::domain::delivery::Delivery;
use crate::domain::endpoint::Channel;
use crate::domain::event::{EventType, NewEvent, StoredEvent};
use crate::domain::ids::{EndpointId, EventId};
use crate::domain::names::{AgentId, SessionId, TenantId};
use crate::domain::push_config::Header;

/// A delivery of the event, as if the service had accepted the event.
pub(super) fn delivery(event: NewEvent) -> Delivery {
    let id = EventId::from_uuid(Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0000));
    let trace = event.trace.map(Arc::new);
    let event = StoredEvent {
        id,
        tenant_id: event.tenant_id,
        event_type: event.event_type,
        agent_id: event.agent_id,
        session_id: event.session_id,
        customer_id: event.customer_id,
        occurred_at: event.occurred_at.unwrap_or_default(),
        text: event.text,
        assignee_id: event.assignee_id,
        metadata: event.metadata,
    };
    Delivery {
        id: id.delivery(1),
        channel: Channel::Webhook,
        endpoint_id: EndpointId::from_uuid(Uuid::nil()),
        endpoint_version: Some(1),
        event: Arc::new(event),
        trace,
        expires_at: DateTime::UNIX_EPOCH,
        claimed_at: DateTime::UNIX_EPOCH,
    }
}

/// An event that has only the required fields.
pub(super) fn plain_event() -> NewEvent {
    let (tenant, agent) = (TenantId::from_stored("acme".to_owned()), AgentId::from_stored("a".to_owned()));
    let event = NewEvent::new(tenant, EventType::UserMessage, agent, SessionId::from_stored("s".to_owned()));
    NewEvent { text: Some("hi".to_owned()), ..event }
}

/// Checks that the message about an accepted event is JSON and contains the event's values.
pub fn message(event: NewEvent) {
    let delivery = delivery(event);
    for test in [false, true] {
        let body = payload(&delivery.event, test);
        let Ok(message) = serde_json::from_slice::<Value>(&body) else { panic!("the message is not JSON: {body:?}") };
        let data = &message["data"];
        assert_eq!(message["test"], json!(test));
        assert_eq!(data["event_id"], json!(delivery.event.id));
        assert_eq!(data["text"], json!(delivery.event.text));
        assert_eq!(data["session_id"], json!(delivery.event.session_id));
        let metadata = delivery.event.metadata.as_deref().unwrap_or("{}");
        assert_eq!(serde_json::from_str::<Value>(metadata).ok().as_ref(), Some(&data["metadata"]));
    }
}

/// Checks that the headers of an accepted push config are valid HTTP, and that each is sent once and unchanged. No configured
/// header replaces one of our headers or frames the message.
pub fn sent_headers(configured: &[Header]) {
    let Some(map) = configured_headers(configured) else { panic!("{configured:?} cannot be sent") };
    assert_eq!(map.len(), configured.len());
    let delivery = delivery(plain_event());
    let Ok(url) = Url::parse("https://example.com/") else { panic!("a URL") };
    let target = Target::new(url, delivery.event.tenant_id.clone());
    let with = |headers| Endpoint {
        target: target.clone(),
        headers,
        secrets: Vec::new(),
        timeout: Duration::from_secs(1),
        redactor: redactor(configured, []),
    };
    let written = |endpoint| headers(&endpoint, &delivery, DateTime::UNIX_EPOCH, b"{}");
    let (Ok(bare), Ok(sent)) = (written(with(HeaderMap::new())), written(with(map))) else { panic!("unwritable") };
    assert_eq!(sent.len(), bare.len() + configured.len());
    for header in configured {
        let name = header.name.as_str().to_ascii_lowercase();
        assert!(!TRANSPORT_HEADERS.contains(&name.as_str()), "{name} frames the message");
        let ours = [&WEBHOOK_ID, &WEBHOOK_TIMESTAMP, &WEBHOOK_SIGNATURE, &EVENT, &DELIVERY, &TRACEPARENT];
        assert!(!ours.iter().any(|own| own.as_str() == name), "{name} is reserved");
        let Some(value) = sent.get(&name) else { panic!("{name} is not sent") };
        assert!(value.is_sensitive() && value.to_str().is_ok_and(|text| text == header.value.text().expose()));
    }
    for (name, value) in &bare {
        assert_eq!(sent.get_all(name).iter().collect::<Vec<_>>(), [value], "{name} is sent once");
    }
}
