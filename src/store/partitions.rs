//! Partitions of events and deliveries: made ahead, dropped whole when they are old.

use chrono::NaiveDate;
use sqlx::Error;

use super::Db;

/// Creates the missing partitions of the days from `first` to `last`; answers how many. Safe to repeat; two callers at
/// once may fail each other, and the next call goes on.
pub async fn ensure(db: &Db, first: NaiveDate, last: NaiveDate) -> Result<u32, Error> {
    let created = sqlx::query_scalar!(
        r#"-- partitions::ensure
        SELECT flametree.ensure_partitions($1, $2) AS "created!""#,
        first,
        last,
    )
    .fetch_one(db)
    .await?;
    Ok(created.unsigned_abs())
}

/// Drops the partitions of the days before `before`, but for those that an unfinished replay needs; answers how many. Gives
/// up behind a long reader.
pub async fn drop_before(db: &Db, before: NaiveDate) -> Result<u32, Error> {
    let dropped = sqlx::query_scalar!(
        r#"-- partitions::drop_before
        SELECT flametree.drop_old_partitions($1) AS "dropped!""#,
        before,
    )
    .fetch_one(db)
    .await?;
    Ok(dropped.unsigned_abs())
}
