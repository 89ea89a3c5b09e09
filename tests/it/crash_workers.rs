//! Tests workers that die or miss heartbeats while deliveries flow.

use std::time::Duration;

use flametree_notify::domain::delivery::Outcome;
use flametree_notify::store::Db;
use nix::sys::signal::Signal;
use sqlx::Row as _;

use crate::support::deployment::{Deployment, agents};
use crate::support::receiver::Mode;
use crate::support::seed::{self, yesterday_noon};
use crate::support::service::Part;
use crate::support::waiting::{eventually, within};

/// A time limit of more than two leases. A new reaper takes over within one lease, and then waits one lease for a heartbeat of
/// the dead worker.
const REAPED: Duration = Duration::from_mins(1);

#[tokio::test]
async fn workers_killed_in_a_loop_lose_and_duplicate_nothing() {
    const EVENTS: usize = 20_000;
    const KILLS: usize = 10;
    let deployment = Deployment::new().await;
    let agents = agents(20);
    let api = deployment.settings.start(Part::Api).await;
    deployment.configure(&api, &agents).await;
    let client = deployment.client(&api);

    let apis = [client.clone()];
    let killing = async {
        for _ in 0..KILLS {
            let worker = deployment.settings.start(Part::Worker).await;
            let seen = deployment.receiver.count();
            within(REAPED, "the worker has work", async || deployment.receiver.count() >= seen + 500).await;
            worker.kill();
            deployment.assert_ready_deliveries_were_never_seen().await;
        }
        deployment.settings.start(Part::Worker).await
    };
    let (accepted, _last) = tokio::join!(deployment.post(&apis, &agents, EVENTS), killing);
    deployment.drained(REAPED).await;

    let tally = deployment.assert_drained(&client, &accepted).await;
    assert_eq!(tally.outcomes.len(), EVENTS);
    assert!(
        tally.count(Outcome::Interrupted) > 0,
        "no kill interrupted a delivery, so this test tested nothing: {:?}",
        tally.summary()
    );
    assert_eq!(tally.count(Outcome::Delivered) + tally.count(Outcome::Interrupted), EVENTS, "{:?}", tally.summary());
}

#[tokio::test]
async fn rejects_outcomes_of_a_worker_that_missed_its_heartbeats() {
    let deployment = Deployment::new().await;
    let agents = agents(4);
    for agent in &agents {
        deployment.receiver.set(&format!("/{agent}"), Mode::Hangs);
    }
    let api = deployment.settings.start(Part::Api).await;
    deployment.configure(&api, &agents).await;
    let apis = [deployment.client(&api)];
    let silent = deployment.settings.start(Part::Worker).await;
    let mut accepted = deployment.post(&apis, &agents, 40).await;
    eventually("all attempts have started", || deployment.receiver.count() == 40).await;

    silent.signal(Signal::SIGSTOP);
    let other = deployment.settings.start(Part::Worker).await;
    deployment.receiver.let_go();
    deployment.drained(REAPED).await;
    let reaped = deployment.assert_drained(&apis[0], &accepted).await;
    assert_eq!(reaped.count(Outcome::Interrupted), 40, "{:?}", reaped.summary());

    silent.signal(Signal::SIGCONT);
    let late = async || silent.metric("flametree_late_outcomes_total").await >= 40.0;
    within(REAPED, "the late outcomes are counted", late).await;
    other.stop().await;
    // The process continues as a new worker and delivers new events.
    accepted.extend(deployment.post(&apis, &agents, 60).await);
    deployment.drained(REAPED).await;
    let tally = deployment.assert_drained(&apis[0], &accepted).await;
    assert_eq!((tally.count(Outcome::Interrupted), tally.count(Outcome::Delivered)), (40, 60));
}

async fn number(db: &Db, query: &'static str) -> i64 {
    sqlx::raw_sql(query).fetch_one(db).await.unwrap().get(0)
}

