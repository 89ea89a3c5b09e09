//! Accepts events: stores them, fans them out and makes their deliveries ready, in one transaction shared by concurrent callers.
//!
//! A lone caller never waits for others. While a transaction is in progress, later callers wait for its end, for enough events or
//! for 2 ms, whichever comes first, and share the next transaction: a transaction costs far more than one event in it. Events are
//! taken round-robin by tenant, and no tenant may fill the queue.
//!
//! An open SQL transaction may hold a session or an idempotency key indefinitely. A group that meets such a lock fails fast, and
//! retriers retry its events separately from the committers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::domain::event::NewEvent;
use crate::queue::Wakeup;
use crate::store::Db;
pub use crate::store::accept::Acceptance;
use crate::supervision::Stage;
use crate::telemetry::metrics::{Metrics, TaskName};

mod acceptor;
mod committer;
mod job;
mod locks;
mod retrier;
mod retries;
#[cfg(test)]
mod retries_tests;
mod round_robin;
mod shared;
mod shares;

use acceptor::Acceptor;
use committer::Committer;
use retrier::Retrier;
use shared::Shared;

/// Concurrent transactions: while one commits, the next ones are filled.
const COMMITTERS: usize = 3;
/// Events per transaction; the batch of one caller is never split.
const GROUP: usize = 256;
/// Concurrent retries, if the pool has enough connections: enough for two tenants with locks and a third tenant.
const MOST_RETRIERS: usize = 4;
/// Retries use at most a fourth of the pool: each may hold its connection for half a second.
const CONNECTIONS_PER_RETRIER: usize = 4;

/// The bounds of ingest.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Events that may wait for their transaction.
    pub queue_events: usize,
    /// How long deliveries of an event wait at most, unless the event sets its own limit.
    pub default_expiry: Duration,
}

/// Why events were not accepted, or may not have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// Too many events wait, in total or for the tenant; nothing was accepted.
    #[error("too many events wait to be accepted")]
    Overloaded,
    /// The database did not confirm. The events may have been accepted: repeat them with their idempotency keys.
    #[error("the database did not confirm the events")]
    Unavailable,
}

/// Accepts events. Clones share the queue.
#[derive(Debug, Clone)]
pub struct Ingest {
    shared: Arc<Shared>,
    metrics: Metrics,
}

impl Ingest {
    /// Starts the committers and retriers. They end with the stage, after they have responded to every waiting caller.
    pub fn start(db: &Db, settings: &Settings, wakeup: &Wakeup, metrics: &Metrics, stage: &Stage) -> Self {
        let retriers = retriers(db.options().get_max_connections());
        let shared = Arc::new(Shared::new(settings.queue_events, retriers));
        let acceptor = Acceptor::new(db, settings.default_expiry, wakeup, &shared);
        let gathering = Arc::new(Mutex::new(()));
        for _ in 0..COMMITTERS {
            let committer = Committer::new(acceptor.clone(), Arc::clone(&gathering));
            stage.spawn(TaskName::IngestCommitter, |stop| committer.run(stop));
        }
        for _ in 0..retriers {
            let retrier = Retrier::new(acceptor.clone());
            // It ends after the committers, which may pass events to it until they end.
            stage.spawn(TaskName::IngestRetrier, |_stop| retrier.run());
        }
        Self { shared, metrics: metrics.clone() }
    }

    /// Accepts `events` together and returns the results in their order, after the commit. Dropping the future does not cancel
    /// it.
    pub async fn accept(&self, events: Vec<NewEvent>) -> Result<Vec<Acceptance>, IngestError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let started = Instant::now();
        let answered = self.shared.offer(events, started)?;
        let result = answered.await.unwrap_or(Err(IngestError::Unavailable));
        self.metrics.ingest_observed(started.elapsed());
        result
    }
}

/// The maximum number of concurrent retries for a pool of this number of `connections`.
fn retriers(connections: u32) -> usize {
    let connections = usize::try_from(connections).unwrap_or(usize::MAX);
    (connections / CONNECTIONS_PER_RETRIER).clamp(1, MOST_RETRIERS)
}
