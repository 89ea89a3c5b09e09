//! Deliveries of dead workers become `interrupted`.

use sqlx::Error;

use crate::domain::endpoint::Channel;
use crate::store::Db;

/// Records what fenced workers had begun and not recorded, up to `limit` ledger rows; answers how many deliveries that
/// were per channel. Outcomes that are there stay. Call it until it answers nothing.
pub async fn reap(db: &Db, limit: i32) -> Result<Vec<(Channel, u64)>, Error> {
    let rows = sqlx::query!(
        r#"-- queue::reap
        SELECT channel AS "channel!", interrupted AS "interrupted!" FROM flametree.reap_claims($1)"#,
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| Some((Channel::from_name(&row.channel)?, row.interrupted.unsigned_abs())))
        .collect())
}

/// Whether fenced workers still have ledger rows.
pub async fn pending(db: &Db) -> Result<bool, Error> {
    sqlx::query_scalar!(
        r#"-- queue::reap_pending
        SELECT EXISTS (
            SELECT 1 FROM flametree.workers AS w
            CROSS JOIN LATERAL (SELECT 1 FROM flametree.claims AS c WHERE c.worker_id = w.id LIMIT 1) AS c
            WHERE w.fenced_at IS NOT NULL
        ) AS "pending!""#
    )
    .fetch_one(db)
    .await
}
