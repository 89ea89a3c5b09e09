//! The schema: numbered migrations, and database functions that are all installed together after the migrations.
//!
//! Migrations and functions install through a transaction pooler, because all locks and settings belong to a transaction.

mod functions;
mod indexes;
mod waiting;

use std::borrow::Cow;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use sqlx::migrate::{Migrate as _, MigrateError, Migrator};
use uuid::Uuid;

use self::waiting::Watch;
use super::{Db, Tx};

/// The migrations, compiled in.
///
/// The name of the table of applied migrations includes the schema. Otherwise every migration would run twice if the database
/// role has the name `flametree`: the first run would create the table in `public`, but the second run would search the schema
/// `flametree`. sqlx's own lock is off. It belongs to a session, so a transaction pooler would leave it on a connection of
/// another client.
static MIGRATOR: Migrator = Migrator {
    table_name: Cow::Borrowed(APPLIED),
    create_schemas: Cow::Borrowed(&[Cow::Borrowed("flametree")]),
    locking: false,
    ..sqlx::migrate!()
};
const APPLIED: &str = "flametree._sqlx_migrations";

/// How long one step of `migrate` waits for locks of other sessions before it fails.
pub const LOCK_TIMEOUT: Duration = Duration::from_mins(10);
/// The key of the advisory lock. No other program in the same database should lock this number.
const MIGRATION_LOCK: i64 = 0x0066_6c61_6d65_6d69;
/// The beginning of the statement that takes the lock.
const LOCKING: &str = "-- schema::migrate\n";

/// Why the schema could not be migrated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the migration waited {} s for other sessions: {holders}", waited.as_secs())]
    Locked { waited: Duration, holders: String },
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

/// Migrates the schema to this build's version. If another process migrates, waits for it. Needs two connections of the pool,
/// and opens a third connection to watch for blocked statements.
///
/// A statement of a migration waits only briefly for a lock, because later queries wait behind the statement. Then the
/// migration is retried. A concurrent index build may wait longer, because it blocks no query. The limit of each
/// wait is `patience`. The log names the blocking sessions.
pub async fn migrate(db: &Db, patience: Duration) -> Result<(), Error> {
    // Boxed, because the future is large and would otherwise occupy memory in every process.
    Box::pin(migrate_by(&MIGRATOR, db, patience)).await
}

/// Migrates with `migrator`, which may have more migrations than this build. Tests use it for possible later migrations.
pub async fn migrate_by(migrator: &Migrator, db: &Db, patience: Duration) -> Result<(), Error> {
    let mut lock = db.begin().await?;
    Watch::new(db, patience, vec![LOCKING.to_owned()]).observe(Box::pin(take_lock(&mut lock))).await?;
    let texts = migrator.iter().map(|migration| migration.sql.as_str().to_owned());
    let mut watch = Watch::new(db, patience, texts.chain([indexes::DROP.to_owned()]).collect());
    watch.repeat(|| apply(migrator, db)).await?;
    let mut watch = Watch::new(db, patience, functions::SOURCES.map(str::to_owned).to_vec());
    watch.repeat(|| functions::install(db)).await?;
    lock.commit().await?;
    Ok(())
}

/// Waits until no other process migrates. The transaction only holds the lock, for minutes if a migration changes a large
/// table. Other transactions run the migrations.
async fn take_lock(lock: &mut Tx) -> Result<(), Error> {
    sqlx::query!("-- schema::migrate\nSELECT FROM pg_advisory_xact_lock($1)", MIGRATION_LOCK)
        .execute(&mut **lock)
        .await?;
    sqlx::raw_sql("SET LOCAL idle_in_transaction_session_timeout = 0").execute(&mut **lock).await?;
    Ok(())
}

/// Applies the pending migrations.
async fn apply(migrator: &Migrator, db: &Db) -> Result<(), Error> {
    indexes::drop_invalid(migrator, db).await?;
    // Passes sqlx' pool, because otherwise the future could not be spawned.
    match migrator.run(&**db).await {
        Err(MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_))
            if is_before_first_release(db).await? =>
        {
            Err(Error::BeforeFirstRelease)
        }
        result => Ok(result?),
    }
}

/// True if the schema has all migrations of this build, and the functions of this build or of a later version. Read-only.
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

/// A digest of the migrations and functions. Builds with equal digests create the same schema.
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

/// A migrator with this build's settings that runs this build's migrations and then the migrations of `later`.
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

/// True if a build before 0.1.0 created the schema. Those builds had other migrations.
async fn is_before_first_release(db: &Db) -> Result<bool, Error> {
    let exists = sqlx::query_scalar!(
        r#"-- schema::is_before_first_release
        SELECT to_regclass('flametree.function_sources') IS NULL AS "is_before!""#
    );
    Ok(exists.fetch_one(db).await?)
}
