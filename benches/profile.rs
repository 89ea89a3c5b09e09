//! Prints the server's slowest statements if `BENCH_PROFILE` is set.

use flametree_notify::store::Db;

/// Prints the slowest statements since the last call.
pub(crate) async fn print(db: &Db) {
    if std::env::var("BENCH_PROFILE").is_err() {
        return;
    }
    let rows: Vec<(String, i64, f64, f64, i64)> = sqlx::query_as(
        "SELECT left(regexp_replace(query, '\\s+', ' ', 'g'), 110), calls, total_exec_time, mean_exec_time, wal_bytes::bigint
        FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT 14",
    )
    .fetch_all(db)
    .await
    .unwrap();
    for (query, calls, total, mean, wal) in rows {
        eprintln!("  {total:9.0} ms {calls:7} x {mean:7.3} ms {:8} KB WAL  {query}", wal / 1024);
    }
    sqlx::query("SELECT pg_stat_statements_reset()").execute(db).await.unwrap();
}
