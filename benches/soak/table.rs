//! The report: a table with a row for each minute, the comparisons, and the verdict, as Markdown.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::book::Waits;
use super::judge::{Judgement, sizes};
use super::plan::{Plan, directory};
use super::sample::Sample;

const MIB: f64 = 1_048_576.0;

const HEAD: &str = "\
| minute | fault | accepted/s | finished/s | accept p99, ms | received p99, ms | ready | dead rows | queue tables, MiB \
| other bounded tables, MiB | kept data, MiB | bytes/event | api-1, MiB | api-2, MiB | worker-1, MiB | worker-2, MiB \
| all, MiB | PostgreSQL, MiB | files | connections |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

/// A row of the table: the numbers since the previous row, and the last sample.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) minute: u32,
    pub(crate) faults: Vec<String>,
    /// The time that the row covers, in seconds.
    pub(crate) seconds: f64,
    pub(crate) accepted: u64,
    pub(crate) finished: u64,
    pub(crate) waits: Waits,
    pub(crate) sample: Sample,
}

/// The table, printed row by row.
#[derive(Debug)]
pub(crate) struct Table {
    text: String,
}

impl Table {
    pub(crate) fn start() -> Self {
        println!("{HEAD}");
        Self { text: format!("{HEAD}\n") }
    }

    pub(crate) fn add(&mut self, row: Row) {
        let line = line(row);
        println!("{line}");
        writeln!(self.text, "{line}").unwrap();
    }

    /// Prints the end of the report, writes the whole report to a file, and returns the file's path.
    pub(crate) fn finish(
        self,
        plan: &Plan,
        judgements: &[Judgement],
        counts: &[String],
        findings: &[String],
    ) -> PathBuf {
        let mut end = String::from("\n| must not grow | early | late | at most | |\n|---|---|---|---|---|\n");
        for Judgement { name, unit, growth, most, is_kept } in judgements {
            let [early, late, most] = [growth.early, growth.late, *most].map(|value| unit.show(value));
            let verdict = if *is_kept { "ok" } else { "GROWS" };
            writeln!(end, "| {name} | {early} | {late} | {most} | {verdict} |").unwrap();
        }
        writeln!(end, "\n{} minutes, {} events/s: {}", plan.minutes, plan.per_second, counts.join("; ")).unwrap();
        match findings {
            [] => writeln!(end, "\nPASS: every guarantee was kept, and nothing grew.").unwrap(),
            some => writeln!(end, "\nFAIL:\n- {}", some.join("\n- ")).unwrap(),
        }
        print!("{end}");
        let path = directory().join("table.md");
        std::fs::write(&path, self.text + &end).unwrap();
        path
    }
}

fn line(mut row: Row) -> String {
    let Row { minute, seconds, .. } = row;
    let rate = |count: u64| format!("{:.0}", count as f64 / seconds);
    let mut cells = vec![minute.to_string(), row.faults.join(", "), rate(row.accepted), rate(row.finished)];
    cells.extend([p99(&mut row.waits.accept), p99(&mut row.waits.receive)]);
    match &row.sample.database {
        Some(database) => {
            cells.extend([database.ready.to_string(), database.dead.to_string()]);
            let sizes = sizes(database);
            cells.extend(sizes.map(|size| mib(size as f64)));
            cells.push(format!("{:.0}", sizes[2] as f64 / row.sample.counted.accepted.max(1) as f64));
        }
        None => cells.extend(std::iter::repeat_n("?".to_owned(), 6)),
    }
    let memory = row.sample.processes.iter().map(|process| process.memory as f64);
    cells.extend(memory.clone().map(mib));
    cells.push(mib(memory.sum()));
    let files: usize = row.sample.processes.iter().map(|process| process.files).sum();
    let [server, connections] = match &row.sample.database {
        Some(database) => [mib(database.memory as f64), database.connections.to_string()],
        None => ["?", "?"].map(str::to_owned),
    };
    cells.extend([server, files.to_string(), connections]);
    format!("| {} |", cells.join(" | "))
}

fn mib(bytes: f64) -> String {
    format!("{:.1}", bytes / MIB)
}

/// The p99 of the durations, in milliseconds.
fn p99(microseconds: &mut [i64]) -> String {
    microseconds.sort_unstable();
    let place = microseconds.len().saturating_sub(1) * 99 / 100;
    microseconds.get(place).map_or_else(|| "?".to_owned(), |wait| format!("{:.1}", *wait as f64 / 1_000.0))
}
