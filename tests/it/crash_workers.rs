//! Workers that die or fall silent while deliveries flow.

use std::time::Duration;

use flametree_notify::domain::delivery::Outcome;
use nix::sys::signal::Signal;

use crate::support::deployment::{Deployment, agents};
use crate::support::receiver::Mode;
use crate::support::service::Part;
use crate::support::waiting::{eventually, within};

/// A dead worker is found after two leases at most: one until its reaper's lease ends, one of silence.
const REAPED: Duration = Duration::from_mins(1);

#[tokio::test]
async fn workers_killed_in_a_loop_lose_and_double_nothing() {
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
            deployment.assert_what_is_ready_was_never_seen().await;
        }
        deployment.settings.start(Part::Worker).await
    };
    let (accepted, _last) = tokio::join!(deployment.post(&apis, &agents, EVENTS), killing);
    deployment.drained(REAPED).await;

    let tally = deployment.assert_drained(&client, &accepted).await;
    assert_eq!(tally.outcomes.len(), EVENTS);
    assert!(tally.count(Outcome::Interrupted) > 0, "no kill hit a delivery: nothing was tested, {:?}", tally.summary());
    assert_eq!(tally.count(Outcome::Delivered) + tally.count(Outcome::Interrupted), EVENTS, "{:?}", tally.summary());
}

#[tokio::test]
async fn outcomes_of_a_worker_that_was_silent_for_longer_than_its_lease_come_too_late() {
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
    eventually("all are on their way", || deployment.receiver.count() == 40).await;

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
    // It goes on as a new worker.
    accepted.extend(deployment.post(&apis, &agents, 60).await);
    deployment.drained(REAPED).await;
    let tally = deployment.assert_drained(&apis[0], &accepted).await;
    assert_eq!((tally.count(Outcome::Interrupted), tally.count(Outcome::Delivered)), (40, 60));
}
