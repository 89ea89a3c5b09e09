//! Idempotency keys, kept for a while and then forgotten in small steps.

use std::time::Duration;

use sqlx::Error;

use super::Db;

/// Forgets up to `limit` keys older than `age`; answers how many. Call it until it answers less than `limit`.
pub async fn forget(db: &Db, age: Duration, limit: i64) -> Result<u64, Error> {
    let result = sqlx::query!(
        "-- idempotency_keys::forget
        DELETE FROM flametree.idempotency_keys AS k
        USING (
            SELECT tenant_id, key FROM flametree.idempotency_keys
            WHERE created_at < clock_timestamp() - make_interval(secs => $1)
            LIMIT $2
        ) AS old
        WHERE k.tenant_id = old.tenant_id AND k.key = old.key",
        age.as_secs_f64(),
        limit,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
