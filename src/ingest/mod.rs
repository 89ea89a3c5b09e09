//! Accepts events: stores them, fans them out and makes their deliveries ready, in a transaction that concurrent callers share.
//!
//! A lone caller never waits for other callers. While a transaction is in progress, later callers wait until it ends, until
//! enough events wait, or for 2 ms, and then share the next transaction, because a transaction costs far more than one event.
//! Committers take events round-robin by tenant, and no tenant may fill the queue.
//!
//! An open SQL transaction may keep a session or an idempotency key locked indefinitely. A group of events that needs such a
//! lock fails fast, and retriers then retry these events separately from the committers.

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

/// The number of concurrent transactions. While one transaction commits, committers collect events for the next transactions.
const COMMITTERS: usize = 3;
/// The maximum number of events per transaction. A larger batch of one caller is not split, but has its own transaction.
const GROUP: usize = 256;
/// How long a transaction of several callers waits for a lock. Nearly every commit is faster than this limit, so a group
/// usually gets a lock that another group holds. The limit is short, because all callers of the transaction wait meanwhile and
/// the committer takes no other events.
const GROUP_LOCK_TIMEOUT: Duration = Duration::from_millis(50);
/// The maximum number of concurrent retries, if the pool has enough connections. One tenant uses at most half of these retries.
const MOST_RETRIERS: usize = 4;
/// Retries use at most a fourth of the pool, because each retry may use its connection for half a second.
const CONNECTIONS_PER_RETRIER: usize = 4;

/// The bounds of ingest.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The maximum number of events that wait for a transaction.
    pub queue_events: usize,
    /// Deliveries expire after this time, unless their event sets its own limit.
    pub default_expiry: Duration,
}

/// Why events were not accepted, or why the service does not know whether they were accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// Too many events wait, in total or for the tenant. No event of the call was accepted.
    #[error("too many events wait to be accepted")]
    Overloaded,
    /// The database did not confirm the events. They may have been accepted, so retry with the same idempotency keys.
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
    /// Starts the committers and retriers. When `stage` stops, they respond to every waiting caller and then end.
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
            // A retrier ends after the committers, because committers may pass events to it until they end.
            stage.spawn(TaskName::IngestRetrier, |_stop| retrier.run());
        }
        Self { shared, metrics: metrics.clone() }
    }

    /// Accepts `events` in one transaction. Returns their results in the same order after the commit. Dropping the future does
    /// not cancel the transaction.
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

/// The maximum number of concurrent retries for a pool of `connections` connections.
fn retriers(connections: u32) -> usize {
    let connections = usize::try_from(connections).unwrap_or(usize::MAX);
    (connections / CONNECTIONS_PER_RETRIER).clamp(1, MOST_RETRIERS)
}
