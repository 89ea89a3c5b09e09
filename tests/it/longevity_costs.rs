//! Compares an old or a large database with a new database: how many pages the queue's statements read, and how long they take.

use std::time::{Duration, Instant};

use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::endpoint::Channel;
use flametree_notify::domain::ids::EndpointId;
use flametree_notify::store::Db;
use flametree_notify::store::queue::finish;
use flametree_notify::store::{partitions, schema};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, Row as _};

use crate::longevity::{days, usual_autovacuum};
use crate::support::own_server::OwnServer;
use crate::support::queue::{accept_messages, agent_with_webhook, claim_of, finished, worker};
use crate::support::seed;

/// The number of measurements of each database. The test alternates between the databases, because the machine's speed varies.
const PAIRS: usize = 40;
/// The number of measurements in a long run, with at least [`LONG_DAYS`] days. Only a long run also checks times.
const LONG_PAIRS: usize = 1_000;
const LONG_DAYS: u32 = 100;
const EVENTS: usize = 100;
/// The maximum ratio between the costs on the old and the new database.
const TOLERANCE: f64 = 1.05;
const STEPS: [&str; 4] = ["accept", "claim", "finish", "statistics"];
/// Counts the deliveries of an agent in the past hour, as the API does.
const STATISTICS: &str = "SELECT sum(c.deliveries) FROM (
        SELECT flametree.clock() AS now, date_trunc('hour', flametree.clock()) AS hour
    ) AS t CROSS JOIN LATERAL (
        SELECT r.deliveries FROM flametree.rolled_up_deliveries('acme', 'agent-1', t.now - interval '1 hour', t.hour, t.hour, t.now, NULL) AS r
        UNION ALL
        SELECT u.deliveries FROM flametree.uncounted_deliveries('acme', 'agent-1', t.now - interval '1 hour', t.now, NULL) AS u
    ) AS c";

/// Opens the same number of connections to both databases, because each connection keeps separate query plans.
async fn pool(options: PgConnectOptions) -> Db {
    PgPoolOptions::new().max_connections(2).connect_with(options).await.unwrap().into()
}

/// Creates a migrated database on the server, with partitions for this number of past days.
async fn database(server: &OwnServer, name: &str, days_kept: u32) -> (Db, EndpointId) {
    let mut admin = sqlx::PgConnection::connect_with(&server.connect_options()).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await.unwrap();
    let db = pool(server.connect_options().database(name)).await;
    schema::migrate(&db, schema::LOCK_TIMEOUT).await.unwrap();
    let width = days_kept.div_ceil(30);
    let past = format!(
        "SELECT flametree.ensure_partitions(current_date - {days_kept}, current_date, {width}, '{{events, deliveries}}')"
    );
    seed::run(&db, past).await;
    partitions::prepare(&db, days_kept).await.unwrap();
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    (db, endpoint)
}

/// Measures the time of each step for a batch of events.
async fn measure(db: &Db, endpoint: EndpointId) -> [Duration; 4] {
    let by = worker(db).await;
    let mut times = [Duration::ZERO; 4];
    let mut started = Instant::now();
    let mut lap = |step: usize| {
        times[step] = started.elapsed();
        started = Instant::now();
    };
    accept_messages(db, "agent-1", EVENTS).await;
    lap(0);
    let (claim, taken) = claim_of(db, by, endpoint, u32::try_from(EVENTS).unwrap()).await;
    lap(1);
    let ended: Vec<_> = taken.iter().map(|one| finished(one, Outcome::Delivered)).collect();
    lap(2);
    finish::finish(db, Channel::Webhook, &[claim], &ended).await.unwrap();
    lap(2);
    sqlx::raw_sql(STATISTICS).fetch_one(db).await.unwrap();
    lap(3);
    seed::run(db, "SELECT FROM flametree.roll_up(1000)".into()).await;
    times
}

/// The number of pages that a statement reads, including pages read by the functions that it calls.
pub async fn pages(db: &Db, statement: &str) -> f64 {
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}");
    let mut tx = db.begin().await.unwrap();
    let mut read = f64::MAX;
    // Takes the minimum: the first run also plans the statement, and a run after a vacuum can read the catalog again.
    for _ in 0..6 {
        let row = sqlx::raw_sql(sqlx::AssertSqlSafe(explain.clone())).fetch_one(&mut *tx).await.unwrap();
        let plan: serde_json::Value = serde_json::from_str(&row.try_get_unchecked::<String, _>(0).unwrap()).unwrap();
        let blocks = |name: &str| plan[0]["Plan"][name].as_f64().unwrap();
        read = read.min(blocks("Shared Hit Blocks") + blocks("Shared Read Blocks"));
    }
    tx.rollback().await.unwrap();
    read
}

