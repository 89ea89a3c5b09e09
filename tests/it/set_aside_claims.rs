//! Tests claims that the database rejects or that cannot be read. The worker sets aside each of these claims and continues with
//! the others.

use std::time::Duration;

use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::ids::EventId;
use flametree_notify::store::Db;
use sqlx::Row as _;
use uuid::Uuid;

use crate::support::deployment::{Deployment, agents};
use crate::support::receiver::Mode;
use crate::support::refusals::{accept, refuse};
use crate::support::seed::{self, yesterday_noon};
use crate::support::service::{Part, Service};
use crate::support::waiting::{eventually, within};

/// A time limit of more than two leases. A new reaper takes over within one lease, and then waits one lease for a heartbeat of
/// the dead worker.
const REAPED: Duration = Duration::from_mins(1);
/// A lane without claims.
const NO_LANE: &str = "99";

#[tokio::test]
async fn the_reaper_records_the_other_claims_of_a_dead_worker_if_two_claims_are_rejected() {
    let deployment = Deployment::new().await;
    let db = &deployment.pool;
    let dead = dead_worker(db).await;
    for number in 0..200 {
        claim_of(db, dead, number, if number % 100 == 3 { NO_LANE } else { "1" }).await;
    }
    let worker = deployment.settings.start(Part::Worker).await;
    within(REAPED, "all others are recorded", async || interrupted(db).await == 198).await;
    within(REAPED, "the two damaged claims are set aside", async || set_aside(&worker).await == 2).await;
    assert_eq!(deployment.left().await, Some((0, 2)));
    assert_eq!(worker.output().matches("a claim of a dead worker could not be recorded").count(), 2);

    mend(db).await;
    deployment.drained(REAPED).await;
    assert_eq!(interrupted(db).await, 200);
    within(REAPED, "no claim is set aside", async || set_aside(&worker).await == 0).await;
}

#[tokio::test]
async fn a_killed_worker_is_fenced_while_a_claim_of_another_worker_cannot_be_recorded() {
    let deployment = Deployment::new().await;
    let db = &deployment.pool;
    let agents = agents(4);
    for agent in &agents {
        deployment.receiver.set(&format!("/{agent}"), Mode::Hangs);
    }
    let api = deployment.settings.start(Part::Api).await;
    deployment.configure(&api, &agents).await;
    let dead = dead_worker(db).await;
    claim_of(db, dead, 0, NO_LANE).await;
    let doomed = deployment.settings.start(Part::Worker).await;
    deployment.post(&[deployment.client(&api)], &agents, 40).await;
    eventually("all attempts have started", || deployment.receiver.count() == 40).await;
    let reaper = deployment.settings.start(Part::Worker).await;
    doomed.kill();

    within(REAPED, "the killed worker's deliveries are recorded", async || interrupted(db).await == 40).await;
    assert_eq!(deployment.left().await, Some((0, 1)));
    within(REAPED, "the damaged claim is set aside", async || set_aside(&reaper).await == 1).await;
    mend(db).await;
    deployment.drained(REAPED).await;
    assert_eq!(interrupted(db).await, 41);
}

/// The response to the first claim is lost, and the worker then cannot read the stored claim.
#[tokio::test]
async fn a_claim_that_cannot_be_resolved_is_set_aside_and_adopted_later() {
    let deployment = Deployment::new().await;
    let db = &deployment.pool;
    let agents = agents(2);
    let api = deployment.settings.start(Part::Api).await;
    deployment.configure(&api, &agents).await;
    let apis = [deployment.client(&api)];
    let mut accepted = deployment.post(&apis, &agents[..1], 8).await;
    let damage = format!(
        "CREATE SEQUENCE flametree.test_claims;
         CREATE FUNCTION flametree.test_damage() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF nextval('flametree.test_claims') = 1 THEN
                 NEW.lanes := array_fill({NO_LANE}::smallint, ARRAY[cardinality(NEW.lanes)]);
             END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER test_damage BEFORE INSERT ON flametree.claims FOR EACH ROW
         EXECUTE FUNCTION flametree.test_damage()"
    );
    seed::run(db, damage).await;
    let lost = deployment.settings.clone().with("FAILPOINTS", "claim::answer_lost=1*return");
    let worker = lost.start(Part::Worker).await;
    within(REAPED, "the claim is set aside", async || set_aside(&worker).await == 1).await;

    let others = deployment.post(&apis, &agents[1..], 20).await;
    within(REAPED, "the others are delivered", async || outcomes(db).await >= 20).await;
    accepted.extend(others);
    assert_eq!(worker.output().matches("a claim was set aside").count(), 1);
    mend(db).await;
    deployment.drained(REAPED).await;
    let tally = deployment.assert_drained(&apis[0], &accepted).await;
    assert_eq!(tally.count(Outcome::Delivered), 28, "{:?}", tally.summary());
    within(REAPED, "no claim is set aside", async || set_aside(&worker).await == 0).await;
}

