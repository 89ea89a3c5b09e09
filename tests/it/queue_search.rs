//! Tests that a worker finds deliveries without hints and without full walks of the queue. Walks are slow in these tests.

use std::time::Duration;

use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::event::NewEvent;
use flametree_notify::domain::ids::EventId;
use flametree_notify::store::Db;
use flametree_notify::store::accept;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::support::deployment::{Database, Deployment, TENANT, agents};
use crate::support::queue::{accept_messages, message, prepare};
use crate::support::service::Part;
use crate::support::waiting::within;

/// A time limit that is much longer than the setup of these tests takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// A full walk of the queue takes one second here, and the next walk starts a minute later. A delivery that a worker finds within
/// this time limit was not found by a walk.
const FOUND: Duration = Duration::from_secs(15);

/// Makes full walks slow, as dead tuples do while a snapshot is open.
async fn slow_walks(db: &Db) {
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

/// Accepts a message in the caller's open transaction.
async fn accept_in(connection: &mut PgConnection, agent: &str) -> EventId {
    let event = serde_json::json!({
        "type": "user_message", "tenant_id": TENANT, "agent_id": agent, "session_id": "s-1", "text": "late",
    });
    let statement = format!("SELECT id FROM flametree.enqueue_event($event${event}$event$)");
    let row = sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).fetch_one(connection).await.unwrap();
    row.get::<String, _>(0).parse().unwrap()
}

async fn is_delivered(db: &Db, event: EventId) -> bool {
    let statement = "SELECT count(*) FROM flametree.deliveries WHERE event_id = $1 AND outcome = 'delivered'";
    sqlx::query_scalar::<_, i64>(statement).bind(event.uuid()).fetch_one(db).await.unwrap() == 1
}

#[tokio::test]
async fn a_late_commit_on_a_busy_lane_does_not_wait_for_a_full_walk() {
    /// After this time, claims no longer re-scan the position of the late commit. The lane is also too far advanced for re-scans.
    const LATE: Duration = Duration::from_secs(4);
    let deployment = Deployment::new().await;
    slow_walks(&deployment.pool).await;
    let agents = agents(2);
    let service = deployment.settings.start(Part::Run).await;
    deployment.configure(&service, &agents).await;
    let apis = [deployment.client(&service)];

    let mut older = deployment.pool.begin().await.unwrap();
    accept_in(&mut older, "agent-2").await;
    let mut late = deployment.pool.begin().await.unwrap();
    let event = accept_in(&mut late, "agent-1").await;
    let started = tokio::time::Instant::now();
    let mut posted = 0;
    while started.elapsed() < LATE {
        posted += deployment.post(&apis, &agents[..1], 250).await.len();
        within(PATIENCE, "the committed events are delivered", async || deployment.receiver.count() == posted).await;
        tokio::time::sleep(LATE / 10).await;
    }
    late.commit().await.unwrap();
    within(FOUND, "the late event is delivered", async || is_delivered(&deployment.pool, event).await).await;
    // The committed event was found although an older transaction was still open.
    older.rollback().await.unwrap();
    deployment.drained(PATIENCE).await;
}

/// Creates an agent with this endpoint id. The id determines the position of the endpoint in scans.
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

/// Accepts a message for each agent, without sending a hint.
async fn accept_for_each(db: &Db, agents: &[String]) {
    for agents in agents.chunks(250) {
        let events: Vec<NewEvent> = agents.iter().map(|agent| message(agent, "hello".to_owned())).collect();
        accept::accept(db, &events.iter().collect::<Vec<_>>(), 3_600, accept::LOCK_TIMEOUT).await.unwrap();
    }
}

