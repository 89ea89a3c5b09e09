//! Removes sessions and push subscriptions that have been unused for long, in small steps.

use std::time::Duration;

use sqlx::Error;

use super::Db;

/// Removes from the operator workspace up to `limit` sessions whose last event is older than `age`, and returns how many.
pub async fn leave_workspace(db: &Db, age: Duration, limit: i64) -> Result<u64, Error> {
    let result = sqlx::query!(
        "-- sessions::leave_workspace
        UPDATE flametree.sessions AS s
        SET in_workspace = false, handler_id = NULL
        FROM (
            SELECT tenant_id, id
            FROM flametree.sessions
            WHERE in_workspace
              AND greatest(workspace_changed_at, handler_changed_at) < (SELECT flametree.clock()) - make_interval(secs => $1)
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        ) AS old
        WHERE s.tenant_id = old.tenant_id AND s.id = old.id",
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
        USING (
            SELECT tenant_id, id
            FROM flametree.sessions
            WHERE NOT in_workspace
              AND greatest(workspace_changed_at, handler_changed_at) < (SELECT flametree.clock()) - make_interval(secs => $1)
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        ) AS old
        WHERE s.tenant_id = old.tenant_id AND s.id = old.id",
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
        USING (
            SELECT id, tenant_id
            FROM flametree.push_subscriptions
            WHERE last_seen_at < (SELECT flametree.clock()) - make_interval(secs => $1)
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        ) AS old
        WHERE s.id = old.id AND s.tenant_id = old.tenant_id",
        age.as_secs_f64(),
        limit,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
