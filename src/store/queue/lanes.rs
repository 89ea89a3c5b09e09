//! Finds the lanes that have ready deliveries.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Error;
use uuid::Uuid;

use crate::domain::endpoint::Channel;
use crate::domain::ids::{DeliveryId, EndpointId};
use crate::domain::names::TenantId;
use crate::store::Db;

/// A lane with ready deliveries, and the position of its first ready delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingLane {
    pub tenant_id: TenantId,
    pub endpoint_id: EndpointId,
    pub first_position: i64,
    /// How long the first ready delivery has waited, by the database's clock.
    pub waited: Duration,
}

impl WaitingLane {
    pub fn key(&self) -> LaneCursor {
        LaneCursor::new(&self.tenant_id, self.endpoint_id)
    }
}

/// A point in the order of lanes, which is the key order in the database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct LaneCursor {
    pub tenant_id: String,
    pub endpoint_id: Uuid,
}

impl LaneCursor {
    pub fn new(tenant_id: &TenantId, endpoint_id: EndpointId) -> Self {
        Self { tenant_id: tenant_id.as_str().to_owned(), endpoint_id: endpoint_id.uuid() }
    }
}

/// A place that a tail scan searches. It consists of one lane's deliveries after a position, and of the gap between this lane
/// and the next place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub key: LaneCursor,
    /// The position in the lane. If the position is `None`, neither the lane nor the gap is searched, and the place is only the
    /// end of the previous gap.
    pub after: Option<i64>,
}

/// Finds up to `limit` lanes of `channel` with ready deliveries, in key order after `cursor`. Each lane costs one index
/// probe. Dead rows that an old snapshot still needs are scanned again in each call.
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

/// Finds lanes of `channel` with ready deliveries. Searches after the position of each of the `places` and at the start of each
/// gap. The places must be in key order. The gap after the last place has no end. Does not read rows before the positions,
/// because most of them are dead.
pub async fn tail_scan(db: &Db, channel: Channel, places: &[Place]) -> Result<Vec<WaitingLane>, Error> {
    let tenants: Vec<&str> = places.iter().map(|place| place.key.tenant_id.as_str()).collect();
    let endpoints: Vec<Uuid> = places.iter().map(|place| place.key.endpoint_id).collect();
    let after: Vec<Option<i64>> = places.iter().map(|place| place.after).collect();
    let rows = sqlx::query_as!(
        WaitingRow,
        r#"-- queue::tail_scan
        SELECT tenant_id AS "tenant_id!", endpoint_id AS "endpoint_id!", first_position AS "first_position!",
               first_id AS "first_id!", replayed_at, flametree.clock() AS "now!"
        FROM flametree.waiting_beside($1::text::flametree.channel, $2, $3, $4)"#,
        channel.as_str(),
        &tenants as &[&str],
        &endpoints,
        &after as &[Option<i64>],
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

/// The ids of all open transactions that have written; read-only transactions have no id.
pub async fn writing_transactions(db: &Db) -> Result<Vec<i64>, Error> {
    sqlx::query_scalar!(
        r#"-- queue::writing_transactions
        SELECT x.id::text::bigint AS "id!"
        FROM pg_catalog.pg_snapshot_xip(pg_catalog.pg_current_snapshot()) AS x (id)"#
    )
    .fetch_all(db)
    .await
}

/// Estimates the number of ready deliveries from the database's statistics, without counting rows. The statistics are about a
/// second old. After a crash of the server they are wrong until the next vacuum.
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
