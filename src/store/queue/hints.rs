//! Hints from one process to the others that deliveries are ready, by notifications of PostgreSQL.

use sqlx::Error;

use crate::store::Db;

/// The channel of the notifications.
pub const READY_CHANNEL: &str = "flametree_ready";

/// Sends a message of fewer than 8,000 bytes to all processes that listen. It is a transaction of its own, because a
/// notification inside a transaction that accepts events would serialize the commits of the whole database.
pub async fn notify(db: &Db, message: &str) -> Result<(), Error> {
    sqlx::query_scalar!(
        r#"-- hints::notify
        SELECT true AS "notified!" FROM (SELECT pg_catalog.pg_notify($1, $2)) AS n"#,
        READY_CHANNEL,
        message,
    )
    .fetch_one(db)
    .await?;
    Ok(())
}
