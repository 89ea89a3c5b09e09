//! Counts of deliveries: the rollups and how far they are.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::Error;

use super::Db;
use crate::domain::delivery::Outcome;
use crate::domain::endpoint::Channel;
use crate::domain::names::{AgentId, TenantId};
use crate::domain::stats::{Count, Range};

/// What a step of the rollup has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollUpStep {
    /// Whether more can be counted already.
    pub is_behind: bool,
    /// How many spans have changed.
    pub spans: u64,
}

/// Counts what finished in the next `window` behind the watermark; whole or not at all.
pub async fn roll_up(db: &Db, window: Duration) -> Result<RollUpStep, Error> {
    let row = sqlx::query!(
        r#"-- stats::roll_up
        SELECT r.is_behind AS "is_behind!", r.spans AS "spans!"
        FROM flametree.roll_up(make_interval(secs => $1)) AS r"#,
        window.as_secs_f64(),
    )
    .fetch_one(db)
    .await?;
    Ok(RollUpStep { is_behind: row.is_behind, spans: row.spans.unsigned_abs() })
}

/// Prepares the index that `roll_up` and `read` find the ends of deliveries by. Costs little where nothing is new.
pub async fn summarize(db: &Db) -> Result<(), Error> {
    sqlx::query!("-- stats::summarize\nSELECT flametree.summarize_ends()").execute(db).await?;
    Ok(())
}

/// An agent's finished deliveries in the range by outcome and bucket, those that are not rolled up yet included.
pub async fn read(
    db: &Db,
    tenant: &TenantId,
    agent: &AgentId,
    range: Range,
    channel: Option<Channel>,
) -> Result<Vec<Count>, Error> {
    let (first_hour, end_of_hours) = range.whole_hours();
    let rows = sqlx::query!(
        r#"-- stats::read
        SELECT c.outcome::text AS "outcome!", c.bucket AS "bucket!", sum(c.deliveries)::bigint AS "deliveries!"
        FROM (
            SELECT r.outcome, r.bucket, r.deliveries
            FROM flametree.rolled_up_deliveries($1, $2, $3, $4, $5, $6, $7::text::flametree.channel) AS r
            UNION ALL
            SELECT f.outcome, f.bucket, f.deliveries
            FROM flametree.fresh_deliveries($1, $2, $3, $6, $7::text::flametree.channel) AS f
        ) AS c
        GROUP BY c.outcome, c.bucket"#,
        tenant.as_str(),
        agent.as_str(),
        range.from(),
        first_hour,
        end_of_hours,
        range.to(),
        channel.map(Channel::as_str),
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let unknown = || Error::Decode(format!("a count has the unknown outcome {}", row.outcome).into());
            let outcome = Outcome::from_name(&row.outcome).ok_or_else(unknown)?;
            Ok(Count { outcome, bucket: row.bucket, deliveries: row.deliveries.unsigned_abs() })
        })
        .collect()
}

/// Until when finished deliveries are rolled up.
pub async fn rolled_up_until(db: &Db) -> Result<DateTime<Utc>, Error> {
    sqlx::query_scalar!("-- stats::rolled_up_until\nSELECT finished_until FROM flametree.rollup_progress")
        .fetch_one(db)
        .await
}

/// Forgets up to `limit` counts of the days before `before`; answers how many.
pub async fn forget(db: &Db, before: NaiveDate, limit: i64) -> Result<u64, Error> {
    let result = sqlx::query!(
        "-- stats::forget
        DELETE FROM flametree.delivery_rollups
        WHERE ctid IN (
            SELECT ctid
            FROM flametree.delivery_rollups
            WHERE starts_at AT TIME ZONE 'UTC' < $1::date
            LIMIT $2)",
        before,
        limit,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
