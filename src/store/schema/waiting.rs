//! Lets schema changes wait for locks of other sessions, with retries, reports and a time limit.

use std::pin::Pin;
use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection, migrate::MigrateError};
use tokio::time::timeout;

use super::{APPLIED, Error};
use crate::store::{Db, LOCK_NOT_AVAILABLE, has_code, with_timeout};

/// Pause between two attempts. During the pause, queries that waited behind the migration's statement can run.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// How often a running statement is checked: several times within the shortest lock timeout.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// How often a wait is logged again. A wait of ten minutes logs sixty lines.
const REPORT_PAUSE: Duration = Duration::from_secs(10);

/// Retries a schema change that does not get a lock, logs the sessions that block it, and fails after a time limit.
pub(super) struct Watch<'a> {
    db: &'a Db,
    /// How long one step may wait for locks.
    patience: Duration,
    /// The statements to watch. Each item is a whole statement or its beginning, because `pg_stat_activity` shows only the
    /// first bytes.
    texts: Vec<String>,
    /// A connection outside of the pool, opened by the first check. It keeps no transaction open, because an index build
    /// would wait for that transaction.
    connection: Option<PgConnection>,
    /// The sessions that blocked the statement when a check last found it blocked.
    holders: Option<String>,
    reported: Option<Instant>,
}

/// A statement that waits for a lock.
struct Waiting {
    pid: i32,
    holders: String,
}

impl<'a> Watch<'a> {
    pub(super) fn new(db: &'a Db, patience: Duration, texts: Vec<String>) -> Self {
        Self { db, patience, texts, connection: None, holders: None, reported: None }
    }

