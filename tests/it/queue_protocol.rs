//! The protocol of the queue, call by call, on a real database: who takes what, whose word stands, what comes back.

use std::time::Duration;

use flametree_notify::domain::delivery::{Attempt, Outcome};
use flametree_notify::domain::endpoint::Channel;
use flametree_notify::domain::ids::{ClaimId, EndpointId, WorkerId};
use flametree_notify::domain::names::TenantId;
use flametree_notify::store::queue::claim::{self, ClaimError, ClaimedDelivery, LaneQuota};
use flametree_notify::store::queue::finish::{self, FinishedDelivery};
use flametree_notify::store::queue::lanes::{self, LaneCursor};
use flametree_notify::store::queue::{lease, reap, workers};
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::postgres::TestDatabase;
use crate::support::queue::{accept_messages, agent_with_webhook, prepared, worker};

async fn claim_of(db: &PgPool, by: WorkerId, endpoint: EndpointId, quota: u32) -> (ClaimId, Vec<ClaimedDelivery>) {
    let id = ClaimId::from_uuid(Uuid::new_v4());
    let lane = LaneQuota { tenant_id: TenantId::parse("acme").unwrap(), endpoint_id: endpoint, after: 0, quota };
    let taken = claim::claim(db, id, by, Channel::Webhook, &[lane]).await.unwrap();
    (id, taken)
}

fn finished(one: &ClaimedDelivery, outcome: Outcome) -> FinishedDelivery {
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

async fn outcomes(db: &PgPool) -> Vec<(String, i64)> {
    sqlx::query_as("SELECT outcome::text, count(*) FROM flametree.deliveries GROUP BY 1 ORDER BY 1")
        .fetch_all(db)
        .await
        .unwrap()
}

async fn count(db: &PgPool, table: &str) -> i64 {
    let statement = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM flametree.{table}"));
    sqlx::query_scalar(statement).fetch_one(db).await.unwrap()
}

#[tokio::test]
async fn a_claim_takes_the_oldest_up_to_its_quota_with_their_events() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 5).await;
    let (_, taken) = claim_of(&db, worker(&db).await, endpoint, 3).await;
    let texts: Vec<_> = taken.iter().filter_map(|one| one.delivery.as_ref()?.event.text.clone()).collect();
    assert_eq!(texts, ["message 0", "message 1", "message 2"]);
    assert!(taken.iter().all(|one| one.endpoint_version == Some(1)));
    assert_eq!((count(&db, "ready_deliveries").await, count(&db, "claims").await), (2, 1));
}

#[tokio::test]
async fn two_claims_at_once_share_nothing() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 40).await;
    let by = worker(&db).await;
    let mut claims = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let pool = db.pool.clone();
        claims.spawn(async move { claim_of(&pool, by, endpoint, 10).await });
    }
    let taken: Vec<_> = claims.join_all().await.into_iter().flat_map(|(_, taken)| taken).collect();
    let mut ids: Vec<_> = taken.iter().map(|one| one.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), taken.len());
    let left = count(&db, "ready_deliveries").await;
    assert_eq!(taken.len() + usize::try_from(left).unwrap(), 40);
}

#[tokio::test]
async fn a_fenced_worker_can_claim_nothing() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 1).await;
    let by = worker(&db).await;
    workers::end(&db, by).await.unwrap();
    let lane = LaneQuota { tenant_id: TenantId::parse("acme").unwrap(), endpoint_id: endpoint, after: 0, quota: 1 };
    let claim = claim::claim(&db, ClaimId::from_uuid(Uuid::new_v4()), by, Channel::Webhook, &[lane]).await;
    assert!(matches!(claim, Err(ClaimError::Fenced)), "{claim:?}");
    assert_eq!(count(&db, "ready_deliveries").await, 1);
    assert!(!workers::heartbeat(&db, by).await.unwrap());
}

