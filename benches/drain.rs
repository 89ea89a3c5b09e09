//! How fast prepared deliveries leave.

use std::future::ready;
use std::time::{Duration, Instant};

use flametree_notify::store::Db;

use crate::engine::{Engine, delivered};
use crate::prepare;
use crate::server::Server;

/// Deliveries per second through the whole engine with attempts that cost nothing.
pub async fn noop(server: &Server, endpoints: usize, count: usize) -> f64 {
    let db = server.create_migrated("noop").await;
    let agents = prepare::agents(&db, "agent", endpoints, "http://127.0.0.1:1/").await;
    let prepared = prepare::deliveries(&db, &agents, count).await;
    eprintln!("  accepted {:.0}/s", rate(count, prepared));
    sqlx::query("CHECKPOINT").execute(&db).await.unwrap();
    let started = Instant::now();
    let engine = Engine::start(&db, |_| ready(delivered())).await;
    engine.wait_recorded(&db, count).await;
    let took = started.elapsed();
    engine.stop().await;
    assert_recorded(&db, count).await;
    crate::profile::print(&db).await;
    db.close().await;
    server.drop("noop").await;
    rate(count, took)
}

/// Every delivery has its outcome, and it is `delivered`.
pub async fn assert_recorded(db: &Db, count: usize) {
    let recorded: i64 = sqlx::query_scalar("SELECT count(*) FROM flametree.deliveries WHERE outcome = 'delivered'")
        .fetch_one(db)
        .await
        .unwrap();
    assert_eq!(usize::try_from(recorded).unwrap(), count, "deliveries that were recorded as delivered");
}

pub fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}
