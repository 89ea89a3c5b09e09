//! Samples metrics at intervals: the connections of the pools, the range of the partitions, and the health of operations.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Data;
use crate::config::Config;
use crate::store::operations::Health;
use crate::store::{Db, operations, partitions, with_timeout};
use crate::supervision::Stage;
use crate::telemetry::metrics::{Metrics, PoolName, TaskName};

/// How often the connections of the pools are counted.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// How many times connections are counted between two queries of the database.
const COUNTS_PER_LOOK: u32 = 3;

/// Samples metrics until the process stops. Every process does this, because the values describe the whole deployment and must
/// stay available when a process ends.
pub(super) fn start(config: &Config, data: &Data, metrics: &Metrics, stage: &Stage) {
    let observation =
        Observation { pools: data.pools(), retention_days: config.operations.retention_days, metrics: metrics.clone() };
    stage.spawn(TaskName::DatabaseObserver, |stop| observation.run(stop));
}

struct Observation {
    pools: [(PoolName, Db); 5],
    retention_days: u32,
    metrics: Metrics,
}

impl Observation {
    async fn run(self, stop: CancellationToken) {
        for count in (0..COUNTS_PER_LOOK).cycle() {
            self.count_connections();
            if count == 0 {
                self.look_at_partitions().await;
                self.look_at_operations().await;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(COUNT_EVERY) => {}
            }
        }
    }

    fn count_connections(&self) {
        for (name, pool) in &self.pools {
            let idle = i64::try_from(pool.num_idle()).unwrap_or(i64::MAX);
            self.metrics.set_pool_connections(*name, idle, i64::from(pool.size()) - idle);
            self.metrics.set_pool_size(*name, i64::from(pool.options().get_max_connections()));
        }
    }

    /// If the database does not respond, the metrics keep their last values. The values are absolute times, so they stay correct.
    async fn look_at_partitions(&self) {
        let [(_, db), ..] = &self.pools;
        match with_timeout(partitions::span(db, self.retention_days)).await {
            Ok(span) => {
                span.ends_at.into_iter().for_each(|end| self.metrics.set_partitions_end(end));
                span.removal_due.into_iter().for_each(|due| self.metrics.set_retention_due(due));
            }
            Err(error) => tracing::debug!(%error, "the partitions could not be read"),
        }
    }

    /// If the database does not respond, the metrics keep their last values.
    async fn look_at_operations(&self) {
        let [(_, db), ..] = &self.pools;
        match with_timeout(operations::health(db)).await {
            Ok(kinds) => {
                for Health { kind, failed_attempts, overdue } in kinds {
                    self.metrics.set_operation_failed_attempts(kind, failed_attempts);
                    self.metrics.set_operation_overdue(kind, overdue);
                }
            }
            Err(error) => tracing::debug!(%error, "the health of operations could not be read"),
        }
    }
}
