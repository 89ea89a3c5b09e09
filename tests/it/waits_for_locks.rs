//! A statement such as `REINDEX` locks the partition of one day. Only statements that need this partition may wait.

use std::time::Duration;

use flametree_notify::domain::ids::{DeliveryId, EventId};
use flametree_notify::store::{Db, Tx};
use sqlx::Row as _;
use uuid::Uuid;

use crate::support::deployment::{Deployment, agents};
use crate::support::receiver::Mode;
use crate::support::seed::{self, SeededEvent, yesterday_noon};
use crate::support::service::{Part, Service};
use crate::support::waiting::{eventually, within};

const PATIENCE: Duration = Duration::from_mins(1);
/// The number of agents. Yesterday's deliveries are for the first agent.
const AGENTS: usize = 8;
/// The number of ready deliveries of yesterday's events. Replays create such deliveries.
const OF_YESTERDAY: i64 = 12;
/// The number of today's events, which are posted while the lock is held.
const OF_TODAY: usize = 200;

#[tokio::test]
async fn outcomes_that_wait_for_a_lock_delay_no_other_outcomes_and_are_recorded_later() {
    let (deployment, api) = with_agents().await;
    let db = &deployment.pool;
    of_yesterday(db, OF_YESTERDAY).await;
    let lock = lock(db, "deliveries", "SHARE").await;
    let worker = deployment.settings.start(Part::Worker).await;
    set_aside(&worker, u32::try_from(OF_YESTERDAY).unwrap()).await;
    assert!(worker.has_logged("outcomes could not be recorded in time and were set aside"));

    for round in 0..3 {
        deployment.post(&[deployment.client(&api)], &agents(AGENTS), OF_TODAY).await;
        let expected = i64::try_from(OF_TODAY).unwrap() * (round + 1);
        within(PATIENCE, "the outcomes of today are recorded", async || recorded(db).await == expected).await;
    }
    assert!(waiting_backends(db).await <= 4, "each abandoned statement ends on the server");

    lock.rollback().await.unwrap();
    deployment.drained(PATIENCE).await;
    assert_eq!(recorded(db).await, i64::try_from(3 * OF_TODAY).unwrap() + OF_YESTERDAY);
    set_aside(&worker, 0).await;
    assert_eq!(deployment.receiver.seen_once().len(), 3 * OF_TODAY + usize::try_from(OF_YESTERDAY).unwrap());
}

/// The worker must disable the config when it records the outcome `gone`, but another session has locked the row of the config.
#[tokio::test]
async fn an_outcome_that_waits_for_its_push_config_delays_no_other_endpoint() {
    let (deployment, api) = with_agents().await;
    let db = &deployment.pool;
    deployment.receiver.set("/agent-1", Mode::Gone);
    let mut lock = db.begin().await.unwrap();
    let row = "SELECT FROM flametree.push_configs WHERE agent_id = 'agent-1' FOR UPDATE";
    sqlx::raw_sql(row).execute(&mut *lock).await.unwrap();
    let worker = deployment.settings.start(Part::Worker).await;
    let of_agent = OF_TODAY / AGENTS;
    for round in 1..=3 {
        deployment.post(&[deployment.client(&api)], &agents(AGENTS), OF_TODAY).await;
        let of_others = i64::try_from(round * (OF_TODAY - of_agent)).unwrap();
        within(PATIENCE, "the outcomes of the other agents are recorded", async || recorded(db).await == of_others)
            .await;
    }
    set_aside(&worker, u32::try_from(3 * of_agent).unwrap()).await;

    lock.rollback().await.unwrap();
    deployment.drained(PATIENCE).await;
    assert_eq!(recorded(db).await, i64::try_from(3 * OF_TODAY).unwrap());
    set_aside(&worker, 0).await;
}

