//! A connection pool that limits the time for returning a connection.
//!
//! sqlx 0.9 pings a connection that returns to its pool. The ping has no time limit, and the connection counts as in use
//! meanwhile. If the host of the database vanished during the ping, the pool would have one connection fewer until TCP gives up,
//! after about a quarter of an hour: <https://github.com/launchbadge/sqlx/issues/4349>. Replace this module with sqlx' pool when
//! the issue is closed.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Either, Error, Execute, Executor, PgConnection, PgPool, Postgres, SqlStr};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// The timeout of statements without another limit. Without it, a statement to a vanished host would wait for the TCP timeout
/// of about 15 minutes.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection pool. Queries can run on the pool directly, and each query then uses any free connection.
#[derive(Debug, Clone)]
pub struct Db(PgPool);

/// A connection of the pool. Dropping the connection returns it to the pool.
#[derive(Debug)]
pub struct Connection {
    /// `None` only during the drop.
    connection: Option<PoolConnection<Postgres>>,
    in_transaction: bool,
}

/// A transaction. It is rolled back if it is dropped.
#[derive(Debug)]
pub struct Tx(Connection);

impl From<PgPool> for Db {
    fn from(pool: PgPool) -> Self {
        Self(pool)
    }
}

impl Deref for Db {
    type Target = PgPool;

    fn deref(&self) -> &PgPool {
        &self.0
    }
}

impl Db {
    /// Waits for a connection, but no longer than the pool's limit.
    #[expect(clippy::disallowed_methods, reason = "dropping the connection has a time limit")]
    pub async fn acquire(&self) -> Result<Connection, Error> {
        Ok(Connection { connection: Some(self.0.acquire().await?), in_transaction: false })
    }

    /// Starts a transaction with the isolation level READ COMMITTED, even if the role has a stricter default.
    pub async fn begin(&self) -> Result<Tx, Error> {
        let mut connection = self.acquire().await?;
        // Set before the statement runs, so that a drop during the statement also ends the transaction.
        connection.in_transaction = true;
        sqlx::raw_sql("BEGIN ISOLATION LEVEL READ COMMITTED").execute(&mut *connection).await?;
        Ok(Tx(connection))
    }
}

impl Tx {
    /// Commits the transaction. If this fails, it is unknown whether the transaction was committed.
    pub async fn commit(mut self) -> Result<(), Error> {
        sqlx::raw_sql("COMMIT").execute(&mut *self.0).await?;
        self.0.in_transaction = false;
        Ok(())
    }

    /// Rolls the transaction back, and returns after the database has done so.
    pub async fn rollback(mut self) -> Result<(), Error> {
        sqlx::raw_sql("ROLLBACK").execute(&mut *self.0).await?;
        self.0.in_transaction = false;
        Ok(())
    }
}

impl Deref for Tx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

#[expect(clippy::expect_used, reason = "only `drop` takes the connection")]
impl Deref for Connection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect("the connection was not dropped")
    }
}

#[expect(clippy::expect_used, reason = "only `drop` takes the connection")]
impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("the connection was not dropped")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(return_to_pool(connection, self.in_transaction))),
            // Close the connection, because the process is ending.
            Err(_) => drop(connection.detach()),
        }
    }
}

/// Returns the connection to its pool. If that takes too long, closes the connection, so that the pool can open another.
async fn return_to_pool(mut connection: PoolConnection<Postgres>, in_transaction: bool) {
    if in_transaction {
        let rollback = sqlx::raw_sql("ROLLBACK").execute(&mut *connection);
        if !matches!(timeout(STATEMENT_TIMEOUT, rollback).await, Ok(Ok(_))) {
            drop(connection.detach());
            return;
        }
    }
    // sqlx pings the connection. After the limit, dropping the future closes the connection.
    drop(timeout(STATEMENT_TIMEOUT, connection.return_to_pool()).await);
}

/// Like sqlx' pool, but [`Executor::fetch_many`] collects all rows before it returns the first row.
impl<'p> Executor<'p> for &'_ Db {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let db = self.clone();
        let collected = async move {
            let collected: Vec<_> = db.acquire().await?.fetch_many(query).try_collect().await?;
            Ok::<_, Error>(stream::iter(collected.into_iter().map(Ok)))
        };
        stream::once(collected).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let db = self.clone();
        Box::pin(async move { db.acquire().await?.fetch_optional(query).await })
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'p: 'e,
    {
        let db = self.clone();
        Box::pin(async move { db.acquire().await?.prepare_with(sql, parameters).await })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'p: 'e,
    {
        let db = self.clone();
        Box::pin(async move { db.acquire().await?.describe(sql).await })
    }
}
