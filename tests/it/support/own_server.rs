//! A separate PostgreSQL server for tests that stop it, crash it or change its settings.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flametree_notify::store::{Db, schema};
use nix::unistd::{User, chown, geteuid};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};

use super::pooler::{self, Pooler};
use super::temp_dir::TempDir;

const NAME: &str = "flametree";

/// How to stop PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Ends all sessions and writes a checkpoint.
    Fast,
    /// Stops the server as a crash does, so that the next start replays the write-ahead log.
    Immediate,
}

impl Stop {
    fn mode(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Immediate => "immediate",
        }
    }
}

pub struct OwnServer {
    pooler: Option<Pooler>,
    directory: TempDir,
    programs: PathBuf,
}

impl OwnServer {
    /// Starts a server with the current schema and PostgreSQL's default durability, behind a pooler if the test run uses one.
    pub async fn start() -> Self {
        let mut server = Self::start_direct().await;
        if pooler::url_of_shared().is_some() {
            server.put_behind_pooler().await;
        }
        server
    }

    /// Starts a server that is always behind a pooler.
    pub async fn start_pooled() -> Self {
        let mut server = Self::start_direct().await;
        server.put_behind_pooler().await;
        server
    }

    async fn put_behind_pooler(&mut self) {
        self.pooler = Some(Pooler::start(self.directory.path(), None).await);
    }

    /// Starts a server that is never behind a pooler.
    pub async fn start_direct() -> Self {
        let server = Self::prepare();
        let data = server.data();
        let trust = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--username", NAME];
        server.run("initdb", &[&["--pgdata", &data], trust.as_slice()].concat());
        server.start_again();
        let mut connection = server.connect_options().database("postgres").connect().await.unwrap();
        sqlx::raw_sql("CREATE DATABASE flametree").execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let pool: Db =
            PgPoolOptions::new().max_connections(2).connect_with(server.connect_options()).await.unwrap().into();
        schema::migrate(&pool, schema::LOCK_TIMEOUT).await.unwrap();
        pool.close().await;
        server
    }

    pub(super) fn prepare() -> Self {
        let server = Self { pooler: None, directory: TempDir::new(), programs: programs() };
        if let Some(user) = server_user() {
            chown(server.directory.path(), Some(user.uid), Some(user.gid)).unwrap();
        }
        let socket = server.directory.path().display();
        let options = format!("-c listen_addresses= -c unix_socket_directories={socket} -c max_connections=100");
        std::fs::write(server.directory.path().join("options"), options).unwrap();
        server
    }

    /// Bypasses any pooler.
    pub fn connect_options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(self.directory.path())
            .username(NAME)
            .database(NAME)
            .extra_float_digits(None)
    }

    /// `DATABASE_URL`
    pub fn url(&self) -> String {
        let port = if self.pooler.is_some() { pooler::PORT } else { 5432 };
        url_of_socket(self.directory.path(), port)
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn pooler(&self) -> &Pooler {
        self.pooler.as_ref().expect("a server behind a pooler")
    }

    pub fn stop(&self, stop: Stop) {
        self.run("pg_ctl", &["stop", "--silent", "--wait", "--pgdata", &self.data(), "--mode", stop.mode()]);
    }

    /// Starts the stopped server. Returns when it accepts connections.
    pub fn start_again(&self) {
        let options = std::fs::read_to_string(self.directory.path().join("options")).unwrap();
        let log = format!("{}/log", self.data());
        self.run("pg_ctl", &["start", "--silent", "--wait", "--pgdata", &self.data(), "--log", &log, "-o", &options]);
    }

    pub(super) fn data(&self) -> String {
        self.directory.path().join("data").display().to_string()
    }

    pub(super) fn run(&self, program: &str, arguments: &[&str]) {
        assert!(self.try_run(program, arguments), "{program} {arguments:?} failed");
    }

    fn try_run(&self, program: &str, arguments: &[&str]) -> bool {
        let mut command = Command::new(self.programs.join(program));
        command.args(arguments).current_dir("/").env_remove("PGDATA").env_remove("PGPORT").env_remove("PGOPTIONS");
        if let Some(user) = server_user() {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap().success()
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        // A test might have stopped the server.
        if Path::new(&self.data()).join("postmaster.pid").exists() {
            self.try_run("pg_ctl", &["stop", "--silent", "--pgdata", &self.data(), "--mode", "immediate"]);
        }
    }
}

/// A database URL for the socket in the directory.
pub fn url_of_socket(directory: &Path, port: u16) -> String {
    let socket = directory.display().to_string().replace('/', "%2F");
    format!("postgres://{NAME}@{socket}:{port}/{NAME}")
}

/// The user for the server if root runs the tests, because PostgreSQL refuses to run as root.
fn server_user() -> Option<User> {
    geteuid().is_root().then(|| User::from_name("postgres").unwrap().expect("the user postgres"))
}

/// The directory with the programs of the newest installed PostgreSQL version.
pub fn programs() -> PathBuf {
    folder_by("postgres-programs")
}

/// The folder whose path this script prints.
pub(super) fn folder_by(script: &str) -> PathBuf {
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(script)).output().unwrap();
    assert!(output.status.success(), "scripts/{script}: {}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}
