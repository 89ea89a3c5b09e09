//! The rollup: late commits, rollups at once, and what reading it costs.

use std::time::Duration;

use flametree_notify::domain::role::Role;
use flametree_notify::store::stats;
use serde_json::Value;
use sqlx::{Connection as _, PgPool, Row as _};

use crate::support::api::{ACME, TestApi};
use crate::support::deployment::{Deployment, TENANT, agents};
use crate::support::postgres::TestDatabase;
use crate::support::seed::{self, SeededEvent, event, event_id, yesterday_noon};
use crate::support::service::{EACH_SECOND, Part};
use crate::support::waiting::within;

const WINDOW: Duration = Duration::from_mins(10);

fn outcome_of(milliseconds: i64, seconds_ago: u32) -> String {
    let id = event_id(milliseconds);
    let (event, delivery) = (id.uuid(), id.delivery(1).uuid());
    format!(
        "INSERT INTO flametree.deliveries (tenant_id, id, endpoint_id, event_id, claimed_at, finished_at, channel,
             outcome, duration_us, http_status)
         VALUES ('{ACME}', '{delivery}', gen_random_uuid(), '{event}', now(),
             clock_timestamp() - interval '{seconds_ago} seconds', 'webhook', 'delivered', 1000, 200)"
    )
}

async fn rolled_up(db: &PgPool) -> i64 {
    let query = "SELECT coalesce(sum(deliveries), 0)::bigint FROM flametree.delivery_rollups WHERE span_minutes = 1";
    sqlx::raw_sql(query).fetch_one(db).await.unwrap().get(0)
}

#[tokio::test]
async fn an_outcome_that_is_committed_late_is_counted_once() {
    let api = TestApi::start().await;
    let token = api.token(Role::Viewer, Some(ACME)).await;
    let noon = yesterday_noon(&api.db).await;
    for n in 0..3 {
        event(&api.db, noon + n, &SeededEvent::default()).await;
    }
    seed::run(&api.db, "UPDATE flametree.rollup_progress SET finished_until = now() - interval '5 minutes'".into())
        .await;
    let path = "/v1/agents/agent-1/stats?from=2026-01-01T00:00:00Z";
    let total = async || api.get(path, &token).await.expect(200)["total"].as_u64().unwrap();

    // Its transaction has begun, and written, and is not at its end when others have long been.
    let mut late = sqlx::PgConnection::connect_with(&api.db.connect_options()).await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut late).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(outcome_of(noon, 0))).execute(&mut late).await.unwrap();
    seed::run(&api.db, outcome_of(noon + 1, 60)).await;
    let began = "SELECT xact_start FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    let began: chrono::DateTime<chrono::Utc> = sqlx::raw_sql(began).fetch_one(&mut late).await.unwrap().get(0);
    // Whatever the watermark's distance from the clock may be.
    let past = async || {
        let passed = "SELECT clock_timestamp() - interval '11 seconds' > $1";
        let row = sqlx::query(passed).bind(began).fetch_one(&api.db.pool).await.unwrap();
        row.get::<bool, _>(0)
    };
    within(Duration::from_mins(1), "the clock is past it", past).await;
    while stats::roll_up(&api.db, WINDOW).await.unwrap().is_behind {}
    assert_eq!(stats::rolled_up_until(&api.db).await.unwrap(), began, "the watermark waits for it");
    assert_eq!((rolled_up(&api.db).await, total().await), (1, 1));

    sqlx::raw_sql("COMMIT").execute(&mut late).await.unwrap();
    assert_eq!(total().await, 2);
    while stats::roll_up(&api.db, WINDOW).await.unwrap().is_behind {}
    assert!(stats::rolled_up_until(&api.db).await.unwrap() > began);
    assert_eq!((rolled_up(&api.db).await, total().await), (2, 2));
    seed::run(&api.db, outcome_of(noon + 2, 0)).await;
    assert_eq!(total().await, 3, "what has just ended is read from the log");
}

#[tokio::test]
async fn rollups_at_once_count_nothing_twice() {
    let db = TestDatabase::new().await;
    seed::run(&db, "SELECT flametree.ensure_partitions(current_date - 2, current_date + 2)".into()).await;
    let noon = yesterday_noon(&db).await;
    for n in 0..200 {
        event(&db, noon + n, &SeededEvent::default()).await;
        seed::run(&db, outcome_of(noon + n, 60 + u32::try_from(n).unwrap())).await;
    }
    seed::run(&db, "UPDATE flametree.rollup_progress SET finished_until = now() - interval '5 minutes'".into()).await;
    let roll_up = || async { while stats::roll_up(&db, Duration::from_secs(3)).await.unwrap().is_behind {} };
    tokio::join!(roll_up(), roll_up(), roll_up(), roll_up());
    assert_eq!(rolled_up(&db).await, 200);
}

#[tokio::test]
async fn deliveries_of_a_running_service_are_rolled_up() {
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

/// The nodes of a plan that read the table, with the rows that each looked at.
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
async fn reading_statistics_touches_the_rollups_of_its_range_alone() {
    let db = TestDatabase::new().await;
    // 50 agents, 20 days, hours and every tenth minute of them: 168,000 rows.
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
    // Three minutes before the first whole hour, 166 hours, two minutes after the last.
    let rows: f64 = found.iter().map(|(_, rows)| rows).sum();
    assert_eq!((found.len(), rows), (3, 3.0 + 166.0 + 2.0), "{plan:#}");
    assert!(found.iter().all(|(node, _)| node.contains("Index") || node.contains("Bitmap")), "{plan:#}");
}
