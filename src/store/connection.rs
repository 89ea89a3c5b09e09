//! Pools of connections.
//!
//! Everything here and in the rest of the store works through a transaction pooler: no session state (but for
//! [`notice_lost_client`], which may stay behind), and `extra_float_digits` stays out of the startup parameters, which
//! pgbouncer refuses.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::time::timeout;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection as _, PgConnection};

use super::Db;
use super::failure::{FailureKind, failure_kind};

/// How long a caller waits for a connection. Longer than a burst, shorter than a client's patience.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// Connections that nobody needed for so long are closed.
const IDLE_TIMEOUT: Duration = Duration::from_mins(10);
/// A connection that lay unused for so long is asked whether it still lives: the server may have closed it. A busy one is
/// not, for that would be a round trip before each statement.
const ASK_AFTER: Duration = Duration::from_millis(100);
/// The timeout of a statement without another limit: without it, a host that vanished would be waited for until TCP
/// gives up, after a quarter of an hour.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Statements slower than this are logged.
const SLOW_STATEMENT: Duration = Duration::from_secs(1);

/// Runs a statement, or a few, with a timeout. On timeout the outcome is unknown.
pub async fn with_timeout<T, E: From<sqlx::Error>>(statement: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    timeout(STATEMENT_TIMEOUT, statement).await.unwrap_or_else(|_elapsed| Err(timed_out().into()))
}

fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(ErrorKind::TimedOut, "the database did not answer in time"))
}

/// A pool that connects when it is used, so that a database which is away only delays.
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
        .after_release(|connection, _| Box::pin(can_be_used_again(connection)))
        .connect_lazy_with(options)
}

/// An error has the pool take another connection.
async fn is_alive(connection: &mut PgConnection, idle: Duration) -> Result<bool, sqlx::Error> {
    if idle >= ASK_AFTER {
        connection.ping().await?;
    }
    Ok(true)
}

/// sqlx 0.9 asks the same right after this, for what a connection was used for may have been given up in the middle, but waits
/// without an end and keeps the connection's place. To be removed when sqlx has a bound of its own.
async fn can_be_used_again(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    with_timeout(connection.ping()).await.map(|()| true)
}

async fn prepare(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    refuse_read_only(connection).await?;
    notice_lost_client(connection).await
}

/// Has the server end a statement whose client has gone, within five seconds. Else each statement that waits for a lock and
/// that a time limit of this process abandons keeps a backend of the server for as long as the lock is held.
///
/// Behind a pooler this may reach another session than the later statements do, and stays in it. That does no harm: it
/// changes nothing for a client that is still connected.
async fn notice_lost_client(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let set = sqlx::query_scalar!(
        r#"-- connection::notice_lost_client
        SELECT set_config('client_connection_check_interval', '5s', false) AS "interval!""#
    );
    match set.fetch_one(connection).await {
        // A server on a system that cannot check: all statements of the queue have a lock_timeout of their own.
        Err(error) if failure_kind(&error) == FailureKind::Refusal => Ok(()),
        answer => answer.map(drop),
    }
}

/// Keeps out of the pool what cannot write. A session that began while the database was read-only stays so for as long
/// as it lives, however long ago the database writes again; it is connected anew instead, until it can write.
async fn refuse_read_only(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    if is_read_only(connection).await? {
        return Err(sqlx::Error::Io(std::io::Error::new(ErrorKind::ReadOnlyFilesystem, "the database is read-only")));
    }
    Ok(())
}

/// Whether the database takes no writes now, as a standby. A pooler may have put another session behind a connection
/// than the one that was asked when it began.
pub async fn is_read_only(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"-- connection::is_read_only
        SELECT current_setting('transaction_read_only')::boolean AS "read_only!""#
    )
    .fetch_one(connection)
    .await
}
