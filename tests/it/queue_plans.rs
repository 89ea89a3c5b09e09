//! The queue's statements read rows by key, even with plans made on empty tables, and they do not read dead tuples.

use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::endpoint::Channel;
use flametree_notify::domain::ids::EndpointId;
use flametree_notify::domain::names::TenantId;
use flametree_notify::store::Db;
use flametree_notify::store::queue::finish;
use flametree_notify::store::queue::lanes::{self, LaneCursor, Place};
use uuid::Uuid;

use crate::support::postgres::TestDatabase;
use crate::support::queue::{
    accept_messages, agent_with_webhook, claim_behind, claim_of, finished, first_place, prepare, prepared, worker,
};

/// PostgreSQL caches plans. A plan that was made on empty tables must not scan whole tables after the tables have grown.
#[tokio::test]
async fn a_claim_whose_plan_was_made_on_empty_tables_reads_full_tables_by_key() {
    let db = TestDatabase::with_connections(1).await;
    prepare(&db).await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    let other = agent_with_webhook(&db, "agent-2").await;
    let by = worker(&db).await;
    sqlx::query("VACUUM ANALYZE").execute(&*db).await.unwrap();
    // PostgreSQL caches a generic plan after five executions.
    for _ in 0..8 {
        accept_messages(&db, "agent-1", 1).await;
        let (id, taken) = claim_of(&db, by, endpoint, 1).await;
        finish::finish(&db, Channel::Webhook, &[id], &[finished(&taken[0], Outcome::Delivered)]).await.unwrap();
    }
    for _ in 0..40 {
        accept_messages(&db, "agent-2", 250).await;
    }
    sqlx::query("SELECT pg_stat_reset()").execute(&*db).await.unwrap();
    let (id, taken) = claim_of(&db, by, other, 5).await;
    let results: Vec<_> = taken.iter().map(|one| finished(one, Outcome::Delivered)).collect();
    finish::finish(&db, Channel::Webhook, &[id], &results).await.unwrap();
    accept_messages(&db, "agent-1", 1).await;
    sqlx::query("SELECT pg_stat_force_next_flush()").execute(&*db).await.unwrap();
    let (scanned, walked): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT coalesce(sum(seq_tup_read), 0)::bigint FROM pg_stat_user_tables WHERE schemaname = 'flametree'
                    AND relname ~ '^(ready_deliveries|events|deliveries|claims|push_configs|sessions)'),
                (SELECT coalesce(sum(idx_tup_read), 0)::bigint FROM pg_stat_user_indexes WHERE schemaname = 'flametree'
                    AND relname ~ '^(ready_deliveries|events|deliveries|claims)')",
    )
    .fetch_one(&*db)
    .await
    .unwrap();
    assert_eq!(scanned, 0, "rows were read by scanning a whole table");
    assert!(walked < 500, "a claim of five deliveries read {walked} of 10,000 index entries");
}

/// An open snapshot keeps dead index entries of claimed deliveries.
#[tokio::test]
async fn a_claim_with_an_old_snapshot_open_does_not_read_dead_entries() {
    let db = TestDatabase::with_connections(2).await;
    prepare(&db).await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    let by = worker(&db).await;
    let mut snapshot = db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    sqlx::query("SELECT count(*) FROM flametree.workers").execute(&mut *snapshot).await.unwrap();
    let mut reached = 0;
    for _ in 0..16 {
        accept_messages(&db, "agent-1", 250).await;
        let (id, taken) = claim_behind(&db, by, endpoint, reached, 250).await;
        reached = taken.iter().map(|one| one.position).max().unwrap();
        let results: Vec<_> = taken.iter().map(|one| finished(one, Outcome::Delivered)).collect();
        finish::finish(&db, Channel::Webhook, &[id], &results).await.unwrap();
    }
    // The statement `ANALYZE` makes PostgreSQL plan again. The table now has few rows on many pages.
    sqlx::query("ANALYZE").execute(&*db).await.unwrap();
    accept_messages(&db, "agent-1", 5).await;
    forget_walks(&db).await;
    let (_, taken) = claim_behind(&db, by, endpoint, reached, 5).await;
    assert_eq!(taken.len(), 5);
    let walked = entries_walked(&db).await;
    assert!(walked < 100, "a claim of five deliveries read {walked} index entries, most of them dead");

    accept_messages(&db, "agent-1", 1).await;
    let places = [first_place(), place("acme", endpoint, reached)];
    forget_walks(&db).await;
    let waiting = lanes::tail_scan(&db, Channel::Webhook, &places).await.unwrap();
    assert_eq!(waiting.iter().map(|lane| lane.endpoint_id).collect::<Vec<_>>(), [endpoint]);
    let walked = entries_walked(&db).await;
    assert!(walked < 100, "the search read {walked} index entries, most of them dead");
    snapshot.rollback().await.unwrap();
}

