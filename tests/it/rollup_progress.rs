//! Rollups and statistics skip the index entries of counted batches, but never a batch that is not counted yet.

use std::collections::VecDeque;
use std::time::Duration;

use flametree_notify::store::{Db, Tx, stats};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgPoolOptions;

use crate::longevity_costs::pages;
use crate::stats_rollups::{outcome_in_batch, roll_up_all, rolled_up};
use crate::support::own_server::OwnServer;
use crate::support::queue::{prepare, prepared};
use crate::support::seed::{self, SeededEvent, event, yesterday_noon};
use crate::support::waiting::within;

const PATIENCE: Duration = Duration::from_mins(1);
const UNCOUNTED: &str =
    "FROM flametree.uncounted_deliveries('acme', 'agent-1', '2026-01-01Z', flametree.clock(), NULL)";

/// Inserts batches whose deliveries retention has dropped.
async fn insert_batches(db: &Db, batches: u32) {
    let insert = format!(
        "INSERT INTO flametree.uncounted_batches (batch, first_id, last_id, deliveries)
         SELECT flametree.next_batch(), gen_random_uuid(), gen_random_uuid(), 1 FROM generate_series(1, {batches})"
    );
    seed::run(db, insert).await;
}

async fn count_batches(db: &Db, batches: u32) {
    insert_batches(db, batches).await;
    while stats::roll_up(db, 500).await.unwrap().is_behind {}
}

async fn number(db: &Db, query: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(db).await.unwrap()
}

async fn low_water(db: &Db) -> i64 {
    number(db, "SELECT low_water FROM flametree.rollup_progress").await
}

/// Waits until rollups have advanced the low water to this number.
async fn reaches(db: &Db, batch: i64) {
    within(PATIENCE, "the low water has advanced", async || {
        count_batches(db, 3).await;
        low_water(db).await >= batch
    })
    .await;
}

/// A server without other tests, because their open transactions would keep the low water from advancing.
async fn own_server() -> (OwnServer, Db) {
    let server = OwnServer::start_direct().await;
    let db: Db = PgPoolOptions::new().max_connections(10).connect_with(server.connect_options()).await.unwrap().into();
    prepare(&db).await;
    (server, db)
}

/// Each number is a whole step after the last one, so every rollup may advance the low water.
async fn take_large_steps(db: &Db) {
    seed::run(db, "ALTER SEQUENCE flametree.delivery_batches INCREMENT BY 1000 RESTART WITH 1000".into()).await;
}

/// Like `pg_dump`, the snapshot belongs to a transaction without an id.
#[tokio::test]
async fn statistics_with_an_old_snapshot_open_do_not_read_dead_entries() {
    let (_server, db) = own_server().await;
    let mut snapshot = db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    sqlx::query("SELECT count(*) FROM flametree.workers").execute(&mut *snapshot).await.unwrap();
    let statements = ["SELECT FROM flametree.roll_up(1000)".to_owned(), format!("SELECT {UNCOUNTED}")];
    count_batches(&db, 1_000).await;
    let few = [pages(&db, &statements[0]).await, pages(&db, &statements[1]).await];
    count_batches(&db, 10_000).await;
    // The statement `ANALYZE` makes PostgreSQL plan again. The table now has no rows on many pages.
    sqlx::query("ANALYZE").execute(&db).await.unwrap();
    for (statement, few) in statements.iter().zip(few) {
        within(PATIENCE, "the number of pages does not grow with the counted batches", async || {
            count_batches(&db, 1_000).await;
            let many = pages(&db, statement).await;
            println!("{statement}: {few} pages, then {many}");
            many <= few + 50.0
        })
        .await;
    }
    snapshot.rollback().await.unwrap();
}

/// Transactions take their numbers and stay open while rollups count later batches. Each second one also has written its outcome.
#[tokio::test]
async fn counts_each_outcome_once_although_its_transaction_stays_open_while_rollups_advance() {
    let (_server, db) = own_server().await;
    take_large_steps(&db).await;
    let noon = yesterday_noon(&db).await;
    let mut open = VecDeque::new();
    for n in 0..8_i64 {
        event(&db, noon + n, &SeededEvent::default()).await;
        let (mut late, batch) = numbered(&db).await;
        let outcome = outcome_in_batch(noon + n, &batch.to_string());
        if n % 2 == 0 {
            sqlx::raw_sql(AssertSqlSafe(outcome.as_str())).execute(&mut *late).await.unwrap();
        }
        open.push_back((late, batch, outcome));
        for batches in [1, 3, 600] {
            count_batches(&db, batches).await;
            assert!(low_water(&db).await <= open[0].1, "the low water passed a number whose transaction is open");
        }
        if n < 3 {
            continue;
        }
        let (mut late, _, outcome) = open.pop_front().unwrap();
        if (n - 3) % 2 == 1 {
            sqlx::raw_sql(AssertSqlSafe(outcome)).execute(&mut *late).await.unwrap();
        }
        late.commit().await.unwrap();
        let uncounted = number(&db, &format!("SELECT coalesce(sum(deliveries), 0)::bigint {UNCOUNTED}")).await;
        assert_eq!(uncounted + rolled_up(&db).await, n - 2);
    }
    let last = open.back().unwrap().1;
    for (late, ..) in open {
        late.rollback().await.unwrap();
    }
    roll_up_all(&db).await;
    assert_eq!(rolled_up(&db).await, 5);
    reaches(&db, last).await;
}

