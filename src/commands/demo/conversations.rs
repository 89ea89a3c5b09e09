//! The recorded conversations, and their agents.
//!
//! The expected deliveries are computed only from the recording and the agents, not from the service's responses.

use anyhow::Context as _;
use axum::http::StatusCode;
use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::endpoint::WebhookEvent;
use flametree_notify::domain::event::EventType;
use serde::Deserialize;

/// Bodies of `POST /v1/events`, one per line.
const RECORDING: &str = include_str!("../../../examples/conversations.jsonl");

const EVERYTHING: &[WebhookEvent] = &[
    WebhookEvent::NewSessionStarted,
    WebhookEvent::AiAssistantMessage,
    WebhookEvent::UserMessage,
    WebhookEvent::TransferredToLiveAgent,
];

/// The agents of the recording: the first receives every event, the second selects events, and the endpoint of the third fails.
pub(super) const AGENTS: [Agent; 3] = [
    Agent { id: "shop-assistant", events: EVERYTHING, answer: StatusCode::OK },
    Agent {
        id: "clinic-desk",
        events: &[WebhookEvent::UserMessage, WebhookEvent::TransferredToLiveAgent],
        answer: StatusCode::OK,
    },
    Agent { id: "travel-concierge", events: EVERYTHING, answer: StatusCode::INTERNAL_SERVER_ERROR },
];

/// An agent with a webhook.
#[derive(Debug, Clone, Copy)]
pub(super) struct Agent {
    pub(super) id: &'static str,
    /// The events that the agent's push config selects.
    pub(super) events: &'static [WebhookEvent],
    /// The response of the agent's endpoint to a message with a valid signature.
    pub(super) answer: StatusCode,
}

impl Agent {
    pub(super) fn named(id: &str) -> Option<&'static Self> {
        AGENTS.iter().find(|agent| agent.id == id)
    }

    fn hears_of(&self, event: EventType) -> bool {
        event.webhook_event().is_some_and(|event| self.events.contains(&event))
    }

    /// The expected outcome of the agent's deliveries.
    pub(super) fn outcome(&self) -> Outcome {
        if self.answer.is_success() { Outcome::Delivered } else { Outcome::HttpError }
    }
}

/// A line of the recording.
#[derive(Debug, Deserialize)]
pub(super) struct RecordedEvent {
    #[serde(rename = "type")]
    pub(super) event_type: EventType,
    pub(super) agent_id: String,
    pub(super) session_id: String,
    /// The body to post, exactly as in the file.
    #[serde(skip)]
    pub(super) body: &'static str,
}

impl RecordedEvent {
    /// The agent whose endpoint must receive this event; `None` if no agent selects it.
    pub(super) fn listener(&self) -> Option<&'static Agent> {
        Agent::named(&self.agent_id).filter(|agent| agent.hears_of(self.event_type))
    }
}

/// The whole recording, in chronological order.
pub(super) fn recording() -> anyhow::Result<Vec<RecordedEvent>> {
    let read = |(number, line): (usize, &'static str)| {
        let event: RecordedEvent =
            serde_json::from_str(line).with_context(|| format!("line {number} of the recording is not valid"))?;
        Ok(RecordedEvent { body: line, ..event })
    };
    (1..).zip(RECORDING.lines()).map(read).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use flametree_notify::domain::names::TenantId;
    use flametree_notify::http::parse_event;

    use super::*;

    #[test]
    fn every_line_is_an_event_that_the_api_accepts() {
        let tenant = TenantId::parse("demo").unwrap();
        for event in recording().unwrap() {
            let body = serde_json::from_str(event.body).unwrap();
            assert!(parse_event(body, Some(&tenant), "").is_ok(), "{}", event.body);
        }
    }

    #[test]
    fn the_recording_contains_every_type_of_event() {
        let events = recording().unwrap();
        let types: HashSet<_> = events.iter().map(|event| event.event_type).collect();
        let sessions: BTreeSet<_> = events.iter().map(|event| event.session_id.as_str()).collect();
        let agents: BTreeSet<_> = events.iter().map(|event| event.agent_id.as_str()).collect();
        assert_eq!(types.len(), EventType::ALL.len());
        assert!(events.len() >= 60 && sessions.len() >= 6, "{} events, {} sessions", events.len(), sessions.len());
        assert_eq!(agents, AGENTS.iter().map(|agent| agent.id).collect());
    }

    #[test]
    fn an_event_is_expected_at_the_agent_that_selects_it() {
        let event = |event_type, agent_id: &str| RecordedEvent {
            event_type,
            agent_id: agent_id.to_owned(),
            session_id: "s-1".to_owned(),
            body: "",
        };
        assert!(event(EventType::HumanAgentMessage, "shop-assistant").listener().is_some());
        assert!(event(EventType::HumanAgentMessage, "clinic-desk").listener().is_none());
        assert!(event(EventType::SessionResolved, "shop-assistant").listener().is_none());
    }
}
