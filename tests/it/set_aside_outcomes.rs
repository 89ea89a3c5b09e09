//! Tests that an outcome that the database rejects is set aside alone, keeps its permit, and is recorded as soon as the database
//! accepts it.

use std::collections::HashSet;
use std::time::Duration;

use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::ids::{DeliveryId, EventId};
use uuid::Uuid;

use crate::support::deployment::{Deployment, agents};
use crate::support::receiver::Mode;
use crate::support::refusals::{accept, refuse};
use crate::support::service::{Part, Service};
use crate::support::waiting::within;

/// More events than a batch of outcomes can contain (512), so a rejected outcome shares its batch with other outcomes.
const EVENTS: usize = 600;
/// A time limit that is longer than the interval at which the worker retries outcomes.
const RECORDED: Duration = Duration::from_mins(1);
const SET_ASIDE: &str = "flametree_outcomes_set_aside";

#[tokio::test]
async fn a_rejected_outcome_is_set_aside_alone_and_recorded_later() {
    let (deployment, api, mut accepted) = with_events(EVENTS).await;
    let refused = accepted[EVENTS / 2].delivery(1);
    refuse(&deployment.pool, "deliveries", &format!("NEW.id = '{}'", refused.uuid())).await;
    let worker = deployment.settings.start(Part::Worker).await;
    recorded(&deployment, EVENTS - 1).await;
    set_aside(&worker, 1).await;

    accepted.extend(deployment.post(&[deployment.client(&api)], &agents(40), 100).await);
    recorded(&deployment, EVENTS + 99).await;
    let lines = worker.output();
    let logged: Vec<_> = lines.lines().filter(|line| line.contains("an outcome was refused")).collect();
    assert_eq!(logged.len(), 1, "{logged:#?}");
    for part in
        [refused.to_string().as_str(), "clm_", "channel=\"webhook\"", "outcome=\"delivered\"", "sqlstate=\"23514\""]
    {
        assert!(logged[0].contains(part), "no {part} in {}", logged[0]);
    }

    accept(&deployment.pool).await;
    deployment.drained(RECORDED).await;
    set_aside(&worker, 0).await;
    let tally = deployment.assert_drained(&deployment.client(&api), &accepted).await;
    assert_eq!(tally.count(Outcome::Delivered), EVENTS + 100, "{:?}", tally.summary());
}

#[tokio::test]
#[expect(clippy::float_cmp, reason = "the gauge is a small whole number")]
async fn if_the_database_rejects_every_outcome_claims_stop_and_no_delivery_is_lost() {
    const PERMITS: &str = "100";
    /// A tenant whose outcomes are being recorded may hold all permits except the reserve, which is a tenth.
    const MOST: usize = 90;
    let (deployment, api, accepted) = with_events(EVENTS).await;
    refuse(&deployment.pool, "deliveries", "true").await;
    let bounded = deployment.settings.clone().with("FLAMETREE_MAX_IN_FLIGHT", PERMITS);
    let worker = bounded.start(Part::Worker).await;
    let mut sent = 0;
    within(RECORDED, "at least 50 outcomes, and all that were sent, are set aside", async || {
        let outcomes = worker.metric(SET_ASIDE).await;
        sent = deployment.receiver.count();
        sent >= 50 && outcomes == f64::from(u32::try_from(sent).unwrap())
    })
    .await;
    assert!(sent <= MOST, "the worker sent {sent} deliveries");
    let ready = deployment.left().await.unwrap().0;
    assert!(ready >= i64::try_from(EVENTS - MOST).unwrap(), "only {ready} deliveries are ready");

    accept(&deployment.pool).await;
    deployment.drained(RECORDED).await;
    let tally = deployment.assert_drained(&deployment.client(&api), &accepted).await;
    assert_eq!(tally.count(Outcome::Delivered), EVENTS, "{:?}", tally.summary());
}

#[tokio::test]
async fn an_outcome_whose_detail_is_rejected_is_recorded_without_the_detail() {
    let (deployment, api, accepted) = with_events(EVENTS).await;
    deployment.receiver.set("/agent-1", Mode::Echoes);
    refuse(&deployment.pool, "deliveries", "NEW.detail IS NOT NULL").await;
    let worker = deployment.settings.start(Part::Worker).await;
    deployment.drained(RECORDED).await;
    let tally = deployment.assert_drained(&deployment.client(&api), &accepted).await;
    assert_eq!(tally.count(Outcome::Delivered), EVENTS, "{:?}", tally.summary());
    assert!(
        worker.has_logged("an outcome without its detail"),
        "the database rejected no detail, so nothing was tested"
    );
    set_aside(&worker, 0).await;
}

