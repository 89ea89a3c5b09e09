//! Delivery counts for statistics, from the rollups and from the deliveries that are not rolled up yet.

use chrono::NaiveDate;
use sqlx::Error;

use super::{Db, known};
use crate::domain::endpoint::Channel;
use crate::domain::names::{AgentId, TenantId};
use crate::domain::stats::{Count, Range};

/// The result of one rollup step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollUpStep {
    /// True if some deliveries might not be rolled up yet.
    pub is_behind: bool,
    /// The number of rows of `delivery_rollups` that changed.
    pub spans: u64,
}

/// Atomically rolls up the oldest uncounted batches, up to about `deliveries` outcomes.
pub async fn roll_up(db: &Db, deliveries: u32) -> Result<RollUpStep, Error> {
    let row = sqlx::query!(
        r#"-- stats::roll_up
        SELECT r.is_behind AS "is_behind!", r.spans AS "spans!" FROM flametree.roll_up($1) AS r"#,
        i32::try_from(deliveries).unwrap_or(i32::MAX),
    )
    .fetch_one(db)
    .await?;
    Ok(RollUpStep { is_behind: row.is_behind, spans: row.spans.unsigned_abs() })
}

/// Adds new pages of the table to the index that `roll_up` and `read` use to find batches. The call is fast if there are no new
/// pages.
pub async fn summarize(db: &Db) -> Result<(), Error> {
    sqlx::query!("-- stats::summarize\nSELECT flametree.summarize_batches()").execute(db).await?;
    Ok(())
}

/// Counts an agent's finished deliveries in the range by outcome and bucket, including those that are not rolled up yet.
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
            FROM flametree.uncounted_deliveries($1, $2, $3, $6, $7::text::flametree.channel) AS f
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
            let outcome = known(&row.outcome, "a count has the unknown outcome")?;
            Ok(Count { outcome, bucket: row.bucket, deliveries: row.deliveries.unsigned_abs() })
        })
        .collect()
}

/// Deletes up to `limit` counts of days earlier than `before` and returns how many.
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
