//! Maintenance removes old rows by index. A scan of a large table takes longer than a statement's timeout.

use std::time::Duration;

use flametree_notify::store::pruning::{forget_sessions, forget_subscriptions, leave_workspace};
use sqlx::AssertSqlSafe;

use crate::support::postgres::TestDatabase;

const MONTH: Duration = Duration::from_hours(30 * 24);
/// The number of rows that are not old, in the workspace and outside of it each.
const RECENT: i64 = 20_000;
/// The number of rows that a small step removes.
const STEP: i64 = 10;

/// The statements find 15 old rows of each kind among recent rows, in several steps.
#[tokio::test]
async fn removing_old_sessions_and_subscriptions_scans_no_whole_table() {
    let db = TestDatabase::with_connections(1).await;
    for (rows, age) in [(RECENT, "1 day"), (15, "31 days")] {
        let statements = format!(
            "INSERT INTO flametree.sessions (tenant_id, id, agent_id, handler_changed_at, in_workspace, workspace_changed_at)
             SELECT 'acme', '{age}-' || w || n, 'agent-1', '-infinity', w, now() - interval '{age}'
             FROM generate_series(1, {rows}) AS n, unnest(ARRAY[true, false]) AS w;
             INSERT INTO flametree.push_subscriptions (tenant_id, id, user_id, version, active, ciphertext, created_at,
                 last_seen_at, endpoint_hash, host, vapid_key_id)
             SELECT 'acme', gen_random_uuid(), 'user-' || n, 1, true, '', now(), now() - interval '{age}',
                    sha256(convert_to('{age}' || n, 'UTF8')), 'push.test', 'k'
             FROM generate_series(1, {rows}) AS n"
        );
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(&*db).await.unwrap();
    }
    sqlx::raw_sql("ANALYZE flametree.sessions, flametree.push_subscriptions").execute(&*db).await.unwrap();
    sqlx::raw_sql("SELECT pg_stat_force_next_flush()").execute(&*db).await.unwrap();
    sqlx::raw_sql("SELECT pg_stat_reset()").execute(&*db).await.unwrap();

    for expected in [10, 5] {
        assert_eq!(forget_sessions(&db, MONTH, STEP).await.unwrap(), expected);
        assert_eq!(forget_subscriptions(&db, MONTH, STEP).await.unwrap(), expected);
    }
    // The sessions that leave the workspace are old too.
    assert_eq!(leave_workspace(&db, MONTH, 5_000).await.unwrap(), 15);
    assert_eq!(forget_sessions(&db, MONTH, 5_000).await.unwrap(), 15);
    assert_eq!(forget_subscriptions(&db, MONTH, 5_000).await.unwrap(), 0);
    sqlx::raw_sql("SELECT pg_stat_force_next_flush()").execute(&*db).await.unwrap();
    let scanned: Vec<(String, i64)> = sqlx::query_as(
        "SELECT relname::text, seq_tup_read FROM pg_stat_user_tables
         WHERE relname IN ('sessions', 'push_subscriptions') AND seq_tup_read > 0 ORDER BY relname",
    )
    .fetch_all(&*db)
    .await
    .unwrap();
    assert_eq!(scanned, [], "whole tables were scanned");
}
