//! The table `stream_tickets`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Error;

use super::{Db, known};
use crate::domain::names::TenantId;
use crate::domain::stream_ticket::TicketSecret;
use crate::domain::workspace::Watcher;

/// Stores a ticket and returns its expiry. The ticket expires after `life`, or earlier when the access of its `watcher` ends.
/// Each new ticket also deletes up to two expired tickets, so that the table stays small.
pub async fn create(db: &Db, ticket: &TicketSecret, watcher: &Watcher, life: Duration) -> Result<DateTime<Utc>, Error> {
    let hash = ticket.hash();
    sqlx::query_scalar!(
        "-- stream_tickets::create
        WITH expired AS (
            DELETE FROM flametree.stream_tickets
            WHERE hash IN (
                SELECT hash FROM flametree.stream_tickets WHERE expires_at < (SELECT flametree.clock())
                ORDER BY expires_at LIMIT 2 FOR UPDATE SKIP LOCKED
            )
        )
        INSERT INTO flametree.stream_tickets (hash, tenant_id, role, actor, valid_until, expires_at)
        VALUES ($1, $2, $3, $4, $5, least(flametree.clock() + make_interval(secs => $6), $5))
        RETURNING expires_at",
        hash.as_bytes(),
        watcher.tenant.as_str(),
        watcher.role.as_str(),
        watcher.actor,
        watcher.until,
        life.as_secs_f64(),
    )
    .fetch_one(db)
    .await
}

/// Redeems a ticket for its first caller. Returns `None` if the ticket is unknown, used or expired.
pub async fn redeem(db: &Db, ticket: &TicketSecret) -> Result<Option<Watcher>, Error> {
    let hash = ticket.hash();
    let row = sqlx::query!(
        r#"-- stream_tickets::redeem
        DELETE FROM flametree.stream_tickets
        WHERE hash = $1
        RETURNING tenant_id, role, actor, valid_until, expires_at > (SELECT flametree.clock()) AS "valid!""#,
        hash.as_bytes(),
    )
    .fetch_optional(db)
    .await?;
    row.filter(|row| row.valid)
        .map(|row| {
            let role = known(&row.role, "a ticket has the unknown role")?;
            let tenant = TenantId::from_stored(row.tenant_id);
            Ok(Watcher { tenant, role, actor: row.actor, until: row.valid_until })
        })
        .transpose()
}
