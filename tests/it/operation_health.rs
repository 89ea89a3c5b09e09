//! Tests the metrics of the alert `FlametreeOperationsFail`, and the SQL statement in its runbook.

use std::time::Duration;

use flametree_notify::domain::operation::OperationKind;
use flametree_notify::store::Db;
use flametree_notify::store::operations::{Health, forget, health};
use sqlx::Row as _;

use crate::support::deployment::Deployment;
use crate::support::postgres::TestDatabase;
use crate::support::seed;
use crate::support::service::Part;
use crate::support::waiting::within;

/// Inserts operations from `(tick, state, attempts, started_at, finished_at)` rows. A time is a number of minutes before now.
async fn operations(db: &Db, kind: OperationKind, rows: &str) {
    let statement = format!(
        "INSERT INTO flametree.operations (id, kind, tick, tenant_id, state, attempts, holder, due_at, created_at,
             started_at, finished_at)
         SELECT gen_random_uuid(), '{}', now() - make_interval(mins => tick::integer), CASE WHEN tick IS NULL THEN 'acme' END,
                state, attempts, CASE WHEN state = 'running' THEN gen_random_uuid() END, now(), now(),
                now() - make_interval(mins => started::integer),
                now() - make_interval(mins => finished::integer)
         FROM (VALUES {rows}) AS r (tick, state, attempts, started, finished)",
        kind.as_str()
    );
    seed::run(db, statement).await;
}

/// The number of failed attempts of this kind of operation, and the number of minutes for which its schedule is overdue.
async fn health_of(db: &Db, kind: OperationKind) -> (i64, u64) {
    let kinds = health(db).await.unwrap();
    assert_eq!(kinds.len(), OperationKind::ALL.len());
    let Health { failed_attempts, overdue, .. } = kinds.into_iter().find(|health| health.kind == kind).unwrap();
    (failed_attempts, overdue.as_secs() / 60)
}

#[tokio::test]
async fn counts_failed_attempts_since_the_last_successful_operation() {
    let db = TestDatabase::new().await;
    for kind in OperationKind::ALL {
        assert_eq!(health_of(&db, kind).await, (0, 0));
    }
    let kind = OperationKind::Retention;
    operations(&db, kind, "(70, 'failed', 8, 70, 65), (60, 'succeeded', 2, 60, 59), (50, 'failed', 8, 50, 45)").await;
    assert_eq!(health_of(&db, kind).await, (8, 50), "failures before the success do not count");
    // The current attempt of a running operation does not count as failed. A canceled operation is ignored.
    operations(&db, kind, "(40, 'running', 3, 40, NULL), (30, 'waiting', 1, 30, NULL), (20, 'waiting', 0, NULL, NULL)")
        .await;
    operations(&db, kind, "(10, 'canceled', 5, 10, 5)").await;
    assert_eq!(health_of(&db, kind).await, (8 + 2 + 1, 50));
    assert_eq!(health_of(&db, OperationKind::Rollup).await, (0, 0), "kinds are counted apart");

    operations(&db, kind, "(30, 'succeeded', 1, 3, 2)").await;
    assert_eq!(health_of(&db, kind).await, (0, 2), "a success resets both numbers, but a later tick is still overdue");
    operations(&db, kind, "(1, 'succeeded', 1, 1, 0)").await;
    assert_eq!(health_of(&db, kind).await, (0, 0));
}

#[tokio::test]
async fn a_tick_in_the_future_does_not_count_as_the_last_tick() {
    let db = TestDatabase::new().await;
    let kind = OperationKind::Retention;
    operations(&db, kind, "(-10000, 'succeeded', 1, 3000, 2990), (4000, 'succeeded', 1, 4000, 3990)").await;
    assert_eq!(forget(&db, Duration::from_hours(24), 10).await.unwrap(), 0);
    operations(&db, kind, "(180, 'waiting', 0, NULL, NULL)").await;
    assert_eq!(health_of(&db, kind).await, (0, 180));
}

#[tokio::test]
async fn counts_failed_attempts_of_replays_and_of_operations_that_never_succeeded() {
    let db = TestDatabase::new().await;
    operations(&db, OperationKind::Reencryption, "(600, 'failed', 8, 600, 595), (60, 'waiting', 1, 60, NULL)").await;
    assert_eq!(health_of(&db, OperationKind::Reencryption).await, (9, 600));
    operations(&db, OperationKind::Replay, "(NULL, 'failed', 8, 600, 595), (NULL, 'waiting', 0, NULL, NULL)").await;
    assert_eq!(health_of(&db, OperationKind::Replay).await, (8, 0), "a replay has no schedule and is never overdue");
}

#[tokio::test]
async fn counts_the_attempts_of_each_replay_separately() {
    let db = TestDatabase::new().await;
    let kind = OperationKind::Replay;
    operations(&db, kind, "(NULL, 'waiting', 3, 20, NULL), (NULL, 'waiting', 1, 5, NULL)").await;
    assert_eq!(health_of(&db, kind).await, (3, 0), "attempts of several replays are not added up");
    operations(&db, kind, "(NULL, 'succeeded', 1, 2, 1), (NULL, 'canceled', 7, 6, 5)").await;
    assert_eq!(health_of(&db, kind).await, (3, 0), "the success of one replay does not reset the attempts of another");
    operations(&db, kind, "(NULL, 'running', 6, 20, NULL), (NULL, 'failed', 8, 1500, 1495)").await;
    assert_eq!(health_of(&db, kind).await, (5, 0), "a replay that failed more than a day ago does not count");
    operations(&db, kind, "(NULL, 'failed', 8, 1400, 1395)").await;
    assert_eq!(health_of(&db, kind).await, (8, 0));
    seed::run(&db, "UPDATE flametree.operations SET state = 'succeeded', holder = NULL, finished_at = now()".into())
        .await;
    assert_eq!(health_of(&db, kind).await, (0, 0));
}

#[tokio::test]
async fn the_statement_of_the_runbook_retries_a_failed_operation() {
    let deployment = Deployment::new().await;
    let db = &deployment.pool;
    operations(db, OperationKind::SubscriptionPruning, "(6000, 'failed', 8, 6000, 5995)").await;
    let id = "SELECT id::text FROM flametree.operations WHERE state = 'failed'";
    let id: String = sqlx::raw_sql(id).fetch_one(db).await.unwrap().get(0);
    let runbooks = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards/alerts.yaml")).unwrap();
    let (_, statement) = runbooks.split_once("UPDATE flametree.operations").unwrap();
    let (statement, _) = statement.split_once(';').unwrap();
    seed::run(db, format!("UPDATE flametree.operations{}", statement.replace("'ID'", &format!("'{id}'")))).await;

    let _worker = deployment.settings.start(Part::Worker).await;
    let state = format!("SELECT state FROM flametree.operations WHERE id = '{id}'");
    within(Duration::from_mins(1), "the operation succeeds", async || {
        let state: String = sqlx::raw_sql(sqlx::AssertSqlSafe(state.clone())).fetch_one(db).await.unwrap().get(0);
        state == "succeeded"
    })
    .await;
}
