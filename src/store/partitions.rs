//! Partitions of events, deliveries and idempotency keys. They are created in advance, and detached and dropped after they
//! expire.

use std::pin::pin;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Error};
use tokio::time::timeout;

use super::{Db, LOCK_NOT_AVAILABLE, QUERY_CANCELED, has_code, with_timeout};

/// How long a detach waits for transactions that use the table. The wait is longer than a caller's transaction and shorter than
/// the interval between runs of retention.
const DETACH_TIMEOUT: Duration = Duration::from_mins(1);
/// A few attempts suffice, because only a waiting detach locks a parent table for longer than milliseconds.
const PREPARE_ATTEMPTS: u32 = 5;

/// Creates the partitions for today (by the database's clock) and the next two days, and returns how many. Safe to repeat,
/// and to run in several processes concurrently.
pub async fn prepare(db: &Db, days_kept: u32) -> Result<u32, Error> {
    let mut attempt = 1;
    loop {
        let created = sqlx::query_scalar!(
            r#"-- partitions::prepare
            SELECT flametree.prepare_partitions($1) AS "created!""#,
            days(days_kept),
        );
        match with_timeout(created.fetch_one(db)).await {
            Err(error) if has_code(&error, LOCK_NOT_AVAILABLE) && attempt < PREPARE_ATTEMPTS => attempt += 1,
            created => return created.map(i32::unsigned_abs),
        }
    }
}

/// A partition that retention removes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    pub name: String,
    state: State,
}

impl Expired {
    /// The parent table; `None` if the partition is detached.
    pub fn parent(&self) -> Option<&str> {
        match &self.state {
            State::Attached { parent } | State::Detaching { parent } => Some(parent),
            State::Detached => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Attached {
        parent: String,
    },
    /// An earlier detach of the partition was interrupted.
    Detaching {
        parent: String,
    },
    Detached,
}

/// Lists the partitions whose last id is older than `days_kept` days, and unused partitions of idempotency keys, in the order
/// of removal. Excludes partitions that an unfinished delivery needs.
pub async fn expired(db: &Db, days_kept: u32) -> Result<Vec<Expired>, Error> {
    forget_attached(db).await?;
    let rows = sqlx::query!(
        r#"-- partitions::expired
        SELECT parent, name AS "name!", state AS "state!" FROM flametree.expired_partitions($1)"#,
        days(days_kept),
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let state = match (row.state.as_str(), row.parent) {
                ("attached", Some(parent)) => State::Attached { parent },
                ("detaching", Some(parent)) => State::Detaching { parent },
                ("detached", _) => State::Detached,
                (other, _) => return Err(Error::Decode(format!("a partition has the unknown state {other}").into())),
            };
            Ok(Expired { name: row.name, state })
        })
        .collect()
}

/// Detaches an expired partition without blocking readers or writers of the table, and drops it. Returns false if a long
/// transaction blocked the detach for a minute. The next call continues the detach.
pub async fn remove(db: &Db, expired: &Expired) -> Result<bool, Error> {
    let name = &expired.name;
    let statement = match &expired.state {
        State::Attached { parent } => {
            note(db, name).await?;
            format!("ALTER TABLE flametree.{parent} DETACH PARTITION flametree.{name} CONCURRENTLY")
        }
        State::Detaching { parent } => {
            format!("ALTER TABLE flametree.{parent} DETACH PARTITION flametree.{name} FINALIZE")
        }
        State::Detached => return drop_detached(db, name).await,
    };
    // PostgreSQL requires that this statement runs alone, outside of any transaction.
    let mut detach = pin!(sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(db));
    let detached = match timeout(DETACH_TIMEOUT, detach.as_mut()).await {
        Ok(detached) => detached,
        Err(_elapsed) => {
            cancel(db, &statement).await?;
            // The partition can become detached until the canceled statement has ended.
            with_timeout(detach).await
        }
    };
    match detached {
        Ok(_) => drop_detached(db, name).await,
        Err(error @ Error::Database(_)) => {
            forget_attached(db).await?;
            if has_code(&error, QUERY_CANCELED) { Ok(false) } else { Err(error) }
        }
        // The statement may still run.
        Err(error) => Err(error),
    }
}

/// Records the partition before its removal. Retention drops only recorded tables, so it keeps a partition that an operator
/// detached.
async fn note(db: &Db, name: &str) -> Result<(), Error> {
    let noted = sqlx::query!(
        "-- partitions::note\nINSERT INTO flametree.partitions_to_drop (name) VALUES ($1) ON CONFLICT DO NOTHING",
        name
    );
    with_timeout(noted.execute(db)).await?;
    Ok(())
}

/// Deletes the records of partitions that are still attached, because their detach failed or never started. Otherwise, retention
/// would drop such a partition after an operator detached it.
async fn forget_attached(db: &Db) -> Result<(), Error> {
    let forgotten = sqlx::query!(
        "-- partitions::forget_attached
        DELETE FROM flametree.partitions_to_drop AS t
        WHERE EXISTS (SELECT FROM flametree.partitions() AS p WHERE p.name = t.name AND p.state = 'attached')"
    );
    with_timeout(forgotten.execute(db)).await?;
    Ok(())
}

/// Drops a detached partition. Returns false if the table is locked, for example by a vacuum.
async fn drop_detached(db: &Db, name: &str) -> Result<bool, Error> {
    let dropped = sqlx::query!("-- partitions::drop\nSELECT flametree.drop_detached_partition($1)", name);
    match dropped.execute(db).await {
        Ok(_) => Ok(true),
        Err(error) if has_code(&error, LOCK_NOT_AVAILABLE) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Cancels the statement by its text in any session, because behind a pooler the client does not know which session runs it.
async fn cancel(db: &Db, statement: &str) -> Result<(), Error> {
    let canceled = sqlx::query!(
        r#"-- partitions::cancel
        SELECT pg_cancel_backend(pid) AS "canceled" FROM pg_catalog.pg_stat_activity
        WHERE query = $1 AND state = 'active' AND pid <> pg_backend_pid()"#,
        statement,
    );
    with_timeout(canceled.fetch_all(db)).await?;
    Ok(())
}

/// The tables that an operator has detached from `events`, `deliveries` or `idempotency_keys`. Retention keeps them.
pub async fn detached_by_hand(db: &Db) -> Result<Vec<String>, Error> {
    let names = sqlx::query_scalar!(
        r#"-- partitions::detached_by_hand
        SELECT c.relname::text AS "name!"
        FROM pg_catalog.pg_class AS c
        WHERE c.relnamespace = 'flametree'::regnamespace AND c.relkind = 'r' AND NOT c.relispartition
          AND c.relname ~ '^(events|deliveries|idempotency_keys)_[0-9]{8}x*$'
          AND NOT EXISTS (SELECT FROM flametree.partitions_to_drop AS t WHERE t.name = c.relname)
        ORDER BY c.relname"#
    );
    with_timeout(names.fetch_all(db)).await
}

/// The time span that the partitions cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The time until which every table has partitions without a gap.
    pub ends_at: Option<DateTime<Utc>>,
    /// The time when the oldest partition expires, or when an incomplete removal started.
    pub removal_due: Option<DateTime<Utc>>,
}

pub async fn span(db: &Db, days_kept: u32) -> Result<Span, Error> {
    sqlx::query_as!(
        Span,
        "-- partitions::span
        SELECT ends_at, removal_due FROM flametree.partition_span($1)",
        days(days_kept),
    )
    .fetch_one(db)
    .await
}

fn days(days: u32) -> i32 {
    i32::try_from(days).unwrap_or(i32::MAX)
}
