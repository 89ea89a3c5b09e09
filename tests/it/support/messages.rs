//! A delivery to send, and a client that may reach this machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use flametree_notify::channels::webhook::{self, Endpoint};
use flametree_notify::channels::{HttpClient, Settings};
use flametree_notify::domain::delivery::{Attempt, Delivery};
use flametree_notify::domain::endpoint::Channel;
use flametree_notify::domain::event::{EventType, StoredEvent};
use flametree_notify::domain::ids::{EndpointId, EventId};
use flametree_notify::domain::names::{AgentId, CustomerId, SessionId, TenantId};
use flametree_notify::domain::webhook_url::WebhookUrl;
use http::HeaderMap;
use uuid::Uuid;

use super::tls;

/// Long enough for a busy machine to answer in.
pub const PATIENT: Duration = Duration::from_secs(10);
/// For receivers that never answer: the test waits this long.
pub const IMPATIENT: Duration = Duration::from_millis(300);

pub fn event() -> StoredEvent {
    StoredEvent {
        id: EventId::from_uuid(Uuid::now_v7()),
        tenant_id: TenantId::parse("acme").unwrap(),
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

pub fn delivery() -> Delivery {
    let event = event();
    Delivery {
        id: event.id.delivery(1),
        channel: Channel::Webhook,
        endpoint_id: EndpointId::from_uuid(Uuid::now_v7()),
        endpoint_version: Some(1),
        event: Arc::new(event),
        expires_at: DateTime::<Utc>::MAX_UTC,
        claimed_at: Utc::now(),
    }
}

pub fn endpoint(url: &str) -> Endpoint {
    Endpoint {
        url: WebhookUrl::parse(url, true).unwrap(),
        headers: HeaderMap::new(),
        secrets: Vec::new(),
        timeout: PATIENT,
    }
}

/// Allows loopback and plain http, and trusts the tests' authority.
pub fn settings() -> Settings {
    Settings {
        allowed_networks: vec!["127.0.0.0/8".parse().unwrap()],
        allow_http: true,
        default_timeout: PATIENT,
        extra_roots: vec![tls::Authority::shared().certificate()],
    }
}

/// A client for which every name is this machine.
pub fn client() -> HttpClient {
    HttpClient::with_lookup(&settings(), this_machine).unwrap()
}

fn this_machine(_host: &str) -> io::Result<Vec<IpAddr>> {
    Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])
}

/// Sends a fresh delivery. An attempt that outlives every deadline fails the test.
pub async fn attempt(client: &HttpClient, endpoint: &Endpoint) -> Attempt {
    let delivery = delivery();
    let attempt = webhook::send(client, endpoint, &delivery, false, Utc::now());
    tokio::time::timeout(3 * PATIENT, attempt).await.expect("the attempt outlived its deadline")
}
