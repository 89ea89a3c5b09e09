//! The search for deliveries that no hint announced, while full walks are slow and rest for a minute.

use std::time::Duration;

use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::event::NewEvent;
use flametree_notify::store::accept;
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::deployment::Deployment;
use crate::support::queue::{accept_messages, message, prepare};
use crate::support::service::Part;
use crate::support::waiting::within;

/// For whatever the tests prepare, far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// A walk that takes a second rests for a minute: what is found sooner was found without one.
const FOUND: Duration = Duration::from_secs(15);

/// Makes full walks slow, as they are over the dead rows that an old snapshot keeps.
async fn slow_walks(db: &PgPool) {
    let statements = "
        ALTER FUNCTION flametree.waiting_lanes(flametree.channel, text, uuid, integer) RENAME TO quick_walk;
        CREATE FUNCTION flametree.waiting_lanes(p_channel flametree.channel, p_tenant text, p_endpoint uuid, p_limit integer)
        RETURNS TABLE (tenant_id text, endpoint_id uuid, first_position bigint, first_id uuid, replayed_at timestamptz)
        LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_sleep(CASE WHEN p_tenant = '' THEN 1 ELSE 0 END);
            RETURN QUERY SELECT * FROM flametree.quick_walk(p_channel, p_tenant, p_endpoint, p_limit);
        END
        $$";
    sqlx::raw_sql(statements).execute(db).await.unwrap();
}

/// An agent whose endpoint has a place in the order of keys.
async fn agent_at(deployment: &Deployment, number: u128) -> String {
    let agent = format!("agent-{number}");
    sqlx::query(
        "INSERT INTO flametree.push_configs (tenant_id, agent_id, endpoint_id, version, enabled, url, signing, events,
             header_names, header_values, header_secrets, created_at, updated_at)
         VALUES ('acme', $1, $2, 1, true, $3, false, '{user_message}', '{}', '{}', '{}', now(), now())",
    )
    .bind(&agent)
    .bind(Uuid::from_u128(number))
    .bind(deployment.receiver.url("/lanes"))
    .execute(&deployment.pool)
    .await
    .unwrap();
    agent
}

/// Accepts a message for each agent, and hints at none.
async fn accept_for_each(db: &PgPool, agents: &[String]) {
    for agents in agents.chunks(250) {
        let events: Vec<NewEvent> = agents.iter().map(|agent| message(agent, "hello".to_owned())).collect();
        accept::accept(db, &events.iter().collect::<Vec<_>>(), 3_600).await.unwrap();
    }
}

#[tokio::test]
async fn every_endpoint_is_found_however_many_the_worker_knows() {
    /// More than one scan looks at.
    const KNOWN: u128 = 2_060;
    let deployment = Deployment::new().await;
    let db = &deployment.pool;
    prepare(db).await;
    slow_walks(db).await;
    let mut known = Vec::new();
    for number in 1..=KNOWN {
        known.push(agent_at(&deployment, number * 10).await);
    }
    let stuck = agent_at(&deployment, 1_000_000).await;
    let hidden = agent_at(&deployment, 1_000_001).await;
    accept_for_each(db, &known).await;
    accept_messages(db, &stuck, 1).await;
    // Claims skip the delivery of one endpoint until the end, scans see it.
    let mut locked = db.begin().await.unwrap();
    let lock = "SELECT 1 FROM flametree.ready_deliveries WHERE endpoint_id = $1 FOR UPDATE";
    sqlx::query(lock).bind(Uuid::from_u128(1_000_000)).execute(&mut *locked).await.unwrap();
    let service = deployment.settings.start(Part::Worker).await;
    let delivered = async |count: usize| deployment.tally().await.count(Outcome::Delivered) == count;
    let first = known.len();
    within(PATIENCE * 2, "the walk has found them", async || delivered(first).await).await;

    accept_messages(db, &hidden, 1).await;
    within(FOUND, "it is found behind the stuck one", async || delivered(first + 1).await).await;
    let mut all = known;
    for number in (100..KNOWN).step_by(100) {
        all.push(agent_at(&deployment, number * 10 + 5).await);
    }
    accept_for_each(db, &all).await;
    let count = first + 1 + all.len();
    within(FOUND, "the known ones and those between are found", async || delivered(count).await).await;
    locked.rollback().await.unwrap();
    deployment.drained(PATIENCE).await;
    service.stop().await;
}