#[tokio::test]
async fn an_endpoint_whose_claims_are_rejected_delays_no_other_endpoint() {
    let deployment = Deployment::new().await;
    let db = &deployment.pool;
    let agents = agents(40);
    let api = deployment.settings.start(Part::Api).await;
    deployment.configure(&api, &agents).await;
    let apis = [deployment.client(&api)];
    let accepted = deployment.post(&apis, &agents, 600).await;
    refuse(db, "claims", &format!("'{}' = ANY (NEW.delivery_ids)", accepted[0].delivery(1).uuid())).await;
    let worker = deployment.settings.start(Part::Worker).await;
    // Each agent has fifteen deliveries.
    within(REAPED, "the others are delivered", async || outcomes(db).await >= 585).await;
    within(REAPED, "the rejected claim is set aside", async || set_aside(&worker).await >= 1).await;
    let tombstones = "SELECT count(*) FROM flametree.claims WHERE delivery_ids = '{}'";
    assert_eq!(number(db, tombstones).await, 0, "the worker does not look up the rejected claim");

    accept(db).await;
    deployment.drained(REAPED).await;
    let tally = deployment.assert_drained(&apis[0], &accepted).await;
    assert_eq!(tally.count(Outcome::Delivered), 600, "{:?}", tally.summary());
}

async fn dead_worker(db: &Db) -> Uuid {
    let query = "INSERT INTO flametree.workers (id, started_at, last_seen_at, fenced_at, description)
                 VALUES (gen_random_uuid(), now(), now(), now(), 'dead') RETURNING id";
    sqlx::raw_sql(query).fetch_one(db).await.unwrap().get(0)
}

/// Inserts a claim of one delivery. The claim is valid if the lane is 1. Any other lane damages the claim, because the delivery's
/// tenant is then unknown.
async fn claim_of(db: &Db, worker: Uuid, number: i64, lane: &str) {
    let event: EventId = seed::event_id(yesterday_noon(db).await + number);
    let (delivery, event) = (event.delivery(1).uuid(), event.uuid());
    let claim = format!(
        "INSERT INTO flametree.claims (claim_id, worker_id, channel, claimed_at, lane_tenants, lane_endpoints,
             lane_versions, lanes, positions, delivery_ids, event_ids, expiries)
         VALUES (gen_random_uuid(), '{worker}', 'webhook', now(), '{{acme}}', ARRAY[gen_random_uuid()], '{{1}}',
             '{{{lane}}}', '{{1}}', ARRAY['{delivery}'::uuid], ARRAY['{event}'::uuid], ARRAY[now()])"
    );
    seed::run(db, claim).await;
}

/// Repairs damaged claims: sets the lane of their deliveries to 1.
async fn mend(db: &Db) {
    let statement = format!(
        "UPDATE flametree.claims SET lanes = array_fill(1::smallint, ARRAY[cardinality(lanes)])
         WHERE {NO_LANE} = ANY (lanes)"
    );
    seed::run(db, statement).await;
}

async fn interrupted(db: &Db) -> i64 {
    number(db, "SELECT count(*) FROM flametree.deliveries WHERE outcome = 'interrupted'").await
}

async fn outcomes(db: &Db) -> i64 {
    number(db, "SELECT count(*) FROM flametree.deliveries").await
}

async fn number(db: &Db, query: &'static str) -> i64 {
    sqlx::raw_sql(query).fetch_one(db).await.unwrap().get(0)
}

/// The number of set-aside claims in the metrics of the process.
#[expect(clippy::cast_possible_truncation, reason = "the gauge is a small whole number")]
async fn set_aside(worker: &Service) -> i64 {
    worker.metric("flametree_claims_set_aside").await as i64
}
