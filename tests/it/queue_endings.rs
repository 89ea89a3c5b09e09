//! Tests on a real database that each claimed delivery ends: the worker records or releases the delivery, or the reaper records
//! the outcome `interrupted`.

use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::endpoint::Channel;
use flametree_notify::store::queue::{finish, reap, workers};

use crate::support::queue::{
    accept_messages, agent_with_webhook, claim_of, count, finished, outcomes, prepared, worker,
};

#[tokio::test]
async fn a_finished_claim_is_deleted_and_only_its_outcomes_remain() {
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
async fn outcomes_that_are_sent_twice_are_recorded_once_and_not_reported_as_late() {
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
async fn the_reaper_interrupts_the_deliveries_of_a_dead_worker_and_late_outcomes_are_rejected() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 3).await;
    let by = worker(&db).await;
    let (id, taken) = claim_of(&db, by, endpoint, 3).await;
    // The worker recorded one outcome before it died. The claim still contains the other two deliveries.
    finish::finish(&db, Channel::Webhook, &[], &[finished(&taken[0], Outcome::Delivered)]).await.unwrap();
    assert!(reap::reap(&db, 10, &[]).await.unwrap().is_empty());
    workers::end(&db, by).await.unwrap();
    assert_eq!(reap::reap(&db, 10, &[]).await.unwrap(), [(Channel::Webhook, 2)]);
    assert!(reap::reap(&db, 10, &[]).await.unwrap().is_empty());
    let late = finish::finish(&db, Channel::Webhook, &[id], &[finished(&taken[1], Outcome::Delivered)]).await.unwrap();
    assert_eq!(late, [taken[1].id]);
    assert_eq!(outcomes(&db).await, [("delivered".to_owned(), 1), ("interrupted".to_owned(), 2)]);
    assert_eq!(count(&db, "claims").await, 0);
}

#[tokio::test]
async fn the_reaper_skips_excluded_claims_and_reaps_the_others() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 6).await;
    let by = worker(&db).await;
    let (left_out, _) = claim_of(&db, by, endpoint, 2).await;
    claim_of(&db, by, endpoint, 3).await;
    assert!(reap::dead_claims(&db, 10, &[]).await.unwrap().is_empty());
    assert!(reap::reap_claim(&db, left_out).await.unwrap().is_empty());
    workers::end(&db, by).await.unwrap();
    assert_eq!(reap::dead_claims(&db, 10, &[]).await.unwrap().len(), 2);
    assert_eq!(reap::reap(&db, 10, &[left_out]).await.unwrap(), [(Channel::Webhook, 3)]);
    assert!(reap::reap(&db, 10, &[left_out]).await.unwrap().is_empty());
    assert!(reap::dead_claims(&db, 10, &[left_out]).await.unwrap().is_empty());
    assert_eq!(reap::dead_claims(&db, 10, &[]).await.unwrap(), [(left_out, Channel::Webhook)]);
    assert_eq!(reap::reap_claim(&db, left_out).await.unwrap(), [(Channel::Webhook, 2)]);
    assert_eq!((count(&db, "claims").await, count(&db, "ready_deliveries").await), (0, 1));
}

#[tokio::test]
async fn the_reaper_also_interrupts_deliveries_of_an_unregistered_worker() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 2).await;
    let by = worker(&db).await;
    claim_of(&db, by, endpoint, 2).await;
    sqlx::raw_sql("DELETE FROM flametree.workers").execute(&*db).await.unwrap();
    assert!(reap::reap(&db, 10, &[]).await.unwrap().is_empty());
    assert_eq!(workers::fence_unknown(&db).await.unwrap(), 1);
    assert_eq!(workers::fence_unknown(&db).await.unwrap(), 0);
    assert_eq!(reap::reap(&db, 10, &[]).await.unwrap(), [(Channel::Webhook, 2)]);
    assert_eq!(count(&db, "claims").await, 0);
}

#[tokio::test]
async fn a_released_delivery_returns_to_its_old_position() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 3).await;
    let by = worker(&db).await;
    let (id, taken) = claim_of(&db, by, endpoint, 2).await;
    assert_eq!(finish::release(&db, id, &[taken[0].id], false).await.unwrap(), 1);
    assert_eq!(finish::release(&db, id, &[taken[0].id], false).await.unwrap(), 0);
    let (_, again) = claim_of(&db, by, endpoint, 1).await;
    assert_eq!((again[0].id, again[0].position), (taken[0].id, taken[0].position));
    finish::finish(&db, Channel::Webhook, &[id], &[finished(&taken[1], Outcome::Delivered)]).await.unwrap();
    assert_eq!(count(&db, "claims").await, 1);
}

#[tokio::test]
async fn releasing_the_last_delivery_of_a_claim_deletes_the_claim() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 2).await;
    let by = worker(&db).await;
    let (id, taken) = claim_of(&db, by, endpoint, 2).await;
    finish::finish(&db, Channel::Webhook, &[], &[finished(&taken[1], Outcome::Delivered)]).await.unwrap();
    assert_eq!(finish::release(&db, id, &[taken[0].id], true).await.unwrap(), 1);
    assert_eq!(count(&db, "claims").await, 0);
    assert_eq!(count(&db, "ready_deliveries").await, 1);
    assert_eq!(count(&db, "deliveries").await, 1);
}

#[tokio::test]
async fn no_delivery_is_released_after_the_reaper_has_taken_the_claim() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 1).await;
    let by = worker(&db).await;
    let (id, taken) = claim_of(&db, by, endpoint, 1).await;
    workers::end(&db, by).await.unwrap();
    reap::reap(&db, 10, &[]).await.unwrap();
    assert_eq!(finish::release(&db, id, &[taken[0].id], false).await.unwrap(), 0);
    assert_eq!(count(&db, "ready_deliveries").await, 0);
}

#[tokio::test]
async fn recording_the_outcome_gone_disables_the_endpoint() {
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
async fn a_late_response_does_not_disable_a_changed_endpoint() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 1).await;
    let (id, taken) = claim_of(&db, worker(&db).await, endpoint, 1).await;
    sqlx::query("UPDATE flametree.push_configs SET version = 2").execute(&*db).await.unwrap();
    finish::finish(&db, Channel::Webhook, &[id], &[finished(&taken[0], Outcome::Gone)]).await.unwrap();
    let enabled: bool = sqlx::query_scalar("SELECT enabled FROM flametree.push_configs").fetch_one(&*db).await.unwrap();
    assert!(enabled);
}
