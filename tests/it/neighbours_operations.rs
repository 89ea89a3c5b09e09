//! Operations of one tenant do not delay other tenants. Operations that wait for a lock delay no other work.

use std::time::Duration;

use flametree_notify::app;
use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::ids::WorkerId;
use flametree_notify::domain::operation::{HeldOperation, OperationKind};
use flametree_notify::domain::role::Role;
use flametree_notify::store::operation_log::MAX_WAITING_REPLAYS;
use flametree_notify::store::operations::{self, Origin};
use flametree_notify::store::{Db, Tx};
use http::Request;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::longevity::operations_of;
use crate::support::app::{Answer, TestApp};
use crate::support::deployment::{Deployment, agents};
use crate::support::queue::prepared;
use crate::support::seed;
use crate::support::service::{EACH_SECOND, ENCRYPTION_KEYS, Part};
use crate::support::waiting::within;

const PATIENCE: Duration = Duration::from_mins(1);
const LEASE: Duration = Duration::from_mins(1);
/// The lowest maximum that the settings allow.
const FEWEST_CONNECTIONS: &str = "6";

async fn take(db: &Db, origin: Origin) -> Option<HeldOperation> {
    operations::take(db, origin, WorkerId::from_uuid(Uuid::now_v7()), LEASE).await.unwrap()
}

/// Requests a replay that finds no deliveries, with this idempotency key.
async fn ask(api: &TestApp, token: &str, key: &str) -> Answer {
    let body = json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z", "dry_run": true});
    let request = Request::post("/v1/agents/agent-1/replays")
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .header("idempotency-key", key)
        .body(body.to_string().into());
    api.send(request.unwrap()).await
}

#[tokio::test]
async fn a_tenant_has_at_most_one_running_replay_and_a_limited_number_of_waiting_replays() {
    let api = TestApp::start().await;
    let [acme, globex] = [api.token(Role::Admin, Some("acme")).await, api.token(Role::Admin, Some("globex")).await];
    for number in 0..MAX_WAITING_REPLAYS {
        ask(&api, &acme, &format!("key-{number}")).await.expect(202);
    }
    let refused = ask(&api, &acme, "one too many").await;
    refused.problem(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), Some("60"));
    // A repeated request returns the existing operation, and each tenant has a separate limit.
    ask(&api, &acme, "key-3").await.expect(200);
    ask(&api, &globex, "key-0").await.expect(202);

    let of_tenant = async |held: HeldOperation| -> String {
        let query = "SELECT tenant_id FROM flametree.operations WHERE id = $1";
        sqlx::query_scalar(query).bind(held.id.uuid()).fetch_one(&**api.db).await.unwrap()
    };
    assert_eq!(of_tenant(take(&api.db, Origin::Request).await.unwrap()).await, "acme");
    assert_eq!(of_tenant(take(&api.db, Origin::Request).await.unwrap()).await, "globex", "one of acme runs");
    assert!(take(&api.db, Origin::Request).await.is_none());
    // Scheduled operations do not wait for replays.
    operations::enter_tick(&api.db, OperationKind::Retention, app::now()).await.unwrap();
    assert_eq!(take(&api.db, Origin::Schedule).await.unwrap().kind, OperationKind::Retention);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_that_wait_for_a_lock_block_neither_claims_nor_outcomes_nor_heartbeats() {
    const EVENTS: usize = 100;
    let mut deployment = Deployment::new().await;
    deployment.settings = deployment
        .settings
        .with("FLAMETREE_DATABASE_MAX_CONNECTIONS", FEWEST_CONNECTIONS)
        .with("FLAMETREE_LEASE_SECONDS", "11")
        .with("FLAMETREE_ROLLUP_SCHEDULE", EACH_SECOND)
        .with("FLAMETREE_RETENTION_SCHEDULE", EACH_SECOND);
    let db = deployment.pool.clone();
    let mut locking = PgConnection::connect_with(&db.connect_options()).await.unwrap();
    let service = deployment.settings.start(Part::Run).await;
    let agents = agents(1);
    deployment.configure(&service, &agents).await;
    let mut tx = locking.begin().await.unwrap();
    let tables = "LOCK TABLE flametree.delivery_rollups, flametree.push_config_changes IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(tables).execute(&mut *tx).await.unwrap();
    let blocked =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    within(PATIENCE, "operations wait", async || {
        sqlx::query_scalar::<_, i64>(blocked).fetch_one(&db).await.unwrap() >= 1
    })
    .await;
    deployment.post(&[deployment.client(&service)], &agents, EVENTS).await;
    deployment.drained(PATIENCE).await;
    assert_eq!(deployment.tally().await.count(Outcome::Delivered), EVENTS);
    let fenced = "SELECT count(*) FROM flametree.workers WHERE fenced_at IS NOT NULL";
    assert_eq!(sqlx::query_scalar::<_, i64>(fenced).fetch_one(&db).await.unwrap(), 0);
    tx.rollback().await.unwrap();
    service.stop().await;
}

