//! Operations: maintenance on a schedule, and replays on request.
//!
//! A row of the table `operations` records the holder and the progress of an operation. Its unique key ensures that only one
//! process runs a tick. Another process takes the operation over when the holder's lease expires, so every step must be
//! repeatable. apalis polls for due operations, limits how many run at once, catches their panics and traces them. It never
//! receives a database error. This service retries failed operations itself: a retry by apalis would hold the lease during
//! the pause, and forget the attempts when the process ends.

mod maintenance;
mod poller;
mod rollup;
mod runner;
mod steps;

use std::sync::Arc;
use std::time::Duration;

use apalis::layers::WorkerBuilderExt as _;
use apalis::prelude::{Monitor, WorkerBuilder};
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::poller::LeasedOperation;
use crate::domain::ids::WorkerId;
use crate::domain::operation::OperationKind;
use crate::domain::schedule::Schedule;
use crate::secrets::Keyring;
use crate::store::Db;
use crate::store::operations::{self, Origin};
use crate::supervision::Stage;
use crate::telemetry::metrics::{Metrics, TaskName};

/// The apalis workers, and the maximum number of operations that each runs at once: one per schedule, and one replay. So a
/// schedule never waits for another schedule or for a replay. Delayed maintenance could leave the tables without partitions.
const WORKERS: [(&str, Origin, usize); 2] =
    [("schedules", Origin::Schedule, OperationKind::ALL.len() - 1), ("requests", Origin::Request, 1)];

/// How operations run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The schedule of each kind of operation. A kind without a schedule does not run.
    pub schedules: Vec<(OperationKind, Schedule)>,
    /// A process that does not renew its lease for this time loses the operation.
    pub lease: Duration,
    /// The number of days for which events and deliveries are kept.
    pub retention_days: u32,
    /// A replayed delivery expires after this time.
    pub replay_expires: Duration,
}

/// Runs operations. Clones share the database pool, keyring, settings and metrics.
#[derive(Debug, Clone)]
pub struct Operations {
    pub db: Db,
    pub keyring: Arc<Keyring>,
    pub settings: Arc<Settings>,
    pub metrics: Metrics,
    /// The clock of this process.
    pub now: fn() -> DateTime<Utc>,
}

impl Operations {
    /// Runs due operations until `stage` ends. Running operations are then released, and another process continues them.
    pub fn start(&self, stage: &Stage) {
        for (name, origin, at_once) in WORKERS {
            let (operations, stop) = (self.clone(), stage.stop.clone());
            let monitor = Monitor::new().register(move |_restarts| {
                let (runner, stop) = (operations.clone(), stop.clone());
                let run = move |LeasedOperation { operation, holder }| {
                    let (runner, stop) = (runner.clone(), stop.clone());
                    async move { runner.run(operation, holder, &stop).await }
                };
                // After a panic in an operation, its lease expires, and a process repeats the operation.
                let worker = WorkerBuilder::new(name).backend(operations.due(origin));
                worker.concurrency(at_once).enable_tracing().catch_panic().build(run)
            });
            stage.spawn(TaskName::OperationWorker, |stop| super::run(monitor, stop));
        }
    }

    /// Runs the due operations one after another, until no operation is due or `stop`. Returns the number of operations.
    pub async fn run_due(&self, stop: &CancellationToken) -> Result<u32, sqlx::Error> {
        let mut ran = 0;
        while !stop.is_cancelled() {
            let holder = WorkerId::from_uuid(Uuid::now_v7());
            let lease = self.settings.lease;
            let operation = match operations::take(&self.db, Origin::Schedule, holder, lease).await? {
                None => operations::take(&self.db, Origin::Request, holder, lease).await?,
                due => due,
            };
            let Some(operation) = operation else { break };
            self.run(operation, holder, stop).await;
            ran += 1;
        }
        Ok(ran)
    }
}
