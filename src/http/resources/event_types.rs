//! The catalog of event types, for readers and for programs that validate events.

use axum::Json;
use chrono::DateTime;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::{PartialSchema, ToSchema};

use crate::channels::webhook;
use crate::domain::endpoint::WebhookEvent;
use crate::domain::event::{EventType, StoredEvent};
use crate::domain::ids::EventId;
use crate::domain::names::{AgentId, CustomerId, SessionId, TenantId};
use crate::http::auth::authorized::Authenticated;
use crate::http::request::parameters::NoParameters;
use crate::http::request::problem::Problem;
use crate::http::resources::posted_event::PostedEvent;

/// An event type.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventTypeView {
    name: EventType,
    #[schema(value_type = String)]
    description: &'static str,
    /// JSON Schema of the event as it is posted.
    #[schema(value_type = Object)]
    schema: Value,
    /// An example of the event as it is posted.
    #[schema(value_type = Object)]
    example: Value,
    /// The message that webhooks receive; null if webhooks do not receive this event.
    webhook: Option<WebhookMessageView>,
}

/// The message that a webhook receives.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WebhookMessageView {
    /// The name under which push configs select the event; also the `type` of the message.
    event: WebhookEvent,
    /// JSON Schema of the body.
    #[schema(value_type = Object)]
    schema: Value,
    /// An example body.
    #[schema(value_type = Object)]
    example: Value,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventTypeList {
    data: Vec<EventTypeView>,
    /// Always null, because there is only one page.
    #[schema(value_type = Option<String>)]
    next_cursor: (),
}

/// Lists all event types: their meaning, how to post them and what webhooks receive.
#[utoipa::path(
    get,
    path = "/v1/event-types",
    tag = "Events",
    responses(
        (status = 200, description = "All event types", body = EventTypeList),
    ),
)]
pub(crate) async fn list_event_types(_: Authenticated, _: NoParameters) -> Result<Json<EventTypeList>, Problem> {
    Ok(Json(EventTypeList { data: EventType::ALL.map(view).into(), next_cursor: () }))
}

fn view(name: EventType) -> EventTypeView {
    EventTypeView {
        name,
        description: description(name),
        schema: posted_schema(name),
        webhook: name.webhook_event().map(|event| WebhookMessageView {
            event,
            schema: message_schema(event),
            example: message_example(name),
        }),
        example: example(name),
    }
}

const fn description(name: EventType) -> &'static str {
    match name {
        EventType::NewSessionStarted => "A customer has started a session with an agent.",
        EventType::AiAssistantMessage => "The AI assistant has written to the customer.",
        EventType::HumanAgentMessage => {
            "A human operator has written to the customer. Webhooks receive it as ai_assistant_message with the author human_agent."
        }
        EventType::UserMessage => "The customer has written. The session's handler receives a browser push.",
        EventType::TransferredToLiveAgent => "The session waits for a human operator, in the operator workspace.",
        EventType::SessionAssigned => "The session is assigned to a user, who receives a browser push.",
        EventType::SessionResolved => "The session has ended: it leaves the operator workspace and has no handler.",
    }
}

fn example(name: EventType) -> Value {
    let mut example = json!({
        "type": name, "agent_id": "agent-1", "session_id": "s-1", "customer_id": "c-1",
        "occurred_at": "2026-01-01T00:00:00.123Z", "idempotency_key": "m-4711",
    });
    if let Some(text) = example_text(name) {
        example["text"] = text.into();
    }
    if name == EventType::SessionAssigned {
        example["assignee_id"] = "user-7".into();
    }
    example
}

const fn example_text(name: EventType) -> Option<&'static str> {
    match name {
        EventType::AiAssistantMessage => Some("Your order is on its way."),
        EventType::HumanAgentMessage => Some("Hello, this is Dana. I am looking into it."),
        EventType::UserMessage => Some("Where is my order?"),
        EventType::NewSessionStarted
        | EventType::TransferredToLiveAgent
        | EventType::SessionAssigned
        | EventType::SessionResolved => None,
    }
}