#[tokio::test]
async fn a_process_keeps_one_new_worker_if_several_claims_of_a_fenced_worker_fail() {
    const LIVE: &str = "SELECT count(*) FROM flametree.workers WHERE fenced_at IS NULL";
    const ALL: &str = "SELECT count(*) FROM flametree.workers";
    let deployment = Deployment::new().await;
    let db = &deployment.pool;
    let agents = agents(20);
    let api = deployment.settings.start(Part::Api).await;
    deployment.configure(&api, &agents).await;
    let apis = [deployment.client(&api)];
    // All deliveries are ready before the worker starts, so the worker always has several claims in progress.
    let accepted = deployment.post(&apis, &agents, 6_000).await;
    let slow_to_register = deployment.settings.clone().with("FAILPOINTS", "register::before=sleep(300)");
    let _worker = slow_to_register.start(Part::Worker).await;
    within(REAPED, "deliveries flow", async || deployment.receiver.count() >= 200).await;
    // The process registers one replacement for each fenced worker. If two claims of a fenced worker fail, the process registers
    // an extra worker. The process must deregister this worker, because a reaper would fence it only after a whole lease.
    let mut found_dead = 0;
    within(REAPED, "two claims find the worker fenced", async || {
        if number(db, ALL).await == 1 + found_dead && number(db, LIVE).await == 1 {
            seed::run(db, "UPDATE flametree.workers SET fenced_at = now() WHERE fenced_at IS NULL".into()).await;
            found_dead += 1;
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
        number(db, ALL).await > 1 + found_dead
    })
    .await;
    within(Duration::from_secs(5), "one worker is left", async || number(db, LIVE).await == 1).await;
    deployment.drained(REAPED).await;
    deployment.assert_drained(&apis[0], &accepted).await;
}

#[tokio::test]
async fn a_locked_claim_does_not_stop_the_reaper() {
    let deployment = Deployment::new().await;
    let db = &deployment.pool;
    let event = seed::event_id(yesterday_noon(db).await);
    let (delivery, event) = (event.delivery(1).uuid(), event.uuid());
    let dead = format!(
        "WITH dead AS (
             INSERT INTO flametree.workers (id, started_at, last_seen_at, fenced_at, description)
             SELECT gen_random_uuid(), now(), now(), now() - interval '2 days', d
             FROM unnest(ARRAY['with a claim', 'without']) AS d
             RETURNING id, description
         )
         INSERT INTO flametree.claims (claim_id, worker_id, channel, claimed_at, lane_tenants, lane_endpoints,
             lane_versions, lanes, positions, delivery_ids, event_ids, expiries)
         SELECT gen_random_uuid(), d.id, 'webhook', now(), '{{acme}}', ARRAY[gen_random_uuid()], '{{1}}', '{{1}}', '{{1}}',
             ARRAY['{delivery}'::uuid], ARRAY['{event}'::uuid], ARRAY[now()]
         FROM dead AS d WHERE d.description = 'with a claim'"
    );
    seed::run(db, dead).await;
    let mut somebody = db.begin().await.unwrap();
    sqlx::query("SELECT FROM flametree.claims FOR UPDATE").execute(&mut *somebody).await.unwrap();

    let _worker = deployment.settings.start(Part::Worker).await;
    let without = "SELECT count(*) FROM flametree.workers WHERE description = 'without'";
    within(REAPED, "dead workers without claims are deleted", async || number(db, without).await == 0).await;
    assert_eq!(number(db, "SELECT count(*) FROM flametree.claims").await, 1);
    somebody.rollback().await.unwrap();
    deployment.drained(REAPED).await;
    assert_eq!(number(db, "SELECT count(*) FROM flametree.deliveries WHERE outcome = 'interrupted'").await, 1);
}

/// Inserts the rows of workers that sent their last heartbeat just now, and of workers that were fenced two days ago. In each
/// group, the row of the locked worker is the first.
async fn with_silent_workers(db: &Db) {
    let silent = "INSERT INTO flametree.workers (id, started_at, last_seen_at, fenced_at, description)
         SELECT gen_random_uuid(), now(), now(), f, d
         FROM unnest(ARRAY['locked', 'free']) WITH ORDINALITY AS d (d, number)
         CROSS JOIN unnest(ARRAY[NULL, now() - interval '2 days']) AS f
         ORDER BY number";
    seed::run(db, silent.into()).await;
}

const FREE_AND_LIVE: &str = "SELECT count(*) FROM flametree.workers WHERE description = 'free' AND fenced_at IS NULL";

#[tokio::test]
async fn a_locked_row_of_a_dead_worker_does_not_stop_the_reaper() {
    let deployment = Deployment::new().await;
    let db = &deployment.pool;
    with_silent_workers(db).await;
    let mut somebody = db.begin().await.unwrap();
    let lock = "SELECT FROM flametree.workers WHERE description = 'locked' FOR UPDATE";
    sqlx::query(lock).execute(&mut *somebody).await.unwrap();

    let _worker = deployment.settings.start(Part::Worker).await;
    within(REAPED, "the other dead worker is fenced", async || number(db, FREE_AND_LIVE).await == 0).await;
    let free = "SELECT count(*) FROM flametree.workers WHERE description = 'free'";
    within(REAPED, "the other old row is deleted", async || number(db, free).await == 1).await;
    let locked = "SELECT count(*) FROM flametree.workers WHERE description = 'locked' AND fenced_at IS NULL";
    assert_eq!(number(db, locked).await, 1);
    somebody.rollback().await.unwrap();
    within(REAPED, "the dead worker is fenced", async || number(db, locked).await == 0).await;
}

#[tokio::test]
async fn slow_steps_of_the_reaper_do_not_stop_the_detection_of_dead_workers() {
    let deployment = Deployment::new().await;
    let db = &deployment.pool;
    with_silent_workers(db).await;
    let mut somebody = db.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE flametree.claims IN ACCESS EXCLUSIVE MODE").execute(&mut *somebody).await.unwrap();

    let _worker = deployment.settings.start(Part::Worker).await;
    // Steps of the first round wait for the lock until their timeouts. The second round fences the workers.
    within(2 * REAPED, "the dead workers are fenced", async || number(db, FREE_AND_LIVE).await == 0).await;
    somebody.rollback().await.unwrap();
}
