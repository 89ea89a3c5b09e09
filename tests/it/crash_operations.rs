//! Tests operations that fail, lose their worker, or cannot reach the database.

use std::time::Duration;

use flametree_notify::domain::delivery::Outcome;
use flametree_notify::store::Db;
use serde_json::{Value, json};
use sqlx::Row as _;

use crate::replay_operations::{ask, ended, failures};
use crate::support::deployment::{Deployment, agents};
use crate::support::own_server::Stop;
use crate::support::seed;
use crate::support::service::{EACH_SECOND, Part};
use crate::support::waiting::within;

const PATIENCE: Duration = Duration::from_secs(90);

async fn number(db: &Db, query: &'static str) -> i64 {
    sqlx::raw_sql(query).fetch_one(db).await.map_or(-1, |row| row.get(0))
}

#[tokio::test]
async fn another_worker_takes_over_the_operation_of_a_dead_worker() {
    tokio::join!(dies_at("operation::before_end"), dies_at("rollup::step"));
}

async fn dies_at(step: &str) {
    let deployment = Deployment::new().await;
    let crashing = deployment.settings.clone().with("FAILPOINTS", &format!("{step}=panic(crash)"));
    crashing.spawn(Part::Worker).crashed().await;
    let held = "SELECT count(*) FROM flametree.operations WHERE state = 'running'";
    assert!(
        number(&deployment.pool, held).await > 0,
        "{step}: the crash left no unfinished work, so this step tested nothing"
    );
    let _next = deployment.settings.start(Part::Worker).await;
    let left = "SELECT count(*) FROM flametree.operations WHERE state IN ('waiting', 'running') AND attempts > 0";
    within(PATIENCE, "another worker finishes everything", async || number(&deployment.pool, left).await == 0).await;
    let over = "SELECT count(*) FROM flametree.operations WHERE state = 'succeeded' AND attempts = 2";
    assert!(number(&deployment.pool, over).await > 0);
}

#[tokio::test]
async fn a_worker_repeats_an_operation_that_panicked() {
    let deployment = Deployment::new().await;
    let panicking = "operation::before_end=1*panic(a defect)";
    let worker = deployment.settings.clone().with("FAILPOINTS", panicking).start(Part::Worker).await;
    let repeated = "SELECT count(*) FROM flametree.operations WHERE state = 'succeeded' AND attempts = 2";
    within(PATIENCE, "the worker repeats it", async || number(&deployment.pool, repeated).await == 1).await;
    let output = worker.stop().await;
    assert!(output.contains("task.failed") && output.contains("a defect"), "{output}");
}

#[tokio::test]
async fn a_replay_whose_workers_die_replays_each_delivery_once() {
    const EVENTS: usize = 3_000;
    let deployment = Deployment::new().await;
    let api = deployment.settings.start(Part::Api).await;
    let (agents, client) = (agents(1), deployment.client(&api));
    let first = deployment.settings.start(Part::Worker).await;
    let events = failures(&deployment, &api, &agents, EVENTS).await;
    first.stop().await;
    deployment.configure(&api, &agents).await;

    let path = ask(&client, "agent-1", &json!({})).await;
    let crashing = deployment.settings.clone().with("FAILPOINTS", "replay::step=1*off->panic(crash)");
    crashing.spawn(Part::Worker).crashed().await;
    let started = client.get(&path).await.json();
    assert_eq!((&started["state"], &started["replay"]["replayed"]), (&json!("running"), &json!(1_000)), "{started}");
    assert!(started["replay"]["progress"].as_f64().unwrap() > 0.0, "{started}");
    crashing.spawn(Part::Worker).crashed().await;
    let _last = deployment.settings.start(Part::Worker).await;
    let operation = ended(&client, &path).await;
    assert_eq!((&operation["state"], &operation["attempts"]), (&json!("succeeded"), &json!(3)), "{operation}");
    assert_eq!(operation["replay"]["replayed"], EVENTS);
    deployment.drained(PATIENCE).await;
    let tally = deployment.assert_drained(&client, &events).await;
    assert_eq!(tally.outcomes.len(), 2 * EVENTS, "each delivery was replayed once");
    assert_eq!(tally.count(Outcome::Delivered) + tally.count(Outcome::Interrupted), EVENTS, "{:?}", tally.summary());
}

