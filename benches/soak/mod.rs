//! `make soak`: runs the service under steady traffic for a long time, while workers are killed and the database crashes.
//!
//! `SOAK_MINUTES` (60) sets the duration, `SOAK_FAULT_MINUTES` (5) the interval of faults, `SOAK_RATE` (1,000) the events per
//! second. Two APIs and two workers run on one private PostgreSQL with its defaults. The report goes to
//! `target/soak/table.md`; the exit code is 1 if a guarantee was broken, or if a process or a table grew too much.

mod book;
mod check;
mod clients;
mod findings;
mod growth;
mod judge;
mod plan;
mod processes;
mod receiver;
mod run;
mod sample;
mod sql_caller;
mod table;
mod traffic;

use std::process::ExitCode;

use plan::{Plan, directory};
use run::Run;

/// The argument with which the benchmark program runs `make soak`.
pub(crate) const ARGUMENT: &str = "soak";

pub(crate) async fn main() -> ExitCode {
    let plan = Plan::from_environment();
    // Deletes the logs of an earlier run, which the checks would mistake for logs of this run.
    if directory().exists() {
        std::fs::remove_dir_all(directory()).unwrap();
    }
    std::fs::create_dir_all(directory()).unwrap();
    tokio::select! {
        passed = soak(plan) => if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE },
        // The processes and the server stop when their values are dropped.
        _ = tokio::signal::ctrl_c() => ExitCode::FAILURE,
    }
}

async fn soak(plan: Plan) -> bool {
    let mut run = Run::start(plan).await;
    let mut counts = Vec::new();
    if run.load().await {
        check::drain(&run.db, &run.book).await;
        counts = check::check(&run.db, &plan, &run.book, &run.processes).await;
        run.processes.stop();
    }
    let judgements = judge::judge(&run.samples);
    for judgement in judgements.iter().filter(|judgement| !judgement.is_kept) {
        run.book.findings.add("something grew", &judgement.name);
    }
    let findings = run.book.findings.lines();
    let path = run.table.finish(&plan, &judgements, &counts, &findings);
    println!("written to {}", path.display());
    findings.is_empty()
}