#[tokio::test]
async fn a_retention_step_that_waits_for_a_lock_times_out_and_the_next_steps_run() {
    let db = prepared().await;
    let old = "INSERT INTO flametree.delivery_rollups
               VALUES ('acme', 'agent-1', 60, now() - interval '400 days', 'webhook', 'delivered', 1, 1)";
    seed::run(&db, old.into()).await;
    let mut tx = db.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE flametree.endpoint_tests IN SHARE MODE").execute(&mut *tx).await.unwrap();
    operations::enter_tick(&db, OperationKind::Retention, app::now()).await.unwrap();
    assert_eq!(operations_of(&db, ENCRYPTION_KEYS, 30).run_due(&CancellationToken::new()).await.unwrap(), 1);
    let kept: i64 =
        sqlx::query_scalar("SELECT count(*) FROM flametree.delivery_rollups").fetch_one(&*db).await.unwrap();
    assert_eq!(kept, 0, "the step after the blocked step did not run");
    let state: String = sqlx::query_scalar("SELECT state FROM flametree.operations").fetch_one(&*db).await.unwrap();
    assert_eq!(state, "waiting", "the failed operation is retried");
    tx.rollback().await.unwrap();
}

/// Runs the operation while another session locks the tables. Returns the operation's state.
async fn state_after_run(db: &Db, kind: OperationKind, locked: &str) -> String {
    let mut tx = db.begin().await.unwrap();
    let statement = sqlx::AssertSqlSafe(format!("LOCK TABLE {locked} IN ACCESS EXCLUSIVE MODE"));
    sqlx::raw_sql(statement).execute(&mut *tx).await.unwrap();
    operations::enter_tick(db, kind, app::now()).await.unwrap();
    let (operations, stop) = (operations_of(db, ENCRYPTION_KEYS, 30), CancellationToken::new());
    let ran = timeout(PATIENCE, operations.run_due(&stop)).await.expect("the operation waits without a time limit");
    assert_eq!(ran.unwrap(), 1);
    tx.rollback().await.unwrap();
    let state = "SELECT state FROM flametree.operations WHERE kind = $1";
    sqlx::query_scalar(state).bind(kind.as_str()).fetch_one(db).await.unwrap()
}

#[tokio::test]
async fn each_scheduled_operation_that_waits_for_a_lock_fails_within_a_time_limit() {
    let db = prepared().await;
    let old = "SELECT flametree.ensure_partitions(current_date - 41, current_date - 41, 1, '{events, deliveries}')";
    let tables = [
        (OperationKind::Retention, "flametree.replays"),
        (OperationKind::Retention, "flametree.partitions_to_drop"),
        (OperationKind::Retention, "flametree.deliveries"),
        (OperationKind::Rollup, "flametree.uncounted_batches"),
        (OperationKind::Reencryption, "flametree.push_configs, flametree.push_subscriptions"),
        (OperationKind::SubscriptionPruning, "flametree.push_subscriptions"),
        (OperationKind::WorkspaceRepair, "flametree.sessions"),
    ];
    for (kind, locked) in tables {
        seed::run(&db, format!("DELETE FROM flametree.operations; {old}")).await;
        assert_eq!(state_after_run(&db, kind, locked).await, "waiting", "{kind:?} waits for the lock on {locked}");
    }
}

/// Creates expired partitions, and reads one of `deliveries` in a transaction. While this transaction is open, that partition
/// cannot be detached.
async fn reader_of_expired_deliveries(db: &Db) -> Tx {
    let old = "SELECT flametree.ensure_partitions(current_date - 41, current_date - 40, 1, '{events, deliveries}')";
    seed::run(db, old.into()).await;
    let name = "SELECT name FROM flametree.partitions() WHERE parent = 'deliveries' ORDER BY starts_at LIMIT 1";
    let name: String = sqlx::query_scalar(name).fetch_one(db).await.unwrap();
    let mut reader = db.begin().await.unwrap();
    let read = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM flametree.{name}"));
    sqlx::raw_sql(read).execute(&mut *reader).await.unwrap();
    reader
}

/// The parent of each expired partition.
async fn parents_of_expired(db: &Db) -> Vec<String> {
    let parents =
        "SELECT parent FROM flametree.partitions() WHERE ends_at < now() - interval '30 days' ORDER BY parent";
    sqlx::query_scalar(parents).fetch_all(db).await.unwrap()
}

#[tokio::test]
async fn a_blocked_detach_does_not_delay_the_removal_of_other_partitions() {
    let db = prepared().await;
    let reader = reader_of_expired_deliveries(&db).await;
    operations::enter_tick(&db, OperationKind::Retention, app::now()).await.unwrap();
    let (operations, stop) = (operations_of(&db, ENCRYPTION_KEYS, 30), CancellationToken::new());
    assert_eq!(operations.run_due(&stop).await.unwrap(), 1);
    let parents = parents_of_expired(&db).await;
    assert_eq!(parents, ["deliveries"; 2], "only the table with an open reader keeps its expired partitions");
    reader.rollback().await.unwrap();
}

#[tokio::test]
async fn a_process_with_few_connections_keeps_its_lease_during_a_blocked_detach() {
    let deployment = Deployment::new().await;
    let db = &deployment.pool;
    let reader = reader_of_expired_deliveries(db).await;
    let few = deployment.settings.clone().with("FLAMETREE_DATABASE_MAX_CONNECTIONS", FEWEST_CONNECTIONS);
    let worker = few.with("FLAMETREE_RETENTION_SCHEDULE", EACH_SECOND).start(Part::Worker).await;
    let ended = "SELECT count(*) FROM flametree.operations WHERE kind = 'retention' AND state = 'succeeded'";
    within(3 * PATIENCE, "retention ends although the detach is blocked", async || {
        sqlx::query_scalar::<_, i64>(ended).fetch_one(db).await.unwrap() >= 1
    })
    .await;
    assert_eq!(parents_of_expired(db).await, ["deliveries"; 2]);
    let lost = "flametree_operations_total{operation=\"retention\",result=\"lost\"}";
    assert!(worker.metric(lost).await < 1.0, "the process lost its lease");
    reader.rollback().await.unwrap();
}
