//! Tests rollups: outcomes that commit late, concurrent rollups, and the cost of reading statistics.

use std::time::Duration;

use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::endpoint::Channel;
use flametree_notify::domain::role::Role;
use flametree_notify::store::Db;
use flametree_notify::store::queue::finish;
use flametree_notify::store::stats;
use serde_json::Value;
use sqlx::{Connection as _, Row as _};
use tokio::task::JoinSet;

use crate::support::app::{ACME, TestApp};
use crate::support::deployment::{Deployment, TENANT, agents};
use crate::support::postgres::TestDatabase;
use crate::support::queue;
use crate::support::seed::{self, SeededEvent, event, event_id, yesterday_noon};
use crate::support::service::{EACH_SECOND, Part};
use crate::support::waiting::within;

/// SQL that records the outcome of a seeded delivery, as the function `finish_deliveries` does.
fn outcome_of(milliseconds: i64) -> String {
    outcome_in_batch(milliseconds, "flametree.next_batch()")
}

pub fn outcome_in_batch(milliseconds: i64, batch: &str) -> String {
    let id = event_id(milliseconds);
    let (event, delivery) = (id.uuid(), id.delivery(1).uuid());
    format!(
        "WITH recorded AS (
             INSERT INTO flametree.deliveries (tenant_id, id, endpoint_id, event_id, claimed_at, finished_at, channel,
                 outcome, duration_us, http_status, batch)
             VALUES ('{ACME}', '{delivery}', gen_random_uuid(), '{event}', flametree.clock(), flametree.clock(), 'webhook',
                 'delivered', 1000, 200, {batch})
             RETURNING id, batch)
         SELECT flametree.note_batch(batch, ARRAY[id]) FROM recorded"
    )
}

pub async fn rolled_up(db: &Db) -> i64 {
    let query = "SELECT coalesce(sum(deliveries), 0)::bigint FROM flametree.delivery_rollups WHERE span_minutes = 1";
    sqlx::raw_sql(query).fetch_one(db).await.unwrap().get(0)
}

pub async fn roll_up_all(db: &Db) {
    while stats::roll_up(db, 100).await.unwrap().is_behind {}
}

#[tokio::test]
async fn counts_an_outcome_exactly_once_even_if_it_commits_late() {
    let api = TestApp::start().await;
    let token = api.token(Role::Viewer, Some(ACME)).await;
    let noon = yesterday_noon(&api.db).await;
    for n in 0..3 {
        event(&api.db, noon + n, &SeededEvent::default()).await;
    }
    let path = "/v1/agents/agent-1/stats?from=2026-01-01T00:00:00Z";
    let total = async || api.get(path, &token).await.expect(200)["total"].as_u64().unwrap();

    let mut late = sqlx::PgConnection::connect_with(&api.db.connect_options()).await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut late).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(outcome_of(noon))).execute(&mut late).await.unwrap();
    seed::run(&api.db, outcome_of(noon + 1)).await;
    roll_up_all(&api.db).await;
    assert_eq!((rolled_up(&api.db).await, total().await), (1, 1), "a later outcome does not wait for the late outcome");

    sqlx::raw_sql("COMMIT").execute(&mut late).await.unwrap();
    assert_eq!((rolled_up(&api.db).await, total().await), (1, 2));
    roll_up_all(&api.db).await;
    assert_eq!((rolled_up(&api.db).await, total().await), (2, 2));
    seed::run(&api.db, outcome_of(noon + 2)).await;
    assert_eq!(
        (rolled_up(&api.db).await, total().await),
        (2, 3),
        "the total includes outcomes that are not rolled up yet"
    );
}

