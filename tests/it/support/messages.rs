//! A delivery to send, and an HTTP client that may connect to this machine.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use flametree_notify::channels::webhook::{self, Endpoint};
use flametree_notify::channels::{HttpClient, LookupLimits, Settings, Target};
use flametree_notify::domain::delivery::{Attempt, Delivery};
use flametree_notify::domain::endpoint::Channel;
use flametree_notify::domain::event::{EventType, StoredEvent};
use flametree_notify::domain::ids::{EndpointId, EventId};
use flametree_notify::domain::names::{AgentId, CustomerId, SessionId, TenantId};
use flametree_notify::domain::webhook_url::WebhookUrl;
use flametree_notify::telemetry::metrics::Metrics;
use http::HeaderMap;
use uuid::Uuid;

use super::{names, tls};

/// Timeout for receivers that respond, long enough for a busy machine.
const PATIENT: Duration = Duration::from_secs(10);
/// Timeout for unresponsive receivers. The test waits this long.
const IMPATIENT: Duration = Duration::from_millis(300);

/// The tenant of the events and endpoints in this module.
pub(crate) fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn event() -> StoredEvent {
    StoredEvent {
        id: EventId::from_uuid(Uuid::now_v7()),
        tenant_id: tenant(),
        event_type: EventType::UserMessage,
        agent_id: AgentId::parse("agent-1").unwrap(),
        session_id: SessionId::parse("s-1").unwrap(),
        customer_id: Some(CustomerId::parse("c-1").unwrap()),
        occurred_at: Utc::now(),
        text: Some("Wo ist meine Bestellung? 📦 \"dringend\"".to_owned()),
        assignee_id: None,
        metadata: Some(r#"{"b":1,"a":[2.50,null]}"#.to_owned()),
    }
}

pub(crate) fn delivery() -> Delivery {
    let event = event();
    Delivery {
        id: event.id.delivery(1),
        channel: Channel::Webhook,
        endpoint_id: EndpointId::from_uuid(Uuid::now_v7()),
        endpoint_version: Some(1),
        trace: None,
        event: Arc::new(event),
        expires_at: DateTime::<Utc>::MAX_UTC,
        claimed_at: Utc::now(),
    }
}

pub(crate) fn endpoint(url: &str) -> Endpoint {
    Endpoint {
        target: Target::new(WebhookUrl::parse(url, true).unwrap().into_url(), tenant()),
        headers: HeaderMap::new(),
        secrets: Vec::new(),
        timeout: PATIENT,
        redactor: webhook::redactor(&[], []),
    }
}

/// For an unresponsive receiver.
pub(crate) fn impatient(url: &str) -> Endpoint {
    Endpoint { timeout: IMPATIENT, ..endpoint(url) }
}

/// Settings that allow loopback addresses and plain http, and that trust the test certificate authority.
pub(crate) fn settings() -> Settings {
    Settings {
        allowed_networks: vec!["127.0.0.0/8".parse().unwrap()],
        denied_networks: Vec::new(),
        name_servers: Vec::new(),
        lookups: LookupLimits::WORKERS,
        allow_http: true,
        default_timeout: PATIENT,
        extra_roots: vec![tls::Authority::shared().certificate()],
    }
}

/// Metrics for the client of a test that does not read them.
pub(crate) fn metrics() -> Metrics {
    Metrics::new("test", "test")
}

/// A client that resolves every name to this machine.
pub(crate) fn client() -> HttpClient {
    HttpClient::with_lookup(&settings(), &metrics(), names::all_here()).unwrap()
}

/// Sends a new delivery. The test fails if the attempt is still running long after its deadline.
pub(crate) async fn attempt(client: &HttpClient, endpoint: &Endpoint) -> Attempt {
    let delivery = delivery();
    let attempt = webhook::send(client, endpoint, &delivery, false, Utc::now());
    tokio::time::timeout(3 * PATIENT, attempt).await.expect("the attempt exceeded its deadline")
}
