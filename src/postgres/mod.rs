//! The embedded database: a private PostgreSQL server from the installed programs, in the service's data directory.
//!
//! The server starts and stops with this process. It listens only on a Unix socket in a directory that no other user can
//! enter. Its durability settings are PostgreSQL's defaults. The tables and migrations belong to `store`.

mod account;
mod directory;
mod error;
mod installation;
mod process;
mod stale_processes;

use std::path::{Path, PathBuf};

use sqlx::postgres::PgConnectOptions;

use self::account::Account;
use self::directory::Directory;
pub use self::error::Error;
use self::installation::Installation;
use self::process::Postmaster;

/// The name of the superuser, and of the database.
const NAME: &str = "flametree";

/// Connections in addition to `max_connections`: for psql, the autovacuum launcher, and the connections that PostgreSQL reserves
/// for superusers.
const SPARE_CONNECTIONS: u32 = 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The directory that contains all files of the server. It is created if it does not exist.
    pub data_dir: PathBuf,
    /// Maximum number of connections that the service opens.
    pub max_connections: u32,
}

/// The running private server. Dropping it without `stop` requests a stop, but does not wait for it.
#[derive(Debug)]
pub struct EmbeddedServer {
    postmaster: Postmaster,
    directory: Directory,
}

impl EmbeddedServer {
    /// Creates the data directory if it is new, stops a stale server in it, and starts the server. Returns when the server
    /// accepts connections and the database exists.
    pub async fn start(settings: &Settings) -> Result<Self, Error> {
        let account = Account::for_server()?;
        let directory = Directory::open(&settings.data_dir, account)?;
        stale_processes::end(directory.cluster(), directory.socket()).await?;
        let installation = Installation::find(directory.cluster_version()?).await?;
        directory.initialize(&installation).await?;
        let max_connections = settings.max_connections + SPARE_CONNECTIONS;
        let mut server = Self { postmaster: Postmaster::spawn(&installation, &directory, max_connections)?, directory };
        let options = server.connect_options();
        if let Err(error) = server.postmaster.ready(&options, &server.directory).await {
            if let Err(stop_error) = server.postmaster.stop().await {
                tracing::warn!(error = %stop_error, "the embedded PostgreSQL could not start, and could not be stopped");
            }
            return Err(error);
        }
        tracing::info!(
            postgres.version = installation.version(),
            postgres.socket_dir = %server.socket_dir().display(),
            "the embedded PostgreSQL accepts connections"
        );
        Ok(server)
    }

    /// Options to connect as the owner of the database.
    pub fn connect_options(&self) -> PgConnectOptions {
        options(self.socket_dir())
    }

    /// Options to connect to the server that another process runs in `data_dir`, after the error [`Error::InUse`].
    pub fn of_other_process(data_dir: &Path) -> Result<PgConnectOptions, Error> {
        let data_dir = std::fs::canonicalize(data_dir).map_err(Error::io("find", data_dir))?;
        Ok(options(&directory::socket_directory(&data_dir)))
    }

    /// The directory of the socket, for `psql --host`.
    pub fn socket_dir(&self) -> &Path {
        self.directory.socket()
    }

    /// Ends all sessions, writes a checkpoint and waits until the server has exited.
    pub async fn stop(mut self) -> Result<(), Error> {
        self.postmaster.stop().await?;
        // The server's logging process exits after the server.
        stale_processes::wait_for_end(self.directory.cluster(), stale_processes::EXIT_DEADLINE).await;
        self.directory.remove_short_socket();
        tracing::info!("the embedded PostgreSQL stopped");
        Ok(())
    }
}

fn options(socket_dir: &Path) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(socket_dir)
        .port(process::PORT)
        .username(NAME)
        .database(NAME)
        .extra_float_digits(None)
}
