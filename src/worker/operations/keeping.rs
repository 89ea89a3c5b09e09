//! Keeping the tables in order: partitions ahead, what is older than it is kept, what nobody has touched for long.

use std::time::Duration;

use chrono::{DateTime, Days, Utc};

use super::Operations;
use super::runner::Failure;
use crate::store::{
    Db, endpoint_tests, idempotency, operations, partitions, pruning, push_config_history, rotation, stats,
};
use crate::telemetry::metrics::RemovalReason;

/// Days whose partitions exist ahead: a database or a person may be away for one.
const DAYS_AHEAD: u64 = 2;
/// Promised are 24 hours.
const KEEP_KEYS: Duration = Duration::from_hours(48);
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

/// Makes the partitions that accepting and recording need from now on. Runs before anything is accepted.
pub async fn prepare(db: &Db, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let today = now.date_naive();
    // Yesterday too: this clock may be ahead of the database's.
    partitions::ensure(db, today - Days::new(1), today + Days::new(DAYS_AHEAD)).await?;
    Ok(())
}

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
        prepare(db, now).await?;
        let oldest = self.first_kept_day(now);
        match partitions::drop_before(db, oldest).await? {
            Some(0) => {}
            Some(dropped) => {
                tracing::info!(partitions = dropped, before = %oldest, "old events and deliveries were dropped");
            }
            None => {
                tracing::warn!(before = %oldest, "somebody reads old events or deliveries; they stay until the next run");
            }
        }
        in_steps(|| push_config_history::forget(db, KEEP_HISTORY, ROWS_PER_STEP)).await?;
        in_steps(|| endpoint_tests::forget(db, KEEP_ENDPOINT_TESTS, ROWS_PER_STEP)).await?;
        in_steps(|| idempotency::forget(db, KEEP_KEYS, ROWS_PER_STEP)).await?;
        in_steps(|| operations::forget(db, KEEP_OPERATIONS, ROWS_PER_STEP)).await?;
        in_steps(|| stats::forget(db, oldest, ROWS_PER_STEP)).await?;
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
