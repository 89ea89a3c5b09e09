//! Migrates the schema while the service runs. The service continues, and a migration that cannot get a lock names the session
//! that holds the lock.
//!
//! The variable `MIGRATION_DELIVERIES` sets the number of deliveries. The command `make longevity` uses ten million deliveries.

use std::path::Path;
use std::time::Duration;

use flametree_notify::store::Db;
use flametree_notify::store::schema;
use sqlx::Row as _;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgPoolOptions;
use tokio::time::timeout;

use crate::support::deployment::{Deployment, agents};
use crate::support::postgres::TestDatabase;
use crate::support::seed;
use crate::support::service::Part;
use crate::support::waiting::within;

#[expect(clippy::disallowed_methods, reason = "`make longevity` sets this variable")]
fn deliveries() -> u64 {
    std::env::var("MIGRATION_DELIVERIES").ok().and_then(|count| count.parse().ok()).unwrap_or(100_000)
}

async fn later() -> Migrator {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/later_migrations");
    schema::followed_by(&Migrator::new(directory).await.unwrap())
}

/// Inserts deliveries of yesterday. The migrations change the partitions of these deliveries.
async fn fill(db: &Db, count: u64) {
    let id = "overlay(flametree.first_id_at(date_trunc('day', now(), 'UTC') - interval '1 hour')::text PLACING lpad(to_hex(n), 12, '0') FROM 25)::uuid";
    let statement = format!(
        "INSERT INTO flametree.deliveries (tenant_id, id, endpoint_id, event_id, claimed_at, finished_at, channel, outcome,
             duration_us, http_status, batch)
         SELECT 'acme', {id}, {id}, {id}, now(), now(), 'webhook', 'delivered', 1000, 200, 0 FROM generate_series(1, {count}) AS n"
    );
    seed::run(db, statement).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_accepted_and_delivered_during_a_migration() {
    let deployment = Deployment::new().await;
    let service = deployment.settings.start(Part::Run).await;
    let agents = agents(4);
    deployment.configure(&service, &agents).await;
    fill(&deployment.pool, deliveries()).await;
    let apis = [deployment.client(&service)];

    let mut caller = deployment.pool.begin().await.unwrap();
    let event = r#"{"tenant_id":"acme","type":"user_message","agent_id":"none","session_id":"sql","text":"hi"}"#;
    sqlx::query("SELECT FROM flametree.enqueue_event($1::text::jsonb)")
        .bind(event)
        .execute(&mut *caller)
        .await
        .unwrap();
    // An older version number makes the migration replace the functions too.
    seed::run(&deployment.pool, "UPDATE flametree.function_sources SET version = '{0, 0, 1}'".into()).await;
    let pool: Db = PgPoolOptions::new()
        .max_connections(2)
        .connect_with((*deployment.pool.connect_options()).clone())
        .await
        .unwrap()
        .into();
    let migration = tokio::spawn(async move { schema::migrate_by(&later().await, &pool, schema::LOCK_TIMEOUT).await });

    // The migration waits for the open transaction of a caller. Meanwhile the service still accepts and delivers events.
    let mut accepted = deployment.post(&apis, &agents, 1_000).await;
    within(Duration::from_mins(1), "the events are delivered", async || deployment.receiver.count() >= 1_000).await;
    assert!(!migration.is_finished(), "the migration did not wait for the open transaction");
    assert!(!service.has_logged("could not"), "{}", service.output());
    caller.commit().await.unwrap();
    accepted.extend(deployment.post(&apis, &agents, 1_000).await);
    migration.await.unwrap().unwrap();
    accepted.extend(deployment.post(&apis, &agents, 500).await);
    deployment.drained(Duration::from_mins(1)).await;
    let yesterday = "to_char(now() AT TIME ZONE 'UTC' - interval '1 day', 'YYYYMMDD')";
    let empty = format!("DO $$ BEGIN EXECUTE 'TRUNCATE flametree.deliveries_' || {yesterday}; END $$");
    seed::run(&deployment.pool, empty).await;
    let tally = deployment.assert_drained(&apis[0], &accepted).await;
    assert_eq!(tally.seen.len(), 2_500);
    let valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'flametree.sessions_example'::regclass";
    assert!(sqlx::query_scalar::<_, bool>(valid).fetch_one(&deployment.pool).await.unwrap());
}

#[tokio::test]
async fn a_migration_that_cannot_get_a_lock_names_the_session_that_holds_the_lock() {
    let db = TestDatabase::new().await;
    let mut reader = db.begin().await.unwrap();
    sqlx::raw_sql("SELECT count(*) FROM flametree.events").fetch_one(&mut *reader).await.unwrap();
    let pid: i32 = sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(&mut *reader).await.unwrap().get(0);
    let error = schema::migrate_by(&later().await, &db, Duration::from_secs(3)).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, schema::Error::Locked { .. }) && text.contains(&format!("pid {pid} (")), "{text}");
    reader.rollback().await.unwrap();
    schema::migrate_by(&later().await, &db, Duration::from_mins(1)).await.unwrap();
    schema::migrate_by(&later().await, &db, Duration::from_mins(1)).await.unwrap();
}

