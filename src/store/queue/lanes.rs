//! Which endpoints have ready deliveries.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Error;
use uuid::Uuid;

use crate::domain::endpoint::Channel;
use crate::domain::ids::{DeliveryId, EndpointId};
use crate::domain::names::TenantId;
use crate::store::Db;

/// An endpoint with work and where its work begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingLane {
    pub tenant_id: TenantId,
    pub endpoint_id: EndpointId,
    pub first_position: i64,
    /// How long its first delivery has waited, by the database's clock.
    pub waited: Duration,
}

/// A place in the order of endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LaneCursor {
    pub tenant_id: String,
    pub endpoint_id: Uuid,
}

/// An endpoint that a node knows, and up to where it has taken its deliveries. In the order of tenant and endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KnownLane {
    pub tenant_id: TenantId,
    pub endpoint_id: EndpointId,
    pub after: i64,
}

/// Up to `limit` endpoints of `channel` with ready deliveries, in key order behind `cursor`. One index probe each; rows
/// that were claimed under a snapshot that is still held elsewhere are walked over again.
pub async fn waiting(db: &Db, channel: Channel, cursor: &LaneCursor, limit: i32) -> Result<Vec<WaitingLane>, Error> {
    let rows = sqlx::query_as!(
        WaitingRow,
        r#"-- queue::waiting_lanes
        SELECT tenant_id AS "tenant_id!", endpoint_id AS "endpoint_id!", first_position AS "first_position!",
               first_id AS "first_id!", replayed_at, flametree.clock() AS "now!"
        FROM flametree.waiting_lanes($1::text::flametree.channel, $2, $3, $4)"#,
        channel.as_str(),
        &cursor.tenant_id,
        cursor.endpoint_id,
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(WaitingLane::from).collect())
}

/// Endpoints of `channel` with ready deliveries behind the places that are known, and endpoints between them: one for
/// each place at most, and a few more where the next place is another tenant's. Rows before the places are not looked at,
/// be they late commits or dead.
pub async fn waiting_beside(db: &Db, channel: Channel, known: &[KnownLane]) -> Result<Vec<WaitingLane>, Error> {
    // What lies before the first place.
    let mut tenants = vec![""];
    let (mut endpoints, mut after) = (vec![Uuid::nil()], vec![0]);
    for lane in known {
        tenants.push(lane.tenant_id.as_str());
        endpoints.push(lane.endpoint_id.uuid());
        after.push(lane.after);
    }
    let rows = sqlx::query_as!(
        WaitingRow,
        r#"-- queue::waiting_beside
        SELECT tenant_id AS "tenant_id!", endpoint_id AS "endpoint_id!", first_position AS "first_position!",
               first_id AS "first_id!", replayed_at, flametree.clock() AS "now!"
        FROM flametree.waiting_beside($1::text::flametree.channel, $2, $3, $4)"#,
        channel.as_str(),
        &tenants as &[&str],
        &endpoints,
        &after,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(WaitingLane::from).collect())
}

struct WaitingRow {
    tenant_id: String,
    endpoint_id: Uuid,
    first_position: i64,
    first_id: Uuid,
    replayed_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
}

impl From<WaitingRow> for WaitingLane {
    fn from(row: WaitingRow) -> Self {
        let since = row.replayed_at.or_else(|| DeliveryId::from_uuid(row.first_id).accepted_at());
        Self {
            tenant_id: TenantId::from_stored(row.tenant_id),
            endpoint_id: EndpointId::from_uuid(row.endpoint_id),
            first_position: row.first_position,
            waited: since.and_then(|since| (row.now - since).to_std().ok()).unwrap_or_default(),
        }
    }
}

/// How many deliveries wait, as the database's statistics say: right within a second or so, an estimate after a crash
/// of the server until the next vacuum. Never counts rows.
pub async fn ready_estimate(db: &Db, channel: Channel) -> Result<i64, Error> {
    sqlx::query_scalar!(
        r#"-- queue::ready_estimate
        SELECT coalesce(sum(s.n_live_tup), 0)::bigint AS "ready!"
        FROM pg_catalog.pg_stat_user_tables AS s
        WHERE s.schemaname = 'flametree' AND s.relname = 'ready_deliveries_' || $1::text"#,
        channel.as_str(),
    )
    .fetch_one(db)
    .await
}
