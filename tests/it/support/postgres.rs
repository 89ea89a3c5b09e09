//! A new database for each test, on the server that the script `scripts/with-postgres` starts.
//!
//! The migrations run once per schema, in a template database. Each test gets a copy of the template, which takes milliseconds.
//! With the setting `POOLER=pgbouncer`, tests connect through the pooler, except to create databases.
//!
//! A template's name contains a digest of the migrations, so that tests never use an outdated template.

use std::ops::Deref;
use std::str::FromStr as _;

use flametree_notify::store::Db;
use flametree_notify::store::schema;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row as _};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::pooler;

/// The key of the advisory lock that a test process acquires before it creates the template. Nothing else uses this key.
const TEMPLATE_LOCK: i64 = 0x0066_6c61_6d65_7472;

static TEMPLATE: OnceCell<String> = OnceCell::const_new();

/// An empty database with the current schema, dropped at the end of the test.
pub struct TestDatabase {
    pub pool: Db,
    options: PgConnectOptions,
    name: String,
}

impl TestDatabase {
    pub async fn new() -> Self {
        Self::with_connections(10).await
    }

    pub async fn with_connections(max_connections: u32) -> Self {
        let template = TEMPLATE.get_or_init(migrated_template).await;
        let name = format!("test_{}", Uuid::new_v4().simple());
        // PostgreSQL copies a template only while it has no connections.
        run(&mut server().await, format!("CREATE DATABASE {name} TEMPLATE {template} STRATEGY wal_log")).await;
        let options = options_of(&service_url()).database(&name);
        let pool =
            PgPoolOptions::new().max_connections(max_connections).connect_with(options.clone()).await.unwrap().into();
        Self { pool, options, name }
    }

    /// The options for a second pool, or for a connection outside the pool.
    pub fn connect_options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// Options that bypass the pooler, for code that needs a session or inspects other sessions.
    pub fn direct_options(&self) -> PgConnectOptions {
        server_options().database(&self.name)
    }

    /// The database URL for a separate process.
    pub fn url(&self) -> String {
        self.url_on(&service_url())
    }

    /// Bypasses any pooler: `DATABASE_LISTEN_URL`.
    pub fn direct_url(&self) -> String {
        self.url_on(&server_url())
    }

    fn url_on(&self, url: &str) -> String {
        let (server, _) = url.rsplit_once('/').unwrap();
        format!("{server}/{}", self.name)
    }
}

impl Deref for TestDatabase {
    type Target = Db;

    fn deref(&self) -> &Db {
        &self.pool
    }
}

impl Drop for TestDatabase {
    /// Drops the database even if the test failed or connections are still open.
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // The test's runtime stops with the test, so a thread with a separate runtime drops the database.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { run(&mut server().await, statement).await });
        });
        if dropped.join().is_err() {
            eprintln!("the database {} remains", self.name);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the environment tells tests which server to use")]
fn server_url() -> String {
    std::env::var("TEST_DATABASE_URL")
        .expect("TEST_DATABASE_URL is not set: run `make test`, or `scripts/with-postgres cargo test ...`")
}

/// The URL at which the service connects to the server. If the test run uses a pooler, this is the pooler's URL.
fn service_url() -> String {
    pooler::url_of_shared().unwrap_or_else(server_url)
}

fn server_options() -> PgConnectOptions {
    options_of(&server_url())
}

fn options_of(url: &str) -> PgConnectOptions {
    PgConnectOptions::from_str(url).unwrap().extra_float_digits(None)
}

async fn server() -> PgConnection {
    server_options().connect().await.unwrap()
}

async fn run(connection: &mut PgConnection, statement: String) {
    let statement = sqlx::AssertSqlSafe(statement);
    sqlx::raw_sql(statement).execute(connection).await.unwrap();
}

/// Returns the name of a template database with the current schema. Creates the template if it does not exist.
async fn migrated_template() -> String {
    let name = format!("template_{}", &schema::digest()[..16]);
    let mut server = server().await;
    // This connection holds the lock until it closes.
    run(&mut server, format!("SELECT pg_advisory_lock({TEMPLATE_LOCK})")).await;
    if !exists(&mut server, &name).await {
        // Rename the template when it is complete, so that a killed test process leaves no incomplete template.
        run(&mut server, format!("DROP DATABASE IF EXISTS {name}_new")).await;
        run(&mut server, format!("CREATE DATABASE {name}_new")).await;
        let options = server_options().database(&format!("{name}_new"));
        let pool = Db::from(PgPoolOptions::new().max_connections(2).connect_with(options).await.unwrap());
        schema::migrate(&pool, schema::LOCK_TIMEOUT).await.unwrap();
        pool.close().await;
        run(&mut server, format!("ALTER DATABASE {name}_new RENAME TO {name}")).await;
    }
    server.close().await.unwrap();
    name
}

async fn exists(server: &mut PgConnection, name: &str) -> bool {
    let query = format!("SELECT count(*) = 1 FROM pg_database WHERE datname = '{name}'");
    sqlx::raw_sql(sqlx::AssertSqlSafe(query)).fetch_one(server).await.unwrap().get(0)
}

#[tokio::test]
async fn tests_have_separate_databases_with_the_schema_and_drop_them() {
    let (one, other) = tokio::join!(TestDatabase::new(), TestDatabase::new());
    for database in [&one, &other] {
        let statement = "SELECT to_regclass('flametree.events') IS NOT NULL AND to_regclass('own') IS NULL";
        let is_own: bool = sqlx::raw_sql(statement).fetch_one(&database.pool).await.unwrap().get(0);
        assert!(is_own);
        sqlx::raw_sql("CREATE TABLE own ()").execute(&database.pool).await.unwrap();
    }
    for options in [one.connect_options(), one.direct_options(), options_of(&one.url())] {
        assert_eq!(options.get_database(), Some(one.name.as_str()));
        options.connect().await.unwrap().ping().await.unwrap();
    }
    let name = one.name.clone();
    drop(one);
    assert!(!exists(&mut server().await, &name).await);
}