/// Before a fix, statistics lost deliveries: an outcome got its timestamp before it waited for a lock, and meanwhile rollups
/// advanced beyond this timestamp.
#[tokio::test]
async fn counts_an_outcome_that_waited_for_a_lock() {
    let db = queue::prepared().await;
    let endpoint = queue::agent_with_webhook(&db, "agent-1").await;
    queue::accept_messages(&db, "agent-1", 1).await;
    let by = queue::worker(&db).await;
    let (claim, taken) = queue::claim_of(&db, by, endpoint, 1).await;
    let mut lock = db.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE flametree.claims IN SHARE MODE").execute(&mut *lock).await.unwrap();
    let pool = db.pool.clone();
    let recording = tokio::spawn(async move {
        finish::finish(&pool, Channel::Webhook, &[claim], &[queue::finished(&taken[0], Outcome::Delivered)]).await
    });
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'flametree.claims'::regclass";
    within(Duration::from_secs(30), "the outcome waits for the lock", async || {
        sqlx::query_scalar::<_, i64>(waits).fetch_one(&*db).await.unwrap() == 1
    })
    .await;
    // Moves the clock by more than any safety margin.
    seed::move_clock(&db, "1 hour").await;
    roll_up_all(&db).await;
    lock.rollback().await.unwrap();
    recording.await.unwrap().unwrap();
    roll_up_all(&db).await;
    assert_eq!(rolled_up(&db).await, 1);
}

#[tokio::test]
async fn concurrent_rollups_count_no_delivery_twice() {
    let db = TestDatabase::new().await;
    seed::run(&db, "SELECT flametree.ensure_partitions(current_date - 2, current_date + 2)".into()).await;
    let noon = yesterday_noon(&db).await;
    for n in 0..200 {
        event(&db, noon + n, &SeededEvent::default()).await;
        seed::run(&db, outcome_of(noon + n)).await;
    }
    let roll_up = || async { while stats::roll_up(&db, 3).await.unwrap().is_behind {} };
    tokio::join!(roll_up(), roll_up(), roll_up(), roll_up());
    // A rollup skips rows that another rollup has locked, so all four rollups can end before the last row is counted.
    roll_up().await;
    assert_eq!(rolled_up(&db).await, 200);
}

