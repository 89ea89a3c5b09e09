//! Judges which resources have grown, with a tolerance for each.

use super::growth::{Growth, Tolerance};
use super::sample::{DatabaseUse, Sample};

/// Tables that keep data by design. They may grow only in proportion to the events.
const KEEPS_DATA: &[&str] =
    &["deliveries", "delivery_rollups", "events", "idempotency_keys", "push_config_changes", "replays"];

/// The minimum number of samples to ignore at the start. They cover two minutes, in which the first rollups are written.
const START: usize = 12;

const MIB: f64 = 1_048_576.0;
/// The tolerance for the memory of a service process. After a peak, the allocator keeps the pages.
const MEMORY: Tolerance = Tolerance { factor: 1.15, slack: 4.0 * MIB };
/// The tolerance for the memory of PostgreSQL, which starts a process for each connection. Each process fills a plan cache.
const SERVER_MEMORY: Tolerance = Tolerance { factor: 1.3, slack: 64.0 * MIB };
/// The tolerance for file descriptors. The number of connections to endpoints varies with the traffic.
const FILES: Tolerance = Tolerance { factor: 1.3, slack: 20.0 };
const CONNECTIONS: Tolerance = Tolerance { factor: 1.2, slack: 8.0 };
/// The tolerance for ready deliveries. The backlog of a hanging endpoint contains all its unexpired events.
const READY: Tolerance = Tolerance { factor: 1.5, slack: 500.0 };
/// The tolerance for dead tuples. Autovacuum runs once a minute, but later after a crash, because a crash loses statistics.
const DEAD: Tolerance = Tolerance { factor: 1.5, slack: 30_000.0 };
/// The tolerance for tables. A table that grew during a long transaction or before a late vacuum does not shrink again.
const TABLE: Tolerance = Tolerance { factor: 1.5, slack: 8.0 * MIB };
/// The tolerance for bytes per event. Index pages with random keys are between half full and full, and rollups are written only
/// at the end of minutes and hours.
const PER_EVENT: Tolerance = Tolerance { factor: 1.5, slack: 64.0 };

#[derive(Debug)]
pub(crate) struct Judgement {
    pub(crate) name: String,
    /// The unit in which the report shows the values.
    pub(crate) unit: Unit,
    pub(crate) growth: Growth,
    pub(crate) most: f64,
    pub(crate) is_kept: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Mib,
    Number,
    BytesPerEvent,
}

impl Unit {
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Mib => format!("{:.1} MiB", value / MIB),
            Self::Number => format!("{value:.0}"),
            Self::BytesPerEvent => format!("{value:.0} bytes per event"),
        }
    }
}

/// Compares the early and the late samples of each resource.
pub(crate) fn judge(samples: &[Sample]) -> Vec<Judgement> {
    let mut judge = Judge { samples, judgements: Vec::new() };
    judge.processes();
    judge.database("private memory of PostgreSQL", Unit::Mib, SERVER_MEMORY, |database| database.memory as f64);
    judge.database("connections to PostgreSQL", Unit::Number, CONNECTIONS, |database| database.connections as f64);
    judge.database("ready deliveries", Unit::Number, READY, |database| database.ready as f64);
    judge.database("dead rows of the queue", Unit::Number, DEAD, |database| database.dead as f64);
    judge.tables();
    judge.judgements
}

struct Judge<'a> {
    samples: &'a [Sample],
    judgements: Vec<Judgement>,
}

impl Judge<'_> {
    /// Judges the processes that run from start to end.
    fn processes(&mut self) {
        for (number, name) in ["api-1", "api-2", "worker-1"].into_iter().enumerate() {
            let of = |sample: &Sample| sample.processes[number].memory as f64;
            let memory: Vec<f64> = self.samples.iter().map(of).collect();
            let files: Vec<f64> = self.samples.iter().map(|sample| sample.processes[number].files as f64).collect();
            self.compare(format!("memory of {name}"), Unit::Mib, MEMORY, &memory);
            self.compare(format!("file descriptors of {name}"), Unit::Number, FILES, &files);
        }
    }

    fn database(&mut self, name: &str, unit: Unit, tolerance: Tolerance, value: impl Fn(&DatabaseUse) -> f64) {
        let values: Vec<f64> = self.samples.iter().filter_map(|sample| sample.database.as_ref()).map(value).collect();
        self.compare(name.to_owned(), unit, tolerance, &values);
    }

    fn tables(&mut self) {
        let Some(last) = self.samples.iter().rev().find_map(|sample| sample.database.as_ref()) else { return };
        for table in last.tables.keys() {
            let sizes: Vec<(f64, u64)> = self.samples.iter().filter_map(|sample| size(sample, table)).collect();
            if KEEPS_DATA.contains(&table.as_str()) {
                let per_event = |(size, accepted): &(f64, u64)| size / (*accepted).max(1) as f64;
                let values: Vec<f64> = sizes.iter().map(per_event).collect();
                self.compare(format!("table {table}"), Unit::BytesPerEvent, PER_EVENT, &values);
            } else {
                let values: Vec<f64> = sizes.iter().map(|(size, _)| *size).collect();
                self.compare(format!("table {table}"), Unit::Mib, TABLE, &values);
            }
        }
    }

    fn compare(&mut self, name: String, unit: Unit, tolerance: Tolerance, values: &[f64]) {
        if let Some(growth) = Growth::of(values, START) {
            let most = tolerance.most(growth.early);
            self.judgements.push(Judgement { name, unit, growth, most, is_kept: growth.is_within(tolerance) });
        }
    }
}

fn size(sample: &Sample, table: &str) -> Option<(f64, u64)> {
    let tables = &sample.database.as_ref()?.tables;
    // A table created during the run has no earlier size.
    Some((tables.get(table).copied().unwrap_or(0) as f64, sample.counted.accepted))
}

/// Returns three sizes in bytes: of the queue's own tables, of other tables that must not grow, and of tables that keep data.
pub(crate) fn sizes(database: &DatabaseUse) -> [i64; 3] {
    let mut sums = [0; 3];
    for (table, size) in &database.tables {
        let kind = match table.as_str() {
            "ready_deliveries" | "claims" => 0,
            table if KEEPS_DATA.contains(&table) => 2,
            _ => 1,
        };
        sums[kind] += size;
    }
    sums
}
