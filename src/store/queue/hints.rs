//! Hints from one process to the others that deliveries are ready: payload-free notifications, only ever a hint.

use sqlx::Error;

use crate::store::Db;

/// The channel of the notifications.
pub const READY_CHANNEL: &str = "flametree_ready";

/// Tells who listens. In a transaction of its own: a notification inside a transaction that accepts events would
/// serialise the commits of the whole database.
pub async fn notify(db: &Db) -> Result<(), Error> {
    sqlx::query_scalar!(
        r#"-- hints::notify
        SELECT true AS "notified!" FROM (SELECT pg_catalog.pg_notify($1, '')) AS n"#,
        READY_CHANNEL,
    )
    .fetch_one(db)
    .await?;
    Ok(())
}