#[tokio::test]
async fn a_claim_that_happened_is_found_by_its_id() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 3).await;
    let by = worker(&db).await;
    let (id, taken) = claim_of(&db, by, endpoint, 3).await;
    let found = claim::resolve(&db, id, by, Channel::Webhook).await.unwrap();
    let places = |all: &[ClaimedDelivery]| all.iter().map(|one| (one.id, one.position)).collect::<Vec<_>>();
    assert_eq!(places(&found), places(&taken));
    assert_eq!(found[0].delivery.as_ref().unwrap().event, taken[0].delivery.as_ref().unwrap().event);
}

#[tokio::test]
async fn a_claim_that_was_asked_about_in_vain_cannot_happen_later() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 1).await;
    let by = worker(&db).await;
    let id = ClaimId::from_uuid(Uuid::new_v4());
    assert!(claim::resolve(&db, id, by, Channel::Webhook).await.unwrap().is_empty());
    let lane = LaneQuota { tenant_id: TenantId::parse("acme").unwrap(), endpoint_id: endpoint, after: 0, quota: 1 };
    let late = claim::claim(&db, id, by, Channel::Webhook, &[lane]).await;
    assert!(matches!(late, Err(ClaimError::Unknown(_))), "{late:?}");
    assert_eq!(count(&db, "ready_deliveries").await, 1);
    assert!(claim::resolve(&db, id, by, Channel::Webhook).await.unwrap().is_empty());
}

#[tokio::test]
async fn asking_about_a_claim_waits_for_one_that_is_under_way() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 1).await;
    let by = worker(&db).await;
    let id = ClaimId::from_uuid(Uuid::new_v4());
    let mut under_way = db.begin().await.unwrap();
    sqlx::query(
        "SELECT id FROM flametree.claim_deliveries($1, $2, 'webhook', ARRAY['acme'], ARRAY[$3], ARRAY[0], ARRAY[1])",
    )
    .bind(id.uuid())
    .bind(by.uuid())
    .bind(endpoint.uuid())
    .fetch_all(&mut *under_way)
    .await
    .unwrap();
    let asked = claim::resolve(&db, id, by, Channel::Webhook);
    let waited = async {
        while !is_waiting(&db).await {
            tokio::task::yield_now().await;
        }
        under_way.commit().await.unwrap();
    };
    let (found, ()) = tokio::join!(asked, waited);
    assert_eq!(found.unwrap().len(), 1);
}

async fn is_waiting(db: &PgPool) -> bool {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')",
    )
    .fetch_one(db)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_finished_claim_leaves_its_outcomes_and_nothing_else() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 2).await;
    let (id, taken) = claim_of(&db, worker(&db).await, endpoint, 2).await;
    let results = [finished(&taken[0], Outcome::Delivered), finished(&taken[1], Outcome::Timeout)];
    assert!(finish::finish(&db, Channel::Webhook, &[id], &results).await.unwrap().is_empty());
    assert_eq!(outcomes(&db).await, [("delivered".to_owned(), 1), ("timeout".to_owned(), 1)]);
    assert_eq!((count(&db, "ready_deliveries").await, count(&db, "claims").await), (0, 0));
}

#[tokio::test]
async fn outcomes_that_are_sent_twice_are_recorded_once_and_are_not_late() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 1).await;
    let (id, taken) = claim_of(&db, worker(&db).await, endpoint, 1).await;
    let results = [finished(&taken[0], Outcome::Delivered)];
    for _ in 0..2 {
        assert!(finish::finish(&db, Channel::Webhook, &[id], &results).await.unwrap().is_empty());
    }
    assert_eq!(outcomes(&db).await, [("delivered".to_owned(), 1)]);
}

