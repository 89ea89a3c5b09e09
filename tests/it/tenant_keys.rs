//! Tests that the schema suits a database that distributes tenants over servers. The document `docs/scaling.md` lists the
//! tables that must stay on one server.

use std::collections::BTreeSet;

use crate::support::postgres::TestDatabase;

/// The unique keys that do not contain the tenant. Each key belongs to a table of processes or schedules, or indexes a secret
/// that identifies a tenant.
const OF_ALL_TENANTS: &[&str] = &[
    "_sqlx_migrations_pkey",
    "claims_pkey",
    "function_sources_pkey",
    "leases_pkey",
    "operations_once_per_tick",
    "operations_one_of_a_schedule",
    "operations_pkey",
    "partitions_to_drop_pkey",
    "push_subscriptions_endpoint_once",
    "rollup_progress_pkey",
    "stream_tickets_pkey",
    "tokens_hash",
    "tokens_pkey",
    "uncounted_batches_pkey",
    "workers_pkey",
];

#[tokio::test]
async fn every_other_unique_key_contains_the_tenant() {
    let db = TestDatabase::new().await;
    let statement = "SELECT c.relname::text FROM pg_index AS i
         JOIN pg_class AS c ON c.oid = i.indexrelid
         JOIN pg_class AS t ON t.oid = i.indrelid AND NOT t.relispartition
         WHERE t.relnamespace = 'flametree'::regnamespace AND i.indisunique
           AND NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id')";
    let found: BTreeSet<String> = sqlx::query_scalar(statement).fetch_all(&*db).await.unwrap().into_iter().collect();
    assert_eq!(found, OF_ALL_TENANTS.iter().map(ToString::to_string).collect());
}