/// An operator's session locks the rows of two live claims.
#[tokio::test]
async fn a_locked_claim_delays_no_outcome_of_another_claim() {
    let (deployment, api, mut accepted) = with_events(0).await;
    let (db, agents) = (&deployment.pool, agents(40));
    let (slow, others) = agents.split_at(2);
    for agent in slow {
        deployment.receiver.set(&format!("/{agent}"), Mode::Hangs);
    }
    let apis = [deployment.client(&api)];
    let worker = deployment.settings.start(Part::Worker).await;
    for agent in slow {
        let sent = deployment.receiver.count() + 1;
        accepted.extend(deployment.post(&apis, std::slice::from_ref(agent), 1).await);
        within(RECORDED, "the attempt has started", async || deployment.receiver.count() == sent).await;
    }
    let mut somebody = db.begin().await.unwrap();
    let locked = sqlx::query("SELECT FROM flametree.claims FOR UPDATE").execute(&mut *somebody).await.unwrap();
    assert_eq!(locked.rows_affected(), 2);
    deployment.receiver.let_go();
    set_aside(&worker, 2).await;
    for round in 1..=3 {
        accepted.extend(deployment.post(&apis, others, 200).await);
        recorded(&deployment, round * 200).await;
    }
    set_aside(&worker, 2).await;

    somebody.rollback().await.unwrap();
    deployment.drained(RECORDED).await;
    set_aside(&worker, 0).await;
    let tally = deployment.assert_drained(&apis[0], &accepted).await;
    assert_eq!(tally.count(Outcome::Delivered), accepted.len(), "{:?}", tally.summary());
}

/// The stopped process lost the outcome, so the reaper records the outcome `interrupted`.
#[tokio::test]
async fn a_stop_leaves_a_rejected_outcome_to_the_reaper() {
    let (deployment, api, accepted) = with_events(EVENTS).await;
    let refused = accepted[EVENTS / 2].delivery(1);
    refuse(&deployment.pool, "deliveries", &format!("NEW.id = '{}'", refused.uuid())).await;
    let worker = deployment.settings.start(Part::Worker).await;
    recorded(&deployment, EVENTS - 1).await;
    set_aside(&worker, 1).await;
    let output = worker.stop().await;
    assert!(output.contains("left outcomes to the reaper"), "{output}");
    assert!(!output.contains("attempts still run at the end of the grace"), "the stop waited for the rejected outcome");
    assert_eq!(deployment.left().await, Some((0, 1)));

    accept(&deployment.pool).await;
    let _next = deployment.settings.start(Part::Worker).await;
    deployment.drained(RECORDED).await;
    let tally = deployment.assert_drained(&deployment.client(&api), &accepted).await;
    assert_eq!(tally.of(Outcome::Interrupted).collect::<Vec<_>>(), [refused]);
}

#[tokio::test]
async fn a_rejected_release_delays_neither_a_stop_nor_other_releases() {
    let (deployment, api, accepted) = with_events(EVENTS).await;
    // The worker first discovers the endpoint with the lowest id, so the first claim has deliveries of this endpoint.
    let query = "SELECT endpoint_id FROM flametree.ready_deliveries ORDER BY endpoint_id LIMIT 1";
    let endpoint: Uuid = sqlx::query_scalar(query).fetch_one(&deployment.pool).await.unwrap();
    let query = "SELECT id FROM flametree.ready_deliveries WHERE endpoint_id = $1";
    let of_endpoint: Vec<Uuid> = sqlx::query_scalar(query).bind(endpoint).fetch_all(&deployment.pool).await.unwrap();
    let of_endpoint: HashSet<DeliveryId> = of_endpoint.into_iter().map(DeliveryId::from_uuid).collect();
    refuse(&deployment.pool, "ready_deliveries", &format!("NEW.endpoint_id = '{endpoint}'")).await;
    // Delays the start of claimed deliveries, so that the test can stop the worker after the claim is committed.
    let slow = deployment.settings.clone().with("FAILPOINTS", "claim::after=1*sleep(5000)");
    let worker = slow.start(Part::Worker).await;
    let claimed = async || deployment.left().await.is_some_and(|(_, claims)| claims > 0);
    within(RECORDED, "a delivery is claimed", claimed).await;
    let output = worker.stop().await;
    assert!(output.contains("outcome=\"released\""), "no delivery was released, so nothing was tested");
    assert!(!output.contains("some outcomes could not be recorded"), "the stop waited for the rejected releases");

    accept(&deployment.pool).await;
    let _next = deployment.settings.start(Part::Worker).await;
    deployment.drained(RECORDED).await;
    let tally = deployment.assert_drained(&deployment.client(&api), &accepted).await;
    let interrupted: HashSet<_> = tally.of(Outcome::Interrupted).collect();
    assert!(!interrupted.is_empty() && interrupted.is_subset(&of_endpoint), "{:?}", tally.summary());
}

/// A deployment with accepted events and an API, but without a worker.
async fn with_events(events: usize) -> (Deployment, Service, Vec<EventId>) {
    let deployment = Deployment::new().await;
    let agents = agents(40);
    let api = deployment.settings.start(Part::Api).await;
    deployment.configure(&api, &agents).await;
    let accepted = deployment.post(&[deployment.client(&api)], &agents, events).await;
    (deployment, api, accepted)
}

async fn recorded(deployment: &Deployment, outcomes: usize) {
    let are_recorded = async || deployment.tally().await.outcomes.len() == outcomes;
    within(RECORDED, &format!("{outcomes} outcomes are recorded"), are_recorded).await;
}

#[expect(clippy::float_cmp, reason = "the gauge is a small whole number")]
async fn set_aside(worker: &Service, outcomes: u32) {
    let are_set_aside = async || worker.metric(SET_ASIDE).await == f64::from(outcomes);
    within(RECORDED, &format!("{outcomes} outcomes are set aside"), are_set_aside).await;
}