#[tokio::test]
async fn what_a_dead_worker_had_begun_is_interrupted_and_its_late_word_does_not_count() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 3).await;
    let by = worker(&db).await;
    let (id, taken) = claim_of(&db, by, endpoint, 3).await;
    // One outcome made it before the death; the claim is still open for the others.
    finish::finish(&db, Channel::Webhook, &[], &[finished(&taken[0], Outcome::Delivered)]).await.unwrap();
    assert!(!reap::pending(&db).await.unwrap());
    workers::end(&db, by).await.unwrap();
    assert!(reap::pending(&db).await.unwrap());
    assert_eq!(reap::reap(&db, 10).await.unwrap(), [(Channel::Webhook, 2)]);
    let late = finish::finish(&db, Channel::Webhook, &[id], &[finished(&taken[1], Outcome::Delivered)]).await.unwrap();
    assert_eq!(late, [taken[1].id]);
    assert_eq!(outcomes(&db).await, [("delivered".to_owned(), 1), ("interrupted".to_owned(), 2)]);
    assert_eq!(count(&db, "claims").await, 0);
}

#[tokio::test]
async fn a_released_delivery_is_back_at_its_old_place() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 3).await;
    let by = worker(&db).await;
    let (id, taken) = claim_of(&db, by, endpoint, 2).await;
    assert_eq!(finish::release(&db, id, &[taken[0].id]).await.unwrap(), 1);
    assert_eq!(finish::release(&db, id, &[taken[0].id]).await.unwrap(), 0);
    let (_, again) = claim_of(&db, by, endpoint, 1).await;
    assert_eq!((again[0].id, again[0].position), (taken[0].id, taken[0].position));
    finish::finish(&db, Channel::Webhook, &[id], &[finished(&taken[1], Outcome::Delivered)]).await.unwrap();
    assert_eq!(count(&db, "claims").await, 1);
}

#[tokio::test]
async fn nothing_is_released_once_the_reaper_has_taken_the_claim() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 1).await;
    let by = worker(&db).await;
    let (id, taken) = claim_of(&db, by, endpoint, 1).await;
    workers::end(&db, by).await.unwrap();
    reap::reap(&db, 10).await.unwrap();
    assert_eq!(finish::release(&db, id, &[taken[0].id]).await.unwrap(), 0);
    assert_eq!(count(&db, "ready_deliveries").await, 0);
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_disabled_with_the_outcome() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 1).await;
    let (id, taken) = claim_of(&db, worker(&db).await, endpoint, 1).await;
    finish::finish(&db, Channel::Webhook, &[id], &[finished(&taken[0], Outcome::Gone)]).await.unwrap();
    let config: (bool, Option<String>, i32) =
        sqlx::query_as("SELECT enabled, disabled_reason, version FROM flametree.push_configs")
            .fetch_one(&*db)
            .await
            .unwrap();
    assert_eq!(config, (false, Some("gone".to_owned()), 2));
}

#[tokio::test]
async fn an_endpoint_that_was_changed_since_is_not_disabled_by_an_old_answer() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 1).await;
    let (id, taken) = claim_of(&db, worker(&db).await, endpoint, 1).await;
    sqlx::query("UPDATE flametree.push_configs SET version = 2").execute(&*db).await.unwrap();
    finish::finish(&db, Channel::Webhook, &[id], &[finished(&taken[0], Outcome::Gone)]).await.unwrap();
    let enabled: bool = sqlx::query_scalar("SELECT enabled FROM flametree.push_configs").fetch_one(&*db).await.unwrap();
    assert!(enabled);
}

#[tokio::test]
async fn a_delivery_whose_event_is_gone_is_still_answered() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 1).await;
    sqlx::query("DELETE FROM flametree.events").execute(&*db).await.unwrap();
    let (_, taken) = claim_of(&db, worker(&db).await, endpoint, 1).await;
    assert_eq!(taken.len(), 1);
    assert!(taken[0].delivery.is_none());
}