/// Resets the statistics. Without the flush, this session would add its earlier reads to the new statistics.
async fn forget_walks(db: &Db) {
    sqlx::query("SELECT pg_stat_force_next_flush()").execute(db).await.unwrap();
    sqlx::query("SELECT pg_stat_reset()").execute(db).await.unwrap();
}

async fn entries_walked(db: &Db) -> i64 {
    of_ready_indexes(db).await.0
}

/// The number of index entries that scans of `ready_deliveries` returned, and the number of pages that these scans read.
async fn of_ready_indexes(db: &Db) -> (i64, i64) {
    sqlx::query("SELECT pg_stat_force_next_flush()").execute(db).await.unwrap();
    sqlx::query_as(
        "SELECT sum(s.idx_tup_read)::bigint, sum(io.idx_blks_hit + io.idx_blks_read)::bigint
         FROM pg_stat_user_indexes AS s JOIN pg_statio_user_indexes AS io USING (indexrelid)
         WHERE s.schemaname = 'flametree' AND s.relname ~ '^ready_deliveries'",
    )
    .fetch_one(db)
    .await
    .unwrap()
}

/// A known endpoint and its last claimed position.
fn place(tenant: &str, endpoint_id: EndpointId, after: i64) -> Place {
    Place { after: Some(after), ..end(tenant, endpoint_id) }
}

/// An entry that only marks the end of the previous entry's key range.
fn end(tenant: &str, endpoint_id: EndpointId) -> Place {
    Place { key: LaneCursor::new(&TenantId::parse(tenant).unwrap(), endpoint_id), after: None }
}

#[tokio::test]
async fn a_tail_scan_finds_new_deliveries_and_unknown_endpoints() {
    let db = prepared().await;
    let mut endpoints = Vec::new();
    for agent in ["agent-1", "agent-2", "agent-3"] {
        endpoints.push(agent_with_webhook(&db, agent).await);
        accept_messages(&db, agent, 2).await;
    }
    endpoints.sort_by_key(|endpoint| endpoint.uuid());
    let all = lanes::waiting(&db, Channel::Webhook, &LaneCursor::default(), 100).await.unwrap();
    let first = |n: usize| all[n].first_position;
    let place = |n: usize, after: i64| place("acme", endpoints[n], after);
    let end = |n: usize| end("acme", endpoints[n]);
    let found = async |places: &[Place]| {
        let waiting = lanes::tail_scan(&db, Channel::Webhook, places).await.unwrap();
        waiting.into_iter().map(|lane| (lane.endpoint_id, lane.first_position)).collect::<Vec<_>>()
    };
    let known = async |places: &[Place]| found(&[&[first_place()], places].concat()).await;
    // If no endpoint is known, the scan finds the first delivery of the queue.
    assert_eq!(known(&[]).await, [(endpoints[0], first(0))]);
    // For each known endpoint, the scan finds the next delivery. If an unknown endpoint follows the known endpoint, the scan
    // also finds the first delivery of the unknown endpoint.
    assert_eq!(known(&[place(0, first(0))]).await, [(endpoints[0], first(0) + 1), (endpoints[1], first(1))]);
    assert_eq!(known(&[place(0, i64::MAX)]).await, [(endpoints[1], first(1))]);
    assert_eq!(known(&[place(0, i64::MAX), place(1, i64::MAX)]).await, [(endpoints[2], first(2))]);
    assert_eq!(known(&[place(1, i64::MAX)]).await, [(endpoints[0], first(0)), (endpoints[2], first(2))]);
    assert_eq!(known(&[place(0, i64::MAX), place(1, i64::MAX), place(2, i64::MAX)]).await, []);
    // The scan of a key range stops before the endpoint of an `end` entry.
    assert_eq!(found(&[place(1, first(1)), end(2)]).await, [(endpoints[1], first(1) + 1)]);
    assert_eq!(found(&[place(0, i64::MAX), end(1), place(1, i64::MAX), end(2)]).await, []);
    assert_eq!(found(&[place(0, i64::MAX), end(2)]).await, [(endpoints[1], first(1))]);
}

