//! Registers and fences workers, and records their heartbeats. A restart registers a new worker.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Error;

use crate::domain::ids::WorkerId;
use crate::store::Db;

/// A worker that is not fenced, with the time of its last heartbeat by the database's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenWorker {
    pub id: WorkerId,
    pub last_seen_at: DateTime<Utc>,
}

/// Registers a worker. `description` shows operators the host and the process.
pub async fn register(db: &Db, id: WorkerId, description: &str) -> Result<(), Error> {
    sqlx::query!(
        "-- workers::register
        INSERT INTO flametree.workers (id, started_at, last_seen_at, description)
        VALUES ($1, flametree.clock(), flametree.clock(), $2)
        ON CONFLICT (id) DO NOTHING",
        id.uuid(),
        description,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Records a heartbeat. Returns false if the worker was fenced and must register again.
pub async fn heartbeat(db: &Db, id: WorkerId) -> Result<bool, Error> {
    let result = sqlx::query!(
        "-- workers::heartbeat
        UPDATE flametree.workers SET last_seen_at = flametree.clock() WHERE id = $1 AND fenced_at IS NULL",
        id.uuid(),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

pub async fn seen(db: &Db) -> Result<Vec<SeenWorker>, Error> {
    let rows = sqlx::query!(
        "-- workers::seen
        SELECT id, last_seen_at FROM flametree.workers WHERE fenced_at IS NULL"
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| SeenWorker { id: WorkerId::from_uuid(row.id), last_seen_at: row.last_seen_at })
        .collect())
}

/// Fences a worker if it has sent no heartbeat since its row was read. Returns false if it has sent one, or if another
/// transaction has locked its row.
pub async fn fence(db: &Db, worker: &SeenWorker) -> Result<bool, Error> {
    let result = sqlx::query!(
        "-- workers::fence
        UPDATE flametree.workers SET fenced_at = flametree.clock()
        WHERE id = (
            SELECT w.id FROM flametree.workers AS w
            WHERE w.id = $1 AND w.last_seen_at = $2 AND w.fenced_at IS NULL
            FOR NO KEY UPDATE SKIP LOCKED)",
        worker.id.uuid(),
        worker.last_seen_at,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Fences all workers and ends all leases, so that the claims can be reaped at once. The caller must know that no other
/// process uses this database.
pub async fn fence_all(db: &Db) -> Result<u64, Error> {
    let fenced = sqlx::query_scalar!(
        r#"-- workers::fence_all
        WITH ended AS (
            DELETE FROM flametree.leases
        ), fenced AS (
            UPDATE flametree.workers SET fenced_at = flametree.clock() WHERE fenced_at IS NULL RETURNING id
        )
        SELECT count(*) AS "fenced!" FROM fenced"#
    )
    .fetch_one(db)
    .await?;
    Ok(fenced.unsigned_abs())
}

/// Inserts fenced workers for claims whose worker has no row. The service never deletes workers with claims, so this repairs
/// rows that were restored or removed manually. Reads the whole table `claims`.
pub async fn fence_unknown(db: &Db) -> Result<u64, Error> {
    let result = sqlx::query!(
        "-- workers::fence_unknown
        INSERT INTO flametree.workers (id, started_at, last_seen_at, fenced_at, description)
        SELECT DISTINCT c.worker_id, flametree.clock(), flametree.clock(), flametree.clock(), 'unknown'
        FROM flametree.claims AS c
        WHERE NOT EXISTS (SELECT 1 FROM flametree.workers AS w WHERE w.id = c.worker_id)
        ON CONFLICT (id) DO NOTHING"
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Deregisters a worker at an orderly shutdown. The reaper handles any claims that the worker leaves.
pub async fn end(db: &Db, id: WorkerId) -> Result<(), Error> {
    sqlx::query!(
        "-- workers::end
        UPDATE flametree.workers SET fenced_at = flametree.clock() WHERE id = $1 AND fenced_at IS NULL",
        id.uuid(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Deletes workers that were fenced more than `age` ago and have no claims. Skips locked rows.
pub async fn forget(db: &Db, age: Duration) -> Result<u64, Error> {
    let result = sqlx::query!(
        "-- workers::forget
        DELETE FROM flametree.workers
        WHERE id IN (
            SELECT w.id FROM flametree.workers AS w
            WHERE w.fenced_at < (SELECT flametree.clock()) - make_interval(secs => $1)
              AND NOT EXISTS (SELECT 1 FROM flametree.claims AS c WHERE c.worker_id = w.id)
            FOR UPDATE OF w SKIP LOCKED)",
        age.as_secs_f64(),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
