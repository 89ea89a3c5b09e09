//! Accepts events: stored, fanned out and ready to send, in one transaction. Concurrent callers share transactions.
//!
//! A lone caller never waits for others. While a transaction is under way, later callers wait for its end, for enough
//! events or for 2 ms, whichever is first, and share the next transaction: a transaction costs far more than an event of it.
//! Events are taken round-robin by tenant, and no tenant may fill the queue.
//!
//! An open SQL transaction may hold a session or an idempotency key for as long as it likes. A group that meets such a
//! lock gives up fast, and retriers try its events apart from the committers.

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

/// Transactions under way at once: while one commits, the next ones are filled.
const COMMITTERS: usize = 3;
/// Events of one transaction; a caller's own batch is never split.
const GROUP: usize = 256;
/// Retries under way at once, where the pool has the connections for them: enough for two tenants with locks and a third.
const MOST_RETRIERS: usize = 4;
/// Retries use at most a fourth of the pool: each may hold its connection for half a second.
const CONNECTIONS_PER_RETRIER: usize = 4;

/// The bounds of ingest.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Events that may wait for their transaction.
    pub queue_events: usize,
    /// How long deliveries of an event wait at most, if the event does not say.
    pub default_expiry: Duration,
}

/// Why nothing is known to be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// Too many events wait, in all or of the tenant; nothing was accepted.
    #[error("too many events wait to be accepted")]
    Overloaded,
    /// The database did not confirm; the events may have been accepted or not: repeat them with their idempotency keys.
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
    /// Starts the committers and retriers. They end with the stage, when they have answered every waiting caller.
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
            // It ends after the committers, which may have events for it until their own end.
            stage.spawn(TaskName::IngestRetrier, |_stop| retrier.run());
        }
        Self { shared, metrics: metrics.clone() }
    }

    /// Accepts `events` together, and answers each in its order, after the commit. Not canceled by dropping.
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

/// How many retries may be under way at once. `connections`: of the pool.
fn retriers(connections: u32) -> usize {
    let connections = usize::try_from(connections).unwrap_or(usize::MAX);
    (connections / CONNECTIONS_PER_RETRIER).clamp(1, MOST_RETRIERS)
}
