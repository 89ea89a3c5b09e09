//! Drops the invalid indexes that an interrupted `CREATE INDEX CONCURRENTLY` leaves. Otherwise `IF NOT EXISTS` would skip
//! building them.

use sqlx::AssertSqlSafe;
use sqlx::migrate::{Migrate as _, Migrator};

use super::{APPLIED, Error};
use crate::store::Db;

/// The beginning of the statement. It is followed by the index name, as `pg_stat_activity` shows it.
pub(super) const DROP: &str = "DROP INDEX CONCURRENTLY IF EXISTS flametree.";

/// Drops the invalid indexes of pending migrations, so that the migrations build the indexes again.
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
        // PostgreSQL requires that this statement runs alone, outside of any transaction.
        sqlx::raw_sql(AssertSqlSafe(format!("{DROP}{name}"))).execute(db).await?;
        tracing::warn!(
            index = name,
            "dropped the invalid index of an interrupted build; the migration builds it again"
        );
    }
    Ok(())
}

/// The SQL of the pending migrations that run outside of transactions.
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
