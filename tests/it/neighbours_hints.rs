//! Hints that a stranger forges delay no delivery. Any role that can connect to the database can send notifications.

use std::time::Duration;

use flametree_notify::domain::delivery::Outcome;
use flametree_notify::store::Db;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::support::deployment::{Database, Deployment, agents};
use crate::support::service::Part;
use crate::support::waiting::within;

const PATIENCE: Duration = Duration::from_secs(30);

/// Sends a hint that names these lanes. A notification must be shorter than 8,000 bytes.
async fn forge(stranger: &mut PgConnection, lanes: &[(&str, &str, Uuid, i64)]) {
    let message = serde_json::json!({"search": false, "lanes": lanes});
    let notify = sqlx::query("SELECT pg_notify('flametree_ready', $1)").bind(message.to_string());
    notify.execute(stranger).await.unwrap();
}

/// The number of claims since the service started.
async fn claims(db: &Db) -> i64 {
    let calls =
        "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_user_functions WHERE funcname = 'claim_deliveries'";
    sqlx::query_scalar(calls).fetch_one(db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_hints_of_a_stranger_delay_no_delivery_of_a_tenant() {
    const ROUNDS: usize = 30;
    let deployment = Deployment::new().await;
    let db = &deployment.pool;
    let count_calls =
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET track_functions = pl', current_database()); END $$";
    sqlx::raw_sql(count_calls).execute(db).await.unwrap();
    let Database::Shared(database) = &deployment.database else { unreachable!("the test created it") };
    let settings = deployment.settings.clone().with("DATABASE_LISTEN_URL", &database.direct_url());
    let (api, worker) = (settings.start(Part::Api).await, settings.start(Part::Worker).await);
    let agents = agents(3);
    deployment.configure(&api, &agents).await;
    let select = "SELECT endpoint_id FROM flametree.push_configs";
    let endpoints: Vec<Uuid> = sqlx::query_scalar(select).fetch_all(db).await.unwrap();
    let mut stranger = PgConnection::connect_with(&database.direct_options()).await.unwrap();

    let foreign: Vec<_> = endpoints.iter().map(|endpoint| ("webhook", "evil", *endpoint, 1)).collect();
    let far: Vec<_> = endpoints.iter().map(|endpoint| ("webhook", "acme", *endpoint, i64::MAX)).collect();
    within(PATIENCE, "the worker claims the forged lanes", async || {
        forge(&mut stranger, &foreign).await;
        forge(&mut stranger, &far).await;
        claims(db).await > 0
    })
    .await;
    deployment.post(&[deployment.client(&api)], &agents, agents.len()).await;
    deployment.drained(PATIENCE).await;

    let invalid: Vec<_> = [i64::MIN, 0].map(|position| ("webhook", "evil", endpoints[0], position)).to_vec();
    let posting = async {
        for _ in 0..ROUNDS {
            deployment.post(&[deployment.client(&api)], &agents, agents.len()).await;
        }
        deployment.drained(PATIENCE).await;
    };
    let forging = async {
        loop {
            let tenants: Vec<String> = (0..70).map(|_| Uuid::new_v4().to_string()).collect();
            let unknown: Vec<_> = tenants.iter().map(|tenant| ("webhook", tenant.as_str(), endpoints[0], 1)).collect();
            for lanes in [&unknown, &foreign, &far, &invalid] {
                forge(&mut stranger, lanes).await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = posting => {}
        () = forging => {}
    }
    assert_eq!(deployment.tally().await.count(Outcome::Delivered), agents.len() * (ROUNDS + 1));
    worker.stop().await;
    api.stop().await;
}
