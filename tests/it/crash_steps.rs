//! Crashes a worker while it claims, sends, finishes, releases or reaps deliveries. Also loses responses to claims.

use std::time::Duration;

use flametree_notify::domain::delivery::Outcome;
use nix::sys::signal::Signal;
use tokio::task::LocalSet;

use crate::support::deployment::{Deployment, agents};
use crate::support::invariants::Tally;
use crate::support::service::{Part, Service};
use crate::support::waiting::within;

/// More events than a batch of outcomes can contain (512), so that a worker records at least two batches.
const EVENTS: usize = 600;
const REAPED: Duration = Duration::from_secs(90);

/// The deliveries that the crashed worker had started but not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaves {
    /// The worker had started no delivery.
    None,
    /// The worker had started deliveries and sent none of them.
    OnlyUnseen,
    /// The worker had started deliveries and possibly sent some of them.
    Some,
    /// Other tasks of the process had possibly started deliveries.
    Perhaps,
}

/// The step, the failpoint action, and the deliveries left by the crash. A claim contains at most 128 deliveries, so 600
/// deliveries need five claims.
const STEPS: [(&str, &str, Leaves); 9] = [
    ("claim::before", "panic(crash)", Leaves::None),
    ("claim::after", "panic(crash)", Leaves::OnlyUnseen),
    ("claim::before", "2*off->panic(crash)", Leaves::Perhaps),
    ("claim::after", "2*off->panic(crash)", Leaves::Some),
    ("send::before_request", "20*off->panic(crash)", Leaves::Some),
    ("send::after_response", "20*off->panic(crash)", Leaves::Some),
    ("record::before", "20*off->panic(crash)", Leaves::Some),
    ("finish::before", "1*off->panic(crash)", Leaves::Some),
    ("finish::after", "1*off->panic(crash)", Leaves::Perhaps),
];

/// Each step uses a separate deployment, so all steps can wait for the end of a lease at the same time.
#[tokio::test]
async fn a_crash_at_any_step_of_claiming_sending_and_finishing_loses_and_duplicates_nothing() {
    let steps = LocalSet::new();
    let running = STEPS.map(|(step, action, leaves)| steps.spawn_local(crash_at(step, action, leaves)));
    steps.await;
    for crash in running {
        crash.await.unwrap();
    }
}

async fn crash_at(step: &str, action: &str, leaves: Leaves) {
    let step_is = format!("{step}={action}");
    let (deployment, api, accepted) = with_events().await;
    let crashing = deployment.settings.clone().with("FAILPOINTS", &step_is).spawn(Part::Worker);
    crashing.crashed().await;
    deployment.assert_ready_deliveries_were_never_seen().await;
    let _next = deployment.settings.start(Part::Worker).await;
    let tally = drained(&deployment, &api, &accepted).await;
    let interrupted = tally.count(Outcome::Interrupted);
    let sent = tally.of(Outcome::Interrupted).filter(|id| tally.seen.contains(id)).count();
    match leaves {
        Leaves::None => assert_eq!(interrupted, 0, "{step_is}"),
        Leaves::OnlyUnseen => assert!(interrupted > 0 && sent == 0, "{step_is}: {interrupted}, {sent} of them sent"),
        Leaves::Some => assert!(interrupted > 0, "{step_is}"),
        Leaves::Perhaps => {}
    }
}

#[tokio::test]
async fn a_crash_at_any_step_of_releasing_loses_and_duplicates_nothing() {
    tokio::join!(crash_in_release("release::before"), crash_in_release("release::after"));
}

async fn crash_in_release(step: &str) {
    let failpoints = format!("{SLOW_CLAIM};{step}=panic(crash)");
    let (deployment, api, accepted) = with_events().await;
    let worker = deployment.settings.clone().with("FAILPOINTS", &failpoints).start(Part::Worker).await;
    wait_for_claim(&deployment).await;
    worker.signal(Signal::SIGTERM);
    worker.crashed().await;
    let _next = deployment.settings.start(Part::Worker).await;
    drained(&deployment, &api, &accepted).await;
}

