//! Maintenance creates partitions in advance, and removes expired data and data that has not been used for long.

use std::time::Duration;

use chrono::{Days, TimeDelta};

use super::Operations;
use super::runner::Failure;
use super::steps::Steps;
use crate::store::{
    clocks::Clocks, endpoint_tests, operations, partitions, pruning, push_config_history, rotation, stats, with_timeout,
};
use crate::telemetry::metrics::RemovalReason;

/// How long the history of push configs is kept. The number of entries per agent is limited too.
const KEEP_HISTORY: Duration = Duration::from_hours(400 * 24);
/// How long the rows of endpoint tests are kept. They must exist for longer than the minute that the rate limit counts.
const KEEP_ENDPOINT_TESTS: Duration = Duration::from_mins(10);
/// How long ended operations are kept for investigations. Replays are kept as long as their deliveries.
const KEEP_OPERATIONS: Duration = Duration::from_hours(7 * 24);
/// How long a subscription is kept after its last registration. A browser registers whenever the user opens the portal.
const KEEP_UNSEEN_SUBSCRIPTIONS: Duration = Duration::from_hours(180 * 24);
/// Data expires by the database's clock. A larger difference than this is no drift, but a wrong clock: the start already warns at
/// 5 seconds. An error of an hour removes nothing that has a use, because everything is kept for days.
const MAX_CLOCK_DIFFERENCE: TimeDelta = TimeDelta::hours(1);
/// The maximum number of rows that one statement removes, so that locks and replication lag stay short.
const ROWS_PER_STEP: i64 = 5_000;

/// Repeats a statement until it finds fewer rows than its limit. Returns the total number of rows. A statement that waits for a
/// lock fails after ten seconds, so that the next steps run.
async fn in_steps<F>(step: impl Fn() -> F) -> Result<u64, sqlx::Error>
where
    F: Future<Output = Result<u64, sqlx::Error>>,
{
    let mut rows = 0;
    loop {
        let found = with_timeout(step()).await?;
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

    /// Fails if one of the clocks must be wrong. A database whose clock jumps forward would otherwise remove all data.
    async fn check_clocks(&self) -> Result<(), Failure> {
        let clocks = with_timeout(Clocks::read(&self.db, self.now)).await?;
        if clocks.difference().abs() > MAX_CLOCK_DIFFERENCE {
            return Err(Failure::Clocks { database: clocks.database, process: clocks.after });
        }
        Ok(())
    }

    pub(super) async fn retain(&self) -> Result<(), Failure> {
        let db = &self.db;
        let mut steps = Steps::default();
        steps.record("partitions_in_advance", partitions::prepare(db, self.settings.retention_days).await.map(drop));
        if steps.record("clocks", self.check_clocks().await).is_none() {
            return steps.finish();
        }
        steps.record("expired_partitions", self.remove_expired_partitions().await);
        steps.record("detached_tables", self.report_detached_tables().await);
        let history = in_steps(|| push_config_history::forget(db, KEEP_HISTORY, ROWS_PER_STEP));
        steps.record("push_config_history", history.await);
        let tests = in_steps(|| endpoint_tests::forget(db, KEEP_ENDPOINT_TESTS, ROWS_PER_STEP));
        steps.record("endpoint_tests", tests.await);
        steps.record("operations", in_steps(|| operations::forget(db, KEEP_OPERATIONS, ROWS_PER_STEP)).await);
        steps.record("delivery_rollups", self.forget_rollups().await);
        steps.finish()
    }

    async fn forget_rollups(&self) -> Result<u64, sqlx::Error> {
        // Not the time when the operation was taken, which was before the clocks were compared.
        let now = with_timeout(operations::now(&self.db)).await?;
        let oldest = now.date_naive() - Days::new(u64::from(self.settings.retention_days));
        in_steps(|| stats::forget(&self.db, oldest, ROWS_PER_STEP)).await
    }

    /// Removes partitions one at a time, each in its own transaction. If a long transaction blocks the removal, the other
    /// partitions of the table are skipped until the next run, because PostgreSQL allows only one pending detach per table.
    async fn remove_expired_partitions(&self) -> Result<(), Failure> {
        let mut steps = Steps::default();
        let mut waiting_parents = Vec::new();
        for partition in &partitions::expired(&self.db, self.settings.retention_days).await? {
            if partition.parent().is_some_and(|parent| waiting_parents.contains(&parent)) {
                continue;
            }
            let partition_name = partition.name.as_str();
            match steps.record("expired_partition", partitions::remove(&self.db, partition).await) {
                Some(true) => tracing::info!(partition = partition_name, "removed an expired partition"),
                Some(false) => {
                    tracing::warn!(
                        partition = partition_name,
                        "a long transaction kept an expired partition; the next run removes it"
                    );
                    waiting_parents.extend(partition.parent());
                }
                None => {}
            }
            fail::fail_point!("retention::step");
        }
        steps.finish()
    }

    /// Reports partitions that an operator detached. Retention only drops partitions that it has detached itself.
    async fn report_detached_tables(&self) -> Result<(), Failure> {
        let tables = partitions::detached_by_hand(&self.db).await?;
        if !tables.is_empty() {
            let tables = tables.join(", ");
            tracing::warn!(tables, "kept tables that were detached manually; attach or drop them");
        }
        Ok(())
    }

    pub(super) async fn repair_workspace(&self) -> Result<(), Failure> {
        self.check_clocks().await?;
        let (db, age) = (&self.db, self.kept_for());
        let mut steps = Steps::default();
        let left = in_steps(|| pruning::leave_workspace(db, age, ROWS_PER_STEP)).await;
        let left = steps.record("leave_workspace", left).unwrap_or(0);
        let forgotten = in_steps(|| pruning::forget_sessions(db, age, ROWS_PER_STEP)).await;
        let forgotten = steps.record("forget_sessions", forgotten).unwrap_or(0);
        if left + forgotten > 0 {
            tracing::info!(left, forgotten, "removed sessions without events from the operator workspace");
        }
        steps.finish()
    }

    pub(super) async fn prune_subscriptions(&self) -> Result<(), Failure> {
        self.check_clocks().await?;
        let (db, age) = (&self.db, KEEP_UNSEEN_SUBSCRIPTIONS);
        let removed = in_steps(|| pruning::forget_subscriptions(db, age, ROWS_PER_STEP)).await?;
        (0..removed).for_each(|_| self.metrics.push_subscription_removed(RemovalReason::Unseen));
        Ok(())
    }

    pub(super) async fn reencrypt(&self) -> Result<(), Failure> {
        let values = rotation::reencrypt(&self.db, &self.keyring).await?;
        if values > 0 {
            tracing::info!(values, key = self.keyring.active_id(), "re-encrypted stored values");
        }
        Ok(())
    }
}
