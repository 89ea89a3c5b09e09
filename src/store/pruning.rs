//! Removes sessions and push subscriptions that have been unused for long, in small steps.
//!
//! Each step orders its rows by an index and finds them again by `ctid`. Otherwise the planner scans the whole table: it expects
//! that a third of the rows is old, because it does not know the time.

use std::time::Duration;

use sqlx::Error;

use super::Db;

/// Removes from the operator workspace up to `limit` sessions whose last event is older than `age`, and returns how many.
pub async fn leave_workspace(db: &Db, age: Duration, limit: i64) -> Result<u64, Error> {
    let result = sqlx::query!(
        "-- sessions::leave_workspace
        UPDATE flametree.sessions AS s
        SET in_workspace = false, handler_id = NULL
        WHERE s.ctid = ANY (ARRAY(
            SELECT ctid
            FROM flametree.sessions
            WHERE in_workspace
              AND greatest(workspace_changed_at, handler_changed_at) < (SELECT flametree.clock()) - make_interval(secs => $1)
            ORDER BY tenant_id, workspace_changed_at
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        ))",
        age.as_secs_f64(),
        limit,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Deletes up to `limit` sessions outside of the operator workspace whose last event is older than `age`, and returns how many.
pub async fn forget_sessions(db: &Db, age: Duration, limit: i64) -> Result<u64, Error> {
    let result = sqlx::query!(
        "-- sessions::forget
        DELETE FROM flametree.sessions AS s
        WHERE s.ctid = ANY (ARRAY(
            SELECT ctid
            FROM flametree.sessions
            WHERE NOT in_workspace
              AND greatest(workspace_changed_at, handler_changed_at) < (SELECT flametree.clock()) - make_interval(secs => $1)
            ORDER BY greatest(workspace_changed_at, handler_changed_at)
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        ))",
        age.as_secs_f64(),
        limit,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Deletes up to `limit` push subscriptions that no browser has used for longer than `age`, and returns how many.
pub async fn forget_subscriptions(db: &Db, age: Duration, limit: i64) -> Result<u64, Error> {
    let result = sqlx::query!(
        "-- push_subscriptions::forget
        DELETE FROM flametree.push_subscriptions AS s
        WHERE s.ctid = ANY (ARRAY(
            SELECT ctid
            FROM flametree.push_subscriptions
            WHERE last_seen_at < (SELECT flametree.clock()) - make_interval(secs => $1)
            ORDER BY last_seen_at
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        ))",
        age.as_secs_f64(),
        limit,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
