//! Upkeep of the tables: partitions ahead, retention, old idempotency keys. One node at a time, by a lease.

use std::time::Duration;

use chrono::{DateTime, Days, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::domain::ids::WorkerId;
use crate::store::queue::lease;
use crate::store::{Db, endpoint_tests, idempotency, partitions, push_config_history};

const LEASE_NAME: &str = "upkeep";
const EVERY: Duration = Duration::from_mins(10);
/// After a failure, such as a lock behind a long reader.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// Days whose partitions exist ahead: a database or a person may be away for one.
const DAYS_AHEAD: u64 = 2;
/// Promised are 24 hours.
const KEEP_KEYS: Duration = Duration::from_hours(48);
/// Of push configs; each agent also has its own bound.
const KEEP_HISTORY: Duration = Duration::from_hours(400 * 24);
const KEYS_PER_STEP: i64 = 5_000;

/// What upkeep works with.
#[derive(Debug)]
pub struct Upkeep {
    pub db: Db,
    /// Events and deliveries are kept for so many days.
    pub retention_days: u32,
}

/// Makes the partitions that accepting and recording need from now on. Runs before anything is accepted.
pub async fn prepare(db: &Db, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let today = now.date_naive();
    // Yesterday too: this clock may be ahead of the database's.
    partitions::ensure(db, today - Days::new(1), today + Days::new(DAYS_AHEAD)).await?;
    Ok(())
}

impl Upkeep {
    /// Keeps the tables in order until `stop`.
    #[expect(clippy::disallowed_methods, reason = "the worker's schedule is where time comes from")]
    pub async fn run(self, stop: CancellationToken) {
        let holder = WorkerId::from_uuid(Uuid::now_v7());
        while !stop.is_cancelled() {
            let pause = match self.round(holder, Utc::now()).await {
                Ok(()) => EVERY,
                Err(error) => {
                    tracing::warn!(%error, "the upkeep of the tables failed and is tried again soon");
                    RETRY_AFTER
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn round(&self, holder: WorkerId, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
        if !lease::take(&self.db, LEASE_NAME, holder, EVERY * 2).await? {
            return Ok(());
        }
        prepare(&self.db, now).await?;
        let oldest = now.date_naive() - Days::new(u64::from(self.retention_days));
        let dropped = partitions::drop_before(&self.db, oldest).await?;
        if dropped > 0 {
            tracing::info!(partitions = dropped, before = %oldest, "old events and deliveries were dropped");
        }
        while push_config_history::forget(&self.db, KEEP_HISTORY, KEYS_PER_STEP).await? >= KEYS_PER_STEP.unsigned_abs()
        {
        }
        while endpoint_tests::forget(&self.db, EVERY, KEYS_PER_STEP).await? >= KEYS_PER_STEP.unsigned_abs() {}
        while idempotency::forget(&self.db, KEEP_KEYS, KEYS_PER_STEP).await? >= KEYS_PER_STEP.unsigned_abs() {}
        Ok(())
    }
}