    /// Repeats `attempt` while it fails because a lock was not granted.
    pub(super) async fn repeat<F>(&mut self, attempt: impl Fn() -> F) -> Result<(), Error>
    where
        F: Future<Output = Result<(), Error>>,
    {
        let mut waiting: Option<(Option<i64>, Instant)> = None;
        loop {
            let error = match self.observe(Box::pin(attempt())).await {
                Err(error) if is_lock_timeout(&error) => error,
                ended => return ended,
            };
            // The time limit starts again with each migration, because earlier migrations might have run for hours without
            // waiting.
            let step = migration(&error);
            let since = match waiting {
                Some((last, since)) if last == step => since,
                _ => Instant::now(),
            };
            waiting = Some((step, since));
            let holders = match self.holders.clone() {
                Some(holders) => holders,
                None => holders(self.db).await?.unwrap_or_else(|| "none any more".into()),
            };
            let waited = since.elapsed();
            if waited >= self.patience {
                return Err(Error::Locked { waited, holders });
            }
            self.report(&holders, waited);
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Runs one attempt. Cancels its statement if the statement has been blocked for too long without interruption.
    pub(super) async fn observe(
        &mut self,
        mut attempt: Pin<Box<impl Future<Output = Result<(), Error>>>>,
    ) -> Result<(), Error> {
        let mut since = None;
        let mut canceled = None;
        loop {
            if let Ok(ended) = timeout(LOOK_PAUSE, &mut attempt).await {
                return match (ended, canceled) {
                    (Err(_), Some((waited, holders))) => Err(Error::Locked { waited, holders }),
                    (ended, _) => ended,
                };
            }
            let Some(Waiting { pid, holders }) = self.look_again().await else {
                since = None;
                continue;
            };
            let waited = since.get_or_insert_with(Instant::now).elapsed();
            self.report(&holders, waited);
            if waited >= self.patience {
                self.cancel(pid).await?;
                canceled = Some((waited, holders.clone()));
            }
            self.holders = Some(holders);
        }
    }

    fn report(&mut self, holders: &str, waited: Duration) {
        if self.reported.is_none_or(|at| at.elapsed() >= REPORT_PAUSE) {
            self.reported = Some(Instant::now());
            tracing::warn!(holders, waited_seconds = waited.as_secs(), "the migration waits for other sessions");
        }
    }

    /// Checks which sessions block the statement. If the check fails, the next check opens another connection.
    async fn look_again(&mut self) -> Option<Waiting> {
        with_timeout(self.look()).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "could not check what the migration waits for");
            self.connection = None;
            None
        })
    }

    async fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        match &mut self.connection {
            Some(connection) => Ok(connection),
            none => Ok(none.insert(PgConnection::connect_with(&self.db.connect_options()).await?)),
        }
    }

    /// Finds the watched statement that waits now. Searches all sessions, because behind a pooler the client does not know
    /// which session runs the statement.
    async fn look(&mut self) -> Result<Option<Waiting>, sqlx::Error> {
        let texts = self.texts.clone();
        let connection = self.connection().await?;
        sqlx::query_as!(
            Waiting,
            r#"-- schema::waiting
            SELECT a.pid AS "pid!", h.holders AS "holders!"
            FROM pg_catalog.pg_stat_activity AS a
            -- Without a row if the wait has just ended. A prepared transaction has the number 0 and no session.
            JOIN LATERAL (
                SELECT string_agg(
                    CASE WHEN p.pid = 0 THEN 'a prepared transaction'
                         ELSE format('pid %s (%s, %s) in a transaction since %s', b.pid, b.usename, b.application_name, b.xact_start)
                    END, '; ') AS holders
                FROM unnest(pg_blocking_pids(a.pid)) AS p (pid)
                LEFT JOIN pg_catalog.pg_stat_activity AS b ON b.pid = p.pid
                WHERE b.pid IS NOT NULL OR p.pid = 0
            ) AS h ON h.holders IS NOT NULL
            WHERE a.datname = current_database() AND a.state = 'active' AND a.wait_event_type = 'Lock' AND a.query <> ''
              AND (position($2 IN a.query) > 0
                   OR EXISTS (SELECT FROM unnest($1::text[]) AS t (text)
                              WHERE starts_with(t.text, a.query) OR starts_with(a.query, t.text)))
            LIMIT 1"#,
            &texts,
            // Also finds sqlx' statements on the table of applied migrations.
            APPLIED,
        )
        .fetch_optional(connection)
        .await
    }

    /// Cancels the statement of the session if the statement still waits.
    async fn cancel(&mut self, pid: i32) -> Result<(), sqlx::Error> {
        let canceled = sqlx::query!(
            r#"-- schema::cancel
            SELECT pg_cancel_backend(a.pid) AS "canceled" FROM pg_catalog.pg_stat_activity AS a
            WHERE a.pid = $1 AND a.state = 'active' AND a.wait_event_type = 'Lock'"#,
            pid
        );
        with_timeout(canceled.fetch_all(self.connection().await?)).await?;
        Ok(())
    }
}

/// The number of the migration that failed, if the error is from a migration.
fn migration(error: &Error) -> Option<i64> {
    match error {
        Error::Migration(MigrateError::ExecuteMigration(_, version)) => Some(*version),
        _ => None,
    }
}

fn is_lock_timeout(error: &Error) -> bool {
    match error {
        Error::Migration(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _))
        | Error::Database(error) => has_code(error, LOCK_NOT_AVAILABLE),
        _ => false,
    }
}

/// The sessions that hold locks on the schema's tables, oldest transaction first, as text for operators.
async fn holders(db: &Db) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- schema::holders
        SELECT string_agg(h.session, '; ') AS "holders"
        FROM (
            SELECT format('pid %s (%s, %s) in a transaction since %s', a.pid, a.usename, a.application_name, a.xact_start) AS session
            FROM pg_catalog.pg_stat_activity AS a
            WHERE a.pid <> pg_backend_pid() AND a.xact_start IS NOT NULL AND EXISTS (
                SELECT FROM pg_catalog.pg_locks AS l
                JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
                WHERE l.pid = a.pid AND l.granted AND l.database = a.datid AND a.datname = current_database() AND c.relnamespace = to_regnamespace('flametree'))
            ORDER BY a.xact_start
            LIMIT 5
        ) AS h"#
    )
    .fetch_one(db)
    .await
}
