//! The schema: numbered migrations, and the sources of its functions, which are installed as a whole after them.
//!
//! Both work through a transaction pooler: locks are held by a transaction, and settings are set for a transaction.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use sqlx::migrate::{Migrate as _, MigrateError, Migrator};
use tokio::time::timeout;
use uuid::Uuid;

use super::{Db, LOCK_NOT_AVAILABLE, Tx, has_code};

/// The migrations, compiled in.
///
/// The table of applied versions is named with its schema. Without it the first migration decides where the second run
/// looks: for a user named like our schema, `flametree` comes before `public`, and every migration would run again.
/// sqlx's own lock is a session's, which a transaction pooler would leave on a connection of another client.
static MIGRATOR: Migrator = Migrator {
    table_name: Cow::Borrowed(APPLIED),
    create_schemas: Cow::Borrowed(&[Cow::Borrowed("flametree")]),
    locking: false,
    ..sqlx::migrate!()
};
const APPLIED: &str = "flametree._sqlx_migrations";

/// The sources of the schema's functions, in no order that matters.
const FUNCTIONS: [&str; 12] = [
    include_str!("../../migrations/functions/accept.sql"),
    include_str!("../../migrations/functions/enqueue_event.sql"),
    include_str!("../../migrations/functions/ids.sql"),
    include_str!("../../migrations/functions/keys.sql"),
    include_str!("../../migrations/functions/partitions.sql"),
    include_str!("../../migrations/functions/push_configs.sql"),
    include_str!("../../migrations/functions/queue_claim.sql"),
    include_str!("../../migrations/functions/queue_finish.sql"),
    include_str!("../../migrations/functions/queue_scan.sql"),
    include_str!("../../migrations/functions/replays.sql"),
    include_str!("../../migrations/functions/stats.sql"),
    include_str!("../../migrations/functions/workspace.sql"),
];

/// How long `migrate` waits for locks, in attempts of [`ATTEMPT_LOCK_TIMEOUT`], before it fails.
pub const LOCK_PATIENCE: Duration = Duration::from_mins(10);
/// Between two attempts: queries that queued behind the waiting statement run meanwhile.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// Any number that no other program locks in the same database.
const MIGRATION_LOCK: i64 = 0x0066_6c61_6d65_6d69;

