//! Processes of the previous release and of this one over one database, as during an upgrade.
//!
//! `make compatibility` builds the previous release; without it both are this one.

use std::time::Duration;

use flametree_notify::store::schema;
use sqlx::postgres::PgPoolOptions;

use crate::support::client::Client;
use crate::support::deployment::{Deployment, agents};
use crate::support::receiver::Mode;
use crate::support::service::Part;
use crate::support::waiting::within;

const DRAINED: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_previous_release_and_this_one_share_a_database_and_lose_or_double_nothing() {
    let deployment = Deployment::new().await;
    let previous = deployment.settings.clone().of_previous_release();
    let agents = agents(6);
    for agent in &agents {
        deployment.receiver.set(&format!("/{agent}"), Mode::AnswersAfter(Duration::from_millis(20)));
    }
    let old = [previous.start(Part::Api).await, previous.start(Part::Worker).await];
    let new = [deployment.settings.start(Part::Api).await, deployment.settings.start(Part::Worker).await];
    deployment.configure(&old[0], &agents).await;
    let apis: Vec<Client> = [&old[0], &new[0]].map(|api| deployment.client(api)).to_vec();

    let upgrade = async {
        within(DRAINED, "deliveries flow", async || deployment.receiver.count() >= 500).await;
        // The old release's command finds the new functions and leaves them.
        let pool = PgPoolOptions::new().max_connections(2).connect_with((*deployment.pool.connect_options()).clone());
        schema::migrate(&pool.await.unwrap(), schema::LOCK_PATIENCE).await.unwrap();
        let [api, worker] = old;
        worker.kill();
        within(DRAINED, "deliveries flow on", async || deployment.receiver.count() >= 1_500).await;
        let replaced = deployment.settings.start(Part::Worker).await;
        (api, replaced)
    };
    let (accepted, (api, _worker)) = tokio::join!(deployment.post(&apis, &agents, 3_000), upgrade);
    deployment.drained(DRAINED).await;
    for reader in [&api, &new[0]] {
        let tally = deployment.assert_drained(&deployment.client(reader), &accepted).await;
        assert_eq!(tally.outcomes.len(), 3_000);
    }
}
