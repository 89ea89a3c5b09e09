//! Processes of the previous release and of this release share a database, as during an upgrade.
//!
//! The command `make compatibility` builds the previous release. Without this build, all processes run this release.

use std::time::Duration;

use flametree_notify::store::Db;

use crate::support::client::Client;
use crate::support::deployment::{Deployment, agents};
use crate::support::receiver::Mode;
use crate::support::service::Part;
use crate::support::waiting::within;

const DRAINED: Duration = Duration::from_mins(2);

/// The version of the installed SQL functions, and a digest of all their definitions.
async fn functions(db: &Db) -> (Vec<i32>, String) {
    let query = "SELECT (SELECT version FROM flametree.function_sources),
                        md5(string_agg(pg_get_functiondef(p.oid), '' ORDER BY p.oid))
                 FROM pg_proc AS p WHERE p.pronamespace = 'flametree'::regnamespace AND p.prokind = 'f'";
    sqlx::query_as(query).fetch_one(db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_previous_release_and_this_release_share_a_database_and_lose_or_repeat_no_delivery() {
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
        let before = functions(&deployment.pool).await;
        let mut command = previous.command();
        let migrated = tokio::task::spawn_blocking(move || command.arg("migrate").output().unwrap()).await.unwrap();
        assert!(migrated.status.success(), "{migrated:?}");
        assert_eq!(functions(&deployment.pool).await, before, "the old release restored its functions");
        let [api, worker] = old;
        worker.kill();
        within(DRAINED, "deliveries continue", async || deployment.receiver.count() >= 1_500).await;
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
