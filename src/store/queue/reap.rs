//! Deliveries of dead workers become `interrupted`.

use sqlx::Error;

use crate::domain::endpoint::Channel;
use crate::store::Db;

/// Records what fenced workers had begun and not recorded, up to `limit` ledger rows; answers the channels of the rows, each
/// with how many deliveries that were. Outcomes that are there stay, and rows that somebody has locked. Call it until it
/// answers nothing.
pub async fn reap(db: &Db, limit: i32) -> Result<Vec<(Channel, u64)>, Error> {
    let rows = sqlx::query!(
        r#"-- queue::reap
        SELECT channel AS "channel!", interrupted AS "interrupted!" FROM flametree.reap_claims($1)"#,
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| Some((Channel::from_name(&row.channel)?, row.interrupted.unsigned_abs())))
        .collect())
}
