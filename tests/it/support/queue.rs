//! Deliveries in a database, without a running service.

use std::time::Duration;

use flametree_notify::domain::delivery::{Attempt, Outcome};
use flametree_notify::domain::endpoint::Channel;
use flametree_notify::domain::event::{EventType, NewEvent};
use flametree_notify::domain::ids::{ClaimId, EndpointId, WorkerId};
use flametree_notify::domain::names::{AgentId, SessionId, TenantId};
use flametree_notify::store::Db;
use flametree_notify::store::accept;
use flametree_notify::store::queue::claim::{self, ClaimedDelivery, LaneQuota};
use flametree_notify::store::queue::finish::FinishedDelivery;
use flametree_notify::store::queue::lanes::{LaneCursor, Place};
use flametree_notify::store::queue::workers;
use uuid::Uuid;

use super::postgres::TestDatabase;

/// A database with today's partitions.
pub async fn prepared() -> TestDatabase {
    let db = TestDatabase::new().await;
    prepare(&db).await;
    db
}

pub async fn prepare(db: &Db) {
    sqlx::query("SELECT flametree.ensure_partitions(current_date - 1, current_date + 1)").execute(db).await.unwrap();
}

/// Creates an agent of the tenant `acme` with an enabled webhook for customers' messages.
pub async fn agent_with_webhook(db: &Db, agent: &str) -> EndpointId {
    let endpoint = Uuid::now_v7();
    sqlx::query(
        "INSERT INTO flametree.push_configs (tenant_id, agent_id, endpoint_id, version, enabled, url, signing, events,
             header_names, header_values, header_secrets, created_at, updated_at)
         VALUES ('acme', $1, $2, 1, true, 'http://127.0.0.1:9/', false, '{user_message}', '{}', '{}', '{}', now(), now())",
    )
    .bind(agent)
    .bind(endpoint)
    .execute(db)
    .await
    .unwrap();
    EndpointId::from_uuid(endpoint)
}

/// A message from a customer of the tenant `acme`.
pub fn message(agent: &str, text: String) -> NewEvent {
    NewEvent {
        tenant_id: TenantId::parse("acme").unwrap(),
        event_type: EventType::UserMessage,
        agent_id: AgentId::parse(agent).unwrap(),
        session_id: SessionId::parse("session-1").unwrap(),
        customer_id: None,
        occurred_at: None,
        text: Some(text),
        assignee_id: None,
        metadata: None,
        idempotency_key: None,
        expires_in_seconds: None,
        trace: None,
    }
}

/// Accepts this many numbered messages in one transaction.
pub async fn accept_messages(db: &Db, agent: &str, count: usize) {
    let events: Vec<NewEvent> = (0..count).map(|number| message(agent, format!("message {number}"))).collect();
    accept::accept(db, &events.iter().collect::<Vec<_>>(), 3_600, accept::LOCK_TIMEOUT).await.unwrap();
}

pub async fn worker(db: &Db) -> WorkerId {
    let id = WorkerId::from_uuid(Uuid::now_v7());
    workers::register(db, id, "test").await.unwrap();
    id
}

/// Claims the endpoint's deliveries, starting at its first position.
pub async fn claim_of(db: &Db, by: WorkerId, endpoint: EndpointId, quota: u32) -> (ClaimId, Vec<ClaimedDelivery>) {
    claim_behind(db, by, endpoint, 0, quota).await
}

/// Claims the endpoint's deliveries after the position `after`.
pub async fn claim_behind(
    db: &Db,
    by: WorkerId,
    endpoint: EndpointId,
    after: i64,
    quota: u32,
) -> (ClaimId, Vec<ClaimedDelivery>) {
    let id = ClaimId::from_uuid(Uuid::new_v4());
    let lane = LaneQuota { tenant_id: TenantId::parse("acme").unwrap(), endpoint_id: endpoint, after, quota };
    let taken = claim::claim(db, id, by, Channel::Webhook, &[lane]).await.unwrap();
    (id, taken)
}

/// An outcome to record.
pub fn finished(one: &ClaimedDelivery, outcome: Outcome) -> FinishedDelivery {
    let http_status = (outcome == Outcome::Delivered).then_some(200);
    FinishedDelivery {
        id: one.id,
        event_id: one.event_id,
        tenant_id: one.tenant_id.clone(),
        endpoint_id: one.endpoint_id,
        endpoint_version: one.endpoint_version,
        claimed_at: one.claimed_at,
        attempt: Attempt { outcome, http_status, duration: Duration::from_millis(3), detail: None },
    }
}

pub async fn outcomes(db: &Db) -> Vec<(String, i64)> {
    sqlx::query_as("SELECT outcome::text, count(*) FROM flametree.deliveries GROUP BY 1 ORDER BY 1")
        .fetch_all(db)
        .await
        .unwrap()
}

pub async fn count(db: &Db, table: &str) -> i64 {
    let statement = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM flametree.{table}"));
    sqlx::query_scalar(statement).fetch_one(db).await.unwrap()
}

/// Before all endpoints.
pub fn first_place() -> Place {
    Place { key: LaneCursor::default(), after: Some(0) }
}
