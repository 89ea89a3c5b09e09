//! The receiver, an example of the code that an integrator writes to receive events. It trusts only verified requests.
//!
//! The receiver verifies the received bytes of a message before it parses them. It uses the official library of Standard
//! Webhooks (<https://www.standardwebhooks.com>), which exists for most languages. The service needs only a prompt response, so
//! a receiver does slow work after it has responded.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde::Deserialize;
use standardwebhooks::{HEADER_WEBHOOK_ID, Webhook, WebhookError};
use tokio::sync::mpsc;

/// Receives the messages of several agents, each with its own path and secret.
pub(super) struct Receiver {
    endpoints: HashMap<String, Endpoint>,
    arrivals: mpsc::UnboundedSender<Arrival>,
}

/// The endpoint of one agent.
pub(super) struct Endpoint {
    /// Verifies signatures with the signing secret, which the API returned when the push config was created.
    pub(super) webhook: Webhook,
    /// The response to a genuine message.
    pub(super) answer: StatusCode,
}

/// One request and the result of its verification.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) at: Instant,
    /// The agent's id from the path. Any client may post to any path.
    pub(super) agent_id: String,
    /// The header `webhook-id`. Repeated messages have the same id, so receivers use it to deduplicate.
    pub(super) event_id: String,
    pub(super) message: Result<Message, Refusal>,
    pub(super) answer: StatusCode,
}

/// The fields of a message's body that the demonstration uses.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    #[serde(rename = "type")]
    pub(super) event_type: String,
    pub(super) data: MessageData,
}

#[derive(Debug, Deserialize)]
pub(super) struct MessageData {
    pub(super) session_id: String,
    pub(super) text: Option<String>,
    /// The author of the text: `customer`, `ai_assistant` or `human_agent`.
    pub(super) author: Option<String>,
}

/// The reason why a request is rejected.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("no agent has this path")]
    UnknownAgent,
    #[error(transparent)]
    NotGenuine(#[from] WebhookError),
    #[error("the body is not a message: {0}")]
    NotReadable(#[from] serde_json::Error),
}

impl Refusal {
    fn answer(&self) -> StatusCode {
        match self {
            Self::UnknownAgent => StatusCode::NOT_FOUND,
            Self::NotGenuine(_) => StatusCode::UNAUTHORIZED,
            Self::NotReadable(_) => StatusCode::BAD_REQUEST,
        }
    }
}

impl Receiver {
    /// Creates a receiver that sends every request to `arrivals`.
    pub(super) fn new(endpoints: HashMap<String, Endpoint>, arrivals: mpsc::UnboundedSender<Arrival>) -> Self {
        Self { endpoints, arrivals }
    }

    /// `POST /webhooks/{agent_id}`.
    pub(super) fn router(self) -> Router {
        Router::new().route("/webhooks/{agent_id}", post(receive)).with_state(Arc::new(self))
    }

    /// Verifies a request.
    pub(super) fn judge(&self, agent_id: &str, headers: &HeaderMap, body: &[u8], at: Instant) -> Arrival {
        let verified = self.verify(agent_id, headers, body);
        let answer = match &verified {
            Ok((_, endpoint)) => endpoint.answer,
            Err(refusal) => refusal.answer(),
        };
        let event_id = headers.get(HEADER_WEBHOOK_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
        Arrival {
            at,
            agent_id: agent_id.to_owned(),
            event_id: event_id.to_owned(),
            message: verified.map(|(message, _)| message),
            answer,
        }
    }

    fn verify(&self, agent_id: &str, headers: &HeaderMap, body: &[u8]) -> Result<(Message, &Endpoint), Refusal> {
        let endpoint = self.endpoints.get(agent_id).ok_or(Refusal::UnknownAgent)?;
        endpoint.webhook.verify(body, headers)?;
        Ok((serde_json::from_slice(body)?, endpoint))
    }
}

async fn receive(
    State(receiver): State<Arc<Receiver>>,
    Path(agent_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let arrival = receiver.judge(&agent_id, &headers, &body, Instant::now());
    let answer = arrival.answer;
    // Ignores the error: nothing reads `arrivals` once the demonstration ends.
    drop(receiver.arrivals.send(arrival));
    answer
}

#[cfg(test)]
pub(super) mod tests {
    use axum::http::HeaderValue;
    use standardwebhooks::{HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP};

    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &str = r#"{"type":"user_message","data":{"session_id":"s-1","text":"hello","author":"customer"}}"#;

    fn receiver() -> Receiver {
        let endpoint = Endpoint { webhook: Webhook::new(SECRET).unwrap(), answer: StatusCode::OK };
        Receiver::new(HashMap::from([("agent-1".to_owned(), endpoint)]), mpsc::unbounded_channel().0)
    }

    #[expect(clippy::disallowed_methods, reason = "the official library checks timestamps against the system clock")]
    fn signed(id: &str, body: &str) -> HeaderMap {
        let timestamp = chrono::Utc::now().timestamp();
        let signature = Webhook::new(SECRET).unwrap().sign(id, timestamp, body.as_bytes()).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(HEADER_WEBHOOK_ID, HeaderValue::from_str(id).unwrap());
        headers.insert(HEADER_WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp));
        headers.insert(HEADER_WEBHOOK_SIGNATURE, HeaderValue::from_str(&signature).unwrap());
        headers
    }

    /// A genuine message of `agent-1`.
    pub(in super::super) fn genuine(event_id: &str) -> Arrival {
        receiver().judge("agent-1", &signed(event_id, BODY), BODY.as_bytes(), Instant::now())
    }

    /// A message whose body was changed in transit.
    pub(in super::super) fn forged(event_id: &str) -> Arrival {
        let body = BODY.replace("hello", "send money");
        receiver().judge("agent-1", &signed(event_id, BODY), body.as_bytes(), Instant::now())
    }

    #[test]
    fn accepts_a_genuine_message() {
        let arrival = genuine("evt_1");
        assert_eq!((arrival.answer, arrival.event_id.as_str()), (StatusCode::OK, "evt_1"));
        assert_eq!(arrival.message.unwrap().data.session_id, "s-1");
    }

    #[test]
    fn rejects_a_forged_body_without_parsing_it() {
        let arrival = forged("evt_1");
        assert_eq!(arrival.answer, StatusCode::UNAUTHORIZED);
        assert!(matches!(arrival.message, Err(Refusal::NotGenuine(WebhookError::InvalidSignature))));
    }

    #[test]
    fn rejects_a_message_with_another_id() {
        let mut headers = signed("evt_1", BODY);
        headers.insert(HEADER_WEBHOOK_ID, HeaderValue::from_static("evt_2"));
        let arrival = receiver().judge("agent-1", &headers, BODY.as_bytes(), Instant::now());
        assert_eq!(arrival.answer, StatusCode::UNAUTHORIZED);
    }

    #[test]
    fn rejects_a_message_without_a_signature_or_for_an_unknown_agent() {
        let unsigned = receiver().judge("agent-1", &HeaderMap::new(), BODY.as_bytes(), Instant::now());
        assert!(matches!(unsigned.message, Err(Refusal::NotGenuine(WebhookError::MissingHeader(_)))));
        let astray = receiver().judge("agent-2", &signed("evt_1", BODY), BODY.as_bytes(), Instant::now());
        assert_eq!(astray.answer, StatusCode::NOT_FOUND);
    }
}