/// Delays the response to a committed claim, so that the test can stop the worker before the response arrives.
const SLOW_CLAIM: &str = "claim::after=sleep(1000)";

async fn wait_for_claim(deployment: &Deployment) {
    let is_claimed = async || deployment.left().await.is_some_and(|(_, claims)| claims > 0);
    within(REAPED, "a delivery is claimed", is_claimed).await;
}

#[tokio::test]
async fn a_stop_releases_deliveries_that_were_claimed_but_not_started() {
    let (deployment, api, accepted) = with_events().await;
    let worker = deployment.settings.clone().with("FAILPOINTS", SLOW_CLAIM).start(Part::Worker).await;
    wait_for_claim(&deployment).await;
    worker.stop().await;
    assert_eq!(deployment.left().await.unwrap().1, 0, "the stopped worker still has a claim");
    assert!(
        deployment.tally().await.outcomes.len() < EVENTS,
        "all deliveries ended before the stop, so this test tested nothing"
    );
    let _next = deployment.settings.start(Part::Worker).await;
    let tally = drained(&deployment, &api, &accepted).await;
    assert_eq!(tally.count(Outcome::Delivered), EVENTS, "{:?}", tally.summary());
}

#[tokio::test]
async fn a_crash_at_any_step_of_reaping_loses_and_duplicates_nothing() {
    tokio::join!(crash_while_reaping("reap::after_fence"), crash_while_reaping("reap::between"));
}

async fn crash_while_reaping(step: &str) {
    let (deployment, api, accepted) = with_events().await;
    deployment.settings.clone().with("FAILPOINTS", "claim::after=panic(crash)").spawn(Part::Worker).crashed().await;
    let reaper = deployment.settings.clone().with("FAILPOINTS", &format!("{step}=panic(crash)")).spawn(Part::Worker);
    reaper.crashed().await;
    let _next = deployment.settings.start(Part::Worker).await;
    let tally = drained(&deployment, &api, &accepted).await;
    assert!(tally.count(Outcome::Interrupted) > 0, "{step}: {:?}", tally.summary());
}

#[tokio::test]
async fn a_worker_adopts_claims_whose_responses_are_lost() {
    let (deployment, api, accepted) = with_events().await;
    let lost = "claim::answer_lost=20*return";
    let worker = deployment.settings.clone().with("FAILPOINTS", lost).start(Part::Worker).await;
    let tally = drained(&deployment, &api, &accepted).await;
    assert!(worker.has_logged("a claim got no response"), "no response was lost, so this test tested nothing");
    assert_eq!(tally.count(Outcome::Delivered), EVENTS, "{:?}", tally.summary());
}

#[tokio::test]
async fn a_panic_in_an_attempt_interrupts_only_one_delivery() {
    let (deployment, api, accepted) = with_events().await;
    let panics = "send::before_request=3*panic(an internal fault)";
    let _worker = deployment.settings.clone().with("FAILPOINTS", panics).start(Part::Worker).await;
    let tally = drained(&deployment, &api, &accepted).await;
    assert_eq!((tally.count(Outcome::Interrupted), tally.count(Outcome::Delivered)), (3, EVENTS - 3));
}

/// A deployment with accepted events and without a worker.
async fn with_events() -> (Deployment, Service, Vec<flametree_notify::domain::ids::EventId>) {
    let deployment = Deployment::new().await;
    let agents = agents(40);
    let api = deployment.settings.start(Part::Api).await;
    deployment.configure(&api, &agents).await;
    let accepted = deployment.post(&[deployment.client(&api)], &agents, EVENTS).await;
    (deployment, api, accepted)
}

async fn drained(deployment: &Deployment, api: &Service, accepted: &[flametree_notify::domain::ids::EventId]) -> Tally {
    deployment.drained(REAPED).await;
    deployment.assert_drained(&deployment.client(api), accepted).await
}