/// For each step, the median ratio between the time on the old database and the time on the new database.
async fn ratios(old: (&Db, EndpointId), new: (&Db, EndpointId)) -> [f64; 4] {
    let mut ratios: [Vec<f64>; 4] = Default::default();
    let pairs = if days() >= LONG_DAYS { LONG_PAIRS } else { PAIRS };
    for pair in 0..pairs + 3 {
        let (old, new) = if pair % 2 == 0 {
            let old = measure(old.0, old.1).await;
            (old, measure(new.0, new.1).await)
        } else {
            let new = measure(new.0, new.1).await;
            (measure(old.0, old.1).await, new)
        };
        // Ignores the first three pairs of measurements, because they include planning and empty caches.
        for step in (0..4).filter(|_| pair >= 3) {
            ratios[step].push(old[step].as_secs_f64() / new[step].as_secs_f64());
        }
    }
    ratios.map(|mut ratios| {
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    })
}

async fn compare(what: &str, old: (&Db, EndpointId), new: (&Db, EndpointId)) {
    let ratios = ratios(old, new).await;
    for (step, ratio) in STEPS.iter().zip(ratios) {
        println!("{what}: {step} takes {ratio:.3} times as long as on the new database");
    }
    // The test always checks page counts, which do not depend on the load of the machine. It checks times only in a
    // long run.
    let event = r#"{"tenant_id":"acme","type":"user_message","agent_id":"agent-1","session_id":"s","text":"x","idempotency_key":"k"}"#;
    let worker = "00000000-0000-7000-8000-000000000001";
    for (db, _) in [old, new] {
        let register = format!(
            "INSERT INTO flametree.workers VALUES ('{worker}', now(), now(), NULL, 'pages') ON CONFLICT DO NOTHING"
        );
        seed::run(db, register).await;
        accept_messages(db, "agent-1", EVENTS).await;
        seed::run(
            db,
            "VACUUM flametree.ready_deliveries, flametree.claims, flametree.uncounted_batches, flametree.workers"
                .into(),
        )
        .await;
    }
    let claim = |endpoint: EndpointId| {
        format!(
            "SELECT * FROM flametree.claim_deliveries(gen_random_uuid(), '{worker}', 'webhook', '{{acme}}', '{{{}}}', '{{0}}', '{{16}}')",
            endpoint.uuid()
        )
    };
    let finish = |endpoint: EndpointId| {
        let id = "overlay(flametree.first_id_at(flametree.clock())::text PLACING right(gen_random_uuid()::text, 12) FROM 25)::uuid";
        format!(
            "SELECT f FROM (SELECT {id} AS id OFFSET 0) AS d, LATERAL flametree.finish_deliveries('{{}}', 'webhook', '{{acme}}',
                 ARRAY[d.id], '{{{}}}', ARRAY[d.id], ARRAY[flametree.clock()], '{{delivered}}', '{{1}}', '{{1000}}', '{{200}}',
                 ARRAY[NULL]::text[], d.id, d.id) AS f",
            endpoint.uuid()
        )
    };
    for (step, of_old, of_new) in [
        (
            "accept",
            format!("SELECT * FROM flametree.enqueue_event('{event}')"),
            format!("SELECT * FROM flametree.enqueue_event('{event}')"),
        ),
        ("claim", claim(old.1), claim(new.1)),
        ("finish", finish(old.1), finish(new.1)),
        ("statistics", STATISTICS.to_owned(), STATISTICS.to_owned()),
    ] {
        let (old, new) = (pages(old.0, &of_old).await, pages(new.0, &of_new).await);
        println!("{what}: {step} reads {old} pages, {new} on the new database");
        assert!(old <= new * TOLERANCE + 8.0, "{what}: {step} reads {old} pages, {new} on the new database");
    }
    if days() >= LONG_DAYS {
        let dearest = ratios.into_iter().fold(0.0, f64::max);
        assert!(dearest <= TOLERANCE, "{what}: a step takes {dearest:.3} times as long as on the new database");
    }
}

/// Compares the old database, which is the default database of the server, with a new database.
pub async fn compare_with_a_new_database(server: &OwnServer, endpoint: EndpointId) {
    let (new, its_endpoint) = database(server, "new", 30).await;
    let old = pool(server.connect_options()).await;
    usual_autovacuum(&old, &new).await;
    compare(&format!("after {} days", days()), (&old, endpoint), (&new, its_endpoint)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_years_of_retention_cost_as_much_as_thirty_days() {
    let server = OwnServer::start_direct().await;
    let (long, its_endpoint) = database(&server, "long", 3_650).await;
    let (short, endpoint) = database(&server, "short", 30).await;
    compare("with 3,650 days kept", (&long, its_endpoint), (&short, endpoint)).await;
    // Statements that touch every partition need no more locks than PostgreSQL allows by default.
    seed::run(&long, "SELECT FROM flametree.roll_up(1000000)".into()).await;
    seed::run(&long, "SELECT FROM flametree.summarize_batches()".into()).await;
    assert!(partitions::expired(&long, 3_650).await.unwrap().is_empty());
}
