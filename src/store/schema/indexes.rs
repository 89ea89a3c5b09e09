//! Drops indexes left by an interrupted `CREATE INDEX CONCURRENTLY`: `IF NOT EXISTS` would count them as built.

use sqlx::AssertSqlSafe;
use sqlx::migrate::{Migrate as _, Migrator};

use super::{APPLIED, Error};
use crate::store::Db;

/// The start of the statement; a server's list of sessions shows it with the index's name.
pub(super) const DROP: &str = "DROP INDEX CONCURRENTLY IF EXISTS flametree.";

/// Drops the invalid indexes of pending migrations, so that these build them again.
pub(super) async fn drop_invalid(migrator: &Migrator, db: &Db) -> Result<(), Error> {
    let pending = pending(migrator, db).await?;
    if pending.is_empty() {
        return Ok(());
    }
    let invalid = sqlx::query_scalar!(
        r#"-- schema::invalid_indexes
        SELECT c.relname::text AS "name!"
        FROM pg_catalog.pg_index AS i
        JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
        WHERE NOT i.indisvalid AND c.relkind = 'i' AND c.relnamespace = to_regnamespace('flametree')
          AND c.relname ~ '^[a-z0-9_]+$'
          AND EXISTS (SELECT FROM unnest($1::text[]) AS m (sql) WHERE m.sql ~ ('\y' || c.relname || '\y'))"#,
        &pending,
    )
    .fetch_all(db)
    .await?;
    for name in invalid {
        // A separate query outside of any transaction, as PostgreSQL requires.
        sqlx::raw_sql(AssertSqlSafe(format!("{DROP}{name}"))).execute(db).await?;
        tracing::warn!(
            index = name,
            "dropped the invalid index of an interrupted build; the migration builds it again"
        );
    }
    Ok(())
}

/// The texts of pending migrations that run outside of transactions.
async fn pending(migrator: &Migrator, db: &Db) -> Result<Vec<String>, Error> {
    let mut connection = db.acquire().await?;
    let exists = sqlx::query_scalar!(
        r#"-- schema::pending
        SELECT to_regclass('flametree._sqlx_migrations') IS NOT NULL AS "exists!""#
    );
    let applied = if exists.fetch_one(&mut *connection).await? {
        connection.list_applied_migrations(APPLIED).await?
    } else {
        Vec::new()
    };
    let is_applied = |version| applied.iter().any(|migration| migration.version == version);
    let pending = migrator.iter().filter(|migration| migration.no_tx && !is_applied(migration.version));
    Ok(pending.map(|migration| migration.sql.as_str().to_owned()).collect())
}