/// The statement `REINDEX TABLE flametree.push_configs` takes this lock. The outcome `gone` of any endpoint waits for the lock.
#[tokio::test]
async fn outcomes_of_many_gone_endpoints_delay_no_other_outcome_and_are_recorded_after_the_lock_is_released() {
    const GONE: usize = 40;
    let deployment = Deployment::new().await;
    let db = &deployment.pool;
    let all = agents(GONE + AGENTS);
    let (gone, others) = all.split_at(GONE);
    for agent in gone {
        deployment.receiver.set(&format!("/{agent}"), Mode::Gone);
    }
    let api = deployment.settings.start(Part::Api).await;
    deployment.configure(&api, &all).await;
    let client = [deployment.client(&api)];
    let mut lock = db.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE flametree.push_configs IN SHARE MODE").execute(&mut *lock).await.unwrap();
    let worker = deployment.settings.start(Part::Worker).await;
    for round in 1..=4 {
        deployment.post(&client, gone, GONE).await;
        deployment.post(&client, others, OF_TODAY).await;
        let of_others = i64::try_from(round * OF_TODAY).unwrap();
        within(PATIENCE / 2, "the other outcomes are recorded", async || recorded(db).await == of_others).await;
    }
    set_aside(&worker, u32::try_from(4 * GONE).unwrap()).await;
    lock.rollback().await.unwrap();
    // A separate round of retries for each endpoint would take longer.
    let all = i64::try_from(4 * (GONE + OF_TODAY)).unwrap();
    within(PATIENCE / 2, "all outcomes are recorded", async || recorded(db).await == all).await;
    deployment.drained(PATIENCE).await;
}

/// A claim reads the table `events`, and PostgreSQL locks every partition that a statement may read.
#[tokio::test]
async fn claims_that_wait_for_a_lock_time_out_and_succeed_after_the_release_of_the_lock() {
    let (deployment, api) = with_agents().await;
    let db = &deployment.pool;
    of_yesterday(db, OF_YESTERDAY).await;
    let lock = lock(db, "events", "ACCESS EXCLUSIVE").await;
    let worker = deployment.settings.start(Part::Worker).await;
    let accepted = deployment.post(&[deployment.client(&api)], &agents(AGENTS), OF_TODAY).await;
    let timed_out = async || worker.output().matches("canceling statement due to lock timeout").count() >= 10;
    within(PATIENCE, "claims were canceled", timed_out).await;
    assert!(waiting_backends(db).await <= 8, "each abandoned statement ends on the server");

    lock.rollback().await.unwrap();
    deployment.drained(PATIENCE).await;
    assert_eq!(recorded(db).await, i64::try_from(accepted.len()).unwrap() + OF_YESTERDAY);
}

#[tokio::test]
async fn a_killed_worker_is_fenced_while_the_reaper_waits_for_a_lock() {
    let (deployment, api) = with_agents().await;
    let db = &deployment.pool;
    for agent in &agents(AGENTS) {
        deployment.receiver.set(&format!("/{agent}"), Mode::Hangs);
    }
    of_yesterday(db, OF_YESTERDAY).await;
    let first = deployment.settings.start(Part::Worker).await;
    let on_their_way = usize::try_from(OF_YESTERDAY).unwrap();
    eventually("the deliveries of yesterday have started", || deployment.receiver.count() == on_their_way).await;
    let lock = lock(db, "deliveries", "SHARE").await;
    first.kill();
    let second = deployment.settings.start(Part::Worker).await;
    deployment.post(&[deployment.client(&api)], &agents(AGENTS), 40).await;
    eventually("the deliveries of today have started", || deployment.receiver.count() == on_their_way + 40).await;
    let reaper = deployment.settings.start(Part::Worker).await;
    second.kill();

    let interrupted = "SELECT count(*) FROM flametree.deliveries WHERE outcome = 'interrupted'";
    within(PATIENCE, "the second worker's deliveries are recorded", async || number(db, interrupted).await == 40).await;
    within(PATIENCE, "the waiting claim is set aside", async || {
        reaper.metric("flametree_claims_set_aside").await >= 1.0
    })
    .await;
    assert!(waiting_backends(db).await <= 4, "each abandoned statement ends on the server");

    lock.rollback().await.unwrap();
    deployment.drained(PATIENCE).await;
    assert_eq!(number(db, interrupted).await, 40 + OF_YESTERDAY);
}

