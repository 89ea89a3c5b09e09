//! Tests when the pool reuses or replaces a connection.

use std::time::Duration;

use flametree_notify::store::{connection, with_timeout};
use futures_util::FutureExt as _;
use futures_util::future::join_all;

use crate::support::postgres::TestDatabase;
use crate::support::relay::Relay;
use crate::support::waiting::within;

#[tokio::test]
async fn a_pool_replaces_a_connection_whose_host_vanishes_during_any_ping() {
    let database = TestDatabase::new().await;
    let options = database.direct_options();
    let trials = (1..=4).map(async |ping| {
        let relay = Relay::to(&options).await;
        let db = connection::pool(relay.url(&options).parse().unwrap(), 1, "test");
        let query = async || with_timeout(sqlx::query("SELECT").execute(&db)).await.is_ok();
        assert!(query().await);
        relay.vanish_at_ping(ping);
        // The statements before the ping succeed.
        for _ in 0..=ping {
            within(Duration::from_mins(1), "the only connection is replaced", query).await;
        }
        assert!(relay.has_vanished(), "the pool sent fewer pings, so this test tested nothing");
    });
    join_all(trials).await;
}

#[tokio::test]
async fn a_dropped_transaction_is_rolled_back_even_if_its_first_statement_still_runs() {
    let database = TestDatabase::new().await;
    let db = connection::pool(database.connect_options(), 1, "test");
    // Each statement outside of a transaction runs in a separate transaction.
    let id =
        async || -> String { sqlx::query_scalar("SELECT pg_current_xact_id()::text").fetch_one(&db).await.unwrap() };
    let is_outside = async || id().await != id().await;
    let mut tx = db.begin().await.unwrap();
    sqlx::raw_sql("CREATE TABLE flametree.dropped ()").execute(&mut *tx).await.unwrap();
    drop(tx);
    assert!(is_outside().await);
    let exists = "SELECT to_regclass('flametree.dropped') IS NOT NULL";
    assert!(!sqlx::query_scalar::<_, bool>(exists).fetch_one(&db).await.unwrap());

    assert!(db.begin().now_or_never().is_none(), "the database answered at once, so this test tested nothing");
    assert!(is_outside().await);
}
