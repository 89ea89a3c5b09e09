//! The reaper finds dead workers and records their claimed deliveries as `interrupted`. A lease ensures that only one process
//! reaps.
//!
//! A worker is dead if the reaper has seen no new heartbeat of the worker for a whole lease, by the clock of the reaper's
//! process. After a database outage, the reaper waits again, because the outage might have prevented the heartbeats. A refusal
//! is not an outage, and neither is a slow step, because a lock or dead tuples may slow one statement. After either, the reaper
//! runs the other steps of the round. It sets aside a claim that the database refuses to record.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::Error;
use tokio_util::sync::CancellationToken;

use super::registration::WorkerRegistration;
use super::unrecorded::Unrecorded;
use crate::domain::delivery::Outcome;
use crate::domain::endpoint::Channel;
use crate::domain::ids::{ClaimId, WorkerId};
use crate::store::queue::workers::SeenWorker;
use crate::store::queue::{lease, reap, workers};
use crate::store::{Db, FailureKind, failure_kind, with_timeout};
use crate::telemetry::metrics::Metrics;

const LEASE_NAME: &str = "reaper";
/// The maximum number of claims that one transaction records.
const CLAIMS: i32 = 64;
/// How long the rows of fenced workers are kept, for operators who investigate.
const REMEMBER: Duration = Duration::from_hours(24);

/// How often the reaper searches for claims of unknown workers.
const SEARCH_UNKNOWN_EVERY: Duration = Duration::from_hours(1);

#[derive(Debug)]
pub(super) struct Reaper {
    db: Db,
    registration: Arc<WorkerRegistration>,
    lease: Duration,
    metrics: Metrics,
    sightings: Sightings,
    searched_at: Option<Instant>,
    unrecorded: Unrecorded,
}

/// The last heartbeat of each worker, and when the reaper first saw this heartbeat.
type Sightings = HashMap<WorkerId, (DateTime<Utc>, Instant)>;

impl Reaper {
    pub(super) fn new(db: Db, registration: Arc<WorkerRegistration>, lease: Duration, metrics: Metrics) -> Self {
        let unrecorded = Unrecorded::new(lease, metrics.clone());
        Self { db, registration, lease, metrics, sightings: Sightings::new(), searched_at: None, unrecorded }
    }

