//! The server's process: starts it, waits until it is ready, and stops it.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

use super::NAME;
use super::directory::Directory;
use super::error::Error;
use super::installation::Installation;

/// The port in the name of the socket. The server does not listen on TCP.
pub(super) const PORT: u16 = 5432;

/// Maximum time for a start. It is long because PostgreSQL replays up to a gigabyte of WAL after a crash.
const READY_DEADLINE: Duration = Duration::from_mins(5);
/// Maximum time for the last checkpoint. After that time, the server is stopped immediately, and the next start recovers.
const STOP_DEADLINE: Duration = Duration::from_mins(1);

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// PostgreSQL's error code for a database that does not exist.
const INVALID_CATALOG_NAME: &str = "3D000";

/// The postmaster, a child of this process.
#[derive(Debug)]
pub(super) struct Postmaster {
    child: Child,
}

impl Postmaster {
    pub(super) fn spawn(
        installation: &Installation,
        directory: &Directory,
        max_connections: u32,
    ) -> Result<Self, Error> {
        let output = new_file(directory.start_log())?;
        let errors = output.try_clone().map_err(Error::io("open", directory.start_log()))?;
        let postgres = installation.program("postgres");
        let child = directory
            .account()
            .command(&postgres)
            .arg("-D")
            .arg(directory.cluster())
            .args(parameters(directory, max_connections).iter().flat_map(|parameter| ["-c", parameter]))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            // A separate process group: Ctrl-C in the terminal must not reach the server, because this process still sends
            // statements to it.
            .process_group(0)
            .spawn()
            .map_err(Error::io("run", &postgres))?;
        Ok(Self { child })
    }

    /// Waits until the server accepts connections, and creates the database if it does not exist.
    pub(super) async fn ready(&mut self, options: &PgConnectOptions, directory: &Directory) -> Result<(), Error> {
        let deadline = Instant::now() + READY_DEADLINE;
        loop {
            let source = match connect(options).await {
                Ok(connection) => return connection.close().await.or(Ok(())),
                Err(error) => error,
            };
            if !matches!(self.child.try_wait(), Ok(None)) {
                return Err(ended(directory));
            }
            if Instant::now() >= deadline {
                return Err(Error::NotReady { log: directory.log().to_owned(), source });
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Requests PostgreSQL's fast shutdown, and its immediate shutdown if the fast one takes too long. Does nothing if the
    /// server has already exited.
    pub(super) async fn stop(&mut self) -> Result<(), Error> {
        self.signal(Signal::SIGINT);
        if let Ok(ended) = timeout(STOP_DEADLINE, self.child.wait()).await {
            return ended.map(drop).map_err(Error::io("wait for", Path::new("postgres")));
        }
        tracing::warn!("the embedded PostgreSQL did not stop in time; stopping it immediately");
        self.signal(Signal::SIGQUIT);
        self.child.wait().await.map(drop).map_err(Error::io("wait for", Path::new("postgres")))
    }

    /// Has no effect after the child has ended and was awaited, because its id is then `None`.
    fn signal(&self, signal: Signal) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(Err(error)) = id.map(|id| kill(Pid::from_raw(id), signal)) {
            tracing::warn!(%error, "the embedded PostgreSQL could not be signalled");
        }
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        self.signal(Signal::SIGINT);
    }
}

/// Replaces the file at the path. Never opens an existing file, because the file could be another user's symbolic link, which
/// root could write through.
fn new_file(path: &Path) -> Result<File, Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io("remove", path)(error)),
        Ok(()) | Err(_) => {}
    }
    File::options().write(true).create_new(true).mode(0o600).open(path).map_err(Error::io("make", path))
}

/// The settings that differ from PostgreSQL's defaults. Durability is unchanged.
fn parameters(directory: &Directory, max_connections: u32) -> Vec<String> {
    let mut socket = directory.socket().display().to_string();
    // This setting is a list of quoted names. A comma or a quote in the path must not end the quoted name.
    socket = socket.replace('"', "\"\"");
    vec![
        "listen_addresses=".to_owned(),
        format!("unix_socket_directories=\"{socket}\""),
        "unix_socket_permissions=0700".to_owned(),
        format!("port={PORT}"),
        format!("max_connections={max_connections}"),
        format!("cluster_name={NAME}"),
        "logging_collector=on".to_owned(),
        format!("log_directory={}", directory.log().display()),
        "log_filename=postgresql-%a.log".to_owned(),
        "log_truncate_on_rotation=on".to_owned(),
        "log_rotation_age=1d".to_owned(),
        "log_rotation_size=0".to_owned(),
        // The details of an error can contain customer data: the row that a constraint rejects, or a statement.
        "log_error_verbosity=terse".to_owned(),
        "log_min_error_statement=panic".to_owned(),
    ]
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    match options.connect().await {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(INVALID_CATALOG_NAME) => {
            let mut connection = options.clone().database("postgres").connect().await?;
            sqlx::raw_sql("CREATE DATABASE flametree").execute(&mut connection).await?;
            connection.close().await?;
            options.connect().await
        }
        result => result,
    }
}

fn ended(directory: &Directory) -> Error {
    let output = fs::read_to_string(directory.start_log()).unwrap_or_default();
    Error::Ended { log: directory.log().to_owned(), output: output.trim().to_owned() }
}
