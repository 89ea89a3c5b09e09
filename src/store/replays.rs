//! Replays deliveries with the database functions `replay` and `replay_step`.

use std::time::Duration;

use chrono::{DateTime, Days, Utc};
use sqlx::Error;
use uuid::Uuid;

use super::Db;
use crate::domain::ids::{DeliveryId, OperationId, WorkerId, lower_bound};
use crate::domain::names::TenantId;
use crate::domain::replay::Replayed;

/// The unique index that allows a tenant one replay per idempotency key.
const ONCE_PER_KEY: &str = "replays_once_per_key";

/// The limits of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Events with smaller ids are not replayed, because retention may drop their partition before the replay has ended.
    pub oldest: Uuid,
    /// How long a new delivery may wait before it expires.
    pub expires: Duration,
}

impl Bounds {
    /// The limits at `now`. Events are only replayed if their partition is kept for longer than a new delivery may wait.
    pub fn new(retention_days: u32, expires: Duration, now: DateTime<Utc>) -> Self {
        const DAY: Duration = Duration::from_hours(24);
        // Three days of the retention are reserved: one for the wait, one for the rest of today, and one for clock differences.
        let days = Days::new(u64::from(retention_days).saturating_sub(3));
        Self { oldest: lower_bound(now - days), expires: expires.min(DAY) }
    }

    fn expires_seconds(self) -> i32 {
        i32::try_from(self.expires.as_secs()).unwrap_or(i32::MAX)
    }
}

/// Atomically creates a new delivery of a finished delivery's event. A repeated call with the same `key` creates no second
/// delivery.
pub async fn replay(
    db: &Db,
    tenant: &TenantId,
    id: DeliveryId,
    bounds: Bounds,
    requested_by: &str,
    key: Option<&str>,
) -> Result<Replayed, Error> {
    let row = sqlx::query!(
        r#"-- replays::replay
        SELECT r.result AS "result!", r.delivery_id
        FROM flametree.replay($1, $2, $3, $4, NULL, $5, false, $6) AS r"#,
        tenant.as_str(),
        id.uuid(),
        bounds.oldest,
        bounds.expires_seconds(),
        requested_by,
        key,
    )
    .fetch_one(db)
    .await;
    let row = match row {
        // A concurrent request used the same key for another event first.
        Err(Error::Database(error)) if error.constraint() == Some(ONCE_PER_KEY) => return Ok(Replayed::OtherRequest),
        row => row?,
    };
    match (row.result.as_str(), row.delivery_id) {
        ("ready", Some(id)) => Ok(Replayed::Ready(DeliveryId::from_uuid(id))),
        ("repeated", Some(id)) => Ok(Replayed::Repeated(DeliveryId::from_uuid(id))),
        ("other_request", _) => Ok(Replayed::OtherRequest),
        ("unknown", _) => Ok(Replayed::Unknown),
        ("in_flight", _) => Ok(Replayed::InFlight),
        ("unwanted", _) => Ok(Replayed::Unwanted),
        ("too_old", _) => Ok(Replayed::TooOld),
        ("exhausted", _) => Ok(Replayed::Exhausted),
        (other, _) => Err(Error::Decode(format!("a replay has the unknown result {other}").into())),
    }
}

/// The progress of a replay operation after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    More,
    Done,
    /// Another process holds the operation, or a user canceled it.
    Lost,
}

/// Examines the next `rows` deliveries of a replay operation and replays the matching ones, in one transaction.
pub async fn step(db: &Db, operation: OperationId, holder: WorkerId, rows: i32, bounds: Bounds) -> Result<Step, Error> {
    let left = sqlx::query_scalar!(
        r#"-- replays::step
        SELECT flametree.replay_step($1, $2, $3, $4, $5) AS "left!""#,
        operation.uuid(),
        holder.uuid(),
        rows,
        bounds.oldest,
        bounds.expires_seconds(),
    )
    .fetch_one(db)
    .await?;
    match left.as_str() {
        "more" => Ok(Step::More),
        "done" => Ok(Step::Done),
        "lost" => Ok(Step::Lost),
        other => Err(Error::Decode(format!("a step of a replay returned the unknown state {other}").into())),
    }
}
