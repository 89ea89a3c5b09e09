//! Measures events per second from the API to the recorded outcome, and the memory that hanging requests use.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::drain::{rate, wait_recorded};
use crate::load;
use crate::prepare::{self, Agent};
use crate::receiver::Receiver;
use crate::server::Server;
use crate::service::Service;

const ENDPOINTS: usize = 20;
/// A single tenant can use half of this queue. That half is enough for 64 connections that each post a batch of 100 events.
const QUEUE: (&str, &str) = ("FLAMETREE_INGEST_QUEUE_EVENTS", "20000");

/// Posts `count` events, `batch` per request, and waits until all outcomes are recorded. Returns events per second.
pub(crate) async fn to_endpoint(server: &Server, receiver: &Receiver, count: usize, batch: usize) -> f64 {
    let db = server.create_migrated("ingest").await;
    let service = Arc::new(Service::start("run", &server.url("ingest"), &[QUEUE]).await);
    let agents: Arc<[Agent]> = prepare::agents_by_api(&service, ENDPOINTS, &Receiver::url("/hook")).await.into();
    receiver.reset().await;
    let started = Instant::now();
    load::flood(&service, &agents, count, batch).await;
    wait_recorded(&db, receiver, count).await;
    let took = started.elapsed();
    Arc::into_inner(service).unwrap().stop();
    crate::profile::print(&db).await;
    db.close().await;
    server.drop("ingest").await;
    rate(count, took)
}

/// How many requests hang concurrently.
const HANGING: usize = 5_000;

/// Returns the resident memory of the service, in bytes, while 5,000 requests hang at an endpoint that responded earlier.
pub(crate) async fn memory(server: &Server, receiver: &Receiver) -> f64 {
    server.create_migrated("memory").await.close().await;
    // A tenant can hold at most half of the permits, so 5,000 hanging requests need more than 10,000 permits.
    let settings = [QUEUE, ("FLAMETREE_MAX_IN_FLIGHT", "15000"), ("FLAMETREE_ENDPOINT_MAX_IN_FLIGHT", "5000")];
    let service = Arc::new(Service::start("run", &server.url("memory"), &settings).await);
    service.set_push_config("agent", &Receiver::url("/hang")).await;
    let agents: Arc<[Agent]> = Arc::new([prepare::agent("agent")]);
    receiver.reset().await;
    load::flood(&service, &agents, HANGING + 1_000, 100).await;
    while receiver.answered().await < HANGING + 1_000 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    receiver.hang().await;
    load::flood(&service, &agents, HANGING + 1_000, 100).await;
    let deadline = Instant::now() + Duration::from_secs(8);
    while receiver.hanging().await < HANGING && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (memory, hanging) = (service.memory(), receiver.hanging().await);
    assert!(hanging >= HANGING, "only {hanging} requests hang");
    drop(service);
    server.drop("memory").await;
    memory as f64
}