/// The schema of all events, narrowed to one type and its required fields.
fn posted_schema(name: EventType) -> Value {
    let mut schema = serde_json::to_value(<PostedEvent as PartialSchema>::schema()).unwrap_or_default();
    schema["properties"]["type"] = json!({"const": name});
    let needed =
        if name.is_message() { Some("text") } else { (name == EventType::SessionAssigned).then_some("assignee_id") };
    if let (Some(required), Some(needed)) = (schema["required"].as_array_mut(), needed) {
        required.push(needed.into());
        schema["properties"][needed]["type"] = "string".into();
    }
    standalone(schema)
}

fn message_schema(event: WebhookEvent) -> Value {
    let text = |nullable: bool| if nullable { json!({"type": ["string", "null"]}) } else { json!({"type": "string"}) };
    let data = ["event_id", "agent_id", "session_id", "customer_id", "text", "author", "metadata"];
    standalone(json!({
        "type": "object",
        "required": ["type", "timestamp", "test", "data"],
        "properties": {
            "type": {"const": event},
            "timestamp": {"type": "string", "format": "date-time"},
            "test": {"type": "boolean"},
            "data": {
                "type": "object",
                "required": data,
                "properties": {
                    "event_id": text(false), "agent_id": text(false), "session_id": text(false),
                    "customer_id": text(true), "text": text(true),
                    "author": {"enum": ["ai_assistant", "human_agent", "customer", null]},
                    "metadata": {"type": "object"},
                },
            },
        },
    }))
}

fn standalone(mut schema: Value) -> Value {
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema
}

/// The message that webhooks receive for the example, built by the code that builds real messages.
fn message_example(name: EventType) -> Value {
    let event = StoredEvent {
        id: EventId::from_uuid(uuid::Uuid::from_u128(0x019b_76da_a07b_7000_8000_0000_0000_0000)),
        tenant_id: TenantId::from_stored(String::new()),
        event_type: name,
        agent_id: AgentId::from_stored("agent-1".to_owned()),
        session_id: SessionId::from_stored("s-1".to_owned()),
        customer_id: Some(CustomerId::from_stored("c-1".to_owned())),
        occurred_at: DateTime::from_timestamp_millis(1_767_225_600_123).unwrap_or_default(),
        text: example_text(name).map(str::to_owned),
        assignee_id: None,
        metadata: None,
    };
    serde_json::from_slice(&webhook::payload(&event, false)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::resources::posted_event::parse_event;

    fn keys(value: &Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn accepts_every_example() {
        let tenant = TenantId::parse("acme").unwrap();
        for name in EventType::ALL {
            let view = view(name);
            let event = parse_event(view.example.clone(), Some(&tenant), "").unwrap();
            assert_eq!(event.event_type, name);
            let required: Vec<&str> =
                view.schema["required"].as_array().unwrap().iter().map(|field| field.as_str().unwrap()).collect();
            for field in &required {
                let mut without = view.example.clone();
                without.as_object_mut().unwrap().remove(*field);
                assert!(parse_event(without, Some(&tenant), "").is_err(), "{field} is required");
            }
            for field in keys(&view.example) {
                assert!(keys(&view.schema["properties"]).contains(&field), "{field} is in the schema");
            }
            assert_eq!(view.schema["additionalProperties"], false);
        }
    }

    #[test]
    fn message_schemas_list_exactly_the_fields_that_are_sent() {
        for name in EventType::ALL {
            let Some(webhook) = view(name).webhook else { continue };
            assert_eq!(keys(&webhook.example), keys(&webhook.schema["properties"]));
            assert_eq!(keys(&webhook.example["data"]), keys(&webhook.schema["properties"]["data"]["properties"]));
            assert_eq!(webhook.example["type"], webhook.schema["properties"]["type"]["const"]);
        }
    }
}