/// Why the schema was not brought to this build's version.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the schema's tables stayed locked for {} s; locks are held by: {holders}", waited.as_secs())]
    Locked { waited: Duration, holders: String },
    #[error("another process was still migrating the schema after {} s", waited.as_secs())]
    Busy { waited: Duration },
    #[error(
        "the database was made by a build before 0.1.0, whose schema cannot be upgraded: use an empty database, or drop the \
         schema `flametree` if its data is not needed"
    )]
    BeforeFirstRelease,
    #[error(transparent)]
    Migration(#[from] MigrateError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Brings the schema to this build's version. Another process that does the same is waited for. The pool needs two
/// connections.
///
/// A statement of a migration waits for a lock only briefly, because every query behind it waits too; then the migration is
/// repeated, for at most `patience`, and the log names the sessions that hold locks.
pub async fn migrate(db: &Db, patience: Duration) -> Result<(), Error> {
    migrate_by(&MIGRATOR, db, patience).await
}

/// The same with migrations that follow this build's: for tests of what later migrations may do.
pub async fn migrate_by(migrator: &Migrator, db: &Db, patience: Duration) -> Result<(), Error> {
    let mut lock = db.begin().await?;
    let locking = sqlx::query!("-- schema::migrate\nSELECT FROM pg_advisory_xact_lock($1)", MIGRATION_LOCK);
    timeout(patience, locking.execute(&mut *lock)).await.map_err(|_elapsed| Error::Busy { waited: patience })??;
    // This transaction only holds the lock while the migrations run in others, for minutes if a table is large.
    sqlx::raw_sql("SET LOCAL idle_in_transaction_session_timeout = 0").execute(&mut *lock).await?;
    let started = Instant::now();
    loop {
        match migrator.run(db).await {
            Ok(()) => break,
            Err(MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_))
                if is_before_first_release(db).await? =>
            {
                return Err(Error::BeforeFirstRelease);
            }
            Err(error) if is_lock_timeout(&error) => {
                let (waited, holders) = (started.elapsed(), holders(db).await?);
                if waited >= patience {
                    return Err(Error::Locked { waited, holders });
                }
                tracing::warn!(
                    holders,
                    waited_seconds = waited.as_secs(),
                    "migration waits for locks; it will be repeated"
                );
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    install_functions(db).await?;
    lock.commit().await?;
    Ok(())
}

/// Whether the schema has this build's migrations, and functions of its release or a later one. Only reads.
pub async fn is_current(db: &Db) -> Result<bool, Error> {
    let mut connection = db.acquire().await?;
    let exists = sqlx::query_scalar!(
        r#"-- schema::is_current (exists)
        SELECT to_regclass('flametree._sqlx_migrations') IS NOT NULL
           AND to_regclass('flametree.function_sources') IS NOT NULL AS "exists!""#
    );
    if !exists.fetch_one(&mut *connection).await? {
        return Ok(false);
    }
    let applied = connection.list_applied_migrations(APPLIED).await?;
    let newest = MIGRATOR.iter().map(|migration| migration.version).max();
    if !newest.is_none_or(|newest| applied.iter().any(|migration| migration.version == newest)) {
        return Ok(false);
    }
    let installed = sqlx::query_scalar!("-- schema::is_current\nSELECT version FROM flametree.function_sources")
        .fetch_optional(&mut *connection)
        .await?;
    Ok(installed.is_some_and(|version| version >= release()))
}

/// A digest of the migrations and functions: two builds with the same digest make the same schema.
pub fn digest() -> String {
    let mut hasher = Sha256::new();
    for migration in MIGRATOR.iter() {
        hasher.update(&migration.checksum);
    }
    hasher.update(functions_hash());
    let digest = hasher.finalize();
    Uuid::from_slice(&digest[..16]).unwrap_or_default().simple().to_string()
}

/// The number of migrations.
pub fn migrations() -> usize {
    MIGRATOR.iter().count()
}

/// Migrations that follow this build's, applied as this build applies its own.
pub fn followed_by(later: &Migrator) -> Migrator {
    let migrations: Vec<_> = MIGRATOR.iter().chain(later.iter()).cloned().collect();
    Migrator {
        migrations: Cow::Owned(migrations),
        table_name: MIGRATOR.table_name.clone(),
        create_schemas: MIGRATOR.create_schemas.clone(),
        locking: MIGRATOR.locking,
        ignore_missing: MIGRATOR.ignore_missing,
        no_tx: MIGRATOR.no_tx,
    }
}

/// Replaces all functions in one transaction, unless those of a later release are installed.
async fn install_functions(db: &Db) -> Result<(), Error> {
    let mut tx: Tx = db.begin().await?;
    let installed =
        sqlx::query!("-- schema::installed_functions\nSELECT version, sha256 FROM flametree.function_sources")
            .fetch_optional(&mut *tx)
            .await?;
    let hash = functions_hash();
    if let Some(installed) = installed {
        if installed.version > release() {
            tracing::info!(version = ?installed.version, "kept the functions of a later release");
            return Ok(());
        }
        if installed.version == release() && installed.sha256 == hash {
            return Ok(());
        }
    }
    // Functions of language SQL are checked when they are created; those that they call may come later.
    sqlx::raw_sql("SET LOCAL check_function_bodies = off").execute(&mut *tx).await?;
    for source in FUNCTIONS {
        sqlx::raw_sql(source).execute(&mut *tx).await?;
    }
    sqlx::query!(
        "-- schema::install_functions
        INSERT INTO flametree.function_sources (version, sha256) VALUES ($1, $2)
        ON CONFLICT (one) DO UPDATE SET version = excluded.version, sha256 = excluded.sha256",
        &release(),
        &hash,
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}

/// This release as numbers, which compare as versions do.
fn release() -> Vec<i32> {
    env!("CARGO_PKG_VERSION").split(['.', '-', '+']).take(3).filter_map(|part| part.parse().ok()).collect()
}

fn functions_hash() -> Vec<u8> {
    let mut hasher = Sha256::new();
    for source in FUNCTIONS {
        hasher.update(source);
    }
    hasher.finalize().to_vec()
}

fn is_lock_timeout(error: &MigrateError) -> bool {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => has_code(error, LOCK_NOT_AVAILABLE),
        _ => false,
    }
}

/// Builds before 0.1.0 had more migrations than this one, and other first ones.
async fn is_before_first_release(db: &Db) -> Result<bool, Error> {
    let exists = sqlx::query_scalar!(
        r#"-- schema::is_before_first_release
        SELECT to_regclass('flametree.function_sources') IS NULL AS "is_before!""#
    );
    Ok(exists.fetch_one(db).await?)
}

/// The sessions that hold locks on the schema's tables, the oldest transaction first, for people.
async fn holders(db: &Db) -> Result<String, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- schema::holders
        SELECT coalesce(string_agg(h.session, '; '), 'none any more') AS "holders!"
        FROM (
            SELECT format('pid %s (%s, %s) in a transaction since %s', a.pid, a.usename, a.application_name, a.xact_start) AS session
            FROM pg_catalog.pg_stat_activity AS a
            WHERE a.pid <> pg_backend_pid() AND a.xact_start IS NOT NULL AND EXISTS (
                SELECT FROM pg_catalog.pg_locks AS l
                JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
                WHERE l.pid = a.pid AND l.granted AND c.relnamespace = to_regnamespace('flametree'))
            ORDER BY a.xact_start
            LIMIT 5
        ) AS h"#
    )
    .fetch_one(db)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_source_is_compiled_in() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/functions");
        let mut files: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect();
        files.sort();
        let mut compiled = FUNCTIONS.map(str::to_owned);
        compiled.sort();
        assert_eq!(files, compiled);
    }

    #[test]
    fn later_releases_compare_as_later() {
        assert_eq!(release().len(), 3);
        assert!(vec![0, 10, 0] > vec![0, 9, 7]);
    }
}
