//! Tests each database function of the queue on a real database: which deliveries a worker can claim, and what each function
//! returns.

use std::time::Duration;

use flametree_notify::domain::endpoint::Channel;
use flametree_notify::domain::ids::{ClaimId, WorkerId};
use flametree_notify::domain::names::TenantId;
use flametree_notify::store::Db;
use flametree_notify::store::queue::claim::{self, ClaimError, ClaimedDelivery, LaneQuota, NoEvent};
use flametree_notify::store::queue::lanes::{self, LaneCursor};
use flametree_notify::store::queue::{lease, workers};
use uuid::Uuid;

use crate::support::queue::{accept_messages, agent_with_webhook, claim_of, count, first_place, prepared, worker};
use crate::support::seed::{self, SeededEvent, yesterday_noon};

#[tokio::test]
async fn a_claim_returns_the_oldest_deliveries_up_to_its_quota_with_their_events() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 5).await;
    let (_, taken) = claim_of(&db, worker(&db).await, endpoint, 3).await;
    let texts: Vec<_> = taken.iter().filter_map(|one| one.delivery.as_ref().ok()?.event.text.clone()).collect();
    assert_eq!(texts, ["message 0", "message 1", "message 2"]);
    assert!(taken.iter().all(|one| one.endpoint_version == Some(1)));
    assert_eq!((count(&db, "ready_deliveries").await, count(&db, "claims").await), (2, 1));
}

#[tokio::test]
async fn two_concurrent_claims_contain_different_deliveries() {
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
async fn a_fenced_worker_cannot_claim() {
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
async fn a_committed_claim_is_found_by_its_id() {
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
async fn a_claim_that_was_queried_and_not_found_cannot_commit_later() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 1).await;
    let by = worker(&db).await;
    let id = ClaimId::from_uuid(Uuid::new_v4());
    assert!(claim::resolve(&db, id, by, Channel::Webhook).await.unwrap().is_empty());
    let lane = LaneQuota { tenant_id: TenantId::parse("acme").unwrap(), endpoint_id: endpoint, after: 0, quota: 1 };
    let answer = claim::claim(&db, id, by, Channel::Webhook, &[lane]).await;
    assert!(matches!(answer, Err(ClaimError::Refused(_))), "{answer:?}");
    assert_eq!(count(&db, "ready_deliveries").await, 1);
    assert!(claim::resolve(&db, id, by, Channel::Webhook).await.unwrap().is_empty());
}

#[tokio::test]
async fn querying_a_claim_waits_for_its_open_transaction() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 1).await;
    let by = worker(&db).await;
    let id = ClaimId::from_uuid(Uuid::new_v4());
    let mut under_way = db.begin().await.unwrap();
    sqlx::query(
        "SELECT delivery_ids FROM flametree.claim_deliveries($1, $2, 'webhook', ARRAY['acme'], ARRAY[$3], ARRAY[0], ARRAY[1])",
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

async fn is_waiting(db: &Db) -> bool {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')",
    )
    .fetch_one(db)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_delivery_whose_event_was_deleted_is_still_returned() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 1).await;
    sqlx::query("DELETE FROM flametree.events").execute(&*db).await.unwrap();
    let (_, taken) = claim_of(&db, worker(&db).await, endpoint, 1).await;
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].delivery.as_ref().err(), Some(&NoEvent::Gone));
}

#[tokio::test]
async fn a_search_in_steps_finds_every_endpoint_with_ready_deliveries() {
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
async fn a_lease_has_one_holder_until_it_expires_or_is_released() {
    let db = prepared().await;
    let (one, other) = (WorkerId::from_uuid(Uuid::new_v4()), WorkerId::from_uuid(Uuid::new_v4()));
    let long = Duration::from_hours(1);
    assert!(lease::take(&db, "test", one, long).await.unwrap());
    assert!(lease::take(&db, "test", one, long).await.unwrap());
    assert!(!lease::take(&db, "test", other, long).await.unwrap());
    lease::release(&db, "test", other).await.unwrap();
    assert!(!lease::take(&db, "test", other, long).await.unwrap());
    lease::release(&db, "test", one).await.unwrap();
    assert!(lease::take(&db, "test", other, Duration::ZERO).await.unwrap());
    assert!(lease::take(&db, "test", one, long).await.unwrap());
}

#[tokio::test]
async fn a_worker_with_a_recent_heartbeat_is_not_fenced() {
    let db = prepared().await;
    let by = worker(&db).await;
    let seen = workers::seen(&db).await.unwrap();
    assert!(workers::heartbeat(&db, by).await.unwrap());
    assert!(!workers::fence(&db, &seen[0]).await.unwrap());
    let seen = workers::seen(&db).await.unwrap();
    assert!(workers::fence(&db, &seen[0]).await.unwrap());
    assert_eq!(workers::forget(&db, Duration::ZERO).await.unwrap(), 1);
}

#[tokio::test]
async fn the_waiting_time_of_a_replay_starts_at_its_request() {
    let db = prepared().await;
    let event = seed::event(&db, yesterday_noon(&db).await, &SeededEvent::default()).await;
    let (first, replay, event) = (event.delivery(1).uuid(), event.delivery(2).uuid(), event.uuid());
    let rows = format!(
        "INSERT INTO flametree.replays (id, tenant_id, replay_of, channel, endpoint_id, requested_by, created_at)
         VALUES ('{replay}', 'acme', '{first}', 'webhook', gen_random_uuid(), 'tok', now() - interval '1 minute');
         INSERT INTO flametree.ready_deliveries (channel, tenant_id, endpoint_id, position, id, event_id, expires_at)
         SELECT 'webhook', 'acme', endpoint_id, 1, id, '{event}', now() + interval '1 hour' FROM flametree.replays"
    );
    seed::run(&db, rows).await;
    let walked = lanes::waiting(&db, Channel::Webhook, &LaneCursor::default(), 3).await.unwrap();
    let tails = lanes::tail_scan(&db, Channel::Webhook, &[first_place()]).await.unwrap();
    for waiting in [walked, tails] {
        let waited = waiting[0].waited;
        assert!((Duration::from_mins(1)..Duration::from_hours(1)).contains(&waited), "{waited:?}");
    }
}

#[tokio::test]
async fn the_search_finds_a_tenant_with_any_name() {
    let db = prepared().await;
    let last = "\u{10ffff}".repeat(32);
    let row = format!(
        "INSERT INTO flametree.ready_deliveries (channel, tenant_id, endpoint_id, position, id, event_id, expires_at)
         VALUES ('webhook', '{last}', gen_random_uuid(), 1, gen_random_uuid(), gen_random_uuid(), now())"
    );
    seed::run(&db, row).await;
    assert_eq!(lanes::tail_scan(&db, Channel::Webhook, &[first_place()]).await.unwrap().len(), 1);
}
