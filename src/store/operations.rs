//! The table `operations`. Schedules and users insert operations. One worker at a time holds an operation.
//!
//! Each write checks that the worker still holds the operation. If the check fails, another worker holds the operation or a
//! user canceled it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Error;
use uuid::Uuid;

use super::{Db, known};
use crate::domain::ids::{OperationId, WorkerId};
use crate::domain::operation::{HeldOperation, OperationKind, OperationState};

/// The constraints that allow only one running tick per schedule and one running replay per tenant.
const ONE_AT_A_TIME: [&str; 2] = ["operations_one_of_a_schedule", "operations_one_of_a_tenant"];

/// The source of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Schedule,
    Request,
}

/// The current time by the database's clock.
pub async fn now(db: &Db) -> Result<DateTime<Utc>, Error> {
    let now = sqlx::query_scalar!(
        r#"-- operations::now
        SELECT flametree.clock() AS "now!""#
    );
    now.fetch_one(db).await
}

/// Inserts a tick of a schedule. Returns false if the tick already exists.
pub async fn enter_tick(db: &Db, kind: OperationKind, tick: DateTime<Utc>) -> Result<bool, Error> {
    let result = sqlx::query!(
        "-- operations::enter_tick
        INSERT INTO flametree.operations (id, kind, tick, state, due_at, created_at)
        VALUES ($1, $2, $3, 'waiting', flametree.clock(), flametree.clock())
        ON CONFLICT (kind, tick) DO NOTHING",
        Uuid::now_v7(),
        kind.as_str(),
        tick,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Leases one due operation of this origin: a waiting operation, or one whose lease has expired. Skips a waiting operation
/// while another tick of its schedule or another replay of its tenant runs. Returns `None` if this release can run no due
/// operation.
pub async fn take(db: &Db, origin: Origin, holder: WorkerId, lease: Duration) -> Result<Option<HeldOperation>, Error> {
    let row = sqlx::query!(
        r#"-- operations::take
        WITH due AS (
            SELECT o.id
            FROM flametree.operations AS o
            WHERE o.state IN ('waiting', 'running')
              AND o.due_at <= (SELECT flametree.clock())
              AND o.kind = ANY ($3)
              AND (o.tick IS NULL) = $4
              AND (o.state = 'running' OR NOT EXISTS (
                  SELECT 1 FROM flametree.operations AS r
                  WHERE r.state = 'running' AND CASE WHEN $4 THEN r.tenant_id = o.tenant_id
                                                     ELSE r.kind = o.kind AND r.tick IS NOT NULL END))
            ORDER BY o.due_at
            LIMIT 1
            FOR UPDATE SKIP LOCKED
        )
        UPDATE flametree.operations AS o
        SET state = 'running', holder = $1, attempts = o.attempts + 1,
            due_at = flametree.clock() + make_interval(secs => $2),
            started_at = coalesce(o.started_at, flametree.clock())
        FROM due
        WHERE o.id = due.id
        RETURNING o.id, o.kind, o.attempts, flametree.clock() AS "now!""#,
        holder.uuid(),
        lease.as_secs_f64(),
        &OperationKind::ALL.map(OperationKind::as_str) as &[&str],
        origin == Origin::Request,
    )
    .fetch_optional(db)
    .await;
    let row = match row {
        // Another process leased an operation of the same schedule or tenant at the same time.
        Err(Error::Database(error)) if error.constraint().is_some_and(|name| ONE_AT_A_TIME.contains(&name)) => {
            return Ok(None);
        }
        row => row?,
    };
    row.map(|row| {
        Ok(HeldOperation {
            id: OperationId::from_uuid(row.id),
            kind: kind(&row.kind)?,
            attempts: row.attempts.unsigned_abs(),
            now: row.now,
        })
    })
    .transpose()
}

/// Extends the lease of the holder. Returns false if the holder no longer holds the operation.
pub async fn prolong(db: &Db, id: OperationId, holder: WorkerId, lease: Duration) -> Result<bool, Error> {
    let result = sqlx::query!(
        "-- operations::prolong
        UPDATE flametree.operations
        SET due_at = flametree.clock() + make_interval(secs => $3)
        WHERE id = $1 AND holder = $2 AND state = 'running'",
        id.uuid(),
        holder.uuid(),
        lease.as_secs_f64(),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Records that the operation has ended. Returns false if the holder no longer holds the operation.
pub async fn end(
    db: &Db,
    id: OperationId,
    holder: WorkerId,
    state: OperationState,
    note: Option<&str>,
) -> Result<bool, Error> {
    let result = sqlx::query!(
        "-- operations::end
        UPDATE flametree.operations
        SET state = $3, holder = NULL, note = $4, finished_at = flametree.clock()
        WHERE id = $1 AND holder = $2 AND state = 'running'",
        id.uuid(),
        holder.uuid(),
        state.as_str(),
        note,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Releases the operation and stores `attempts` as its number of starts. A worker can lease it again after `pause`. Returns
/// false if the holder no longer holds the operation.
pub async fn release(
    db: &Db,
    id: OperationId,
    holder: WorkerId,
    attempts: u32,
    pause: Duration,
    note: Option<&str>,
) -> Result<bool, Error> {
    let result = sqlx::query!(
        "-- operations::give_back
        UPDATE flametree.operations
        SET state = 'waiting', holder = NULL, note = $4, attempts = $5,
            due_at = flametree.clock() + make_interval(secs => $3)
        WHERE id = $1 AND holder = $2 AND state = 'running'",
        id.uuid(),
        holder.uuid(),
        pause.as_secs_f64(),
        note,
        i32::try_from(attempts).unwrap_or(i32::MAX),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Deletes up to `limit` ended operations older than `age` and returns how many. Keeps the last tick of each schedule, so that
/// a new process does not run it again. A tick in the future, from a wrong clock, is not the last tick.
pub async fn forget(db: &Db, age: Duration, limit: i64) -> Result<u64, Error> {
    let result = sqlx::query!(
        "-- operations::forget
        DELETE FROM flametree.operations
        WHERE id IN (
            SELECT o.id
            FROM flametree.operations AS o
            WHERE o.finished_at < (SELECT flametree.clock()) - make_interval(secs => $1)
              AND (o.tick IS NULL OR EXISTS (
                  SELECT 1 FROM flametree.operations AS later
                  WHERE later.kind = o.kind AND later.tick > o.tick AND later.tick <= (SELECT flametree.clock())))
            LIMIT $2)",
        age.as_secs_f64(),
        limit,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// The health of one kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    pub kind: OperationKind,
    /// For a schedule, the failed attempts since its last success. For replays, the failed attempts of the replay that failed
    /// most often.
    pub failed_attempts: i64,
    /// How long the oldest tick since the last success has been due; zero if every tick has succeeded.
    pub overdue: Duration,
}

/// The health of each kind of operation. All ticks of a schedule do the same work, so one success resets the failures and the
/// delay. A success in the future, from a wrong clock, does not count. A replay counts until it succeeds or is canceled, but a
/// failed replay counts for only a day.
pub async fn health(db: &Db) -> Result<Vec<Health>, Error> {
    let rows = sqlx::query!(
        r#"-- operations::health
        WITH succeeded AS (
            SELECT kind, max(finished_at) AS at, max(tick) AS tick
            FROM flametree.operations
            WHERE state = 'succeeded' AND tick IS NOT NULL AND greatest(tick, finished_at) <= (SELECT flametree.clock())
            GROUP BY kind
        ), unsuccessful AS (
            SELECT kind, tick, coalesce(finished_at, started_at) AS at, attempts - (state = 'running')::integer AS failed
            FROM flametree.operations
            WHERE state IN ('waiting', 'running')
               OR state = 'failed' AND (tick IS NOT NULL OR finished_at > flametree.clock() - interval '1 day')
        )
        SELECT k.kind AS "kind!",
               greatest(
                   coalesce(sum(u.failed) FILTER (WHERE u.tick IS NOT NULL AND u.at > coalesce(s.at, '-infinity')), 0),
                   coalesce(max(u.failed) FILTER (WHERE u.tick IS NULL), 0)) AS "failed_attempts!",
               greatest(extract(epoch FROM flametree.clock() - min(greatest(u.tick, s.at))
                   FILTER (WHERE u.tick > coalesce(s.tick, '-infinity'))), 0)::float8 AS "overdue_seconds!"
        FROM unnest($1::text[]) AS k (kind)
        LEFT JOIN succeeded AS s ON s.kind = k.kind
        LEFT JOIN unsuccessful AS u ON u.kind = k.kind
        GROUP BY k.kind"#,
        &OperationKind::ALL.map(OperationKind::as_str) as &[&str],
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let overdue = Duration::try_from_secs_f64(row.overdue_seconds).unwrap_or_default();
            Ok(Health { kind: kind(&row.kind)?, failed_attempts: row.failed_attempts, overdue })
        })
        .collect()
}

pub(super) fn kind(name: &str) -> Result<OperationKind, Error> {
    known(name, "an operation has the unknown kind")
}