#[tokio::test]
async fn the_search_finds_every_endpoint_with_work_in_steps() {
    let db = prepared().await;
    let mut endpoints = Vec::new();
    for number in 0..7 {
        let agent = format!("agent-{number}");
        endpoints.push(agent_with_webhook(&db, &agent).await);
        accept_messages(&db, &agent, 2).await;
    }
    let mut found = Vec::new();
    let mut cursor = LaneCursor::default();
    loop {
        let step = lanes::waiting(&db, Channel::Webhook, &cursor, 3).await.unwrap();
        let Some(last) = step.last() else { break };
        cursor = LaneCursor { tenant_id: last.tenant_id.as_str().to_owned(), endpoint_id: last.endpoint_id.uuid() };
        found.extend(step.into_iter().map(|lane| lane.endpoint_id));
    }
    endpoints.sort_unstable();
    assert_eq!(found, endpoints);
    assert!(lanes::waiting(&db, Channel::BrowserPush, &LaneCursor::default(), 3).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_lease_has_one_holder_until_it_ends_or_is_given_up() {
    let db = prepared().await;
    let (one, other) = (WorkerId::from_uuid(Uuid::new_v4()), WorkerId::from_uuid(Uuid::new_v4()));
    let long = Duration::from_hours(1);
    assert!(lease::take(&db, "test", one, long).await.unwrap());
    assert!(lease::take(&db, "test", one, long).await.unwrap());
    assert!(!lease::take(&db, "test", other, long).await.unwrap());
    lease::give_up(&db, "test", other).await.unwrap();
    assert!(!lease::take(&db, "test", other, long).await.unwrap());
    lease::give_up(&db, "test", one).await.unwrap();
    assert!(lease::take(&db, "test", other, Duration::ZERO).await.unwrap());
    assert!(lease::take(&db, "test", one, long).await.unwrap());
}

#[tokio::test]
async fn a_worker_that_was_seen_again_is_not_fenced() {
    let db = prepared().await;
    let by = worker(&db).await;
    let seen = workers::seen(&db).await.unwrap();
    assert!(workers::heartbeat(&db, by).await.unwrap());
    assert!(!workers::fence(&db, &seen[0]).await.unwrap());
    let seen = workers::seen(&db).await.unwrap();
    assert!(workers::fence(&db, &seen[0]).await.unwrap());
    assert_eq!(workers::forget(&db, Duration::ZERO).await.unwrap(), 1);
}

/// Plans are made once and kept: one made on empty tables must not read them whole when they are full.
#[tokio::test]
async fn a_claim_planned_on_empty_tables_reads_by_key_when_they_are_full() {
    let db = TestDatabase::with_connections(1).await;
    crate::support::queue::prepare(&db).await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    let other = agent_with_webhook(&db, "agent-2").await;
    let by = worker(&db).await;
    sqlx::query("VACUUM ANALYZE").execute(&*db).await.unwrap();
    // More often than a prepared statement is planned anew.
    for _ in 0..8 {
        accept_messages(&db, "agent-1", 1).await;
        let (id, taken) = claim_of(&db, by, endpoint, 1).await;
        finish::finish(&db, Channel::Webhook, &[id], &[finished(&taken[0], Outcome::Delivered)]).await.unwrap();
    }
    for _ in 0..40 {
        accept_messages(&db, "agent-2", 250).await;
    }
    sqlx::query("SELECT pg_stat_reset()").execute(&*db).await.unwrap();
    let (id, taken) = claim_of(&db, by, other, 5).await;
    let results: Vec<_> = taken.iter().map(|one| finished(one, Outcome::Delivered)).collect();
    finish::finish(&db, Channel::Webhook, &[id], &results).await.unwrap();
    accept_messages(&db, "agent-1", 1).await;
    sqlx::query("SELECT pg_stat_force_next_flush()").execute(&*db).await.unwrap();
    let read: i64 = sqlx::query_scalar(
        "SELECT coalesce(sum(seq_tup_read), 0)::bigint FROM pg_stat_user_tables WHERE schemaname = 'flametree'
         AND relname ~ '^(ready_deliveries|events|deliveries|claims|push_configs|sessions)'",
    )
    .fetch_one(&*db)
    .await
    .unwrap();
    assert_eq!(read, 0, "rows were read by scanning a whole table");
}
