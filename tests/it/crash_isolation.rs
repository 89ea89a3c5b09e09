//! A hanging endpoint may hold only a part of the permits, so the endpoint does not delay other endpoints.

use std::time::Duration;

use flametree_notify::domain::delivery::Outcome;

use crate::support::deployment::{Deployment, agents};
use crate::support::receiver::Mode;
use crate::support::service::Part;
use crate::support::waiting::{eventually, within};

const DEADLINE: Duration = Duration::from_mins(1);
/// Unproven endpoints share a third of the 120 permits. A tenant may hold a quarter of that third: 10 permits. An endpoint may
/// hold half of these 10 permits.
const HANGING_PERMITS: usize = 5;

#[tokio::test]
async fn healthy_endpoints_receive_messages_while_a_hanging_endpoint_holds_its_maximum_of_permits() {
    let mut deployment = Deployment::new().await;
    deployment.settings = deployment.settings.with("FLAMETREE_MAX_IN_FLIGHT", "120");
    let agents = agents(4);
    deployment.receiver.set("/agent-1", Mode::Hangs);
    let service = deployment.settings.start(Part::Run).await;
    deployment.configure(&service, &agents).await;
    let apis = [deployment.client(&service)];

    // Half of the deliveries are for the hanging endpoint.
    let hanging = agents[..1].to_vec();
    let mut accepted = deployment.post(&apis, &hanging, 100).await;
    eventually("the endpoint holds its maximum", || deployment.receiver.open_at("/agent-1") == HANGING_PERMITS).await;
    accepted.extend(deployment.post(&apis, &agents[1..], 600).await);
    accepted.extend(deployment.post(&apis, &hanging, 500).await);
    let healthy = async || deployment.tally().await.count(Outcome::Delivered) == 600;
    within(DEADLINE, "all healthy deliveries are delivered", healthy).await;
    assert_eq!(deployment.receiver.open_at("/agent-1"), HANGING_PERMITS);
    assert_eq!(deployment.receiver.count_at("/agent-1"), HANGING_PERMITS, "the endpoint exceeded its maximum");

    deployment.receiver.let_go();
    deployment.drained(DEADLINE).await;
    let tally = deployment.assert_drained(&apis[0], &accepted).await;
    assert_eq!(tally.count(Outcome::Delivered), accepted.len(), "{:?}", tally.summary());
}

#[tokio::test]
async fn an_endpoint_never_exceeds_its_maximum_of_concurrent_attempts() {
    let mut deployment = Deployment::new().await;
    deployment.settings = deployment.settings.with("FLAMETREE_ENDPOINT_MAX_IN_FLIGHT", "2");
    let agents = agents(2);
    deployment.receiver.set("/agent-1", Mode::Hangs);
    let service = deployment.settings.start(Part::Run).await;
    deployment.configure(&service, &agents).await;
    let apis = [deployment.client(&service)];
    let accepted = deployment.post(&apis, &agents, 100).await;
    let healthy = async || deployment.tally().await.count(Outcome::Delivered) == 50;
    within(DEADLINE, "the deliveries of the other endpoint end", healthy).await;
    assert_eq!(deployment.receiver.count_at("/agent-1"), 2);
    deployment.receiver.let_go();
    deployment.drained(DEADLINE).await;
    deployment.assert_drained(&apis[0], &accepted).await;
}
