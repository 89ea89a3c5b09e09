//! Hints between processes that deliveries are ready: notifications without a payload, which may be lost.

use sqlx::Error;

use crate::store::Db;

/// The channel of the notifications.
pub const READY_CHANNEL: &str = "flametree_ready";

/// Notifies all listeners. Uses its own transaction, because a notification in a transaction that accepts events would serialize
/// the commits of the whole database.
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
