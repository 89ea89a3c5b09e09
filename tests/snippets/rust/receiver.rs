//! Receives webhooks: verifies each one, responds at once, and passes new ones to a queue.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use standardwebhooks::Webhook;
use tokio::sync::mpsc::UnboundedSender;

#[derive(Clone)]
struct Receiver {
    webhook: Arc<Webhook>,
    /// In production, use a table with a unique key, so that the ids survive a restart.
    seen: Arc<Mutex<HashSet<String>>>,
    work: UnboundedSender<serde_json::Value>,
}

/// To be served by `axum::serve`. New messages arrive at the receiver of `work`.
pub fn app(signing_secret: &str, work: UnboundedSender<serde_json::Value>) -> Router {
    let webhook = Arc::new(Webhook::new(signing_secret).expect("a signing secret begins with whsec_"));
    let receiver = Receiver { webhook, seen: Arc::default(), work };
    Router::new().route("/webhook", post(receive)).with_state(receiver)
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    // The signature matches only the received bytes, not JSON that was parsed and serialized again.
    if receiver.webhook.verify(&body, &headers).is_err() {
        return StatusCode::UNAUTHORIZED;
    }
    let Ok(message) = serde_json::from_slice(&body) else { return StatusCode::BAD_REQUEST };
    let id = headers["webhook-id"].to_str().unwrap_or_default().to_owned();
    let is_new = receiver.seen.lock().unwrap().insert(id);
    if is_new && receiver.work.send(message).is_err() {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    StatusCode::NO_CONTENT
}
