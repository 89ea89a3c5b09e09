//! Partitions of events and deliveries: made ahead, dropped whole when they are old.

use chrono::NaiveDate;
use sqlx::Error;

use super::{Db, LOCK_NOT_AVAILABLE, has_code};

/// Any number that no other program locks in the same database.
const ENSURE_LOCK: i64 = 0x0066_6c61_6d65_7061;

/// Creates the missing partitions of the days from `first` to `last`; answers how many. Safe to repeat. Callers take turns:
/// processes that start together on a fresh database would fail each other.
pub async fn ensure(db: &Db, first: NaiveDate, last: NaiveDate) -> Result<u32, Error> {
    let mut tx = db.begin().await?;
    sqlx::query!(
        "-- partitions::ensure (lock)
        SELECT FROM pg_advisory_xact_lock($1)",
        ENSURE_LOCK,
    )
    .execute(&mut *tx)
    .await?;
    let created = sqlx::query_scalar!(
        r#"-- partitions::ensure
        SELECT flametree.ensure_partitions($1, $2) AS "created!""#,
        first,
        last,
    )
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(created.unsigned_abs())
}

/// Drops the partitions of the days before `before`, but for those that a delivery which has not ended needs; answers how
/// many. `None`: somebody reads there and all of them stay, for whoever comes behind a drop that waits would wait too.
pub async fn drop_before(db: &Db, before: NaiveDate) -> Result<Option<u32>, Error> {
    let dropped = sqlx::query_scalar!(
        r#"-- partitions::drop_before
        SELECT flametree.drop_old_partitions($1) AS "dropped!""#,
        before,
    )
    .fetch_one(db)
    .await;
    match dropped {
        Ok(dropped) => Ok(Some(dropped.unsigned_abs())),
        Err(error) if has_code(&error, LOCK_NOT_AVAILABLE) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How far the partitions reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The oldest day that still has a partition.
    pub oldest: Option<NaiveDate>,
    /// The first day, from the one that was asked for on, without a partition of events or of deliveries.
    pub first_missing: NaiveDate,
}

/// Looks which days from `today` on have partitions, for 32 days at most.
pub async fn span(db: &Db, today: NaiveDate) -> Result<Span, Error> {
    sqlx::query_as!(
        Span,
        r#"-- partitions::span
        WITH partitions AS (
            SELECT to_date(right(c.relname, 8), 'YYYYMMDD') AS day
            FROM pg_catalog.pg_inherits AS i
            JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
            WHERE i.inhparent IN ('flametree.events'::regclass, 'flametree.deliveries'::regclass)
        )
        SELECT (SELECT min(day) FROM partitions) AS oldest,
               (SELECT min($1::date + n) FROM generate_series(0, 32) AS n
                WHERE n = 32 OR (SELECT count(*) FROM partitions WHERE day = $1::date + n) < 2) AS "first_missing!""#,
        today,
    )
    .fetch_one(db)
    .await
}