    /// Runs rounds until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.round().await {
                self.registration.database_failed();
                tracing::warn!(%error, "a round of the reaper failed");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(self.lease / 6) => {}
            }
        }
        if let Err(error) = with_timeout(lease::release(&self.db, LEASE_NAME, self.registration.id())).await {
            tracing::debug!(%error, "could not release the reaper's lease; it will expire");
        }
    }

    /// Runs the steps of a round. Skips a step that the database refuses, and a step after the lease that is too slow. Ends the
    /// round if this process does not get the lease. Returns an error if the database is unavailable.
    async fn round(&mut self) -> Result<(), Error> {
        let seen = unless_refused("see the workers", with_timeout(workers::seen(&self.db)).await)?;
        if let Some(seen) = &seen {
            self.metrics.set_workers_alive(i64::try_from(seen.len()).unwrap_or(i64::MAX));
        }
        let taken = lease::take(&self.db, LEASE_NAME, self.registration.id(), self.lease);
        if unless_refused("take its lease", with_timeout(taken).await)? != Some(true) {
            self.sightings.clear();
            self.unrecorded.clear();
            return Ok(());
        }
        let now = Instant::now();
        if let Some(seen) = seen {
            self.fence(&seen, now).await?;
        }
        let reaped = self.reap(now).await;
        unless_slow_or_refused("record claims of dead workers", reaped)?;
        if !self.is_late(now) {
            unless_slow_or_refused("forget dead workers", with_timeout(workers::forget(&self.db, REMEMBER)).await)?;
        }
        // The search reads a whole table. So it runs last, and a search that fails is not repeated at once.
        let is_due = self.searched_at.is_none_or(|at| now.duration_since(at) >= SEARCH_UNKNOWN_EVERY);
        if is_due && !self.is_late(now) {
            self.searched_at = Some(now);
            let searched = with_timeout(workers::fence_unknown(&self.db)).await;
            unless_slow_or_refused("search claims of unknown workers", searched)?;
        }
        Ok(())
    }

    async fn fence(&mut self, seen: &[SeenWorker], now: Instant) -> Result<(), Error> {
        watch(&mut self.sightings, seen, self.registration.last_failure(), now);
        for worker in seen.iter().filter(|worker| worker.id != self.registration.id()) {
            let silent = self.sightings.get(&worker.id).map_or(Duration::ZERO, |(_, since)| now.duration_since(*since));
            if silent < self.lease {
                continue;
            }
            if self.is_late(now) {
                break;
            }
            let fenced = with_timeout(workers::fence(&self.db, worker)).await;
            if unless_slow_or_refused("fence a worker", fenced)? == Some(true) {
                tracing::warn!(worker.id = %worker.id, silent_seconds = silent.as_secs(), "a worker is dead and was fenced");
                fail::fail_point!("reap::after_fence");
            }
        }
        Ok(())
    }

    async fn reap(&mut self, now: Instant) -> Result<(), Error> {
        for claim in self.unrecorded.due(now) {
            if self.is_late(now) {
                break;
            }
            self.reap_alone(claim, now).await?;
        }
        loop {
            match with_timeout(reap::reap(&self.db, CLAIMS, &self.unrecorded.claims())).await {
                Ok(reaped) if reaped.is_empty() => return Ok(()),
                Ok(reaped) => self.observe(reaped),
                Err(error) if failure_kind(&error).concerns_rows() => {
                    if !self.isolate(now).await? {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
            fail::fail_point!("reap::between");
        }
    }

    /// Records claims one by one after the database did not accept them together. Sets aside each claim that the database still
    /// does not accept. Returns false if nothing changed.
    async fn isolate(&mut self, now: Instant) -> Result<bool, Error> {
        if self.unrecorded.is_full() {
            return Ok(false);
        }
        let dead = with_timeout(reap::dead_claims(&self.db, CLAIMS.into(), &self.unrecorded.claims())).await;
        let Some(dead) = unless_slow_or_refused("list claims of dead workers", dead)? else { return Ok(false) };
        let mut has_changed = false;
        for claim in dead {
            if self.is_late(now) {
                break;
            }
            has_changed |= self.reap_alone(claim, now).await?;
        }
        Ok(has_changed)
    }

    /// True if the round has lasted so long that the reaper must renew its lease and check the workers again. If the lease
    /// expired, the next reaper would have to observe the workers for a whole lease.
    fn is_late(&self, started: Instant) -> bool {
        started.elapsed() >= self.lease / 3
    }

    /// Records one claim, or sets it aside. Returns false if another transaction has locked or deleted the claim.
    async fn reap_alone(&mut self, claim: (ClaimId, Channel), now: Instant) -> Result<bool, Error> {
        match with_timeout(reap::reap_claim(&self.db, claim.0)).await {
            Ok(reaped) => {
                self.unrecorded.remove(claim.0);
                let has_changed = !reaped.is_empty();
                self.observe(reaped);
                Ok(has_changed)
            }
            Err(error) if failure_kind(&error).concerns_rows() => {
                self.unrecorded.set_aside(claim, &error, now);
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    fn observe(&self, reaped: Vec<(Channel, u64)>) {
        for (channel, interrupted) in reaped.into_iter().filter(|(_, interrupted)| *interrupted > 0) {
            tracing::warn!(channel = channel.as_str(), interrupted, "recorded deliveries of a dead worker");
            for _ in 0..interrupted {
                self.metrics.delivery_recorded(channel, Outcome::Interrupted);
            }
        }
    }
}

/// Returns the result of a step. If the database refused the step, logs the error and returns `None`.
fn unless_refused<T>(step: &str, answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if failure_kind(&error) == FailureKind::Outage => Err(error),
        Err(error) => Ok(skip(step, &error)),
    }
}

/// Like [`unless_refused`], but also returns `None` if the step exceeded its timeout. If the cause is an outage, the heartbeat or
/// the next round detects it.
fn unless_slow_or_refused<T>(step: &str, answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Err(Error::Io(error)) if error.kind() == ErrorKind::TimedOut => Ok(skip(step, &Error::Io(error))),
        answer => unless_refused(step, answer),
    }
}

fn skip<T>(step: &str, error: &Error) -> Option<T> {
    tracing::warn!(%error, step, "a step of the reaper failed; continuing with the next");
    None
}

/// Restarts the timer of each worker that has a new heartbeat. After a database failure, restarts all timers.
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
    fn a_timer_starts_when_a_heartbeat_is_first_seen() {
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
    fn a_database_failure_restarts_the_timers() {
        let start = Instant::now();
        let later = start + Duration::from_secs(30);
        let mut sightings = Sightings::new();
        watch(&mut sightings, &[worker(1)], None, start);
        watch(&mut sightings, &[worker(1)], Some(start + Duration::from_secs(1)), later);
        assert_eq!(silence(&sightings, later), Duration::ZERO);
    }

    #[test]
    fn a_deregistered_worker_is_forgotten() {
        let start = Instant::now();
        let mut sightings = Sightings::new();
        watch(&mut sightings, &[worker(1)], None, start);
        watch(&mut sightings, &[], None, start);
        assert!(sightings.is_empty());
    }
}
