//! Tests a worker that cannot reach the database but can still reach the receivers.

use std::time::Duration;

use flametree_notify::domain::delivery::Outcome;

use crate::support::deployment::{Database, Deployment, agents};
use crate::support::receiver::Mode;
use crate::support::relay::Relay;
use crate::support::service::Part;
use crate::support::waiting::{eventually, within};

/// A time limit of more than two leases. A new reaper takes over within one lease, and then waits one lease for a heartbeat of
/// the dead worker.
const REAPED: Duration = Duration::from_mins(1);
/// The number of deliveries that the worker has started when the test cuts it off. Initially, a worker starts at most 16
/// deliveries for each of the two endpoints.
const STARTED: usize = 32;

#[tokio::test]
async fn a_worker_cut_off_from_the_database_duplicates_nothing_and_continues_when_reconnected() {
    const EVENTS: usize = 4_000;
    let deployment = Deployment::new().await;
    let Database::Shared(database) = &deployment.database else { unreachable!("the test created it") };
    let agents = agents(10);
    let (hanging, healthy) = agents.split_at(2);
    for agent in hanging {
        deployment.receiver.set(&format!("/{agent}"), Mode::Hangs);
    }
    let api = deployment.settings.start(Part::Api).await;
    deployment.configure(&api, &agents).await;
    let apis = [deployment.client(&api)];
    let options = database.connect_options();
    let relay = Relay::to(&options).await;
    let far = deployment.settings.clone().with("DATABASE_URL", &relay.url(&options)).start(Part::Worker).await;
    let mut accepted = deployment.post(&apis, hanging, STARTED).await;
    eventually("the only worker has started the deliveries", || deployment.receiver.count() == STARTED).await;

    let near = deployment.settings.start(Part::Worker).await;
    let cutting = async {
        within(REAPED, "deliveries flow", async || deployment.receiver.count() >= STARTED + 400).await;
        relay.cut();
        let reaped = async || deployment.tally().await.count(Outcome::Interrupted) >= STARTED;
        within(REAPED, "the other worker reaps the cut-off worker", reaped).await;
        deployment.assert_ready_deliveries_were_never_seen().await;
        // The cut-off worker still gets responses, and keeps their outcomes until it can reach the database.
        deployment.receiver.let_go();
        relay.mend();
        let started = f64::from(u32::try_from(STARTED).unwrap());
        let late = async || far.metric("flametree_late_outcomes_total").await >= started;
        within(REAPED, "the cut-off worker reports its late outcomes", late).await;
        // The cut-off worker learns from its next heartbeat or claim that it was fenced.
        eventually("the cut-off worker logs that it was fenced", || far.has_logged("this worker was fenced")).await;
    };
    let (posted, ()) = tokio::join!(deployment.post(&apis, healthy, EVENTS), cutting);
    accepted.extend(posted);
    near.stop().await;
    accepted.extend(deployment.post(&apis, healthy, 500).await);
    deployment.drained(REAPED).await;

    let tally = deployment.assert_drained(&apis[0], &accepted).await;
    let (delivered, interrupted) = (tally.count(Outcome::Delivered), tally.count(Outcome::Interrupted));
    assert_eq!(delivered + interrupted, accepted.len(), "{:?}", tally.summary());
}

#[tokio::test]
async fn a_worker_continues_on_another_database_host_after_the_first_host_vanishes() {
    const EVENTS: usize = 4_000;
    let deployment = Deployment::new().await;
    let Database::Shared(database) = &deployment.database else { unreachable!("the test created it") };
    let agents = agents(10);
    let api = deployment.settings.start(Part::Api).await;
    deployment.configure(&api, &agents).await;
    let apis = [deployment.client(&api)];
    let options = database.connect_options();
    let relay = Relay::to(&options).await;
    // After the host vanishes, all of the 12 connections wait for a response, so no connection is free.
    let few = deployment.settings.clone().with("FLAMETREE_DATABASE_MAX_CONNECTIONS", "12");
    let url = relay.url(&options);
    let worker = few.with("DATABASE_URL", &url).with("DATABASE_LISTEN_URL", &url).start(Part::Worker).await;
    let vanishing = async {
        within(REAPED, "deliveries flow", async || deployment.receiver.count() >= 400).await;
        relay.vanish();
    };
    let (mut accepted, ()) = tokio::join!(deployment.post(&apis, &agents, EVENTS), vanishing);
    deployment.drained(REAPED).await;
    // The worker gets no hint of these deliveries.
    accepted.extend(deployment.post(&apis, &agents, 500).await);
    deployment.drained(REAPED).await;
    let tally = deployment.assert_drained(&apis[0], &accepted).await;
    assert_eq!(tally.count(Outcome::Delivered), accepted.len(), "{:?}", tally.summary());
    // The worker sends nothing on the connection for hints. Only a check of this connection can notice the vanished host.
    within(REAPED, "the hints are received from the other host", async || {
        worker.has_logged("hints of ready deliveries cannot be received")
    })
    .await;
    worker.stop().await;
}
