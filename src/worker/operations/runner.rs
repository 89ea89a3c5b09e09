//! The runner performs a leased operation, renews its lease, and records its result.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Operations;
use crate::domain::ids::WorkerId;
use crate::domain::operation::{HeldOperation, MAX_ATTEMPTS, OperationKind, OperationState, retry_after};
use crate::store::replays::{self, Bounds, Step};
use crate::store::{SealedError, operations};
use crate::telemetry::metrics::OperationResult;

/// The maximum number of deliveries that one step of a replay examines.
const REPLAY_ROWS: i32 = 500;

/// Why an operation did not complete.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Sealed(#[from] SealedError),
    #[error(
        "removed nothing, because the clock of the database server ({database}) and the clock of this process ({process}) \
         differ by more than an hour: correct the wrong clock, and synchronize both machines by NTP"
    )]
    Clocks { database: DateTime<Utc>, process: DateTime<Utc> },
    /// A user canceled the operation, or another process holds it.
    #[error("the operation is no longer held")]
    Lost,
    #[error("every process that ran the operation died or lost its lease")]
    Exhausted,
}

impl Failure {
    /// The reason that is shown to users.
    fn note(&self) -> &'static str {
        match self {
            Self::Database(_) | Self::Sealed(SealedError::Database(_)) => {
                "The database did not respond, or refused a statement."
            }
            Self::Sealed(SealedError::Unopened { .. }) => "A stored value cannot be decrypted.",
            Self::Clocks { .. } => {
                "The clocks of the database server and of the service differ by more than an hour. Nothing was removed."
            }
            Self::Lost => "Another process has taken over the operation.",
            Self::Exhausted => "Every process that ran the operation died or lost its lease.",
        }
    }
}

enum RunResult {
    Done,
    Failed(Failure),
    Stopped,
}

impl Operations {
    pub(super) async fn run(&self, operation: HeldOperation, holder: WorkerId, stop: &CancellationToken) {
        // A stop can drop `perform` during a step. The result of that step is then unknown, but every step can be repeated.
        let result = tokio::select! {
            performed = self.perform(operation, holder) => performed.map_or_else(RunResult::Failed, |()| RunResult::Done),
            () = self.lost(operation, holder) => RunResult::Failed(Failure::Lost),
            () = stop.cancelled() => RunResult::Stopped,
        };
        fail::fail_point!("operation::before_end");
        match timeout(self.settings.lease, self.record(operation, holder, result)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, operation.id = %operation.id, "could not record the result of an operation; its lease will expire");
            }
            Err(_elapsed) => {
                tracing::warn!(operation.id = %operation.id, "timed out recording the result of an operation; its lease will expire");
            }
        }
    }

    async fn perform(&self, operation: HeldOperation, holder: WorkerId) -> Result<(), Failure> {
        if operation.attempts > MAX_ATTEMPTS {
            // An operation that crashes every process that runs it must not be retried forever.
            return Err(Failure::Exhausted);
        }
        match operation.kind {
            OperationKind::Retention => self.retain().await,
            OperationKind::WorkspaceRepair => self.repair_workspace().await,
            OperationKind::SubscriptionPruning => self.prune_subscriptions().await,
            OperationKind::Rollup => self.roll_up().await,
            OperationKind::Reencryption => self.reencrypt().await,
            OperationKind::Replay => self.replay(operation, holder).await,
        }
    }

    async fn replay(&self, operation: HeldOperation, holder: WorkerId) -> Result<(), Failure> {
        let bounds = Bounds::new(self.settings.retention_days, self.settings.replay_expires, operation.now);
        loop {
            match replays::step(&self.db, operation.id, holder, REPLAY_ROWS, bounds).await? {
                Step::More => fail::fail_point!("replay::step"),
                Step::Done => return Ok(()),
                Step::Lost => return Err(Failure::Lost),
            }
        }
    }

    /// Renews the lease. Returns when the lease is lost, or when it may have expired.
    async fn lost(&self, operation: HeldOperation, holder: WorkerId) {
        let lease = self.settings.lease;
        let mut held_at = Instant::now();
        while held_at.elapsed() < lease {
            tokio::time::sleep(lease / 4).await;
            let asked_at = Instant::now();
            match timeout(lease / 4, operations::prolong(&self.db, operation.id, holder, lease)).await {
                Ok(Ok(true)) => held_at = asked_at,
                Ok(Ok(false)) => return,
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }

    async fn record(&self, operation: HeldOperation, holder: WorkerId, result: RunResult) -> Result<(), sqlx::Error> {
        let HeldOperation { id, kind, attempts, .. } = operation;
        let result = match result {
            RunResult::Done => {
                let held = operations::end(&self.db, id, holder, OperationState::Succeeded, None).await?;
                if held { OperationResult::Succeeded } else { OperationResult::Lost }
            }
            RunResult::Stopped => {
                let attempts_before = attempts.saturating_sub(1);
                let held = operations::release(&self.db, id, holder, attempts_before, Duration::ZERO, None).await?;
                if held { OperationResult::HandedOver } else { OperationResult::Lost }
            }
            RunResult::Failed(Failure::Lost) => {
                tracing::info!(operation.id = %id, kind = kind.as_str(), "lost the lease of an operation; it was canceled or taken over");
                OperationResult::Lost
            }
            RunResult::Failed(failure) => self.record_failure(operation, holder, &failure).await?,
        };
        self.metrics.operation_ended(kind, result);
        Ok(())
    }

    async fn record_failure(
        &self,
        operation: HeldOperation,
        holder: WorkerId,
        failure: &Failure,
    ) -> Result<OperationResult, sqlx::Error> {
        let HeldOperation { id, kind, attempts, .. } = operation;
        let (kind, note) = (kind.as_str(), Some(failure.note()));
        if let Some(pause) = retry_after(attempts) {
            tracing::warn!(error = %failure, operation.id = %id, kind, attempts, pause_seconds = pause.as_secs(), "an operation failed and will be retried");
            let held = operations::release(&self.db, id, holder, attempts, pause, note).await?;
            return Ok(if held { OperationResult::Retried } else { OperationResult::Lost });
        }
        tracing::error!(error = %failure, operation.id = %id, kind, attempts, "an operation failed for the last time");
        let held = operations::end(&self.db, id, holder, OperationState::Failed, note).await?;
        Ok(if held { OperationResult::Failed } else { OperationResult::Lost })
    }
}
