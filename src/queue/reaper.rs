//! The reaper: finds dead workers and records what they had begun as `interrupted`. One at a time, by a lease.
//!
//! A worker is dead only if this process itself saw it silent for a whole lease of its own clock, without any failure of
//! the database in between: then the silence was the worker's, not the database's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::members::Membership;
use crate::domain::delivery::Outcome;
use crate::domain::ids::WorkerId;
use crate::store::queue::workers::SeenWorker;
use crate::store::queue::{lease, reap, workers};
use crate::store::{Db, answered};
use crate::telemetry::metrics::Metrics;

const LEASE_NAME: &str = "reaper";
/// Ledger rows of one transaction.
const CLAIMS: i32 = 64;
/// Fenced workers are remembered for this long, for people who look.
const REMEMBER: Duration = Duration::from_hours(24);

/// How often the ledger is searched for rows of workers that nobody knows.
const SEARCH_UNKNOWN_EVERY: Duration = Duration::from_hours(1);

/// What the reaper works with.
#[derive(Debug)]
pub(super) struct Reaper {
    pub(super) db: Db,
    pub(super) membership: Arc<Membership>,
    pub(super) lease: Duration,
    pub(super) metrics: Metrics,
}

/// When each worker was first seen with the heartbeat that it still has.
type Sightings = HashMap<WorkerId, (DateTime<Utc>, Instant)>;

impl Reaper {
    /// Watches until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut sightings = Sightings::new();
        let mut searched_at = None;
        while !stop.is_cancelled() {
            if let Err(error) = self.round(&mut sightings, &mut searched_at).await {
                self.membership.database_failed();
                tracing::warn!(%error, "the reaper could not work");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(self.lease / 6) => {}
            }
        }
        if let Err(error) = answered(lease::give_up(&self.db, LEASE_NAME, self.membership.id())).await {
            tracing::debug!(%error, "the reaper's lease could not be given up; it ends by itself");
        }
    }

    async fn round(&self, sightings: &mut Sightings, searched_at: &mut Option<Instant>) -> Result<(), sqlx::Error> {
        let seen = answered(workers::seen(&self.db)).await?;
        self.metrics.set_workers_alive(i64::try_from(seen.len()).unwrap_or(i64::MAX));
        if !answered(lease::take(&self.db, LEASE_NAME, self.membership.id(), self.lease)).await? {
            sightings.clear();
            return Ok(());
        }
        let now = Instant::now();
        watch(sightings, &seen, self.membership.last_failure(), now);
        for worker in seen.iter().filter(|worker| worker.id != self.membership.id()) {
            let silent = sightings.get(&worker.id).map_or(Duration::ZERO, |(_, since)| now.duration_since(*since));
            if silent >= self.lease && answered(workers::fence(&self.db, worker)).await? {
                tracing::warn!(worker.id = %worker.id, silent_seconds = silent.as_secs(), "a worker is dead and was fenced");
                fail::fail_point!("reap::after_fence");
            }
        }
        if searched_at.is_none_or(|at| now.duration_since(at) >= SEARCH_UNKNOWN_EVERY) {
            answered(workers::fence_unknown(&self.db)).await?;
            *searched_at = Some(now);
        }
        self.reap().await?;
        answered(workers::forget(&self.db, REMEMBER)).await?;
        Ok(())
    }

    async fn reap(&self) -> Result<(), sqlx::Error> {
        loop {
            let reaped = answered(reap::reap(&self.db, CLAIMS)).await?;
            if reaped.is_empty() {
                return Ok(());
            }
            for (channel, interrupted) in reaped.into_iter().filter(|(_, interrupted)| *interrupted > 0) {
                tracing::warn!(channel = channel.as_str(), interrupted, "deliveries of a dead worker were recorded");
                for _ in 0..interrupted {
                    self.metrics.delivery_recorded(channel, Outcome::Interrupted);
                }
            }
            fail::fail_point!("reap::between");
        }
    }
}

/// Notes who is seen with a new heartbeat; after a failure of the database everybody is watched anew.
fn watch(sightings: &mut Sightings, seen: &[SeenWorker], failed_at: Option<Instant>, now: Instant) {
    sightings.retain(|id, _| seen.iter().any(|worker| worker.id == *id));
    for worker in seen {
        let sighting = sightings.entry(worker.id).or_insert((worker.last_seen_at, now));
        let failed_since = failed_at.is_some_and(|failed_at| failed_at >= sighting.1);
        if sighting.0 != worker.last_seen_at || failed_since {
            *sighting = (worker.last_seen_at, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn worker(beat: i64) -> SeenWorker {
        let last_seen_at = DateTime::from_timestamp(beat, 0).unwrap();
        SeenWorker { id: WorkerId::from_uuid(Uuid::from_u128(1)), last_seen_at }
    }

    fn silence(sightings: &Sightings, now: Instant) -> Duration {
        now.duration_since(sightings[&worker(0).id].1)
    }

    #[test]
    fn silence_is_counted_from_the_first_sight_of_a_heartbeat() {
        let start = Instant::now();
        let later = start + Duration::from_secs(30);
        let mut sightings = Sightings::new();
        watch(&mut sightings, &[worker(1)], None, start);
        watch(&mut sightings, &[worker(1)], None, later);
        assert_eq!(silence(&sightings, later), Duration::from_secs(30));
        watch(&mut sightings, &[worker(2)], None, later);
        assert_eq!(silence(&sightings, later), Duration::ZERO);
    }

    #[test]
    fn a_failure_of_the_database_starts_the_watch_anew() {
        let start = Instant::now();
        let later = start + Duration::from_secs(30);
        let mut sightings = Sightings::new();
        watch(&mut sightings, &[worker(1)], None, start);
        watch(&mut sightings, &[worker(1)], Some(start + Duration::from_secs(1)), later);
        assert_eq!(silence(&sightings, later), Duration::ZERO);
    }

    #[test]
    fn a_worker_that_has_left_is_forgotten() {
        let start = Instant::now();
        let mut sightings = Sightings::new();
        watch(&mut sightings, &[worker(1)], None, start);
        watch(&mut sightings, &[], None, start);
        assert!(sightings.is_empty());
    }
}
