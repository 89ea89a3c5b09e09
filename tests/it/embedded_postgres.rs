//! Tests the embedded PostgreSQL server with real processes that are stopped, killed or left running.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use flametree_notify::postgres::{EmbeddedServer, Error, Settings};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid, getpgid, getpgrp};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use crate::support::temp_dir::TempDir;

const HELPER: &str = "embedded_postgres::helper_that_runs_a_server_until_it_is_killed";
const HELPER_DATA_DIR: &str = "EMBEDDED_POSTGRES_TEST_DATA_DIR";
const HELPER_IS_READY: &str = "the helper's server is ready";

#[tokio::test]
async fn a_new_server_has_a_database_and_listens_on_no_tcp_port() {
    let directory = TempDir::new();
    let server = start(directory.path()).await.unwrap();
    let durability = "SELECT current_setting('fsync') || current_setting('synchronous_commit') || \
         current_setting('full_page_writes') || pg_encoding_to_char(encoding) || datcollate \
         FROM pg_database WHERE datname = current_database()";
    assert_eq!(text(&server.connect_options(), durability).await, "ononon".to_owned() + "UTF8C");
    let postmaster = postmaster_of(directory.path());
    assert_eq!(listening_tcp_sockets_of(postmaster), HashSet::new());
    assert_ne!(getpgid(Some(postmaster)).unwrap(), getpgrp(), "Ctrl-C at this terminal would reach the server");
    assert_eq!(mode(server.socket_dir()), 0o700);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_stop_leaves_no_process_and_the_next_start_has_the_data() {
    let directory = TempDir::new();
    let server = start(directory.path()).await.unwrap();
    write_row(&server.connect_options()).await;
    server.stop().await.unwrap();
    assert_eq!(processes_in(directory.path()), []);

    let server = start(directory.path()).await.unwrap();
    assert!(row_is_there(&server.connect_options()).await);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_start_replaces_a_symbolic_link_at_a_log_path_but_not_the_target_file() {
    let directory = TempDir::new();
    start(directory.path()).await.unwrap().stop().await.unwrap();
    let victim = directory.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let data = directory.path().join("data");
    for place in [data.join("log/start.log"), data.join("start.log")] {
        fs::remove_file(&place).ok();
        symlink(&victim, &place).unwrap();
    }
    start(directory.path()).await.unwrap().stop().await.unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert!(data.join("start.log").symlink_metadata().unwrap().is_file());
}

#[tokio::test]
async fn a_dropped_server_stops_and_the_next_start_waits_for_the_stop() {
    let directory = TempDir::new();
    let server = start(directory.path()).await.unwrap();
    write_row(&server.connect_options()).await;
    drop(server);
    let server = start(directory.path()).await.unwrap();
    assert!(row_is_there(&server.connect_options()).await);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn rejects_a_second_server_on_the_same_data_directory() {
    let directory = TempDir::new();
    let server = start(directory.path()).await.unwrap();
    let error = start(directory.path()).await.unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    assert!(error.to_string().contains("FLAMETREE_DATA_DIR"), "{error}");
    // The first server still works.
    write_row(&server.connect_options()).await;
    server.stop().await.unwrap();
}

#[tokio::test]
async fn replaces_a_server_left_behind_by_a_killed_process() {
    let directory = TempDir::new();
    let mut helper = helper(directory.path());
    let error = start(directory.path()).await.unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");

    helper.kill().unwrap();
    helper.wait().unwrap();
    let left_behind = postmaster_of(directory.path());
    assert!(processes_in(directory.path()).contains(&left_behind), "no server runs, so nothing is tested");

    let server = start(directory.path()).await.unwrap();
    assert_ne!(postmaster_of(directory.path()), left_behind);
    assert!(row_is_there(&server.connect_options()).await);
    server.stop().await.unwrap();
    assert_eq!(processes_in(directory.path()), []);
}

#[tokio::test]
async fn restarts_a_killed_server_with_its_data() {
    let directory = TempDir::new();
    let server = start(directory.path()).await.unwrap();
    write_row(&server.connect_options()).await;
    kill(postmaster_of(directory.path()), Signal::SIGKILL).unwrap();
    server.stop().await.unwrap();

    let server = start(directory.path()).await.unwrap();
    assert!(row_is_there(&server.connect_options()).await);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn starts_although_another_program_has_the_process_id_in_the_lock_file() {
    let directory = TempDir::new();
    start(directory.path()).await.unwrap().stop().await.unwrap();
    // PostgreSQL assumes that this process is a server, because the process has the id in the lock file and the same user.
    let mut other = sleeping_process_of_the_owner(&cluster(directory.path()));
    let lock_file = format!("{}\n{}\n1\n5432\n\n\n", other.id(), cluster(directory.path()).display());
    fs::write(cluster(directory.path()).join("postmaster.pid"), lock_file).unwrap();

    let started = start(directory.path()).await;
    assert!(other.try_wait().unwrap().is_none(), "the start killed the other program");
    other.kill().unwrap();
    other.wait().unwrap();
    started.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn recreates_an_incomplete_data_directory() {
    let directory = TempDir::new();
    let half_made = directory.path().join("data/cluster.new");
    fs::create_dir_all(&half_made).unwrap();
    fs::set_permissions(directory.path().join("data"), fs::Permissions::from_mode(0o711)).unwrap();
    fs::write(half_made.join("PG_VERSION"), "15\n").unwrap();
    start(directory.path()).await.unwrap().stop().await.unwrap();
    assert!(!half_made.exists());
}

#[tokio::test]
async fn starts_if_the_path_is_too_long_for_a_socket() {
    let directory = TempDir::new();
    let long = directory.path().join("d,\"d '".repeat(20));
    let server = start(&long).await.unwrap();
    assert!(server.socket_dir().as_os_str().len() < 100);
    let socket_dir = server.socket_dir().to_owned();
    write_row(&server.connect_options()).await;
    server.stop().await.unwrap();
    assert!(!socket_dir.exists(), "{} remains", socket_dir.display());
}

#[tokio::test]
async fn starts_with_quotes_and_spaces_in_the_path() {
    let directory = TempDir::new();
    let server = start(&directory.path().join("a, \"b\" 'c'")).await.unwrap();
    write_row(&server.connect_options()).await;
    server.stop().await.unwrap();
}

#[tokio::test]
async fn does_not_change_data_of_a_version_that_is_not_installed() {
    let directory = TempDir::new();
    start(directory.path()).await.unwrap().stop().await.unwrap();
    fs::write(cluster(directory.path()).join("PG_VERSION"), "9\n").unwrap();
    let error = start(directory.path()).await.unwrap_err();
    assert!(matches!(error, Error::OtherVersion { version: 9 }), "{error}");
}

#[tokio::test]
async fn reports_why_a_server_cannot_start() {
    let directory = TempDir::new();
    start(directory.path()).await.unwrap().stop().await.unwrap();
    fs::write(cluster(directory.path()).join("postgresql.auto.conf"), "no_such_parameter = 1\n").unwrap();
    let error = start(directory.path()).await.unwrap_err();
    assert!(matches!(error, Error::Ended { .. }), "{error}");
    assert!(error.to_string().contains("no_such_parameter"), "{error}");
}

#[tokio::test]
async fn reports_to_root_that_the_server_cannot_enter_the_directory() {
    if !geteuid().is_root() {
        return;
    }
    let directory = TempDir::new();
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let error = start(&closed).await.unwrap_err();
    assert!(matches!(&error, Error::NotEnterable { path } if path.ends_with("closed")), "{error}");
}

/// This function is not a test. Other tests run it as a separate process and kill the process.
#[tokio::test]
#[ignore = "other tests run this function as a separate process"]
async fn helper_that_runs_a_server_until_it_is_killed() {
    #[expect(clippy::disallowed_methods, reason = "the tests pass the directory in this variable")]
    let directory = PathBuf::from(std::env::var_os(HELPER_DATA_DIR).unwrap());
    let server = start(&directory).await.unwrap();
    write_row(&server.connect_options()).await;
    println!("{HELPER_IS_READY}");
    std::future::pending::<()>().await;
}

async fn start(directory: &Path) -> Result<EmbeddedServer, Error> {
    EmbeddedServer::start(&Settings { data_dir: directory.join("data"), max_connections: 10 }).await
}

fn cluster(directory: &Path) -> PathBuf {
    directory.join("data/cluster")
}

fn helper(directory: &Path) -> Child {
    let mut helper = Command::new(std::env::current_exe().unwrap())
        .args([HELPER, "--exact", "--ignored", "--nocapture"])
        .env(HELPER_DATA_DIR, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(helper.stdout.take().unwrap());
    assert!(output.lines().any(|line| line.unwrap().contains(HELPER_IS_READY)), "the helper ended early");
    helper
}

async fn write_row(options: &PgConnectOptions) {
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql("CREATE TABLE kept (id int)").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn row_is_there(options: &PgConnectOptions) -> bool {
    text(options, "SELECT to_regclass('kept')::text").await == "kept"
}

async fn text(options: &PgConnectOptions, query: &'static str) -> String {
    let mut connection = options.connect().await.unwrap();
    let text = sqlx::raw_sql(query).fetch_one(&mut connection).await.unwrap().get(0);
    connection.close().await.unwrap();
    text
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn postmaster_of(directory: &Path) -> Pid {
    postmaster_in(&directory.join("data"))
}

/// The id of the server's main process, from the lock file in the data directory.
pub fn postmaster_in(data_dir: &Path) -> Pid {
    let text = fs::read_to_string(data_dir.join("cluster/postmaster.pid")).unwrap();
    Pid::from_raw(text.lines().next().unwrap().parse().unwrap())
}

fn processes_in(directory: &Path) -> Vec<Pid> {
    let ids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let in_cluster = |id: &i32| fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|cwd| cwd == cluster(directory));
    ids.filter(in_cluster).map(Pid::from_raw).collect()
}

/// The inodes of the TCP sockets of this process.
pub fn listening_tcp_sockets_of(process: Pid) -> HashSet<String> {
    let sockets: HashSet<String> = fs::read_dir(format!("/proc/{process}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    assert!(!sockets.is_empty(), "found no socket, not even the Unix socket");
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let inode = |line: &str| line.split_whitespace().nth(9).map(str::to_owned);
    tables.iter().flat_map(|table| table.lines().filter_map(inode)).filter(|inode| sockets.contains(inode)).collect()
}

fn sleeping_process_of_the_owner(cluster: &Path) -> Child {
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::process::CommandExt as _;
    let owner = fs::metadata(cluster).unwrap();
    let mut command = Command::new("sleep");
    command.arg("600").current_dir("/");
    if geteuid().is_root() {
        command.uid(owner.uid()).gid(owner.gid());
    }
    let child = command.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !fs::read_link(format!("/proc/{}/exe", child.id())).is_ok_and(|exe| exe.to_string_lossy().contains("sleep"))
        && Instant::now() < deadline
    {
        std::thread::yield_now();
    }
    child
}
