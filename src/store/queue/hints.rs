//! Sends hints about ready deliveries to the other processes with PostgreSQL notifications.

use sqlx::Error;

use crate::store::Db;

/// The notification channel of hints.
pub const READY_CHANNEL: &str = "flametree_ready";

/// Sends a message of fewer than 8,000 bytes to all processes that listen. Runs in its own transaction, because a
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