/// A transaction that has taken a number.
async fn numbered(db: &Db) -> (Tx, i64) {
    let mut tx = db.begin().await.unwrap();
    let batch = sqlx::query_scalar("SELECT flametree.next_batch()").fetch_one(&mut *tx).await.unwrap();
    (tx, batch)
}

/// Two transactions take numbers before a rollup, or while it waits for a lock, and write nothing until later. No transaction
/// with a later id has ended.
#[tokio::test]
async fn the_low_water_passes_no_number_whose_transaction_has_written_nothing_yet() {
    for is_during in [false, true] {
        let db = prepared().await;
        take_large_steps(&db).await;
        let noon = yesterday_noon(&db).await;
        event(&db, noon, &SeededEvent::default()).await;
        insert_batches(&db, 4).await;
        let mut lock = db.begin().await.unwrap();
        let mut late = if is_during { None } else { Some((numbered(&db).await, numbered(&db).await)) };
        sqlx::raw_sql("LOCK TABLE flametree.delivery_rollups IN SHARE MODE").execute(&mut *lock).await.unwrap();
        let pool = db.pool.clone();
        let rollup = tokio::spawn(async move { stats::roll_up(&pool, 1).await });
        let waits =
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'flametree.delivery_rollups'::regclass";
        within(PATIENCE, "the rollup waits for the lock", async || number(&db, waits).await == 1).await;
        if is_during {
            late = Some((numbered(&db).await, numbered(&db).await));
        }
        lock.rollback().await.unwrap();
        rollup.await.unwrap().unwrap();
        stats::roll_up(&db, 100).await.unwrap();
        let ((mut first, batch), _second) = late.unwrap();
        assert!(low_water(&db).await <= batch, "the low water passed a number whose transaction is open");
        let outcome = outcome_in_batch(noon, &batch.to_string());
        sqlx::raw_sql(AssertSqlSafe(outcome)).execute(&mut *first).await.unwrap();
        first.commit().await.unwrap();
        roll_up_all(&db).await;
        assert_eq!(rolled_up(&db).await, 1);
    }
}

/// While a rollup that later fails has locked a batch, other rollups count later batches.
#[tokio::test]
async fn the_low_water_stays_before_a_batch_whose_rollup_is_rolled_back() {
    let db = prepared().await;
    take_large_steps(&db).await;
    let noon = yesterday_noon(&db).await;
    event(&db, noon, &SeededEvent::default()).await;
    seed::run(&db, outcome_in_batch(noon, "flametree.next_batch()")).await;
    // The progress gets a pair of a later number and an id, below which all transactions end.
    let mut holder = db.begin().await.unwrap();
    sqlx::query("SELECT FROM flametree.uncounted_batches FOR UPDATE").execute(&mut *holder).await.unwrap();
    count_batches(&db, 3).await;
    holder.rollback().await.unwrap();
    let mut failing = db.begin().await.unwrap();
    sqlx::query("SELECT FROM flametree.roll_up(1)").execute(&mut *failing).await.unwrap();
    for _ in 0..5 {
        count_batches(&db, 3).await;
    }
    assert!(low_water(&db).await <= 1_000);
    failing.rollback().await.unwrap();
    roll_up_all(&db).await;
    assert_eq!(rolled_up(&db).await, 1);
}

/// A restore from a dump keeps the row, but the ids of transactions on the new server may be smaller.
#[tokio::test]
async fn the_low_water_advances_after_a_restore_on_a_server_with_smaller_transaction_ids() {
    let (_server, db) = own_server().await;
    take_large_steps(&db).await;
    reaches(&db, 1).await;
    seed::run(&db, "UPDATE flametree.rollup_progress SET next_xid = '1000000000000000'".into()).await;
    let before = low_water(&db).await;
    reaches(&db, before + 5_000).await;
}
