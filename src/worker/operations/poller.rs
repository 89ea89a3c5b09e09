//! The operation poller inserts the ticks of the schedules and leases due operations. A database outage only delays it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::stream::{BoxStream, StreamExt as _, unfold};
use uuid::Uuid;

use super::Operations;
use crate::domain::ids::WorkerId;
use crate::domain::operation::{HeldOperation, OperationKind};
use crate::store::operations::{self, Origin};
use crate::store::{FailureKind, failure_kind, with_timeout};

/// How often to poll. Schedules have a resolution of one second.
const EVERY: Duration = Duration::from_secs(1);

/// An operation that this process has leased.
#[derive(Debug)]
pub(super) struct LeasedOperation {
    pub(super) operation: HeldOperation,
    /// A new id for each lease, so that a process cannot use its earlier leases.
    pub(super) holder: WorkerId,
}

/// For each kind of scheduled operation, the last tick that this process has inserted.
type Entered = HashMap<OperationKind, DateTime<Utc>>;

impl Operations {
    /// The backend of an apalis worker: leases due operations of this origin. The worker polls it only while it can run another
    /// operation. If the worker stops during a poll, the lease of an operation that the poll took expires.
    pub(super) fn due(&self, origin: Origin) -> BoxStream<'static, Result<LeasedOperation, Infallible>> {
        unfold((self.clone(), Entered::new()), move |(operations, mut entered)| async move {
            loop {
                match operations.lease(origin, &mut entered).await {
                    Ok(Some(leased)) => return Some((Ok(leased), (operations, entered))),
                    Ok(None) => {}
                    Err(error) => tracing::warn!(%error, "could not lease due operations"),
                }
                tokio::time::sleep(EVERY).await;
            }
        })
        .boxed()
    }

    /// Inserts due ticks, and leases a due operation.
    async fn lease(&self, origin: Origin, entered: &mut Entered) -> Result<Option<LeasedOperation>, sqlx::Error> {
        if origin == Origin::Schedule {
            self.enter_ticks(entered).await?;
        }
        let holder = WorkerId::from_uuid(Uuid::now_v7());
        let operation = with_timeout(operations::take(&self.db, origin, holder, self.settings.lease)).await?;
        Ok(operation.map(|operation| LeasedOperation { operation, holder }))
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
