//! Keeping the tables in order: partitions ahead, what is older than it is kept, what nobody has touched for long.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Operations;
use super::runner::Failure;
use crate::store::{endpoint_tests, operations, partitions, pruning, push_config_history, rotation, stats};
use crate::telemetry::metrics::RemovalReason;

/// Of push configs; each agent also has its own bound.
const KEEP_HISTORY: Duration = Duration::from_hours(400 * 24);
/// They are counted by the minute.
const KEEP_ENDPOINT_TESTS: Duration = Duration::from_mins(10);
/// For people who look; replays are shown for as long as their deliveries.
const KEEP_OPERATIONS: Duration = Duration::from_hours(7 * 24);
/// A browser shows its subscription whenever the portal is opened in it.
const KEEP_UNSEEN_SUBSCRIPTIONS: Duration = Duration::from_hours(180 * 24);
/// Rows of one statement: a lock, and a replica's delay, are never long.
const ROWS_PER_STEP: i64 = 5_000;

/// Repeats a statement until it finds less than it may take; answers how many rows that were.
async fn in_steps<F>(step: impl Fn() -> F) -> Result<u64, sqlx::Error>
where
    F: Future<Output = Result<u64, sqlx::Error>>,
{
    let mut rows = 0;
    loop {
        let found = step().await?;
        rows += found;
        if found < ROWS_PER_STEP.unsigned_abs() {
            return Ok(rows);
        }
    }
}

impl Operations {
    fn kept_for(&self) -> Duration {
        Duration::from_hours(24 * u64::from(self.settings.retention_days))
    }

    pub(super) async fn retain(&self, now: DateTime<Utc>) -> Result<(), Failure> {
        let db = &self.db;
        partitions::prepare(db, self.settings.retention_days).await?;
        self.remove_expired_partitions().await?;
        in_steps(|| push_config_history::forget(db, KEEP_HISTORY, ROWS_PER_STEP)).await?;
        in_steps(|| endpoint_tests::forget(db, KEEP_ENDPOINT_TESTS, ROWS_PER_STEP)).await?;
        in_steps(|| operations::forget(db, KEEP_OPERATIONS, ROWS_PER_STEP)).await?;
        in_steps(|| stats::forget(db, self.first_kept_day(now), ROWS_PER_STEP)).await?;
        Ok(())
    }

    /// One at a time, each in a transaction of its own. Stops at a partition that a long transaction keeps: the next run
    /// goes on with it.
    async fn remove_expired_partitions(&self) -> Result<(), Failure> {
        let expired = partitions::expired(&self.db, self.settings.retention_days).await?;
        for partition in &expired {
            if !partitions::remove(&self.db, partition).await? {
                tracing::warn!(
                    partition = partition.name,
                    "a long transaction kept an expired partition; the next run removes it"
                );
                return Ok(());
            }
            fail::fail_point!("retention::step");
            tracing::info!(partition = partition.name, "removed an expired partition");
        }
        Ok(())
    }

    pub(super) async fn repair_workspace(&self) -> Result<(), Failure> {
        let (db, age) = (&self.db, self.kept_for());
        let left = in_steps(|| pruning::leave_workspace(db, age, ROWS_PER_STEP)).await?;
        let forgotten = in_steps(|| pruning::forget_sessions(db, age, ROWS_PER_STEP)).await?;
        if left + forgotten > 0 {
            tracing::info!(left, forgotten, "sessions without events were taken out of the operator workspace");
        }
        Ok(())
    }

    pub(super) async fn prune_subscriptions(&self) -> Result<(), Failure> {
        let (db, age) = (&self.db, KEEP_UNSEEN_SUBSCRIPTIONS);
        let removed = in_steps(|| pruning::forget_subscriptions(db, age, ROWS_PER_STEP)).await?;
        (0..removed).for_each(|_| self.metrics.push_subscription_removed(RemovalReason::Unseen));
        Ok(())
    }

    pub(super) async fn reencrypt(&self) -> Result<(), Failure> {
        let values = rotation::reencrypt(&self.db, &self.keyring).await?;
        if values > 0 {
            tracing::info!(values, key = self.keyring.active_id(), "stored values were encrypted anew");
        }
        Ok(())
    }
}
