//! Connection pools.
//!
//! All queries work through a transaction pooler. They use no session state (except [`notice_lost_client`], whose setting may
//! persist). The startup parameters do not contain `extra_float_digits`, because pgbouncer rejects it.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::time::timeout;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection as _, PgConnection};

use super::Db;
use super::failure::{FailureKind, failure_kind};
use super::pool::STATEMENT_TIMEOUT;

/// How long a caller waits for a connection. The wait is longer than a burst of requests and shorter than a client's timeout.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// Connections that are unused for this long are closed.
const IDLE_TIMEOUT: Duration = Duration::from_mins(10);
/// A connection that was unused for this long is tested before use, because the server may have closed it. A busy connection
/// is not tested, because a test would add a round trip to each statement.
const ASK_AFTER: Duration = Duration::from_millis(100);
/// Statements slower than this are logged.
const SLOW_STATEMENT: Duration = Duration::from_secs(1);

/// Runs one or more statements with a timeout. After a timeout, the outcome of the statements is unknown.
pub async fn with_timeout<T, E: From<sqlx::Error>>(statement: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    timeout(STATEMENT_TIMEOUT, statement).await.unwrap_or_else(|_elapsed| Err(timed_out().into()))
}

fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(ErrorKind::TimedOut, "the database did not respond in time"))
}

/// A pool that connects on first use, so that the process starts even if the database is unavailable.
pub fn pool(options: PgConnectOptions, connections: u32, name: &str) -> Db {
    let options = options
        .application_name(name)
        .extra_float_digits(None)
        .log_statements(tracing::log::LevelFilter::Trace)
        .log_slow_statements(tracing::log::LevelFilter::Warn, SLOW_STATEMENT);
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(IDLE_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection, age| Box::pin(is_alive(connection, age.idle_for)))
        .after_connect(|connection, _| Box::pin(prepare(connection)))
        .connect_lazy_with(options)
        .into()
}

/// Tests a connection before use. If the test fails, the pool takes another connection.
async fn is_alive(connection: &mut PgConnection, idle: Duration) -> Result<bool, sqlx::Error> {
    if idle >= ASK_AFTER {
        connection.ping().await?;
    }
    Ok(true)
}

async fn prepare(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    refuse_read_only(connection).await?;
    notice_lost_client(connection).await
}

/// Makes the server end a statement within five seconds after its client has disconnected. Otherwise a statement that waits for
/// a lock occupies a backend of the server until the lock is released, even if this process has stopped waiting for the
/// statement.
///
/// Behind a pooler, the setting may apply to a session that later serves other clients, and persist there. That is harmless,
/// because the setting does not affect connected clients.
async fn notice_lost_client(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let set = sqlx::query_scalar!(
        r#"-- connection::notice_lost_client
        SELECT set_config('client_connection_check_interval', '5s', false) AS "interval!""#
    );
    match set.fetch_one(connection).await {
        // The server refuses the setting if its operating system cannot detect a lost client. Statements of the queue also have
        // a `lock_timeout`.
        Err(error) if failure_kind(&error) == FailureKind::Refusal => Ok(()),
        answer => answer.map(drop),
    }
}

/// Keeps read-only connections out of the pool. A session that began while the database was read-only stays read-only, even
/// after the database accepts writes again. So the pool reconnects until it gets a connection that can write.
async fn refuse_read_only(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    if is_read_only(connection).await? {
        return Err(sqlx::Error::Io(std::io::Error::new(ErrorKind::ReadOnlyFilesystem, "the database is read-only")));
    }
    Ok(())
}

/// True if the database is read-only now, for example because it is a standby. Behind a pooler, the result may change between
/// calls, because the connection may use another session.
pub async fn is_read_only(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- connection::is_read_only
        SELECT current_setting('transaction_read_only')::boolean AS "read_only!""#
    )
    .fetch_one(connection)
    .await
}
