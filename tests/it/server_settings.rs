//! Tests database settings on which guarantees depend. At start, a process rejects an unsafe value or logs a warning.

use std::process::{Command, Output};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::support::own_server::{OwnServer, Stop};
use crate::support::postgres::TestDatabase;
use crate::support::service::{Part, Settings};
use crate::support::temp_dir::TempDir;

const WARNING: &str = "found a risky PostgreSQL setting";

#[tokio::test]
async fn no_process_starts_with_a_session_setting_that_breaks_a_guarantee() {
    let database = TestDatabase::new().await;
    let settings = Settings::on(&database.url());
    for (part, setting, value, advised) in [
        (Part::Run, "default_transaction_isolation", "repeatable read", "read committed"),
        (Part::Api, "default_transaction_isolation", "serializable", "read committed"),
        (Part::Worker, "synchronous_commit", "off", "on"),
        (Part::Worker, "statement_timeout", "5s", "0"),
    ] {
        set(&database, setting, value).await;
        let output = settings.spawn(part).failed().await;
        assert!(output.contains(&format!("{setting} = {value} (source: database)")), "{output}");
        let command = format!("IN DATABASE {} SET {setting} = '{advised}'", name_of(&database));
        assert!(output.contains(&command), "{output}");
        reset(&database, setting).await;
    }
    settings.start(Part::Run).await.stop().await;
}

#[tokio::test]
async fn the_advised_command_makes_the_service_start() {
    let server = OwnServer::start_direct().await;
    run(&server.connect_options(), "ALTER ROLE flametree SET default_transaction_isolation = 'serializable'").await;
    let settings = Settings::on(&server.url());
    let output = settings.spawn(Part::Run).failed().await;
    let advice: Vec<_> = output.split('`').filter(|text| text.starts_with("ALTER ROLE")).collect();
    assert_eq!(advice.len(), 1, "{output}");
    run(&server.connect_options(), advice[0]).await;
    settings.start(Part::Run).await.stop().await;
}

#[tokio::test]
async fn one_error_names_every_rejected_setting() {
    let database = TestDatabase::new().await;
    set(&database, "default_transaction_isolation", "serializable").await;
    set(&database, "synchronous_commit", "off").await;
    let output = Settings::on(&database.url()).spawn(Part::Api).failed().await;
    for named in ["default_transaction_isolation = serializable", "synchronous_commit = off"] {
        assert!(output.contains(named), "{output}");
    }
}

#[tokio::test]
async fn rejects_an_unsafe_setting_in_the_connection_url_and_reports_where_to_remove_it() {
    let server = OwnServer::start_direct().await;
    let settings = Settings::on(&format!("{}?options=-c%20synchronous_commit%3Doff", server.url()));
    let output = settings.spawn(Part::Run).failed().await;
    assert!(output.contains("synchronous_commit = off (source: client)"), "{output}");
    assert!(output.contains("remove it from the options in DATABASE_URL"), "{output}");
}

#[tokio::test]
async fn silently_accepts_settings_that_weaken_no_guarantee() {
    let database = TestDatabase::new().await;
    let settings = Settings::on(&database.url());
    for (setting, value) in [
        ("synchronous_commit", "local"),
        ("synchronous_commit", "remote_write"),
        ("synchronous_commit", "remote_apply"),
        ("default_transaction_isolation", "read uncommitted"),
        ("statement_timeout", "1min"),
        ("idle_in_transaction_session_timeout", "1min"),
    ] {
        set(&database, setting, value).await;
        let output = settings.start(Part::Worker).await.stop().await;
        assert!(!output.contains(WARNING), "{output}");
        reset(&database, setting).await;
    }
}

#[tokio::test]
async fn logs_a_warning_for_a_risky_session_setting_and_starts() {
    let database = TestDatabase::new().await;
    set(&database, "lock_timeout", "1s").await;
    set(&database, "idle_in_transaction_session_timeout", "2s").await;
    let output = Settings::on(&database.url()).start(Part::Run).await.stop().await;
    let warnings: Vec<_> = output.lines().filter(|line| line.contains(WARNING)).collect();
    assert_eq!(warnings.len(), 2, "{output}");
    assert!(warnings.iter().any(|line| line.contains("\"lock_timeout\"") && line.contains("1s")), "{output}");
    assert!(warnings.iter().any(|line| line.contains("\"idle_in_transaction_session_timeout\"")), "{output}");
}

