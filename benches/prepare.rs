//! Prepares endpoints and events with one delivery each. The service's own function accepts the events.

use std::time::{Duration, Instant};

use flametree_notify::domain::event::{EventType, NewEvent};
use flametree_notify::domain::names::{AgentId, CustomerId, SessionId, TenantId};
use flametree_notify::store::{Db, accept};
use uuid::Uuid;

use crate::service::Service;

/// The tenant of the endpoints.
pub(crate) const TENANT: &str = "bench";
/// A user's text of 106 bytes.
pub(crate) const TEXT: &str =
    "Hello, my parcel should have come on Monday and I have heard nothing since. Can you tell me where it is now?";
const GROUP: usize = 500;
const EXPIRY_SECONDS: u32 = 86_400;

/// One agent with a push config.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    pub(crate) id: AgentId,
}

/// Creates `count` agents with one endpoint each. The endpoints have no secrets, because the attempts send nothing.
pub(crate) async fn agents(db: &Db, count: usize, url: &str) -> Vec<Agent> {
    let names: Vec<String> = (0..count).map(|number| format!("agent-{number}")).collect();
    let endpoints: Vec<Uuid> = names.iter().map(|_| Uuid::new_v4()).collect();
    sqlx::query(
        "INSERT INTO flametree.push_configs (tenant_id, agent_id, endpoint_id, version, enabled, url, signing, events,
            header_names, header_values, header_secrets, created_at, updated_at)
        SELECT $1, a.name, a.endpoint, 1, true, $4, true, enum_range(NULL::flametree.event_type), '{}', '{}', '{}', now(), now()
        FROM unnest($2::text[], $3::uuid[]) AS a (name, endpoint)",
    )
    .bind(TENANT)
    .bind(&names)
    .bind(&endpoints)
    .bind(url)
    .execute(db)
    .await
    .unwrap();
    names.into_iter().map(agent).collect()
}

/// Creates `count` agents through the API, with signing secrets.
pub(crate) async fn agents_by_api(service: &Service, count: usize, url: &str) -> Vec<Agent> {
    let names: Vec<String> = (0..count).map(|number| format!("agent-{number}")).collect();
    for name in &names {
        service.set_push_config(name, url).await;
    }
    names.into_iter().map(agent).collect()
}

/// The agent with the id `name`.
pub(crate) fn agent(name: impl Into<String>) -> Agent {
    Agent { id: AgentId::parse(name).unwrap() }
}

/// Accepts `count` events, round-robin over the agents, and returns the duration.
pub(crate) async fn deliveries(db: &Db, agents: &[Agent], count: usize) -> Duration {
    let started = Instant::now();
    let halves = [(0, count / 2), (count / 2, count)];
    let writers = halves.map(|(from, to)| async move {
        for first in (from..to).step_by(GROUP) {
            let events: Vec<NewEvent> =
                (first..to.min(first + GROUP)).map(|number| event(&agents[number % agents.len()].id, number)).collect();
            let events: Vec<&NewEvent> = events.iter().collect();
            accept::accept(db, &events, EXPIRY_SECONDS, accept::LOCK_TIMEOUT).await.unwrap();
        }
    });
    let [first, second] = writers;
    tokio::join!(first, second);
    started.elapsed()
}

/// A numbered event: a customer's message. Ten consecutive events belong to one session.
pub(crate) fn event(agent: &AgentId, number: usize) -> NewEvent {
    NewEvent {
        tenant_id: TenantId::parse(TENANT).unwrap(),
        event_type: EventType::UserMessage,
        agent_id: agent.clone(),
        session_id: SessionId::parse(format!("session-{:06}", number / 10)).unwrap(),
        customer_id: Some(CustomerId::parse(format!("customer-{:06}", number / 10)).unwrap()),
        occurred_at: None,
        text: Some(TEXT.to_owned()),
        assignee_id: None,
        metadata: None,
        idempotency_key: None,
        expires_in_seconds: None,
        trace: None,
    }
}