#[tokio::test]
async fn a_waiting_index_build_names_the_blocking_session_and_the_next_run_repeats_the_build() {
    let db = TestDatabase::new().await;
    let is_valid = async || -> Option<bool> {
        let query = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('flametree.sessions_example')";
        sqlx::query_scalar(query).fetch_optional(&*db).await.unwrap()
    };
    // The session holds a snapshot and no lock, so only the concurrent index build waits for the session.
    let mut reader = db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    let pid: i32 = sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(&mut *reader).await.unwrap().get(0);
    let migrators = later().await;
    let migration = schema::migrate_by(&migrators, &db, Duration::from_secs(3));
    let error = timeout(Duration::from_mins(1), migration).await.expect("the migration has no time limit").unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, schema::Error::Locked { .. }) && text.contains(&format!("pid {pid} (")), "{text}");
    assert_eq!(is_valid().await, Some(false), "the index build was not interrupted after its start");
    reader.rollback().await.unwrap();
    schema::migrate_by(&migrators, &db, Duration::from_mins(1)).await.unwrap();
    assert_eq!(is_valid().await, Some(true));
}

#[tokio::test]
async fn a_migration_names_the_session_that_is_changing_functions_of_the_schema() {
    let db = TestDatabase::new().await;
    seed::run(&db, "UPDATE flametree.function_sources SET version = '{0, 0, 1}'".into()).await;
    let mut other = db.begin().await.unwrap();
    let pid: i32 = sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(&mut *other).await.unwrap().get(0);
    sqlx::raw_sql("ALTER FUNCTION flametree.bound_of COST 200").execute(&mut *other).await.unwrap();
    let migration = schema::migrate(&db, Duration::from_secs(3));
    let error = timeout(Duration::from_mins(1), migration).await.expect("the migration has no time limit").unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, schema::Error::Locked { .. }) && text.contains(&format!("pid {pid} (")), "{text}");
    other.rollback().await.unwrap();
    schema::migrate(&db, Duration::from_mins(1)).await.unwrap();
    assert!(schema::is_current(&db).await.unwrap());
}

#[tokio::test]
async fn a_migration_names_another_migration_or_a_session_that_locks_the_migrations_table() {
    for blocking in
        ["LOCK TABLE flametree._sqlx_migrations", "SELECT FROM pg_advisory_xact_lock(x'00666c616d656d69'::bigint)"]
    {
        let db = TestDatabase::new().await;
        let mut other = db.begin().await.unwrap();
        let pid: i32 = sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(&mut *other).await.unwrap().get(0);
        sqlx::raw_sql(blocking).execute(&mut *other).await.unwrap();
        let migration = schema::migrate(&db, Duration::from_secs(3));
        let error =
            timeout(Duration::from_mins(1), migration).await.expect("the migration has no time limit").unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, schema::Error::Locked { .. }) && text.contains(&format!("pid {pid} (")), "{text}");
        other.rollback().await.unwrap();
        schema::migrate(&db, Duration::from_mins(1)).await.unwrap();
    }
}

#[tokio::test]
async fn indexes_can_be_built_with_a_stricter_default_isolation_level() {
    let db = TestDatabase::new().await;
    let name: String = sqlx::raw_sql("SELECT current_database()").fetch_one(&*db).await.unwrap().get(0);
    seed::run(&db, format!("ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")).await;
    let strict = Db::from(PgPoolOptions::new().max_connections(2).connect_with(db.direct_options()).await.unwrap());
    schema::migrate_by(&later().await, &strict, Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn keeps_functions_of_a_later_version_and_replaces_all_other_functions() {
    let db = TestDatabase::new().await;
    assert!(schema::is_current(&db).await.unwrap());
    let body = "SELECT prosrc FROM pg_proc WHERE oid = 'flametree.bound_of'::regproc";
    let body = async || -> String { sqlx::raw_sql(body).fetch_one(&*db).await.unwrap().get(0) };
    let ours = body().await;
    let version = "SELECT version FROM flametree.function_sources";
    let version: Vec<i32> = sqlx::query_scalar(version).fetch_one(&*db).await.unwrap();
    let [release @ .., set] = &version[..] else { panic!("no version") };
    let of_release = |sets: &[i32]| [release, sets].concat();
    let table = [
        ("a later release", vec![99, 0, 0], true),
        ("a later set of this release", of_release(&[set + 1]), true),
        ("an earlier set of this release", of_release(&[set - 1]), false),
        ("a build of this release without numbered sets", of_release(&[]), false),
        ("the same version with other source text", version.clone(), false),
        ("an earlier release", vec![0, 0, 9, 99], false),
    ];
    for (what, installed, is_later) in table {
        let change = "CREATE OR REPLACE FUNCTION flametree.bound_of(p_parent text, p_day date) RETURNS text LANGUAGE sql STABLE AS 'SELECT p_parent'";
        seed::run(&db, change.into()).await;
        let noted = "UPDATE flametree.function_sources SET version = $1, sha256 = '\\x00'";
        sqlx::query(noted).bind(&installed).execute(&*db).await.unwrap();
        assert_eq!(schema::is_current(&db).await.unwrap(), installed >= version, "{what}");
        schema::migrate(&db, Duration::from_mins(1)).await.unwrap();
        assert!(schema::is_current(&db).await.unwrap(), "{what}");
        let expected = if is_later { "SELECT p_parent" } else { &ours };
        assert_eq!(body().await, expected, "{what}");
    }
}

#[tokio::test]
async fn reports_that_a_build_before_the_first_release_created_the_database() {
    let db = TestDatabase::new().await;
    seed::run(
        &db,
        "DROP TABLE flametree.function_sources; UPDATE flametree._sqlx_migrations SET checksum = '\\x00'".into(),
    )
    .await;
    let error = schema::migrate(&db, Duration::from_mins(1)).await.unwrap_err();
    assert!(error.to_string().contains("before 0.1.0"), "{error}");
}
