//! Advances the clock of the database one day at a time, and runs the usual work of a deployment on each day.
//!
//! The command `make test` simulates 45 days, and `make longevity` simulates 400 days. Autovacuum runs every second. With the
//! usual settings, it would run too rarely to clean up tables and to analyze the system catalogs during the test.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flametree_notify::app;
use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::endpoint::Channel;
use flametree_notify::domain::operation::OperationKind;
use flametree_notify::secrets::Keyring;
use flametree_notify::store::Db;
use flametree_notify::store::queue::{finish, reap, workers};
use flametree_notify::store::{accept, operations};
use flametree_notify::telemetry::metrics::Metrics;
use flametree_notify::worker::{OperationSettings, Operations};
use sqlx::Row as _;
use sqlx::postgres::PgPoolOptions;
use tokio_util::sync::CancellationToken;

use crate::support::own_server::OwnServer;
use crate::support::queue::{agent_with_webhook, claim_of, finished, message, worker};
use crate::support::seed;

/// In this number of days, retention removes partitions, and autovacuum analyzes the system catalogs.
const DAYS: u32 = 45;
const DAYS_KEPT: u32 = 30;
const EVENTS_PER_DAY: usize = 60;
/// The number of partitions at the end of a day: today, the retained days, and two days in advance.
const PARTITIONS: i64 = DAYS_KEPT as i64 + 3;

const BUSY_TABLES: [&str; 3] = ["ready_deliveries_webhook", "claims", "uncounted_batches"];

#[expect(clippy::disallowed_methods, reason = "`make longevity` sets the number of days")]
pub fn days() -> u32 {
    std::env::var("LONGEVITY_DAYS").ok().and_then(|days| days.parse().ok()).unwrap_or(DAYS)
}

/// Makes autovacuum run every second.
pub async fn eager_autovacuum(db: &Db) {
    for (name, value) in [
        ("autovacuum_naptime", "1s"),
        ("autovacuum_vacuum_threshold", "20"),
        ("autovacuum_vacuum_scale_factor", "0"),
        ("autovacuum_analyze_threshold", "20"),
        ("autovacuum_analyze_scale_factor", "0"),
        ("autovacuum_vacuum_cost_delay", "0"),
    ] {
        seed::run(db, format!("ALTER SYSTEM SET {name} = '{value}'")).await;
    }
    seed::run(db, "SELECT pg_reload_conf()".into()).await;
    // The schema sets a threshold of 20,000 dead rows for each of these tables. The test would never reach this threshold.
    let eager = "autovacuum_vacuum_threshold = 20, autovacuum_analyze_threshold = 20";
    for table in BUSY_TABLES {
        seed::run(db, format!("ALTER TABLE flametree.{table} SET ({eager})")).await;
    }
}

/// Restores the usual settings of autovacuum, so that more frequent vacuums do not distort the comparison with a new database.
pub async fn usual_autovacuum(db: &Db, new: &Db) {
    seed::run(db, "ALTER SYSTEM RESET ALL".into()).await;
    seed::run(db, "SELECT pg_reload_conf()".into()).await;
    for table in BUSY_TABLES {
        let query =
            format!("SELECT array_to_string(reloptions, ', ') FROM pg_class WHERE oid = 'flametree.{table}'::regclass");
        let usual: String = sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(new).await.unwrap();
        seed::run(db, format!("ALTER TABLE flametree.{table} SET ({usual})")).await;
    }
}

pub fn operations_of(db: &Db, keys: &str, days_kept: u32) -> Operations {
    let settings = OperationSettings {
        schedules: Vec::new(),
        lease: Duration::from_secs(30),
        retention_days: days_kept,
        replay_expires: Duration::from_hours(1),
    };
    Operations {
        db: db.clone(),
        keyring: Arc::new(Keyring::parse(keys).unwrap()),
        settings: Arc::new(settings),
        metrics: Metrics::new("0", "0"),
        now: app::now,
    }
}

async fn operate(operations: &Operations, tick: chrono::DateTime<chrono::Utc>) {
    let scheduled = [
        OperationKind::Retention,
        OperationKind::WorkspaceRepair,
        OperationKind::SubscriptionPruning,
        OperationKind::Rollup,
        OperationKind::Reencryption,
    ];
    for kind in scheduled {
        operations::enter_tick(&operations.db, kind, tick).await.unwrap();
    }
    assert_eq!(operations.run_due(&CancellationToken::new()).await.unwrap(), 5);
}

