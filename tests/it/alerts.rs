//! Causes the fault that each alert reports, and then repairs the fault. In a real Prometheus that scrapes real processes, the
//! alert must fire and then resolve.
//!
//! In these tests, alerts fire sooner than in production. The file `tests/deployment/alerts_test.yaml` tests production times.

use std::time::Duration;

use flametree_notify::store::partitions;
use flametree_notify::telemetry::metrics::TaskName;
use http::Method;
use serde_json::json;

use crate::support::client::Client;
use crate::support::deployment::{Deployment, TENANT, agents};
use crate::support::own_server::Stop;
use crate::support::prometheus::Prometheus;
use crate::support::push_deployment::{Push, push_service};
use crate::support::receiver::Mode;
use crate::support::refusals::{accept, refuse};
use crate::support::seed;
use crate::support::service::{EACH_SECOND, Part};
use crate::support::task_failure::{HeldRequest, Trigger};
use crate::support::waiting::{eventually, within};

/// Does nothing, because the fault lasts without the help of the test.
async fn lasting() {}

async fn breathe() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_and_failing_deliveries_raise_alerts_until_deliveries_succeed() {
    let mut deployment = Deployment::new().await;
    deployment.settings = deployment.settings.with("FLAMETREE_ENDPOINT_MAX_IN_FLIGHT", "1");
    let service = deployment.settings.start(Part::Run).await;
    let prometheus = Prometheus::of(&[&service]).await;
    let apis = [deployment.client(&service)];
    let agents = agents(1);
    deployment.configure(&service, &agents).await;

    deployment.receiver.set("/agent-1", Mode::Hangs);
    deployment.post(&apis, &agents, 20).await;
    prometheus.fires("FlametreeDeliveriesWait", lasting).await;
    deployment.receiver.let_go();
    prometheus.ends("FlametreeDeliveriesWait").await;

    let nobody_listens = json!({"enabled": true, "url": "http://127.0.0.1:1/", "events": ["user_message"]});
    let config = format!("/v1/agents/agent-1/push-config?tenant_id={TENANT}");
    assert_eq!(apis[0].put(&config, &nobody_listens).await.status, 200);
    let failing = async || {
        deployment.post(&apis, &agents, 10).await;
        breathe().await;
    };
    for speed in ["Fast", "Slow", "Trickle"] {
        prometheus.fires(&format!("FlametreeDeliveryFailures{speed}"), failing).await;
    }
    deployment.configure(&service, &agents).await;
    for speed in ["Fast", "Slow", "Trickle"] {
        prometheus.ends(&format!("FlametreeDeliveryFailures{speed}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_processes_raise_alerts_until_new_processes_run() {
    let deployment = Deployment::new().await;
    let api = deployment.settings.start(Part::Api).await;
    let worker = deployment.settings.start(Part::Worker).await;
    let prometheus = Prometheus::of(&[&api, &worker]).await;
    let agents = agents(1);
    deployment.configure(&api, &agents).await;
    deployment.receiver.set("/agent-1", Mode::Hangs);
    deployment.post(&[deployment.client(&api)], &agents, 5).await;
    let started = || deployment.receiver.open_at("/agent-1") == 5;
    eventually("the worker has started", started).await;
    assert!(!prometheus.is_firing("FlametreeNoWorker").await);

    worker.kill();
    prometheus.fires("FlametreeTargetDown", lasting).await;
    prometheus.fires("FlametreeNoWorker", lasting).await;
    let worker = deployment.settings.start(Part::Worker).await;
    prometheus.scrape(&[&api, &worker]);
    prometheus.ends("FlametreeTargetDown").await;
    prometheus.ends("FlametreeNoWorker").await;
    prometheus.fires("FlametreeDeliveriesInterrupted", lasting).await;
    prometheus.ends("FlametreeDeliveriesInterrupted").await;

    for process in [api, worker] {
        process.kill();
    }
    prometheus.scrape(&[]);
    prometheus.fires("FlametreeMetricsMissing", lasting).await;
    let service = deployment.settings.start(Part::Run).await;
    prometheus.scrape(&[&service]);
    prometheus.ends("FlametreeMetricsMissing").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_or_unreachable_database_raises_alerts_until_it_responds() {
    let mut deployment = Deployment::with_own_server().await;
    for (name, value) in [("FLAMETREE_DATABASE_MAX_CONNECTIONS", "6"), ("FLAMETREE_INGEST_QUEUE_EVENTS", "1")] {
        deployment.settings = deployment.settings.with(name, value);
    }
    let service = deployment.settings.start(Part::Run).await;
    let prometheus = Prometheus::of(&[&service]).await;

    let mut lock = deployment.pool.begin().await.unwrap();
    let statement = "LOCK TABLE flametree.events, flametree.push_configs IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(statement).execute(&mut *lock).await.unwrap();
    let post = || async {
        call(deployment.client(&service), Method::POST, "/v1/events");
        breathe().await;
    };
    prometheus.fires("FlametreeEventsRefused", post).await;
    let read = || async {
        call(deployment.client(&service), Method::GET, "/v1/agents/agent-1/push-config?tenant_id=acme");
        breathe().await;
    };
    prometheus.fires("FlametreePoolSaturated", read).await;
    lock.rollback().await.unwrap();
    prometheus.ends("FlametreeEventsRefused").await;
    prometheus.ends("FlametreePoolSaturated").await;

    let probe = || async {
        let _answer = service.readiness().await;
    };
    deployment.server().stop(Stop::Immediate);
    prometheus.fires("FlametreeNotReady", probe).await;
    deployment.server().start_again();
    prometheus.ends("FlametreeNotReady").await;
}

/// Sends a request in the background and ignores the response. The request waits for the locked table or is rejected.
fn call(client: Client, method: Method, path: &'static str) {
    tokio::spawn(async move {
        let event = json!({
            "type": "user_message", "tenant_id": TENANT, "agent_id": "agent-1", "session_id": "s-1", "text": "hi",
        });
        let body = (method == Method::POST).then_some(&event);
        drop(client.request(method, path, body).await);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_background_task_raises_an_alert_that_later_resolves() {
    let deployment = Deployment::new().await;
    let trigger = Trigger::of(TaskName::TailScan);
    let service = trigger.set(&deployment.settings).start(Part::Run).await;
    let prometheus = Prometheus::of(&[&service]).await;
    let is_seen = async |query: &str| !prometheus.query(query).await.is_empty();
    let zero = async || is_seen("flametree_task_failures_total == 0").await;
    within(Duration::from_secs(30), "the counter of failures exists and is zero", zero).await;

    let held = HeldRequest::open(&deployment, &service).await;
    trigger.pull().await;
    let one = async || is_seen("flametree_task_failures_total{task=\"tail_scan\"} == 1").await;
    within(Duration::from_secs(30), "Prometheus scrapes the failure while the process stops", one).await;
    held.finish().await;
    service.failed().await;
    prometheus.fires("FlametreeTaskFailed", lasting).await;
    prometheus.ends("FlametreeTaskFailed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_and_expired_partitions_raise_alerts_until_the_fault_is_repaired() {
    let deployment = Deployment::new().await;
    let service = deployment.settings.start(Part::Run).await;
    let prometheus = Prometheus::of(&[&service]).await;
    let run = async |statement: &str| seed::run(&deployment.pool, statement.to_owned()).await;

    // Detaches the partition of tomorrow. The worker does not create the partition again, because the detached table has the same
    // name.
    let tomorrow = "format('flametree.%I', 'events_' || to_char((now() AT TIME ZONE 'UTC')::date + 1, 'YYYYMMDD'))";
    run(&format!("DO $$ BEGIN EXECUTE 'ALTER TABLE flametree.events DETACH PARTITION ' || {tomorrow}; END $$")).await;
    // An open transaction that reads this expired partition prevents retention from dropping it.
    run("SELECT flametree.ensure_partitions('2026-01-01', '2026-01-01')").await;
    let mut reader = deployment.pool.begin().await.unwrap();
    sqlx::raw_sql("SELECT count(*) FROM flametree.events_20260101").execute(&mut *reader).await.unwrap();
    prometheus.fires("FlametreePartitionMissing", lasting).await;
    prometheus.fires("FlametreeRetentionLate", lasting).await;

    run(&format!("DO $$ BEGIN EXECUTE 'DROP TABLE ' || {tomorrow}; END $$")).await;
    run("SELECT flametree.ensure_partitions(current_date, current_date + 3)").await;
    reader.rollback().await.unwrap();
    for expired in partitions::expired(&deployment.pool, 30).await.unwrap() {
        assert!(partitions::remove(&deployment.pool, &expired).await.unwrap());
    }
    prometheus.ends("FlametreePartitionMissing").await;
    prometheus.ends("FlametreeRetentionLate").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_and_hanging_operations_raise_alerts_until_they_succeed() {
    let mut deployment = Deployment::new().await;
    for name in ["FLAMETREE_WORKSPACE_REPAIR_SCHEDULE", "FLAMETREE_SUBSCRIPTION_PRUNING_SCHEDULE"] {
        deployment.settings = deployment.settings.with(name, EACH_SECOND);
    }
    let service = deployment.settings.start(Part::Run).await;
    let prometheus = Prometheus::of(&[&service]).await;
    let run = async |statement: &str| seed::run(&deployment.pool, statement.to_owned()).await;
    let kinds = async |query: &str| -> Vec<String> {
        let series = prometheus.query(query).await;
        series.iter().map(|one| one["metric"]["operation"].as_str().unwrap().to_owned()).collect()
    };

    run("ALTER TABLE flametree.sessions RENAME TO sessions_away").await;
    prometheus.fires("FlametreeOperationsFail", lasting).await;
    assert_eq!(kinds("flametree_operation_failed_attempts > 1").await, ["workspace_repair"]);
    run("ALTER TABLE flametree.sessions_away RENAME TO sessions").await;
    prometheus.ends("FlametreeOperationsFail").await;

    let mut lock = deployment.pool.begin().await.unwrap();
    let statement = "LOCK TABLE flametree.push_subscriptions IN SHARE ROW EXCLUSIVE MODE";
    sqlx::raw_sql(statement).execute(&mut *lock).await.unwrap();
    let firing = async || kinds(r#"ALERTS{alertname="FlametreeOperationsFail",alertstate="firing"}"#).await;
    within(Duration::from_mins(1), "the hanging operation alerts", async || firing().await == ["subscription_pruning"])
        .await;
    assert_eq!(kinds("flametree_operation_overdue_seconds > 5").await, ["subscription_pruning"]);
    assert_eq!(kinds("flametree_operation_failed_attempts > 1").await, [""; 0], "a hanging operation has not failed");
    lock.rollback().await.unwrap();
    prometheus.ends("FlametreeOperationsFail").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejections_by_push_services_raise_alerts_until_the_rejections_stop() {
    let disbelieving = push_service("403 Forbidden", "", r#"{"reason":"BadJwtToken"}"#).await;
    let mismatch = r#"{"code":401,"errno":109,"message":"VAPID public key mismatch"}"#;
    let mismatched = push_service("401 Unauthorized", "", mismatch).await;
    let push = Push::start(&[&disbelieving, &mismatched], |settings| settings).await;
    let prometheus = Prometheus::of(&[&push.service]).await;
    let counted = async || !prometheus.query("flametree_push_refusals_total").await.is_empty();
    within(Duration::from_secs(30), "the counter of rejections exists", counted).await;

    // The push service rejects each browser once. The worker then pauses the browser.
    for number in 0..5 {
        let person = format!("disbelieved-{number}");
        push.browser(&person, &person, &disbelieving).await;
        push.assign(&person).await;
    }
    prometheus.fires("FlametreePushKeyRefused", lasting).await;
    assert!(!prometheus.is_firing("FlametreePushRequestsRefused").await);
    prometheus.ends("FlametreePushKeyRefused").await;

    // The push service rejects each browser once. The worker then disables the browser.
    for number in 0..5 {
        let person = format!("mismatched-{number}");
        push.browser(&person, &person, &mismatched).await;
        push.assign(&person).await;
    }
    prometheus.fires("FlametreePushRequestsRefused", lasting).await;
    assert!(!prometheus.is_firing("FlametreePushKeyRefused").await);
    prometheus.ends("FlametreePushRequestsRefused").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejected_outcomes_and_claims_raise_alerts_until_they_are_accepted() {
    let deployment = Deployment::new().await;
    let service = deployment.settings.start(Part::Run).await;
    let prometheus = Prometheus::of(&[&service]).await;
    let (apis, agents) = ([deployment.client(&service)], agents(1));
    deployment.configure(&service, &agents).await;
    for (table, alert) in [("deliveries", "FlametreeOutcomesSetAside"), ("claims", "FlametreeClaimsSetAside")] {
        refuse(&deployment.pool, table, "true").await;
        deployment.post(&apis, &agents, 1).await;
        prometheus.fires(alert, lasting).await;
        accept(&deployment.pool).await;
        prometheus.ends(alert).await;
    }
}
