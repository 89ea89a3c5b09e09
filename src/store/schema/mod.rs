//! The schema: numbered migrations, and its functions, which are installed as a whole after the migrations.
//!
//! Both work through a transaction pooler: locks and settings belong to a transaction.

mod functions;
mod indexes;
mod waiting;

use std::borrow::Cow;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use sqlx::migrate::{Migrate as _, MigrateError, Migrator};
use tokio::time::timeout;
use uuid::Uuid;

use self::waiting::Watch;
use super::Db;

/// The migrations, compiled in.
///
/// The table of applied versions is named with its schema. Without the schema, the first migration would change where the second
/// run looks: for a user named like our schema, `flametree` comes before `public`, and every migration would run again. sqlx's
/// own lock belongs to a session, so a transaction pooler would leave it on a connection of another client.
static MIGRATOR: Migrator = Migrator {
    table_name: Cow::Borrowed(APPLIED),
    create_schemas: Cow::Borrowed(&[Cow::Borrowed("flametree")]),
    locking: false,
    ..sqlx::migrate!()
};
const APPLIED: &str = "flametree._sqlx_migrations";

/// How long one step of `migrate` waits for other sessions before it fails.
pub const LOCK_TIMEOUT: Duration = Duration::from_mins(10);
/// Any number that no other program locks in the same database.
const MIGRATION_LOCK: i64 = 0x0066_6c61_6d65_6d69;

/// Why the schema was not migrated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the migration waited {} s for other sessions: {holders}", waited.as_secs())]
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

/// Migrates the schema to this build's version. Waits for another process that does the same. Needs two connections of the pool,
/// and opens another one to watch for blocked statements.
///
/// A statement of a migration waits only briefly for a lock, because every query behind it waits too; then the migration is
/// retried. A concurrent index build may wait longer, because it blocks no query. Both wait for at most `patience`, and the log
/// names the sessions that block them.
pub async fn migrate(db: &Db, patience: Duration) -> Result<(), Error> {
    // Boxed: a large future, which would occupy memory in each start of a process.
    Box::pin(migrate_by(&MIGRATOR, db, patience)).await
}

/// Also applies migrations that follow this build's: for tests of possible later migrations.
pub async fn migrate_by(migrator: &Migrator, db: &Db, patience: Duration) -> Result<(), Error> {
    let mut lock = db.begin().await?;
    let locking = sqlx::query!("-- schema::migrate\nSELECT FROM pg_advisory_xact_lock($1)", MIGRATION_LOCK);
    timeout(patience, locking.execute(&mut *lock)).await.map_err(|_elapsed| Error::Busy { waited: patience })??;
    // This transaction only holds the lock while other transactions run the migrations, which takes minutes if a table is large.
    sqlx::raw_sql("SET LOCAL idle_in_transaction_session_timeout = 0").execute(&mut *lock).await?;
    let texts = migrator.iter().map(|migration| migration.sql.as_str().to_owned());
    let mut watch = Watch::new(db, patience, texts.chain([indexes::DROP.to_owned()]).collect());
    watch.repeat(|| apply(migrator, db)).await?;
    let mut watch = Watch::new(db, patience, functions::SOURCES.map(str::to_owned).to_vec());
    watch.repeat(|| functions::install(db)).await?;
    lock.commit().await?;
    Ok(())
}

/// Applies the pending migrations.
async fn apply(migrator: &Migrator, db: &Db) -> Result<(), Error> {
    indexes::drop_invalid(migrator, db).await?;
    match migrator.run(db).await {
        Err(MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_))
            if is_before_first_release(db).await? =>
        {
            Err(Error::BeforeFirstRelease)
        }
        result => Ok(result?),
    }
}

/// True if the schema has this build's migrations, and functions of its version or a later one. Read-only.
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
    Ok(installed.is_some_and(|version| version >= functions::version()))
}

/// A digest of the migrations and functions: builds with equal digests create the same schema.
pub fn digest() -> String {
    let mut hasher = Sha256::new();
    for migration in MIGRATOR.iter() {
        hasher.update(&migration.checksum);
    }
    hasher.update(functions::hash());
    let digest = hasher.finalize();
    Uuid::from_slice(&digest[..16]).unwrap_or_default().simple().to_string()
}

/// The number of migrations.
pub fn migrations() -> usize {
    MIGRATOR.iter().count()
}

/// This build's migrations followed by `later`, with the same settings.
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

/// Builds before 0.1.0 had more migrations, and other first ones.
async fn is_before_first_release(db: &Db) -> Result<bool, Error> {
    let exists = sqlx::query_scalar!(
        r#"-- schema::is_before_first_release
        SELECT to_regclass('flametree.function_sources') IS NULL AS "is_before!""#
    );
    Ok(exists.fetch_one(db).await?)
}
