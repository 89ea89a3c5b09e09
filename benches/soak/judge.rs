//! Judges which resources have grown, with a tolerance for each.

use super::growth::{Growth, Tolerance};
use super::sample::{DatabaseUse, Sample};

/// Tables that keep data by design: they may grow only in proportion to the events.
const KEEPS_DATA: &[&str] =
    &["deliveries", "delivery_rollups", "events", "idempotency_keys", "push_config_changes", "replays"];

/// At least this many samples are ignored at the start: those of two minutes, in which the first rollups are written.
const START: usize = 12;

const MIB: f64 = 1_048_576.0;
/// For the memory of a process of the service, because its allocator keeps the pages of a peak.
const MEMORY: Tolerance = Tolerance { factor: 1.15, slack: 4.0 * MIB };
/// For the memory of PostgreSQL, whose processes come and go with connections, and fill their plan caches.
const SERVER_MEMORY: Tolerance = Tolerance { factor: 1.3, slack: 64.0 * MIB };
/// For file descriptors, because connections to endpoints come and go with the traffic.
const FILES: Tolerance = Tolerance { factor: 1.3, slack: 20.0 };
const CONNECTIONS: Tolerance = Tolerance { factor: 1.2, slack: 8.0 };
/// For ready deliveries, because the backlog of the hanging endpoint contains all its events that have not expired.
const READY: Tolerance = Tolerance { factor: 1.5, slack: 500.0 };
/// For dead tuples, because autovacuum runs once a minute, and later after a crash, which loses its statistics.
const DEAD: Tolerance = Tolerance { factor: 1.5, slack: 30_000.0 };
/// For tables, because a table keeps the size that it had during an open transaction and a late vacuum.
const TABLE: Tolerance = Tolerance { factor: 1.5, slack: 8.0 * MIB };
/// For bytes per event, because index pages with random keys are between half full and full, and rollups are written only at the
/// end of minutes and hours.
const PER_EVENT: Tolerance = Tolerance { factor: 1.5, slack: 64.0 };

/// One comparison.
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

/// The bytes of the queue's own tables, of other tables that must not grow, and of the tables that keep data.
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