#[tokio::test]
async fn scans_find_every_endpoint_even_if_the_worker_knows_thousands_of_endpoints() {
    /// More endpoints than one tail scan reads.
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
    // Claims skip the locked delivery of one endpoint until the test ends, but scans see it.
    let mut locked = db.begin().await.unwrap();
    let lock = "SELECT 1 FROM flametree.ready_deliveries WHERE endpoint_id = $1 FOR UPDATE";
    sqlx::query(lock).bind(Uuid::from_u128(1_000_000)).execute(&mut *locked).await.unwrap();
    let service = deployment.settings.start(Part::Worker).await;
    let delivered = async |count: usize| deployment.tally().await.count(Outcome::Delivered) == count;
    let first = known.len();
    within(PATIENCE * 2, "the walk finds them", async || delivered(first).await).await;

    accept_messages(db, &hidden, 1).await;
    within(FOUND, "the scan finds the delivery after the locked delivery", async || delivered(first + 1).await).await;
    let mut all = known;
    for number in (100..KNOWN).step_by(100) {
        all.push(agent_at(&deployment, number * 10 + 5).await);
    }
    accept_for_each(db, &all).await;
    let count = first + 1 + all.len();
    within(FOUND, "the scan finds known endpoints and the new endpoints", async || delivered(count).await).await;
    locked.rollback().await.unwrap();
    deployment.drained(PATIENCE).await;
    service.stop().await;
}

#[tokio::test]
async fn a_burst_of_hints_causes_few_scans() {
    const HINTS: u32 = 2_000;
    /// The minimum pause between two scans that hints cause in a channel.
    const PAUSE: Duration = Duration::from_millis(20);
    /// The maximum number of scans in a channel that have another cause than a hint.
    const OTHERS: u128 = 20;
    let deployment = Deployment::new().await;
    let db = &deployment.pool;
    count_scans(db).await;
    let Database::Shared(database) = &deployment.database else { unreachable!("the test created it") };
    let settings = deployment.settings.clone().with("DATABASE_LISTEN_URL", &database.direct_url());
    let service = settings.start(Part::Worker).await;
    let listening = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'flametree-notify listener' AND query LIKE 'LISTEN%'";
    let listens = async || sqlx::query_scalar::<_, i64>(listening).fetch_one(db).await.unwrap() == 1;
    within(PATIENCE, "the worker listens", listens).await;
    let quiet = async || {
        let before = scans(db).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        scans(db).await - before <= 6
    };
    within(PATIENCE, "the search is idle", quiet).await;

    let (before, started) = (scans(db).await, std::time::Instant::now());
    let mut connection = db.acquire().await.unwrap();
    for _ in 0..HINTS {
        sqlx::query("SELECT pg_notify('flametree_ready', '')").execute(&mut *connection).await.unwrap();
    }
    let caused = u128::try_from(scans(db).await - before).unwrap();
    let most = 2 * (started.elapsed().as_millis() / PAUSE.as_millis() + OTHERS);
    assert!(caused <= most, "{HINTS} hints caused {caused} scans, more than {most}");
    service.stop().await;
}

async fn count_scans(db: &Db) {
    let statements = "
        CREATE SEQUENCE flametree.scans;
        ALTER FUNCTION flametree.waiting_lanes(flametree.channel, text, uuid, integer) RENAME TO uncounted_walk;
        ALTER FUNCTION flametree.waiting_beside(flametree.channel, text[], uuid[], bigint[]) RENAME TO uncounted_tails;
        CREATE FUNCTION flametree.waiting_lanes(p_channel flametree.channel, p_tenant text, p_endpoint uuid, p_limit integer)
        RETURNS TABLE (tenant_id text, endpoint_id uuid, first_position bigint, first_id uuid, replayed_at timestamptz)
        LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM nextval('flametree.scans');
            RETURN QUERY SELECT * FROM flametree.uncounted_walk(p_channel, p_tenant, p_endpoint, p_limit);
        END
        $$;
        CREATE FUNCTION flametree.waiting_beside(p_channel flametree.channel, p_tenants text[], p_endpoints uuid[], p_after bigint[])
        RETURNS TABLE (tenant_id text, endpoint_id uuid, first_position bigint, first_id uuid, replayed_at timestamptz)
        LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM nextval('flametree.scans');
            RETURN QUERY SELECT * FROM flametree.uncounted_tails(p_channel, p_tenants, p_endpoints, p_after);
        END
        $$";
    sqlx::raw_sql(statements).execute(db).await.unwrap();
}

async fn scans(db: &Db) -> i64 {
    sqlx::query_scalar("SELECT last_value FROM flametree.scans").fetch_one(db).await.unwrap()
}
