//! Tests the service while the database crashes, closes connections, is unreachable, rejects writes or lacks a partition.

use std::time::Duration;

use flametree_notify::domain::delivery::Outcome;
use flametree_notify::store::Db;

use crate::support::deployment::{Deployment, TENANT, agents};
use crate::support::own_server::Stop;
use crate::support::pooler;
use crate::support::service::{Part, Service};
use crate::support::waiting::{all, within};

const DRAINED: Duration = Duration::from_secs(90);
/// Terminates every connection of the service's processes.
const CUT_ALL: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'flametree-notify%'";

/// No worker died, so every delivery must succeed.
async fn assert_all_delivered(
    deployment: &Deployment,
    api: &Service,
    accepted: &[flametree_notify::domain::ids::EventId],
) {
    deployment.drained(DRAINED).await;
    let tally = deployment.assert_drained(&deployment.client(api), accepted).await;
    assert_eq!(tally.count(Outcome::Delivered), accepted.len(), "{:?}", tally.summary());
}

async fn run(pool: &Db, statement: &'static str) {
    sqlx::raw_sql(statement).execute(pool).await.unwrap();
}

#[tokio::test]
async fn repeated_database_crashes_lose_and_duplicate_nothing() {
    const EVENTS: usize = 6_000;
    let deployment = Deployment::with_own_server().await;
    let agents = agents(10);
    let service = deployment.settings.start(Part::Run).await;
    deployment.configure(&service, &agents).await;

    let apis = [deployment.client(&service)];
    let crashing = async {
        for _ in 0..4 {
            let seen = deployment.receiver.count();
            within(DRAINED, "deliveries flow", async || deployment.receiver.count() >= seen + 300).await;
            deployment.server().stop(Stop::Immediate);
            deployment.server().start_again();
        }
    };
    let (accepted, ()) = tokio::join!(deployment.post(&apis, &agents, EVENTS), crashing);
    assert_all_delivered(&deployment, &service, &accepted).await;
}

