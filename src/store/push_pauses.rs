//! Pauses of browser push. They are stored in the rows of `push_subscriptions`, so they apply in every process.
//!
//! A pause applies to one subscription. A push service is paused for a whole tenant while subscriptions of three of its users are
//! paused. A subscription counts only if the push service has accepted a message for it before. Otherwise any user could
//! pause the push service with an invalid subscription. Other tenants are never affected.

use std::time::Duration;

use sqlx::Error;

use super::Db;
use crate::domain::ids::EndpointId;
use crate::domain::names::TenantId;

/// A push service that is paused for a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PausedService {
    pub tenant: TenantId,
    pub host: String,
    /// How long the pause still lasts.
    pub left: Duration,
}

/// Pauses a subscription. Never shortens an earlier pause. Returns false if the subscription was removed or changed
/// meanwhile, or if another message has already paused it.
///
/// Raises the version of the row, so that each process reads the row again for the next delivery.
pub async fn pause(
    db: &Db,
    tenant: &TenantId,
    id: EndpointId,
    version: i32,
    duration: Duration,
) -> Result<bool, Error> {
    let result = sqlx::query!(
        "-- push_pauses::pause
        UPDATE flametree.push_subscriptions
        SET paused_until = greatest(paused_until, flametree.clock() + make_interval(secs => $4)), version = version + 1
        WHERE id = $1 AND tenant_id = $2 AND version = $3",
        id.uuid(),
        tenant.as_str(),
        version,
        duration.as_secs_f64(),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Records that the push service has accepted a message for a subscription.
pub async fn note_accepted(db: &Db, tenant: &TenantId, id: EndpointId, version: i32) -> Result<(), Error> {
    sqlx::query!(
        "-- push_pauses::note_accepted
        UPDATE flametree.push_subscriptions
        SET was_accepted = true
        WHERE id = $1 AND tenant_id = $2 AND version = $3 AND NOT was_accepted",
        id.uuid(),
        tenant.as_str(),
        version,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The paused push services of one tenant, or of all tenants.
pub async fn paused_services(db: &Db, tenant: Option<&TenantId>) -> Result<Vec<PausedService>, Error> {
    let rows = sqlx::query!(
        r#"-- push_pauses::paused_services
        SELECT u.tenant_id, u.host,
               extract(epoch FROM (array_agg(u.until ORDER BY u.until DESC))[3] - flametree.clock())::float8 AS "left!"
        FROM (
            SELECT s.tenant_id, s.host, s.user_id, max(s.paused_until) AS until
            FROM flametree.push_subscriptions AS s
            WHERE s.paused_until > (SELECT flametree.clock()) AND s.was_accepted
              AND ($1::text IS NULL OR s.tenant_id = $1)
            GROUP BY s.tenant_id, s.host, s.user_id
        ) AS u
        GROUP BY u.tenant_id, u.host
        HAVING count(*) >= 3"#,
        tenant.map(TenantId::as_str),
    )
    .fetch_all(db)
    .await?;
    let services = rows.into_iter().map(|row| PausedService {
        tenant: TenantId::from_stored(row.tenant_id),
        host: row.host,
        left: Duration::try_from_secs_f64(row.left).unwrap_or_default(),
    });
    Ok(services.collect())
}
