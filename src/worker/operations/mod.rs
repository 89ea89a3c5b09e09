//! Operations: scheduled or requested work other than deliveries.
//!
//! A row of the table `operations` records its holder and its progress. The key of the row ensures that one process runs a tick;
//! another takes it over when the holder's lease expires. So every step of an operation must be repeatable. As for deliveries,
//! apalis provides the worker and the monitor and sees no database errors.

mod maintenance;
mod poller;
mod rollup;
mod runner;
mod steps;

use std::sync::Arc;
use std::time::Duration;

use apalis::prelude::{Monitor, WorkerBuilder};
use chrono::{DateTime, Days, NaiveDate, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::poller::OperationPoller;
use self::runner::Runner;
use crate::domain::ids::WorkerId;
use crate::domain::operation::OperationKind;
use crate::domain::schedule::Schedule;
use crate::secrets::Keyring;
use crate::store::Db;
use crate::store::operations::{self, Origin};
use crate::supervision::Stage;
use crate::telemetry::metrics::{Metrics, TaskName};

/// Name of the worker; operations are stored under the names of [`OperationKind`].
const NAME: &str = "operations";

/// How operations run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The schedule of each kind; a kind may have none.
    pub schedules: Vec<(OperationKind, Schedule)>,
    /// How long a holder keeps an operation without renewing its lease.
    pub lease: Duration,
    /// Number of days for which events and deliveries are kept.
    pub retention_days: u32,
    /// How long a replayed delivery may wait.
    pub replay_expires: Duration,
}

/// What operations work with. Clones share it.
#[derive(Debug, Clone)]
pub struct Operations {
    pub db: Db,
    pub keyring: Arc<Keyring>,
    pub settings: Arc<Settings>,
    pub metrics: Metrics,
}

impl Operations {
    /// Runs due operations until the stage ends. Then it releases running operations, and another process continues them.
    pub fn start(self, stage: &Stage) {
        let (poller, due) = OperationPoller::new(self.db.clone(), Arc::clone(&self.settings));
        let runner = Runner::new(self, stage.clone());
        let monitor = Monitor::new()
            .register(move |_restarts| WorkerBuilder::new(NAME).backend(due.clone()).build(runner.clone()));
        stage.spawn(TaskName::OperationPoller, |stop| poller.run(stop));
        stage.spawn(TaskName::OperationWorker, |stop| super::run(monitor, stop));
    }

    /// Runs the operations that are due now, one after another, until none is left or `stop`. Returns how many it ran.
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

    /// The first day that is kept at `now`.
    fn first_kept_day(&self, now: DateTime<Utc>) -> NaiveDate {
        now.date_naive() - Days::new(u64::from(self.settings.retention_days))
    }
}
