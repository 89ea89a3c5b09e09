//! Tests the statistics that users read. The test writes the delivery records.

use flametree_notify::domain::role::Role;
use flametree_notify::store::stats;
use serde_json::{Value, json};
use sqlx::Row as _;

use crate::support::app::{ACME, TestApp};
use crate::support::seed::{self, yesterday_noon};

/// The number of deliveries, one for each event. An event was accepted every 3 seconds for three hours, starting at noon
/// yesterday.
const DELIVERIES: i64 = 3_600;
/// The number of deliveries that one transaction recorded.
const BATCH: i64 = 25;

async fn log(api: &TestApp) -> i64 {
    let noon = yesterday_noon(&api.db).await;
    let id = format!("(lpad(to_hex({noon} + n * 3000), 12, '0') || '7000800000000000000");
    for statement in [
        format!(
            "INSERT INTO flametree.events (tenant_id, id, type, deliveries, occurred_at, agent_id, session_id, text)
             SELECT '{ACME}', {id}0')::uuid, 'user_message', 1, now(), 'agent-' || (n % 3), 's-1', 'x'
             FROM generate_series(0, {DELIVERIES} - 1) AS n"
        ),
        format!(
            "INSERT INTO flametree.deliveries (tenant_id, id, endpoint_id, event_id, claimed_at, finished_at, channel,
                 outcome, duration_us, http_status, batch)
             SELECT '{ACME}', {id}1')::uuid, gen_random_uuid(), {id}0')::uuid, now(), now(),
                 CASE WHEN n % 7 = 0 THEN 'browser_push' ELSE 'webhook' END::flametree.channel,
                 CASE WHEN n % 10 = 0 THEN 'timeout' WHEN n % 10 = 1 THEN 'canceled' ELSE 'delivered' END::flametree.outcome,
                 CASE WHEN n % 10 = 1 THEN 0 ELSE 1000 + n * 10 END, 200, n / {BATCH}
             FROM generate_series(0, {DELIVERIES} - 1) AS n"
        ),
        "SELECT flametree.note_batch(batch, array_agg(id)) FROM flametree.deliveries GROUP BY batch".to_owned(),
    ] {
        seed::run(&api.db, statement).await;
    }
    noon
}

/// Statistics of agent-0 in a time range, counted from its delivery records.
async fn expected(api: &TestApp, from: i64, to: i64, channel: &str) -> Value {
    let query = format!(
        "SELECT count(*), count(*) FILTER (WHERE outcome = 'delivered'), count(*) FILTER (WHERE outcome = 'timeout'),
                count(*) FILTER (WHERE outcome = 'canceled'), count(*) FILTER (WHERE duration_us > 0),
                percentile_disc(0.5) WITHIN GROUP (ORDER BY duration_us) FILTER (WHERE duration_us > 0),
                percentile_disc(0.95) WITHIN GROUP (ORDER BY duration_us) FILTER (WHERE duration_us > 0)
         FROM flametree.deliveries AS d
         WHERE d.id >= flametree.first_id_at(to_timestamp({from} / 1000.0))
           AND d.id < flametree.first_id_at(to_timestamp({to} / 1000.0)) AND channel::text LIKE '{channel}'
           AND EXISTS (SELECT 1 FROM flametree.events AS e WHERE e.id = d.event_id AND e.agent_id = 'agent-0')"
    );
    let row = sqlx::raw_sql(sqlx::AssertSqlSafe(query)).fetch_one(&api.db.pool).await.unwrap();
    let count = |index: usize| row.get::<i64, _>(index);
    json!({
        "total": count(0), "delivered": count(1), "timeout": count(2), "canceled": count(3), "attempts": count(4),
        "p50": row.get::<Option<i32>, _>(5), "p95": row.get::<Option<i32>, _>(6),
    })
}

