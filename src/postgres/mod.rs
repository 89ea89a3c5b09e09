//! The embedded default: a private PostgreSQL server of our own, from the installed programs, in our data directory.
//!
//! It is started and stopped with this process and reachable only over a unix socket in a directory that no other
//! user can enter. Its durability is PostgreSQL's default. Knows nothing of tables: migrations are `store`'s.

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

/// The superuser and the database of the private server.
const NAME: &str = "flametree";

/// Connections beyond `max_connections`: for psql, autovacuum's launcher and what PostgreSQL reserves for superusers.
const SPARE_CONNECTIONS: u32 = 20;

/// How to run the private server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Everything of the server is below it; made if it is not there.
    pub data_dir: PathBuf,
    /// How many connections the service will open.
    pub max_connections: u32,
}

/// The running private server. Dropped without `stop` it is asked to stop, and not waited for.
#[derive(Debug)]
pub struct EmbeddedServer {
    postmaster: Postmaster,
    directory: Directory,
}

impl EmbeddedServer {
    /// Makes the data directory if it is new, ends what a killed process has left behind in it, and starts the server.
    /// Comes back when connections are accepted and the database exists.
    pub async fn start(settings: &Settings) -> Result<Self, Error> {
        let account = Account::for_server()?;
        let directory = Directory::open(&settings.data_dir, account)?;
        stale_processes::end(&directory).await?;
        let installation = Installation::find(directory.cluster_version()?).await?;
        directory.initialize(&installation).await?;
        let max_connections = settings.max_connections + SPARE_CONNECTIONS;
        let mut server = Self { postmaster: Postmaster::spawn(&installation, &directory, max_connections)?, directory };
        let options = server.connect_options();
        if let Err(error) = server.postmaster.ready(&options, &server.directory).await {
            if let Err(stop_error) = server.postmaster.stop().await {
                tracing::warn!(error = %stop_error, "the embedded PostgreSQL that did not start cannot be stopped");
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

    /// How to connect, as the owner of everything.
    pub fn connect_options(&self) -> PgConnectOptions {
        options(self.socket_dir())
    }

    /// How to connect to the server that another process runs in `data_dir`: what to do after [`Error::InUse`].
    pub fn of_other_process(data_dir: &Path) -> Result<PgConnectOptions, Error> {
        let data_dir = std::fs::canonicalize(data_dir).map_err(Error::io("find", data_dir))?;
        Ok(options(&directory::socket_directory(&data_dir)))
    }

    /// The directory of the socket, for `psql --host`.
    pub fn socket_dir(&self) -> &Path {
        self.directory.socket()
    }

    /// Ends all sessions, writes a checkpoint and waits for the end of the server.
    pub async fn stop(mut self) -> Result<(), Error> {
        self.postmaster.stop().await?;
        // The process that writes the log ends after its server, when nobody can write to it any more.
        stale_processes::wait_for_end(self.directory.cluster(), stale_processes::EXIT_DEADLINE).await;
        self.directory.remove_short_socket();
        tracing::info!("the embedded PostgreSQL has stopped");
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