/// The server must cancel a statement that a process has abandoned. Otherwise, abandoned statements would use up all connections
/// within minutes.
#[tokio::test]
async fn an_abandoned_statement_ends_on_the_server() {
    let deployment = Deployment::new().await;
    if std::env::var_os("TEST_POOLER_URL").is_some() {
        // A pooler might ignore connection settings, so docs/databases.md advises to change this setting for the database.
        let name: String = sqlx::raw_sql("SELECT current_database()").fetch_one(&deployment.pool).await.unwrap().get(0);
        seed::run(&deployment.pool, format!("ALTER DATABASE {name} SET client_connection_check_interval = '5s'")).await;
        let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                      WHERE datname = current_database() AND pid <> pg_backend_pid()";
        seed::run(&deployment.pool, others.to_owned()).await;
    }
    let api = deployment.settings.start(Part::Api).await;
    deployment.configure(&api, &agents(AGENTS)).await;
    let db = &deployment.pool;
    let mut lock = db.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE flametree.push_configs IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let client = deployment.client(&api);
    let request = client.get("/v1/agents/agent-1/push-config?tenant_id=acme");
    let answered = tokio::time::timeout(PATIENCE, request).await.expect("the request is answered in time");
    assert!(answered.status >= 500, "the request waited for the lock: {}", answered.status);
    within(PATIENCE, "no backend waits", async || waiting_backends(db).await == 0).await;
    drop(lock);
}

async fn with_agents() -> (Deployment, Service) {
    let deployment = Deployment::new().await;
    let api = deployment.settings.start(Part::Api).await;
    deployment.configure(&api, &agents(AGENTS)).await;
    (deployment, api)
}

/// Inserts ready deliveries of yesterday's events to the first agent's endpoint.
async fn of_yesterday(db: &Db, count: i64) {
    let endpoint: Uuid = sqlx::raw_sql("SELECT endpoint_id FROM flametree.push_configs WHERE agent_id = 'agent-1'")
        .fetch_one(db)
        .await
        .unwrap()
        .get(0);
    let noon = yesterday_noon(db).await;
    for number in 0..count {
        let event: EventId =
            seed::event(db, noon + number, &SeededEvent { agent: "agent-1", ..SeededEvent::default() }).await;
        let delivery: DeliveryId = event.delivery(1);
        let ready = format!(
            "INSERT INTO flametree.ready_deliveries (channel, tenant_id, endpoint_id, position, id, event_id, expires_at)
             VALUES ('webhook', 'acme', '{endpoint}', nextval('flametree.ready_positions'), '{}', '{}',
                 now() + interval '1 day')",
            delivery.uuid(),
            event.uuid(),
        );
        seed::run(db, ready).await;
    }
}

/// Locks yesterday's partition until the transaction ends.
async fn lock(db: &Db, parent: &str, mode: &str) -> Tx {
    let name = format!(
        "SELECT name FROM flametree.partitions()
         WHERE parent = '{parent}' AND starts_at <= now() - interval '1 day' AND ends_at > now() - interval '1 day'"
    );
    let name: String = sqlx::raw_sql(sqlx::AssertSqlSafe(name)).fetch_one(db).await.unwrap().get(0);
    let mut lock = db.begin().await.unwrap();
    let statement = format!("LOCK TABLE flametree.{name} IN {mode} MODE");
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut *lock).await.unwrap();
    lock
}

async fn recorded(db: &Db) -> i64 {
    number(db, "SELECT count(*) FROM flametree.deliveries").await
}

#[expect(clippy::float_cmp, reason = "the gauge is a small whole number")]
async fn set_aside(worker: &Service, outcomes: u32) {
    let are_set_aside = async || worker.metric("flametree_outcomes_set_aside").await == f64::from(outcomes);
    within(PATIENCE, &format!("{outcomes} outcomes are set aside"), are_set_aside).await;
}

/// The number of the database's backends that wait for a lock.
async fn waiting_backends(db: &Db) -> i64 {
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    number(db, waiting).await
}

async fn number(db: &Db, query: &'static str) -> i64 {
    sqlx::raw_sql(query).fetch_one(db).await.unwrap().get(0)
}
