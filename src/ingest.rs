//! Accepts events: stored, fanned out and ready to send, in one transaction. Concurrent callers share transactions.
//!
//! A lone caller waits for nobody. While a transaction is under way, those who come wait for its end, for enough others
//! or for 2 ms, whichever is first, and share the next one: a transaction costs far more than an event of it. What waits
//! is bounded; beyond it callers are told to come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::domain::event::NewEvent;
use crate::queue::Wakeup;
pub use crate::store::accept::Acceptance;
use crate::store::accept::{self, Accepted};
use crate::store::{Db, answered};
use crate::supervision::Stage;
use crate::telemetry::metrics::{Metrics, TaskName};

/// Transactions under way at once: while one commits, the next ones are filled.
const COMMITTERS: usize = 3;
/// Events of one transaction; a caller's own batch is never split.
const GROUP: usize = 256;
/// So many events are worth a transaction beside one that is under way.
const ENOUGH: usize = 32;
/// The longest wait for them.
const GATHER: Duration = Duration::from_millis(2);

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
    /// Too many events wait; nothing was accepted.
    #[error("too many events wait to be accepted")]
    Overloaded,
    /// The database did not confirm; the events may have been accepted or not: repeat them with their idempotency keys.
    #[error("the database did not confirm the events")]
    Unavailable,
}

/// The way in for events.
#[derive(Debug, Clone)]
pub struct Ingest {
    jobs: mpsc::UnboundedSender<Job>,
    room: Arc<Semaphore>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Job {
    events: Vec<NewEvent>,
    answer: oneshot::Sender<Result<Vec<Acceptance>, IngestError>>,
    /// Room in the queue, given back when the job is answered.
    room: OwnedSemaphorePermit,
}

impl Ingest {
    /// Starts the committers. They end with the stage, when they have answered every waiting caller.
    pub fn start(db: &Db, settings: &Settings, wakeup: &Wakeup, metrics: &Metrics, stage: &Stage) -> Self {
        let (jobs, receiver) = mpsc::unbounded_channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let default_expiry_seconds = u32::try_from(settings.default_expiry.as_secs()).unwrap_or(u32::MAX);
        let traffic = Arc::new(Traffic::default());
        for _ in 0..COMMITTERS {
            let traffic = Arc::clone(&traffic);
            let committer = Committer { db: db.clone(), wakeup: wakeup.clone(), default_expiry_seconds, traffic };
            stage.spawn(TaskName::IngestCommitter, |stop| committer.run(Arc::clone(&receiver), stop));
        }
        Self { jobs, room: Arc::new(Semaphore::new(settings.queue_events)), metrics: metrics.clone() }
    }

    /// Accepts `events` together, and answers each in its order, after the commit. Not canceled by dropping.
    pub async fn accept(&self, events: Vec<NewEvent>) -> Result<Vec<Acceptance>, IngestError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let started = Instant::now();
        let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(count) else {
            return Err(IngestError::Overloaded);
        };
        let (answer, answered) = oneshot::channel();
        if self.jobs.send(Job { events, answer, room }).is_err() {
            return Err(IngestError::Unavailable);
        }
        let result = answered.await.unwrap_or(Err(IngestError::Unavailable));
        self.metrics.ingest_observed(started.elapsed());
        result
    }
}

/// The transactions under way.
#[derive(Debug, Default)]
struct Traffic {
    under_way: AtomicUsize,
    ended: Notify,
}

#[derive(Debug)]
struct Committer {
    db: Db,
    wakeup: Wakeup,
    default_expiry_seconds: u32,
    traffic: Arc<Traffic>,
}

impl Committer {
    async fn run(self, jobs: Arc<Mutex<mpsc::UnboundedReceiver<Job>>>, stop: CancellationToken) {
        loop {
            let group = {
                let mut jobs = jobs.lock().await;
                let first = tokio::select! {
                    biased;
                    Some(first) = jobs.recv() => first,
                    () = stop.cancelled() => return,
                };
                let group = self.gather(first, &mut jobs).await;
                self.traffic.under_way.fetch_add(1, Ordering::AcqRel);
                group
            };
            self.commit(group).await;
            self.traffic.under_way.fetch_sub(1, Ordering::AcqRel);
            self.traffic.ended.notify_one();
        }
    }

    /// What goes into one transaction with `first`.
    async fn gather(&self, first: Job, jobs: &mut mpsc::UnboundedReceiver<Job>) -> Vec<Job> {
        let deadline = tokio::time::Instant::now() + GATHER;
        let mut events = first.events.len();
        let mut group = vec![first];
        while events < GROUP {
            if let Ok(job) = jobs.try_recv() {
                events += job.events.len();
                group.push(job);
                continue;
            }
            if events >= ENOUGH || self.traffic.under_way.load(Ordering::Acquire) == 0 {
                break;
            }
            tokio::select! {
                job = jobs.recv() => {
                    let Some(job) = job else { break };
                    events += job.events.len();
                    group.push(job);
                }
                () = self.traffic.ended.notified() => {}
                () = tokio::time::sleep_until(deadline) => break,
            }
        }
        group
    }

    async fn commit(&self, group: Vec<Job>) {
        match self.accept(&group).await {
            Ok(accepted) => self.answer(group, accepted),
            Err(error) if group.len() > 1 && is_about_the_events(&error) => {
                // One caller's key or lock must not cost the others their answer: each alone now.
                tracing::warn!(%error, events = group.len(), "a shared transaction failed; each caller gets its own");
                for job in group {
                    let group = vec![job];
                    match self.accept(&group).await {
                        Ok(accepted) => self.answer(group, accepted),
                        Err(error) => refuse(group, &error),
                    }
                }
            }
            Err(error) => refuse(group, &error),
        }
    }

    async fn accept(&self, group: &[Job]) -> Result<Accepted, sqlx::Error> {
        let events: Vec<&NewEvent> = group.iter().flat_map(|job| &job.events).collect();
        answered(accept::accept(&self.db, &events, self.default_expiry_seconds)).await
    }

    fn answer(&self, group: Vec<Job>, accepted: Accepted) {
        self.wakeup.ready(&accepted.ready);
        let mut answers = accepted.answers.into_iter();
        for Job { events, answer, room } in group {
            // A caller that has gone away does not undo what is accepted.
            drop(answer.send(Ok(answers.by_ref().take(events.len()).collect())));
            drop(room);
        }
    }
}

/// Whether the database answered and did not like the statement: another grouping may succeed.
fn is_about_the_events(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some()
}

fn refuse(group: Vec<Job>, error: &sqlx::Error) {
    tracing::error!(%error, callers = group.len(), "events could not be accepted");
    for job in group {
        drop(job.answer.send(Err(IngestError::Unavailable)));
    }
}
