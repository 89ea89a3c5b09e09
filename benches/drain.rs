//! Measures how fast prepared deliveries are sent, and how much write-ahead log a delivery costs.

use std::future::ready;
use std::time::{Duration, Instant};

use flametree_notify::store::Db;

use crate::engine::{Engine, delivered};
use crate::prepare;
use crate::receiver::Receiver;
use crate::server::Server;
use crate::service::Service;

/// The number of endpoints of the measurement that sends HTTP requests.
pub(crate) const ENDPOINTS: usize = 20;

/// Prepares `ready_deliveries` deliveries and runs `count` attempts, which do nothing. Returns deliveries per second.
pub(crate) async fn noop(server: &Server, endpoints: u32, ready_deliveries: usize, count: usize) -> f64 {
    let db = server.create_migrated("noop").await;
    let agents = prepare::agents(&db, endpoints as usize, &Receiver::url("/hook")).await;
    prepare::deliveries(&db, &agents, ready_deliveries).await;
    checkpoint(&db).await;
    db.close().await;
    // This pool has as many connections as the pool that the service's queue uses.
    let db = server.open("noop").await;
    let started = Instant::now();
    let engine = Engine::start(&db, endpoints, |_| ready(delivered())).await;
    if count == ready_deliveries {
        engine.wait_recorded(&db, count).await;
    } else {
        engine.wait_attempted(count).await;
    }
    let (took, attempted) = (started.elapsed(), engine.attempted());
    engine.stop().await;
    crate::profile::print(&db).await;
    db.close().await;
    server.drop("noop").await;
    rate(attempted, took)
}

#[derive(Debug)]
pub(crate) struct Drained {
    pub(crate) per_second: f64,
    /// The rate after the first quarter of the deliveries. Until then, new processes plan statements and open connections.
    pub(crate) warm_per_second: f64,
    /// The bytes of write-ahead log per event: to accept the event, and to claim and record its delivery.
    pub(crate) wal_bytes: f64,
}

/// Sends `count` signed deliveries to `endpoints` endpoints at one receiver, with `workers` processes of the release build. The
/// measurement starts at the first claim.
pub(crate) async fn http(
    server: &Server,
    receiver: &Receiver,
    endpoints: usize,
    count: usize,
    workers: u16,
) -> Drained {
    let db = server.create_migrated("drain").await;
    let url = server.url("drain");
    let api = Service::start("api", &url, &[]).await;
    let agents = prepare::agents_by_api(&api, endpoints, &Receiver::url("/hook")).await;
    api.stop();
    checkpoint(&db).await;
    let wal_before = wal(&db).await;
    prepare::deliveries(&db, &agents, count).await;
    receiver.reset().await;
    // This lock makes all claims wait until every process has started. With the default lock timeout, the claims of the first
    // processes would fail, and these processes would pause before they try again.
    let mut lock = db.begin().await.unwrap();
    if workers > 1 {
        let longer = "ALTER FUNCTION flametree.claim_deliveries SET lock_timeout = '1min'";
        sqlx::raw_sql(longer).execute(&db).await.unwrap();
        sqlx::raw_sql("LOCK TABLE flametree.ready_deliveries IN EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    }
    let workers = Service::workers(&url, workers).await;
    lock.commit().await.unwrap();
    wait_recorded(&db, receiver, count).await;
    let wal_bytes = (wal(&db).await - wal_before) / count as f64;
    for worker in workers {
        worker.stop();
    }
    let (recorded, seconds, warm_seconds): (i64, f64, f64) = sqlx::query_as(
        "SELECT count(*), extract(epoch FROM max(finished_at) - min(claimed_at))::float8,
            extract(epoch FROM max(finished_at) - percentile_disc(0.25) WITHIN GROUP (ORDER BY finished_at))::float8
        FROM flametree.deliveries WHERE outcome = 'delivered'",
    )
    .fetch_one(&db)
    .await
    .unwrap();
    assert_eq!(usize::try_from(recorded).unwrap(), count, "deliveries recorded as delivered");
    crate::profile::print(&db).await;
    db.close().await;
    server.drop("drain").await;
    Drained { per_second: count as f64 / seconds, warm_per_second: 0.75 * count as f64 / warm_seconds, wal_bytes }
}

/// Waits until the receiver has responded to `count` requests and all outcomes are recorded.
pub(crate) async fn wait_recorded(db: &Db, receiver: &Receiver, count: usize) {
    while receiver.answered().await < count {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let open = "SELECT EXISTS (SELECT 1 FROM flametree.claims WHERE cardinality(delivery_ids) > 0)";
    while sqlx::query_scalar::<_, bool>(open).fetch_one(db).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Writes all changed pages to disk, so that these writes do not slow the measurement.
async fn checkpoint(db: &Db) {
    sqlx::query("CHECKPOINT").execute(db).await.unwrap();
}

async fn wal(db: &Db) -> f64 {
    sqlx::query_scalar("SELECT (pg_current_wal_lsn() - '0/0')::float8").fetch_one(db).await.unwrap()
}

pub(crate) fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}