#[tokio::test]
async fn connections_cut_twice_a_second_lose_and_duplicate_nothing() {
    const EVENTS: usize = 6_000;
    const CUTS: usize = 8;
    let deployment = Deployment::new().await;
    let agents = agents(10);
    let service = deployment.settings.start(Part::Run).await;
    deployment.configure(&service, &agents).await;

    let apis = [deployment.client(&service)];
    let cutting = async {
        for _ in 0..CUTS {
            run(&deployment.pool, CUT_ALL).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let flowing = async {
        let mut accepted = Vec::new();
        for _ in 0..CUTS {
            accepted.extend(deployment.post(&apis, &agents, EVENTS / CUTS).await);
            deployment.assert_ready_deliveries_were_never_seen().await;
        }
        accepted
    };
    let (accepted, ()) = tokio::join!(flowing, cutting);
    assert_all_delivered(&deployment, &service, &accepted).await;
}

/// After this idle time, the pool checks a connection before it uses the connection again.
const A_QUIET_MOMENT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn no_request_fails_on_a_dead_connection_after_connections_were_cut() {
    let deployment = Deployment::new().await;
    let service = deployment.settings.start(Part::Api).await;
    let client = deployment.client(&service);
    let path = format!("/v1/deliveries?tenant_id={TENANT}");
    let read = || {
        let (client, path) = (client.clone(), path.clone());
        async move { client.get(&path).await }
    };
    // Concurrent requests make the pool open several connections.
    all((0..16).map(|_| read())).await;
    run(&deployment.pool, CUT_ALL).await;
    tokio::time::sleep(A_QUIET_MOMENT).await;
    for answer in all((0..16).map(|_| read())).await {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[tokio::test]
async fn processes_survive_a_database_outage_longer_than_the_lease() {
    let idle = away_while_idle();
    let busy = away_under_load();
    tokio::join!(idle, busy);
}

/// The duration of the outage, which is longer than the lease. No worker may declare another worker dead because of the outage.
const AWAY: Duration = Duration::from_secs(15);

async fn away_while_idle() {
    let deployment = Deployment::with_own_server().await;
    let agents = agents(3);
    let service = deployment.settings.start(Part::Run).await;
    let other = deployment.settings.start(Part::Worker).await;
    deployment.configure(&service, &agents).await;
    deployment.server().stop(Stop::Fast);
    let since = tokio::time::Instant::now();
    assert_unavailable(&deployment, &service).await;
    tokio::time::sleep_until(since + AWAY).await;
    deployment.server().start_again();
    assert_available_again(&service).await;
    let accepted = deployment.post(&[deployment.client(&service)], &agents, 300).await;
    assert_all_delivered(&deployment, &service, &accepted).await;
    assert!(!other.has_logged("this worker was fenced") && !service.has_logged("this worker was fenced"));
}

async fn away_under_load() {
    let deployment = Deployment::with_own_server().await;
    let agents = agents(10);
    let service = deployment.settings.start(Part::Run).await;
    let other = deployment.settings.start(Part::Worker).await;
    deployment.configure(&service, &agents).await;
    let apis = [deployment.client(&service)];
    let away = async {
        within(DRAINED, "deliveries flow", async || deployment.receiver.count() >= 300).await;
        deployment.server().stop(Stop::Fast);
        let since = tokio::time::Instant::now();
        assert_unavailable(&deployment, &service).await;
        tokio::time::sleep_until(since + AWAY).await;
        deployment.server().start_again();
        assert_available_again(&service).await;
    };
    let (accepted, ()) = tokio::join!(deployment.post(&apis, &agents, 4_000), away);
    assert_all_delivered(&deployment, &service, &accepted).await;
    assert!(!other.has_logged("this worker was fenced") && !service.has_logged("this worker was fenced"));
}

async fn assert_unavailable(deployment: &Deployment, service: &Service) {
    within(DRAINED, "/readyz says so", async || service.readiness().await == Some(503)).await;
    let event = crate::support::deployment::message("agent-1", usize::MAX);
    let answer = deployment.client(service).post("/v1/events", &event).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("unavailable")), "{}", answer.text());
}

async fn assert_available_again(service: &Service) {
    within(DRAINED, "/readyz says so", async || service.readiness().await == Some(200)).await;
}

#[tokio::test]
async fn a_process_stops_during_a_database_outage_and_the_next_start_loses_and_duplicates_nothing() {
    let mut deployment = Deployment::with_own_server().await;
    deployment.settings = deployment.settings.with("FLAMETREE_SHUTDOWN_GRACE_SECONDS", "1");
    let agents = agents(10);
    let service = deployment.settings.start(Part::Run).await;
    deployment.configure(&service, &agents).await;
    let accepted = deployment.post(&[deployment.client(&service)], &agents, 1_000).await;
    within(DRAINED, "deliveries flow", async || deployment.receiver.count() >= 200).await;
    deployment.server().stop(Stop::Immediate);
    service.stop().await;

    deployment.server().start_again();
    let service = deployment.settings.start(Part::Run).await;
    deployment.drained(DRAINED).await;
    let tally = deployment.assert_drained(&deployment.client(&service), &accepted).await;
    assert_eq!(tally.count(Outcome::Delivered) + tally.count(Outcome::Interrupted), accepted.len());
}

#[tokio::test]
async fn a_temporarily_read_only_database_loses_and_duplicates_nothing() {
    let deployment = Deployment::with_own_server().await;
    let agents = agents(10);
    let service = deployment.settings.start(Part::Run).await;
    deployment.configure(&service, &agents).await;
    let apis = [deployment.client(&service)];
    let window = async {
        within(DRAINED, "deliveries flow", async || deployment.receiver.count() >= 300).await;
        run(&deployment.pool, "ALTER DATABASE flametree SET default_transaction_read_only = on").await;
        // The setting applies only to new sessions, so the test terminates the existing sessions.
        let sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                        WHERE application_name LIKE 'flametree-notify%'";
        run(&deployment.pool, sessions).await;
        within(DRAINED, "/readyz says so", async || service.readiness().await == Some(503)).await;
        let answer =
            deployment.client(&service).post("/v1/events", &crate::support::deployment::message("agent-1", 0)).await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        run(&deployment.pool, "ALTER DATABASE flametree RESET default_transaction_read_only").await;
        if pooler::url_of_shared().is_some() {
            // The sessions of a pooler keep the old setting. As docs/databases.md advises, the test terminates these sessions.
            run(&deployment.pool, sessions).await;
        }
    };
    let (accepted, ()) = tokio::join!(deployment.post(&apis, &agents, 4_000), window);
    assert_all_delivered(&deployment, &service, &accepted).await;
}

#[tokio::test]
async fn a_temporarily_missing_partition_loses_and_duplicates_nothing() {
    let deployment = Deployment::new().await;
    let agents = agents(10);
    let service = deployment.settings.start(Part::Run).await;
    deployment.configure(&service, &agents).await;
    let apis = [deployment.client(&service)];
    let missing = async {
        within(DRAINED, "deliveries flow", async || deployment.receiver.count() >= 300).await;
        let detach = "DO $$ BEGIN EXECUTE format('ALTER TABLE flametree.deliveries DETACH PARTITION flametree.%I',
                      'deliveries_' || to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYYMMDD')); END $$";
        run(&deployment.pool, detach).await;
        let refused = async || service.has_logged("no partition of relation");
        within(DRAINED, "outcomes cannot be recorded", refused).await;
        let attach = "DO $$ DECLARE v_day date := (clock_timestamp() AT TIME ZONE 'UTC')::date; BEGIN EXECUTE format(
                      'ALTER TABLE flametree.deliveries ATTACH PARTITION flametree.%I FOR VALUES FROM (%L) TO (%L)',
                      'deliveries_' || to_char(v_day, 'YYYYMMDD'), flametree.bound_of('deliveries', v_day),
                      flametree.bound_of('deliveries', v_day + 1)); END $$";
        run(&deployment.pool, attach).await;
    };
    let (accepted, ()) = tokio::join!(deployment.post(&apis, &agents, 4_000), missing);
    assert_all_delivered(&deployment, &service, &accepted).await;
}
