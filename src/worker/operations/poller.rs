//! The operation poller inserts the ticks of the schedules and leases due operations. A database outage only delays it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Settings;
use crate::domain::ids::WorkerId;
use crate::domain::operation::{HeldOperation, OperationKind};
use crate::queue::ClaimStream;
use crate::store::operations::{self, Origin};
use crate::store::{Db, FailureKind, failure_kind, with_timeout};

/// The maximum number of concurrent operations per process: one per schedule, and one replay. So a schedule never waits for
/// another schedule or for a replay. Delayed maintenance could leave the tables without partitions.
const AT_ONCE: [(Origin, usize); 2] = [(Origin::Schedule, OperationKind::ALL.len() - 1), (Origin::Request, 1)];
/// How often to poll. Schedules have a resolution of one second.
const EVERY: Duration = Duration::from_secs(1);

/// An operation that this process has leased, with the permit to run it.
#[derive(Debug)]
pub(super) struct LeasedOperation {
    pub(super) operation: HeldOperation,
    /// A new id for each lease, so that a process cannot use its earlier leases.
    pub(super) holder: WorkerId,
    pub(super) _permit: OwnedSemaphorePermit,
}

pub(super) struct OperationPoller {
    db: Db,
    settings: Arc<Settings>,
    permits: [(Origin, Arc<Semaphore>); 2],
    sender: mpsc::UnboundedSender<LeasedOperation>,
}

/// For each kind of scheduled operation, the last tick that this process has inserted.
type Entered = HashMap<OperationKind, DateTime<Utc>>;

impl OperationPoller {
    pub(super) fn new(db: Db, settings: Arc<Settings>) -> (Self, ClaimStream<LeasedOperation>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let permits = AT_ONCE.map(|(origin, at_once)| (origin, Arc::new(Semaphore::new(at_once))));
        (Self { db, settings, permits, sender }, ClaimStream::new(receiver))
    }

    /// Polls until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut entered = Entered::new();
        while !stop.is_cancelled() {
            match self.round(&mut entered).await {
                // Polls again at once, because more operations may be due.
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "could not lease due operations"),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    /// Inserts due ticks and leases due operations. Returns true if it leased an operation.
    async fn round(&self, entered: &mut Entered) -> Result<bool, sqlx::Error> {
        self.enter_ticks(entered).await?;
        let mut is_taken = false;
        for (origin, permits) in &self.permits {
            let Ok(permit) = Arc::clone(permits).try_acquire_owned() else { continue };
            let holder = WorkerId::from_uuid(Uuid::now_v7());
            let Some(operation) =
                with_timeout(operations::take(&self.db, *origin, holder, self.settings.lease)).await?
            else {
                continue;
            };
            // `send` only fails while the process stops. The lease then expires.
            drop(self.sender.send(LeasedOperation { operation, holder, _permit: permit }));
            is_taken = true;
        }
        Ok(is_taken)
    }

    /// Inserts only the latest tick of each schedule, because one run replaces all ticks that were missed while no process ran. Reads
    /// the database's clock, because a process whose clock is ahead would insert ticks of the future. A tick that the database
    /// refuses does not delay the ticks of other schedules.
    async fn enter_ticks(&self, entered: &mut Entered) -> Result<(), sqlx::Error> {
        let now = with_timeout(operations::now(&self.db)).await?;
        for (kind, schedule) in &self.settings.schedules {
            // After the clock was set back, the latest tick is earlier than the last one inserted.
            let Some(tick) = schedule.latest(now).filter(|tick| entered.get(kind) != Some(tick)) else { continue };
            match with_timeout(operations::enter_tick(&self.db, *kind, tick)).await {
                Err(error) if failure_kind(&error) == FailureKind::Refusal => {
                    tracing::error!(%error, kind = kind.as_str(), "the database refused a tick; continuing with the next");
                }
                answer => drop(answer?),
            }
            entered.insert(*kind, tick);
        }
        Ok(())
    }
}