async fn number(db: &Db, query: &str) -> i64 {
    sqlx::raw_sql(sqlx::AssertSqlSafe(query.to_owned())).fetch_one(db).await.unwrap().get(0)
}

struct Year {
    db: Db,
    endpoint: flametree_notify::domain::ids::EndpointId,
    recorded: u64,
    sizes: BTreeMap<u32, BTreeMap<String, i64>>,
}

impl Year {
    async fn day(&mut self, day: u32) {
        let db = self.db.clone();
        seed::move_clock(&db, &format!("{day} days")).await;
        let now: chrono::DateTime<chrono::Utc> =
            sqlx::query_scalar("SELECT flametree.clock()").fetch_one(&db).await.unwrap();
        // On one of 30 days, no worker runs. The partitions of that day exist in advance.
        let is_staffed = day % 30 != 20;
        let mut caller = db.begin().await.unwrap();
        if day % 7 == 3 {
            let event =
                r#"{"tenant_id":"acme","type":"user_message","agent_id":"agent-1","session_id":"sql","text":"hi"}"#;
            sqlx::query("SELECT FROM flametree.enqueue_event($1::text::jsonb)")
                .bind(event)
                .execute(&mut *caller)
                .await
                .unwrap();
        }
        self.accept(day).await;
        if is_staffed {
            self.deliver(day).await;
        }
        caller.commit().await.unwrap();
        if is_staffed {
            if day % 5 == 2 {
                self.replay().await;
            }
            self.deliver(0).await;
            let keys = format!("k{}:{}", day / 90, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
            operate(&operations_of(&db, &keys, DAYS_KEPT), now).await;
            self.assert_in_order(day).await;
        }
    }

    async fn accept(&self, day: u32) {
        let mut events: Vec<_> =
            (0..EVENTS_PER_DAY).map(|n| message("agent-1", format!("message {day} {n}"))).collect();
        for (n, event) in events.iter_mut().enumerate() {
            event.idempotency_key = Some(format!("key-{day}-{n}"));
        }
        let events: Vec<_> = events.iter().collect();
        accept::accept(&self.db, &events, 86_400, accept::LOCK_TIMEOUT).await.unwrap();
        // A caller repeats a request.
        let again = accept::accept(&self.db, &events[..5], 86_400, accept::LOCK_TIMEOUT).await.unwrap();
        assert!(
            again.answers.iter().all(|answer| matches!(answer, accept::Acceptance::Duplicate { deliveries: 1, .. }))
        );
    }

    /// Delivers all ready deliveries. On some days a worker dies before it finishes its claim.
    async fn deliver(&mut self, day: u32) {
        let (db, by) = (&self.db, worker(&self.db).await);
        loop {
            let (claim, taken) = claim_of(db, by, self.endpoint, 25).await;
            if taken.is_empty() {
                break;
            }
            self.recorded += taken.len() as u64;
            if day % 10 == 5 {
                break;
            }
            let outcomes = [Outcome::Delivered, Outcome::Delivered, Outcome::HttpError, Outcome::Timeout];
            let ended: Vec<_> =
                taken.iter().zip(outcomes.iter().cycle()).map(|(one, outcome)| finished(one, *outcome)).collect();
            finish::finish(db, Channel::Webhook, &[claim], &ended).await.unwrap();
        }
        workers::end(db, by).await.unwrap();
        while !reap::reap(db, 64, &[]).await.unwrap().is_empty() {}
        workers::forget(db, Duration::from_hours(24)).await.unwrap();
    }

    async fn replay(&self) {
        let statement = "SELECT r.result FROM (SELECT id FROM flametree.deliveries WHERE outcome <> 'delivered' ORDER BY id DESC LIMIT 1) AS d,
             flametree.replay('acme', d.id, flametree.first_id_at(flametree.clock() - interval '20 days'), 3600, NULL, 'test', false) AS r";
        let result: Option<String> = sqlx::query_scalar(statement).fetch_optional(&self.db).await.unwrap();
        assert_eq!(result.as_deref(), Some("ready"));
    }

    async fn assert_in_order(&mut self, day: u32) {
        let db = &self.db;
        assert_eq!(
            number(db, "SELECT count(*) FROM flametree.operations WHERE state <> 'succeeded' OR attempts > 1").await,
            0
        );
        assert_eq!(number(db, "SELECT count(*) FROM flametree.claims").await, 0);
        assert_eq!(number(db, "SELECT count(*) FROM flametree.uncounted_batches").await, 0);
        if day > DAYS_KEPT {
            for parent in ["events", "deliveries"] {
                let count = format!(
                    "SELECT count(*) FROM flametree.partitions() WHERE parent = '{parent}' AND state = 'attached'"
                );
                assert_eq!(number(db, &count).await, PARTITIONS, "{parent} on day {day}");
            }
        }
        let sizes = "SELECT c.relname::text, pg_total_relation_size(c.oid) FROM pg_class AS c
            WHERE c.relnamespace = 'flametree'::regnamespace AND c.relkind = 'r' AND NOT c.relispartition
            UNION ALL SELECT c.relname::text, pg_total_relation_size(c.oid) FROM pg_class AS c WHERE c.relname LIKE 'ready_deliveries\\__%' AND c.relkind = 'r'
            UNION ALL SELECT 'idempotency_keys', sum(pg_total_relation_size(i.inhrelid))::bigint FROM pg_inherits AS i WHERE i.inhparent = 'flametree.idempotency_keys'::regclass";
        let rows: Vec<(String, i64)> = sqlx::query_as(sizes).fetch_all(db).await.unwrap();
        self.sizes.insert(day, rows.into_iter().collect());
    }

    /// No table has grown since retention started to drop partitions.
    fn assert_bounded(&self) {
        let begins = DAYS_KEPT + 5;
        let largest = |range: std::ops::RangeFrom<u32>, table: &str| {
            self.sizes.range(range).filter_map(|(_, sizes)| sizes.get(table)).max().copied().unwrap_or(0)
        };
        let early: BTreeMap<u32, _> = self.sizes.range(..=begins).map(|(day, sizes)| (*day, sizes)).collect();
        for table in self.sizes.values().next_back().unwrap().keys() {
            let before = early.values().filter_map(|sizes| sizes.get(table)).max().copied().unwrap_or(0);
            let after = largest(begins + 1.., table);
            // Several days pass between two runs of autovacuum, so the tolerance grows with the number of days. Without vacuum,
            // 400 days would leave 3 MB of claims.
            let tolerance = 65_536 + i64::from(days()) * 2_048;
            assert!(after <= before * 3 / 2 + tolerance, "{table} grew from {before} to {after} bytes");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_operation_fails_and_no_table_grows_as_days_pass() {
    let server = OwnServer::start_direct().await;
    let db: Db = PgPoolOptions::new().max_connections(8).connect_with(server.connect_options()).await.unwrap().into();
    eager_autovacuum(&db).await;
    seed::run(&db, "SELECT flametree.prepare_partitions(30)".into()).await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    let mut year = Year { db: db.clone(), endpoint, recorded: 0, sizes: BTreeMap::new() };
    let started = app::now();
    for day in 0..days() {
        year.day(day).await;
    }
    println!("{} days passed in {} s", days(), (app::now() - started).num_seconds());
    year.assert_bounded();

    let catalogs = "SELECT count(*) FROM pg_stat_sys_tables WHERE relname IN ('pg_class', 'pg_attribute') AND last_autoanalyze IS NOT NULL";
    assert_eq!(number(&db, catalogs).await, 2, "autovacuum did not analyze the catalogs, so this test tested nothing");
    let difference = "WITH counted AS (
             SELECT starts_at, outcome, bucket, deliveries FROM flametree.delivery_rollups
             WHERE span_minutes = 1 AND starts_at >= (SELECT min(starts_at) FROM flametree.partitions() WHERE parent = 'deliveries')
         ), exact AS (
             SELECT flametree.span_of_id(d.id, 1), d.outcome, flametree.duration_bucket(d.duration_us), count(*)
             FROM flametree.deliveries AS d GROUP BY 1, 2, 3
         )
         SELECT (SELECT count(*) FROM (TABLE counted EXCEPT TABLE exact) AS d) + (SELECT count(*) FROM (TABLE exact EXCEPT TABLE counted) AS d)";
    assert_eq!(number(&db, difference).await, 0, "statistics differ from a full count");
    assert!(number(&db, "SELECT count(*) FROM flametree.deliveries WHERE outcome = 'interrupted'").await > 0);
    crate::longevity_costs::compare_with_a_new_database(&server, endpoint).await;
}
