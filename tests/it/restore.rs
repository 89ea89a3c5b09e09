//! Runs the steps that docs/operating.md lists for a restore to an earlier time. The restored ready deliveries must expire
//! without being sent.

use std::time::Duration;

use crate::support::deployment::{Deployment, agents};
use crate::support::seed;
use crate::support::service::Part;

const DRAINED: Duration = Duration::from_secs(30);

#[tokio::test]
async fn after_the_documented_statement_ready_deliveries_expire_without_an_attempt() {
    let guide = include_str!("../../docs/operating.md");
    let statement = guide.lines().map(str::trim).find(|line| line.starts_with("UPDATE flametree.ready_deliveries"));
    let deployment = Deployment::new().await;
    let agents = agents(3);
    let api = deployment.settings.start(Part::Api).await;
    deployment.configure(&api, &agents).await;
    let accepted = deployment.post(&[deployment.client(&api)], &agents, 30).await;
    assert_eq!(deployment.left().await, Some((30, 0)));

    seed::run(&deployment.pool, statement.unwrap().to_owned()).await;
    let worker = deployment.settings.start(Part::Worker).await;
    deployment.drained(DRAINED).await;
    let tally = deployment.assert_drained(&deployment.client(&api), &accepted).await;
    assert_eq!((tally.summary(), deployment.receiver.count()), ([("expired", 30)].into(), 0));

    // Later events are delivered as usual.
    let accepted = deployment.post(&[deployment.client(&api)], &agents, 3).await;
    deployment.drained(DRAINED).await;
    assert_eq!((accepted.len(), deployment.receiver.count()), (3, 3));
    worker.stop().await;
}
