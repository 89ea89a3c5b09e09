//! A new, private PostgreSQL server for one run, on a unix socket, with default settings and therefore default durability
//! (`fsync`, `synchronous_commit` and `full_page_writes` are on).

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use flametree_notify::store::{Db, connection, schema};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};
use sqlx::postgres::PgConnectOptions;

/// A running server; stopped and removed on drop.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    directory: PathBuf,
    log: Option<File>,
}

impl Server {
    /// Creates and starts a server. If root calls this, the server runs as the user `postgres`, because PostgreSQL refuses root.
    pub(crate) fn start() -> Self {
        Self::start_logging(None)
    }

    /// Like [`Self::start`], but the server logs to a file.
    pub(crate) fn start_logging(log: Option<File>) -> Self {
        let directory = std::env::temp_dir().join(format!("flametree-bench-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        if let Some(user) = server_user() {
            chown(&directory, Some(user.uid), Some(user.gid)).unwrap();
        }
        let made = command("initdb", &directory)
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--pgdata"])
            .arg(directory.join("data"))
            .status();
        assert!(made.unwrap().success(), "initdb failed");
        Self { process: postgres(&directory, log.as_ref()), directory, log }
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Stops the server at once, without a checkpoint, so that the server must replay its write-ahead log. Then starts the server
    /// again, and does not wait until it responds.
    pub(crate) fn crash_and_restart(&mut self) {
        kill(self.pid(), Signal::SIGQUIT).unwrap();
        self.process.wait().unwrap();
        self.process = postgres(&self.directory, self.log.as_ref());
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).unwrap())
    }

    /// The options for a connection to `database`.
    pub(crate) fn options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new().socket(&self.directory).username("postgres").database(database)
    }

    /// The URL of `database`, for other programs.
    pub(crate) fn url(&self, database: &str) -> String {
        let directory = self.directory.to_str().unwrap().replace('/', "%2F");
        format!("postgres://postgres@{directory}/{database}")
    }

    /// Connects to an existing database.
    pub(crate) async fn open(&self, database: &str) -> Db {
        self.connect(database, 4).await
    }

    pub(crate) async fn version(&self) -> String {
        let admin = self.connect("postgres", 1).await;
        let version = sqlx::query_scalar("SHOW server_version").fetch_one(&admin).await.unwrap();
        admin.close().await;
        version
    }

    /// Creates an empty database and connects to it.
    pub(crate) async fn create(&self, database: &str) -> Db {
        let admin = self.connect("postgres", 1).await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {database}"))).execute(&admin).await.unwrap();
        admin.close().await;
        self.connect(database, 20).await
    }

    /// Creates a database with the service's tables, and with partitions for the days of the run.
    pub(crate) async fn create_migrated(&self, database: &str) -> Db {
        let db = self.create(database).await;
        schema::migrate(&db, schema::LOCK_TIMEOUT).await.unwrap();
        sqlx::query("SELECT flametree.ensure_partitions(current_date - 1, current_date + 2)")
            .execute(&db)
            .await
            .unwrap();
        if std::env::var("BENCH_PROFILE").is_ok() {
            sqlx::query("CREATE EXTENSION pg_stat_statements").execute(&db).await.unwrap();
        }
        db
    }

    /// Drops a database, so that autovacuum of its tables does not slow the next measurement.
    pub(crate) async fn drop(&self, database: &str) {
        let admin = self.connect("postgres", 1).await;
        let text = format!("DROP DATABASE {database} WITH (FORCE)");
        sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&admin).await.unwrap();
        sqlx::query("CHECKPOINT").execute(&admin).await.unwrap();
        admin.close().await;
    }

    async fn connect(&self, database: &str, connections: u32) -> Db {
        let db = connection::pool(self.options(database), connections, "bench");
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(error) = sqlx::query("SELECT 1").execute(&db).await {
            assert!(Instant::now() < deadline, "the server does not answer: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        db
    }
}

/// Starts the server whose data is in `directory`.
fn postgres(directory: &Path, log: Option<&File>) -> Child {
    let mut postgres = command("postgres", directory);
    postgres.arg("-D").arg(directory.join("data")).arg("-k").arg(directory).args(["-c", "listen_addresses="]);
    // Sixteen workers need more connections than the default of 100.
    postgres.args(["-c", "max_connections=300"]);
    if let Some(log) = log {
        postgres.stderr(log.try_clone().unwrap());
    }
    if std::env::var("BENCH_PROFILE").is_ok() {
        postgres.args(["-c", "shared_preload_libraries=pg_stat_statements"]);
        postgres.args(["-c", "pg_stat_statements.track=all", "-c", "track_io_timing=on"]);
    }
    postgres.spawn().unwrap()
}

/// A command that runs a PostgreSQL program as the server's user.
fn command(program: &str, directory: &Path) -> Command {
    let mut command = Command::new(programs().join(program));
    command.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(user) = server_user() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

/// The user for the server if this process runs as root, because PostgreSQL refuses to run as root.
fn server_user() -> Option<User> {
    geteuid().is_root().then(|| User::from_name("postgres").unwrap().expect("a user postgres"))
}

/// The directory with the programs of the newest installed PostgreSQL.
fn programs() -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/postgres-programs");
    let found = Command::new(script).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    PathBuf::from(String::from_utf8(found.stdout).unwrap().trim())
}

impl Drop for Server {
    fn drop(&mut self) {
        kill(self.pid(), Signal::SIGINT).unwrap();
        self.process.wait().unwrap();
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}