/// The queue also contains deliveries of tenants before, between and after the tenants of the known endpoints.
#[tokio::test]
async fn a_tail_scan_finds_each_tenant_between_known_endpoints() {
    let db = prepared().await;
    for (tenant, number) in [("a", 1), ("b", 1), ("b", 2), ("b", 3), ("c", 1), ("d", 1), ("d", 2), ("d", 3), ("e", 1)] {
        ready(&db, tenant, number, 1).await;
    }
    let places = [first_place(), place("b", endpoint(2), 1), place("d", endpoint(2), 1)];
    let found = async |places: &[Place]| {
        let waiting = lanes::tail_scan(&db, Channel::Webhook, places).await.unwrap();
        waiting.into_iter().map(|lane| (lane.tenant_id.into_string(), lane.endpoint_id)).collect::<Vec<_>>()
    };
    let expected = [("a", 1), ("b", 1), ("b", 3), ("c", 1), ("d", 1), ("d", 3), ("e", 1)]
        .map(|(tenant, number)| (tenant.to_owned(), endpoint(number)));
    assert_eq!(found(&places).await, expected);
    // Two scans of adjacent key ranges find the same deliveries as one scan.
    let first = [&places[..2], &[end("d", endpoint(2))]].concat();
    assert_eq!([found(&first).await, found(&places[2..]).await].concat(), expected);
}

/// If an endpoint has no new deliveries, the scan must detect this without reading deliveries of other endpoints.
#[tokio::test]
async fn a_tail_scan_without_new_deliveries_reads_few_pages() {
    const ENDPOINTS: u128 = 50;
    const DELIVERIES: i64 = 400;
    let db = TestDatabase::with_connections(1).await;
    prepare(&db).await;
    for number in 1..=ENDPOINTS {
        ready(&db, "acme", number, DELIVERIES).await;
    }
    let known = (1..=ENDPOINTS).map(|number| place("acme", endpoint(number), DELIVERIES));
    let places: Vec<Place> = std::iter::once(first_place()).chain(known).collect();
    forget_walks(&db).await;
    assert_eq!(lanes::tail_scan(&db, Channel::Webhook, &places).await.unwrap(), []);
    let (_, pages) = of_ready_indexes(&db).await;
    assert!(pages < 500, "the scan read {pages} pages for 50 endpoints");
}

fn endpoint(number: u128) -> EndpointId {
    EndpointId::from_uuid(Uuid::from_u128(number))
}

/// Inserts this many ready deliveries for an endpoint, starting at position 1.
async fn ready(db: &Db, tenant: &str, number: u128, deliveries: i64) {
    sqlx::query(
        "INSERT INTO flametree.ready_deliveries (channel, tenant_id, endpoint_id, position, id, event_id, expires_at)
         SELECT 'webhook', $1, $2, n, gen_random_uuid(), gen_random_uuid(), now() FROM generate_series(1, $3) AS n",
    )
    .bind(tenant)
    .bind(endpoint(number).uuid())
    .bind(deliveries)
    .execute(db)
    .await
    .unwrap();
}