#[tokio::test]
async fn operations_continue_when_the_database_is_back() {
    const EVENTS: usize = 4_000;
    let mut deployment = Deployment::with_own_server().await;
    deployment.settings = deployment.settings.clone().with("FLAMETREE_RETENTION_SCHEDULE", EACH_SECOND);
    let service = deployment.settings.start(Part::Run).await;
    let (agents, api) = (agents(1), deployment.client(&service));
    let events = failures(&deployment, &service, &agents, EVENTS).await;
    deployment.configure(&service, &agents).await;

    let path = ask(&api, "agent-1", &json!({})).await;
    for _ in 0..3 {
        deployment.server().stop(Stop::Immediate);
        deployment.server().start_again();
        within(PATIENCE, "/readyz says so", async || service.readiness().await == Some(200)).await;
    }
    let mut operation = Value::Null;
    within(PATIENCE, "the replay ends", async || {
        let answer = api.get(&path).await;
        operation = if answer.status == 200 { answer.json() } else { Value::Null };
        operation["state"] == "succeeded"
    })
    .await;
    assert_eq!(operation["replay"]["replayed"], EVENTS, "{operation}");
    deployment.drained(PATIENCE).await;
    let tally = deployment.assert_drained(&api, &events).await;
    assert_eq!(tally.outcomes.len(), 2 * EVENTS);

    let ended = "SELECT count(*) FROM flametree.operations WHERE kind = 'retention' AND state = 'succeeded'";
    let before = number(&deployment.pool, ended).await;
    within(PATIENCE, "ticks continue", async || number(&deployment.pool, ended).await > before + 1).await;
}

#[tokio::test]
async fn retries_and_reports_a_failed_operation() {
    let deployment = Deployment::new().await;
    let db = &deployment.pool;
    seed::run(db, "ALTER FUNCTION flametree.expired_partitions RENAME TO expired_partitions_away".into()).await;
    let worker = deployment.settings.start(Part::Worker).await;
    let retried = "flametree_operations_total{operation=\"retention\",result=\"retried\"}";
    within(PATIENCE, "the operation has failed twice", async || worker.metric(retried).await >= 2.0).await;
    let noted = "SELECT count(*) FROM flametree.operations
                 WHERE kind = 'retention' AND attempts >= 2 AND note LIKE 'The database%' AND state IN ('waiting', 'running')";
    assert!(number(db, noted).await >= 1);
    seed::run(db, "ALTER FUNCTION flametree.expired_partitions_away RENAME TO expired_partitions".into()).await;
    let ended = "SELECT count(*) FROM flametree.operations
                 WHERE kind = 'retention' AND state = 'succeeded' AND attempts >= 3 AND note IS NULL";
    within(PATIENCE, "the operation succeeds", async || number(db, ended).await >= 1).await;
}

#[tokio::test]
async fn an_operation_that_kills_each_of_its_workers_ends_as_failed() {
    let deployment = Deployment::new().await;
    let db = &deployment.pool;
    let killer = "INSERT INTO flametree.operations (id, kind, tick, state, due_at, holder, attempts, created_at)
        VALUES (gen_random_uuid(), 'rollup', now() - interval '1 day', 'running', now(), gen_random_uuid(), 8, now())";
    seed::run(db, killer.into()).await;
    let worker = deployment.settings.start(Part::Worker).await;
    let failed = "SELECT count(*) FROM flametree.operations
                  WHERE state = 'failed' AND attempts = 9 AND note LIKE 'Every process%'";
    within(PATIENCE, "the operation is abandoned", async || number(db, failed).await == 1).await;
    let counted = "flametree_operations_total{operation=\"rollup\",result=\"failed\"}";
    within(PATIENCE, "the failure is counted", async || worker.metric(counted).await >= 1.0).await;
    let later = "SELECT count(*) FROM flametree.operations WHERE kind = 'rollup' AND state = 'succeeded'";
    within(PATIENCE, "later ticks run", async || number(db, later).await >= 1).await;
}
