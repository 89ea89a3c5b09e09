//! Leases for work that only one process may do at a time. The database's clock decides when a lease expires. Session locks
//! would not work through a pooler.

use std::time::Duration;

use sqlx::Error;

use crate::domain::ids::WorkerId;
use crate::store::Db;

/// Takes or extends the lease `name` for `holder`. Returns false while another process holds it. Safe to repeat.
pub async fn take(db: &Db, name: &str, holder: WorkerId, length: Duration) -> Result<bool, Error> {
    let taken = sqlx::query_scalar!(
        r#"-- leases::take
        INSERT INTO flametree.leases AS l (name, holder, expires_at)
        VALUES ($1, $2, flametree.clock() + make_interval(secs => $3))
        ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
        WHERE l.holder = excluded.holder OR l.expires_at < (SELECT flametree.clock())
        RETURNING true AS "taken!""#,
        name,
        holder.uuid(),
        length.as_secs_f64(),
    )
    .fetch_optional(db)
    .await?;
    Ok(taken.unwrap_or(false))
}

/// Releases the lease, so that another process need not wait until it expires. Does nothing if `holder` does not hold the lease.
pub async fn release(db: &Db, name: &str, holder: WorkerId) -> Result<(), Error> {
    sqlx::query!(
        "-- leases::give_up
        DELETE FROM flametree.leases WHERE name = $1 AND holder = $2",
        name,
        holder.uuid(),
    )
    .execute(db)
    .await?;
    Ok(())
}