#[tokio::test]
async fn logs_a_warning_for_risky_server_settings_and_rejects_unsafe_ones() {
    let server = OwnServer::start_direct().await;
    let settings = Settings::on(&server.url());
    let with_a_risk = ["full_page_writes = off", "max_locks_per_transaction = 32", "autovacuum = off"];
    for setting in with_a_risk {
        run(&server.connect_options(), &format!("ALTER SYSTEM SET {setting}")).await;
    }
    restart(&server);
    let output = settings.start(Part::Run).await.stop().await;
    for setting in with_a_risk {
        let (name, _) = setting.split_once(' ').unwrap();
        let is_of_it = |line: &&str| line.contains(WARNING) && line.contains(&format!("\"{name}\""));
        assert_eq!(output.lines().filter(is_of_it).count(), 1, "{output}");
    }

    run(&server.connect_options(), "ALTER SYSTEM SET fsync = off").await;
    restart(&server);
    let output = settings.spawn(Part::Api).failed().await;
    assert!(output.contains("fsync = off (source: configuration file)"), "{output}");
    assert!(output.contains("run `ALTER SYSTEM SET fsync = 'on'` and `SELECT pg_reload_conf()`"), "{output}");
    let refused = output.lines().filter(|line| line.contains(": refused: ")).count();
    assert_eq!(refused, 1, "a warning alone does not stop the process: {output}");
}

#[tokio::test]
async fn rejects_unsafe_settings_of_sessions_behind_a_pooler() {
    let server = OwnServer::start_pooled().await;
    let settings = Settings::on(&server.url());
    for (setting, value) in [("default_transaction_isolation", "repeatable read"), ("synchronous_commit", "off")] {
        run(&server.connect_options(), &format!("ALTER ROLE flametree SET {setting} = '{value}'")).await;
        end_sessions(&server.connect_options()).await;
        let output = settings.spawn(Part::Run).failed().await;
        assert!(output.contains(&format!("{setting} = {value} (source: user)")), "{output}");
        run(&server.connect_options(), &format!("ALTER ROLE flametree RESET {setting}")).await;
        end_sessions(&server.connect_options()).await;
    }
    settings.start(Part::Run).await.stop().await;
}

#[tokio::test]
async fn rejects_a_database_in_another_encoding_before_its_first_migration() {
    let server = OwnServer::start_direct().await;
    let fresh = "CREATE DATABASE fresh ENCODING 'SQL_ASCII' TEMPLATE template0";
    run(&server.connect_options(), fresh).await;
    let settings = Settings::on(&server.url().replace(":5432/flametree", ":5432/fresh"));
    let migrated = output_of(settings.command().arg("migrate"));
    assert!(!migrated.0, "{}", migrated.1);
    for said in ["server_encoding = SQL_ASCII", "ENCODING 'UTF8' TEMPLATE template0"] {
        assert!(migrated.1.contains(said), "{}", migrated.1);
    }
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'flametree'";
    let mut connection = server.connect_options().database("fresh").connect().await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, i64>(schemas).fetch_one(&mut connection).await.unwrap(), 0);
    connection.close().await.unwrap();

    // A role that only migrates may have other session defaults.
    run(&server.connect_options(), "ALTER DATABASE flametree SET default_transaction_isolation = 'serializable'").await;
    let migrated = output_of(Settings::on(&server.url()).command().arg("migrate"));
    assert!(migrated.0, "{}", migrated.1);
}

