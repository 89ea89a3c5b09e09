//! Operations: work besides deliveries, by a schedule or asked for by a person.
//!
//! A row of the table `operations` is the truth: who holds it, and how far it is. One node runs a tick, by the key of the
//! row; another one takes it over when the holder falls silent. So each operation is made of steps that may be repeated.
//! apalis gives the worker and the monitor, as for deliveries, and knows no error of the database.

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

/// The name of the worker; what it works on is stored under the names of [`OperationKind`].
const NAME: &str = "operations";

/// How operations run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// When which is due; a kind may have none.
    pub schedules: Vec<(OperationKind, Schedule)>,
    /// How long a silent holder is trusted.
    pub lease: Duration,
    /// Events and deliveries are kept for so many days.
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
    /// Runs what is due until the stage ends. Then it releases running operations, and another process continues them.
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
