//! The JSON body that an integrator receives, and the event names. Both are a public contract.

use chrono::SecondsFormat;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::domain::endpoint::WebhookEvent;
use crate::domain::event::StoredEvent;
use crate::domain::names::CustomerId;

/// The fields are in the documented order. All messages have the same fields: a field without a value is `null`.
#[derive(Serialize)]
struct Payload<'a> {
    r#type: &'static str,
    timestamp: String,
    test: bool,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    event_id: String,
    agent_id: &'a str,
    session_id: &'a str,
    customer_id: Option<&'a str>,
    text: Option<&'a str>,
    author: Option<&'static str>,
    metadata: &'a RawValue,
}

/// The message body for an event. The same event always results in the same bytes.
pub fn payload(event: &StoredEvent, test: bool) -> Vec<u8> {
    let payload = Payload {
        r#type: event_name(event),
        timestamp: event.occurred_at.to_rfc3339_opts(SecondsFormat::Millis, true),
        test,
        data: Data {
            event_id: event.id.into(),
            agent_id: event.agent_id.as_str(),
            session_id: event.session_id.as_str(),
            customer_id: event.customer_id.as_ref().map(CustomerId::as_str),
            text: event.text.as_deref(),
            author: event.event_type.author(),
            metadata: metadata(event),
        },
    };
    let mut body = Vec::with_capacity(512 + event.text.as_ref().map_or(0, String::len));
    // Serializing strings, options and raw JSON to memory cannot fail.
    drop(serde_json::to_writer(&mut body, &payload));
    body
}

/// The name by which a push config selects the event. Events that cannot be selected also have a name.
pub(super) fn event_name(event: &StoredEvent) -> &'static str {
    event.event_type.webhook_event().map_or(event.event_type.as_str(), WebhookEvent::as_str)
}

/// The metadata of the event, unchanged. The ingest path has checked that it is a JSON object.
fn metadata(event: &StoredEvent) -> &RawValue {
    let empty = || serde_json::from_str("{}").unwrap_or(RawValue::NULL);
    event.metadata.as_deref().and_then(|json| serde_json::from_str(json).ok()).unwrap_or_else(empty)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;
    use crate::domain::event::EventType;
    use crate::domain::ids::EventId;
    use crate::domain::names::{AgentId, SessionId, TenantId};

    fn event(event_type: EventType) -> StoredEvent {
        StoredEvent {
            id: EventId::from_uuid(Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0000)),
            tenant_id: TenantId::parse("acme").unwrap(),
            event_type,
            agent_id: AgentId::parse("agent-1").unwrap(),
            session_id: SessionId::parse("s-1").unwrap(),
            customer_id: Some(CustomerId::parse("c-1").unwrap()),
            occurred_at: DateTime::from_timestamp_millis(1_767_225_600_123).unwrap(),
            text: Some("Where is my \"order\"? 📦".to_owned()),
            assignee_id: None,
            metadata: Some(r#"{"z":1,"a":1.50}"#.to_owned()),
        }
    }

    fn text(event: &StoredEvent, test: bool) -> String {
        String::from_utf8(payload(event, test)).unwrap()
    }

    #[test]
    fn the_fields_are_in_the_documented_order() {
        assert_eq!(
            text(&event(EventType::UserMessage), false),
            concat!(
                r#"{"type":"user_message","timestamp":"2026-01-01T00:00:00.123Z","test":false,"data":{"#,
                r#""event_id":"evt_01930000000070008000000000000000","agent_id":"agent-1","session_id":"s-1","#,
                r#""customer_id":"c-1","text":"Where is my \"order\"? 📦","author":"customer","#,
                r#""metadata":{"z":1,"a":1.50}}}"#
            )
        );
    }

    #[test]
    fn absent_values_are_null() {
        let bare = StoredEvent { customer_id: None, text: None, metadata: None, ..event(EventType::NewSessionStarted) };
        let text = text(&bare, true);
        assert!(text.contains(r#""test":true"#), "{text}");
        assert!(text.ends_with(r#""customer_id":null,"text":null,"author":null,"metadata":{}}}"#), "{text}");
    }

    #[test]
    fn a_human_agents_message_has_the_assistant_type_and_names_its_author() {
        let text = text(&event(EventType::HumanAgentMessage), false);
        assert!(text.starts_with(r#"{"type":"ai_assistant_message","#), "{text}");
        assert!(text.contains(r#""author":"human_agent""#), "{text}");
    }
}
