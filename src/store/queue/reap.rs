//! Records the claimed deliveries of dead workers as `interrupted`.

use sqlx::Error;
use uuid::Uuid;

use crate::domain::endpoint::Channel;
use crate::domain::ids::ClaimId;
use crate::store::Db;

/// Reaps up to `limit` claims of fenced workers, except those in `except`. Returns each claim's channel and its number of
/// interrupted deliveries. Outcomes that already exist stay. Skips claims that another transaction has locked. Call it until
/// it returns nothing.
pub async fn reap(db: &Db, limit: i32, except: &[ClaimId]) -> Result<Vec<(Channel, u64)>, Error> {
    let except: Vec<Uuid> = except.iter().map(|claim| claim.uuid()).collect();
    let rows = sqlx::query_as!(
        Reaped,
        r#"-- queue::reap
        SELECT channel AS "channel!", interrupted AS "interrupted!" FROM flametree.reap_claims($1, $2)"#,
        limit,
        &except,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().filter_map(Reaped::into_pair).collect())
}

/// Reaps a single claim.
pub async fn reap_claim(db: &Db, claim: ClaimId) -> Result<Vec<(Channel, u64)>, Error> {
    let rows = sqlx::query_as!(
        Reaped,
        r#"-- queue::reap_claim
        SELECT channel AS "channel!", interrupted AS "interrupted!" FROM flametree.reap_claims(1, '{}', $1)"#,
        claim.uuid(),
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().filter_map(Reaped::into_pair).collect())
}

/// Lists up to `limit` claims of fenced workers, except those in `except`. Unlike [`reap`], does not record the
/// claims.
pub async fn dead_claims(db: &Db, limit: i64, except: &[ClaimId]) -> Result<Vec<(ClaimId, Channel)>, Error> {
    let except: Vec<Uuid> = except.iter().map(|claim| claim.uuid()).collect();
    let rows = sqlx::query!(
        r#"-- queue::dead_claims
        SELECT c.claim_id, c.channel::text AS "channel!"
        FROM flametree.workers AS w
        JOIN flametree.claims AS c ON c.worker_id = w.id
        WHERE w.fenced_at IS NOT NULL AND c.claim_id <> ALL ($2)
        LIMIT $1"#,
        limit,
        &except,
    )
    .fetch_all(db)
    .await?;
    let claim = |claim_id, channel: String| Some((ClaimId::from_uuid(claim_id), Channel::from_name(&channel)?));
    Ok(rows.into_iter().filter_map(|row| claim(row.claim_id, row.channel)).collect())
}

struct Reaped {
    channel: String,
    interrupted: i64,
}

impl Reaped {
    fn into_pair(self) -> Option<(Channel, u64)> {
        Some((Channel::from_name(&self.channel)?, self.interrupted.unsigned_abs()))
    }
}