/// In this test, writers commit late, roll back and wait for locks. Rollups are canceled, and the clock jumps forward and
/// backward.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_equal_a_full_count_after_any_interleaving() {
    let db = TestDatabase::with_connections(16).await;
    seed::run(&db, "SELECT flametree.ensure_partitions(current_date - 2, current_date + 2)".into()).await;
    // So every rollup may advance the low water.
    seed::run(&db, "ALTER SEQUENCE flametree.delivery_batches INCREMENT BY 1000".into()).await;
    let noon = yesterday_noon(&db).await;
    let mut tasks = JoinSet::new();
    for writer in 0..8_i64 {
        let pool = db.pool.clone();
        tasks.spawn(async move {
            for n in 0..40_i64 {
                let at = noon + writer * 400_000 + n * 7_000;
                event(&pool, at, &SeededEvent::default()).await;
                let mut tx = pool.begin().await.unwrap();
                sqlx::raw_sql(sqlx::AssertSqlSafe(outcome_of(at))).execute(&mut *tx).await.unwrap();
                tokio::time::sleep(Duration::from_millis((writer * 31 + n * 17).unsigned_abs() % 40)).await;
                if n % 5 == 0 { tx.rollback().await.unwrap() } else { tx.commit().await.unwrap() }
            }
        });
    }
    for _ in 0..3 {
        let pool = db.pool.clone();
        tasks.spawn(async move {
            for n in 0..60 {
                let mut tx = pool.begin().await.unwrap();
                sqlx::query("SELECT FROM flametree.roll_up($1)").bind(1 + n % 9).execute(&mut *tx).await.unwrap();
                if n % 4 == 0 {
                    tx.rollback().await.unwrap();
                } else {
                    tx.commit().await.unwrap();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    for step in ["2 hours", "-3 days", "0", "40 days", "-1 second"] {
        seed::move_clock(&db, step).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    roll_up_all(&db).await;
    let difference = "WITH counted AS (
             SELECT span_minutes, starts_at, bucket, deliveries FROM flametree.delivery_rollups
         ), exact AS (
             SELECT s.minutes::smallint, flametree.span_of_id(d.id, s.minutes), flametree.duration_bucket(d.duration_us), count(*)
             FROM flametree.deliveries AS d CROSS JOIN (VALUES (1), (60)) AS s (minutes) GROUP BY 1, 2, 3
         )
         SELECT (SELECT count(*) FROM (TABLE counted EXCEPT TABLE exact) AS d) + (SELECT count(*) FROM (TABLE exact EXCEPT TABLE counted) AS d)";
    assert_eq!(sqlx::query_scalar::<_, i64>(difference).fetch_one(&*db).await.unwrap(), 0);
    assert_eq!(rolled_up(&db).await, 8 * 32);
}

#[tokio::test]
async fn rolls_up_the_deliveries_of_a_running_service() {
    let deployment = Deployment::new().await;
    let settings = deployment.settings.clone().with("FLAMETREE_ROLLUP_SCHEDULE", EACH_SECOND);
    let service = settings.start(Part::Run).await;
    let (agents, api) = (agents(2), deployment.client(&service));
    deployment.configure(&service, &agents).await;
    deployment.post(std::slice::from_ref(&api), &agents, 500).await;
    deployment.drained(Duration::from_mins(1)).await;
    let path = format!("/v1/agents/agent-1/stats?tenant_id={TENANT}");
    let before: Value = api.get(&path).await.json();
    assert_eq!((&before["total"], &before["outcomes"]["delivered"]), (&250.into(), &250.into()), "{before}");
    within(Duration::from_mins(1), "all are rolled up", async || rolled_up(&deployment.pool).await == 500).await;
    let after = api.get(&path).await.json();
    assert_eq!((&after["total"], &after["duration_ms"]), (&before["total"], &before["duration_ms"]));
}

/// The plan nodes that read the table, each with the number of rows that it reads.
fn reads(plan: &Value, found: &mut Vec<(String, f64)>) {
    if plan["Relation Name"] == "delivery_rollups" {
        let times = plan["Actual Loops"].as_f64().unwrap();
        let removed =
            ["Rows Removed by Filter", "Rows Removed by Index Recheck"].map(|name| plan[name].as_f64().unwrap_or(0.0));
        let rows = (plan["Actual Rows"].as_f64().unwrap() + removed.iter().sum::<f64>()) * times;
        found.push((plan["Node Type"].as_str().unwrap().to_owned(), rows));
    }
    plan["Plans"].as_array().into_iter().flatten().for_each(|child| reads(child, found));
}

#[tokio::test]
async fn reading_statistics_reads_only_the_rollups_of_the_requested_range() {
    let db = TestDatabase::new().await;
    // Inserts 168,000 rows: for 50 agents and 20 days, one row per hour and one row per ten minutes.
    for (span, step) in [(60, "1 hour"), (1, "10 minutes")] {
        let rows = format!(
            "INSERT INTO flametree.delivery_rollups
             SELECT 'acme', 'agent-' || a, {span}, t, 'webhook', 'delivered', 80, 1000
             FROM generate_series(1, 50) AS a,
                  generate_series(timestamptz '2026-01-01Z', timestamptz '2026-01-20 23:59Z', interval '{step}') AS t"
        );
        seed::run(&db, rows).await;
    }
    seed::run(&db, "ANALYZE flametree.delivery_rollups".into()).await;
    let explain = "EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM flametree.rolled_up_deliveries('acme', 'agent-7',
        '2026-01-05 10:30Z', '2026-01-05 11:00Z', '2026-01-12 09:00Z', '2026-01-12 09:20Z', NULL)";
    let plan: Value = {
        let row = sqlx::raw_sql(explain).fetch_one(&db.pool).await.unwrap();
        serde_json::from_str(&row.try_get_unchecked::<String, _>(0).unwrap()).unwrap()
    };
    let mut found = Vec::new();
    reads(&plan[0]["Plan"], &mut found);
    // The range consists of 3 minutes before the first whole hour, 166 hours, and 2 minutes after the last whole hour.
    let rows: f64 = found.iter().map(|(_, rows)| rows).sum();
    assert_eq!((found.len(), rows), (3, 3.0 + 166.0 + 2.0), "{plan:#}");
    assert!(found.iter().all(|(node, _)| node.contains("Index") || node.contains("Bitmap")), "{plan:#}");
}