fn time(milliseconds: i64) -> String {
    chrono::DateTime::from_timestamp_millis(milliseconds).unwrap().format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

async fn compare(api: &TestApp, token: &str, from: i64, to: i64, channel: Option<&str>) {
    let parameter = channel.map(|channel| format!("&channel={channel}")).unwrap_or_default();
    let path = format!("/v1/agents/agent-0/stats?from={}&to={}{parameter}", time(from), time(to));
    let found = api.get(&path, token).await.expect(200);
    let expected = expected(api, from, to, channel.unwrap_or("%")).await;
    assert_eq!(found["total"], expected["total"], "{path}");
    for outcome in ["delivered", "timeout", "canceled"] {
        assert_eq!(found["outcomes"][outcome], expected[outcome], "{outcome} of {path}");
    }
    assert_eq!(found["outcomes"]["http_error"], 0);
    assert_eq!(found["duration_ms"]["attempts"], expected["attempts"], "{path}");
    let error = found["duration_ms"]["relative_error"].as_f64().unwrap();
    for quantile in ["p50", "p95"] {
        let Some(exact) = expected[quantile].as_f64() else {
            assert_eq!(found["duration_ms"][quantile], Value::Null, "{path}");
            continue;
        };
        let part = found["duration_ms"][quantile].as_f64().unwrap() / (exact / 1_000.0);
        assert!((part - 1.0).abs() <= error, "{quantile} of {path}: {part}");
    }
}

async fn compare_ranges(api: &TestApp, token: &str, noon: i64) {
    const MINUTE: i64 = 60_000;
    for (from, to, channel) in [
        (0, 180, None),
        (0, 180, Some("webhook")),
        (0, 180, Some("browser_push")),
        (0, 60, None),
        (1, 179, None),
        (59, 61, None),
        (61, 119, None),
        (17, 18, None),
        (-60, 0, None),
        (-600, 600, None),
    ] {
        compare(api, token, noon + from * MINUTE, noon + to * MINUTE, channel).await;
    }
}

#[tokio::test]
async fn counts_match_the_delivery_records_before_during_and_after_rollups() {
    let api = TestApp::start().await;
    let token = api.token(Role::Viewer, Some(ACME)).await;
    let noon = log(&api).await;
    compare_ranges(&api, &token, noon).await;
    let rows = "SELECT count(*) FROM flametree.delivery_rollups";
    let rolled_up = async || sqlx::raw_sql(rows).fetch_one(&api.db.pool).await.unwrap().get::<i64, _>(0);
    assert_eq!(rolled_up().await, 0);

    // Half of the records.
    assert!(stats::roll_up(&api.db, 1_790).await.unwrap().is_behind);
    let part = rolled_up().await;
    assert!(part > 0);
    compare_ranges(&api, &token, noon).await;
    while stats::roll_up(&api.db, 500).await.unwrap().is_behind {}
    assert!(rolled_up().await > part);
    compare_ranges(&api, &token, noon).await;
}

#[tokio::test]
async fn the_default_range_is_the_last_day_and_tenants_see_only_their_statistics() {
    let api = TestApp::start().await;
    let token = api.token(Role::Viewer, Some(ACME)).await;
    log(&api).await;
    let day = api.get("/v1/agents/agent-1/stats", &token).await.expect(200);
    let moment = |name: &str| chrono::DateTime::parse_from_rfc3339(day[name].as_str().unwrap()).unwrap();
    assert!((moment("to") - moment("from")).num_minutes() >= 1_440, "{day}");
    assert_eq!(day["outcomes"].as_object().unwrap().len(), 16);
    let other = api.token(Role::Viewer, Some("globex")).await;
    assert_eq!(api.get("/v1/agents/agent-0/stats?from=2026-01-01T00:00:00Z", &other).await.expect(200)["total"], 0);
    let service = api.token(Role::Service, Some(ACME)).await;
    api.get("/v1/agents/agent-0/stats", &service).await.problem(403, "forbidden");
    let faults =
        api.get("/v1/agents/agent-0/stats?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z&x=1", &token).await;
    assert_eq!(faults.faults().iter().map(|fault| fault.0.as_str()).collect::<Vec<_>>(), ["to", "x"]);
}
