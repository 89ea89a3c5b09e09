//! The resources that the processes and the database use at one time.

use std::collections::BTreeMap;
use std::time::Duration;

use flametree_notify::store::Db;
use sqlx::Row as _;

/// The timeout for a sample of the database. If the database has just crashed and does not respond, the sample is incomplete.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);

#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) processes: Vec<ProcessUse>,
    /// The resources of the database; absent if the database did not respond.
    pub(crate) database: Option<DatabaseUse>,
    pub(crate) counted: Counted,
}

/// Totals since the start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counted {
    /// Accepted events.
    pub(crate) accepted: u64,
    /// Deliveries with an outcome.
    pub(crate) finished: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct ProcessUse {
    /// Resident memory in bytes.
    pub(crate) memory: u64,
    /// Open file descriptors.
    pub(crate) files: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct DatabaseUse {
    /// Connections of the service.
    pub(crate) connections: i64,
    pub(crate) ready: i64,
    /// Dead tuples of `ready_deliveries` and `claims`.
    pub(crate) dead: i64,
    /// The bytes of each table, including its indexes and partitions.
    pub(crate) tables: BTreeMap<String, i64>,
    /// Private memory of the server's processes, in bytes.
    pub(crate) memory: u64,
}

impl ProcessUse {
    /// Reads the resources of a process. All values are 0 if the process has exited.
    pub(crate) fn of(process_id: u32) -> Self {
        let memory = status(process_id, "VmRSS:").unwrap_or(0) * 1024;
        let files = std::fs::read_dir(format!("/proc/{process_id}/fd")).map_or(0, Iterator::count);
        Self { memory, files }
    }
}

impl DatabaseUse {
    /// Reads the resources of the database, whose server has the process id `server`.
    pub(crate) async fn of(db: &Db, server: u32) -> Option<Self> {
        let asked = tokio::time::timeout(ANSWER_WITHIN, ask(db)).await;
        let mut found = asked.ok()?.inspect_err(|error| eprintln!("no sample of the database: {error}")).ok()?;
        found.memory = private_memory(server);
        Some(found)
    }
}

async fn ask(db: &Db) -> Result<DatabaseUse, sqlx::Error> {
    // Scans the tables to count dead tuples: a crash of the server loses the statistics, and the tables are small.
    let text = "SELECT (SELECT count(*) FROM pg_stat_activity
                        WHERE datname = current_database() AND application_name LIKE 'flametree-notify%') AS connections,
                       (SELECT count(*) FROM flametree.ready_deliveries) AS ready,
                       (SELECT sum((pgstattuple(q.id)).dead_tuple_count)::bigint
                        FROM (SELECT inhrelid::regclass AS id FROM pg_inherits
                              WHERE inhparent = 'flametree.ready_deliveries'::regclass
                              UNION ALL SELECT 'flametree.claims'::regclass) AS q) AS dead";
    let row = sqlx::query(text).fetch_one(db).await?;
    let sizes = sqlx::query_as(
        "SELECT coalesce(r.relname, c.relname)::text, sum(pg_total_relation_size(c.oid))::bigint
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        LEFT JOIN pg_class AS r ON r.oid = pg_partition_root(c.oid)
        WHERE n.nspname = 'flametree' AND c.relkind = 'r'
        GROUP BY 1",
    );
    let tables: Vec<(String, Option<i64>)> = sizes.fetch_all(db).await?;
    Ok(DatabaseUse {
        connections: row.get("connections"),
        ready: row.get("ready"),
        dead: row.get("dead"),
        // The size is NULL if the table was dropped during the query.
        tables: tables.into_iter().filter_map(|(name, size)| Some((name, size?))).collect(),
        memory: 0,
    })
}

/// Memory of the server's processes without shared pages.
fn private_memory(server: u32) -> u64 {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let of_server = ids.filter(|id| status(*id, "PPid:") == Some(u64::from(server)));
    of_server.filter_map(|id| status(id, "RssAnon:")).sum::<u64>() * 1024
}

/// The number in the line `name` of `/proc/<id>/status`; `None` if the process has exited.
fn status(process_id: u32, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process_id}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}