#[tokio::test]
async fn rejects_an_embedded_database_in_another_encoding() {
    use flametree_notify::postgres::{EmbeddedServer, Settings as ServerSettings};
    let directory = TempDir::new();
    let data_dir = directory.path().join("data");
    let server_settings = ServerSettings { data_dir: data_dir.clone(), max_connections: 10 };
    let server = EmbeddedServer::start(&server_settings).await.unwrap();
    let postgres = server.connect_options().database("postgres");
    run(&postgres, "DROP DATABASE flametree").await;
    run(&postgres, "CREATE DATABASE flametree ENCODING 'SQL_ASCII' TEMPLATE template0").await;
    server.stop().await.unwrap();
    let settings = Settings::default().with("FLAMETREE_DATA_DIR", data_dir.to_str().unwrap());
    let output = settings.spawn(Part::Run).failed().await;
    assert!(output.contains("server_encoding = SQL_ASCII"), "{output}");
}

#[tokio::test]
async fn config_check_prints_every_database_setting_and_fails_if_one_is_unsafe() {
    let database = TestDatabase::new().await;
    let settings = Settings::on(&database.url());
    let check = || output_of(settings.command().args(["config", "check"]));
    let (is_right, output) = check();
    assert!(is_right, "{output}");
    let checks: Vec<_> = output.lines().filter(|line| line.starts_with('#')).collect();
    for setting in ["fsync = on", "synchronous_commit = on", "server_encoding = UTF8", "clock difference"] {
        assert!(checks.iter().any(|line| line.contains(setting) && line.ends_with(": ok")), "{output}");
    }

    set(&database, "lock_timeout", "1s").await;
    let (is_right, output) = check();
    assert!(is_right && output.contains("# lock_timeout = 1s (source: database): warning: "), "{output}");

    set(&database, "synchronous_commit", "off").await;
    let (is_right, output) = check();
    assert!(!is_right && output.contains("# synchronous_commit = off (source: database): refused: "), "{output}");
}

#[tokio::test]
async fn config_check_reports_that_an_unreachable_database_was_not_checked() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for port in [silent.local_addr().unwrap().port(), 1] {
        let settings = Settings::on(&format!("postgres://flametree@127.0.0.1:{port}/flametree"));
        let (is_right, output) = output_of(settings.command().args(["config", "check"]));
        assert!(is_right && output.contains("# the database was not checked: "), "{output}");
    }
}

#[tokio::test]
async fn reports_a_warning_if_the_clock_differs_from_the_clock_of_the_database() {
    use chrono::{TimeDelta, Utc};
    use flametree_notify::store::server_settings::{ServerSettings, Verdict};
    let database = TestDatabase::new().await;
    let mut connection = database.direct_options().connect().await.unwrap();
    for (ahead, expected) in [(0, Verdict::Ok), (60, Verdict::Warning), (-60, Verdict::Warning)] {
        let now = || Utc::now() + TimeDelta::seconds(ahead);
        let read = ServerSettings::read(&mut connection, now).await.unwrap();
        let finding = read.findings().into_iter().find(|finding| finding.setting == "clock difference").unwrap();
        assert_eq!(finding.verdict, expected, "{finding}");
    }
}

fn restart(server: &OwnServer) {
    server.stop(Stop::Fast);
    server.start_again();
}

fn name_of(database: &TestDatabase) -> String {
    database.direct_options().get_database().unwrap().to_owned()
}

/// Changes the setting for new sessions of this database only, so that other tests are not affected.
async fn set(database: &TestDatabase, setting: &str, value: &str) {
    let statement = format!("ALTER DATABASE {} SET {setting} = '{value}'", name_of(database));
    run(&database.direct_options(), &statement).await;
    end_sessions(&database.direct_options()).await;
}

async fn reset(database: &TestDatabase, setting: &str) {
    run(&database.direct_options(), &format!("ALTER DATABASE {} RESET {setting}", name_of(database))).await;
    end_sessions(&database.direct_options()).await;
}

/// Existing sessions of a pooler keep the old settings, so docs/databases.md advises to end these sessions. The test ends the
/// sessions by SQL.
async fn end_sessions(options: &PgConnectOptions) {
    let others = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
                  WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    run(options, others).await;
}

async fn run(options: &PgConnectOptions, statement: &str) {
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Whether the command succeeded, and the whole output of the command.
fn output_of(command: &mut Command) -> (bool, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.success(), String::from_utf8([stdout, stderr].concat()).unwrap())
}
