//! Tests stored data that this release cannot read, for example because a newer process wrote the data. A delivery with
//! unreadable data ends and delays no other delivery.

use std::time::Duration;

use flametree_notify::domain::delivery::Outcome;
use sqlx::Row as _;

use crate::support::deployment::{Deployment, TENANT, agents};
use crate::support::seed;
use crate::support::service::Part;

const DRAINED: Duration = Duration::from_secs(30);

#[tokio::test]
async fn an_event_of_an_unknown_type_is_canceled_and_the_others_are_sent() {
    let deployment = Deployment::new().await;
    let db = &deployment.pool;
    let agents = agents(2);
    let api = deployment.settings.start(Part::Api).await;
    deployment.configure(&api, &agents).await;
    let accepted = deployment.post(&[deployment.client(&api)], &agents, 10).await;
    seed::run(db, "ALTER TYPE flametree.event_type ADD VALUE 'of_the_next_release'".into()).await;
    let unknown = accepted[3];
    let event = unknown.uuid();
    seed::run(db, format!("UPDATE flametree.events SET type = 'of_the_next_release' WHERE id = '{event}'")).await;

    let worker = deployment.settings.start(Part::Worker).await;
    deployment.drained(DRAINED).await;
    let rows = "SELECT event_id, detail FROM flametree.deliveries WHERE outcome = 'canceled'";
    let rows = sqlx::raw_sql(rows).fetch_all(db).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get::<uuid::Uuid, _>(0), event);
    assert!(rows[0].get::<String, _>(1).contains("does not know the event's type"));
    assert_eq!(deployment.tally().await.count(Outcome::Delivered), 9);
    assert!(worker.has_logged("of_the_next_release"));
}

#[tokio::test]
async fn a_delivery_whose_settings_cannot_be_read_gets_a_final_outcome() {
    let deployment = Deployment::new().await;
    let agents = agents(2);
    let api = deployment.settings.start(Part::Api).await;
    deployment.configure(&api, &agents).await;
    let accepted = deployment.post(&[deployment.client(&api)], &agents, 10).await;
    let unreadable = "UPDATE flametree.push_configs SET url = 'of the next release' WHERE agent_id = 'agent-1'";
    seed::run(&deployment.pool, unreadable.into()).await;

    let _worker = deployment.settings.start(Part::Worker).await;
    deployment.drained(DRAINED).await;
    let tally = deployment.tally().await;
    assert_eq!(
        (tally.count(Outcome::ConfigError), tally.count(Outcome::Delivered)),
        (5, 5),
        "{accepted:?} of {TENANT}"
    );
}
