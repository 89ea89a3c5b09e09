//! Registers this process as a worker, sends heartbeats, and stops claims while heartbeats fail.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Settings;
use crate::domain::ids::WorkerId;
use crate::store::queue::workers;
use crate::store::{Db, FailureKind, failure_kind, with_timeout};

/// Heartbeats per lease.
const BEATS_PER_LEASE: u32 = 6;
/// Pause between attempts to register again, while the database is unavailable.
const REGISTER_PAUSE: Duration = Duration::from_millis(200);
/// Pause between attempts that the database refuses. It is longer, because an operator must first fix the cause.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct WorkerRegistration {
    db: Db,
    lease: Duration,
    description: String,
    state: Mutex<State>,
    allowed: Notify,
    beat_now: Notify,
}

#[derive(Debug)]
struct State {
    id: WorkerId,
    /// The time when the database last confirmed a heartbeat.
    confirmed_at: Instant,
    /// The time when the database last failed.
    failed_at: Option<Instant>,
}

impl WorkerRegistration {
    pub(super) async fn register(db: Db, settings: &Settings) -> Result<Self, sqlx::Error> {
        let id = WorkerId::from_uuid(Uuid::now_v7());
        workers::register(&db, id, &settings.description).await?;
        Ok(Self {
            db,
            lease: settings.lease,
            description: settings.description.clone(),
            state: Mutex::new(State { id, confirmed_at: Instant::now(), failed_at: None }),
            allowed: Notify::new(),
            beat_now: Notify::new(),
        })
    }

    pub(super) fn id(&self) -> WorkerId {
        self.state.lock().id
    }

    /// False if the database has confirmed no heartbeat for half a lease, because the reaper might soon fence this worker.
    pub(super) fn may_claim(&self) -> bool {
        self.state.lock().confirmed_at.elapsed() < self.lease / 2
    }

    /// Waits until claims are probably allowed again. The caller then calls [`Self::may_claim`].
    pub(super) async fn claiming_allowed(&self) {
        let allowed = self.allowed.notified();
        if !self.may_claim() {
            allowed.await;
        }
    }

    /// Notes that the database failed, so that the reaper restarts its liveness timers.
    pub(super) fn database_failed(&self) {
        self.state.lock().failed_at = Some(Instant::now());
    }

    pub(super) fn last_failure(&self) -> Option<Instant> {
        self.state.lock().failed_at
    }

    /// Registers this process under a new id after the reaper fenced `id`. Does nothing if the process already has another id.
    pub(super) async fn replace_fenced(&self, id: WorkerId) {
        if self.id() != id {
            return;
        }
        tracing::warn!(worker.id = %id, "this worker was fenced and registers again; its claimed deliveries are recorded as interrupted");
        let new = WorkerId::from_uuid(Uuid::now_v7());
        fail::fail_point!("register::before");
        while let Err(error) = with_timeout(workers::register(&self.db, new, &self.description)).await {
            tracing::warn!(%error, "the worker could not register again; it claims nothing until a retry succeeds");
            let is_refused = failure_kind(&error) == FailureKind::Refusal;
            tokio::time::sleep(if is_refused { REFUSED_PAUSE } else { REGISTER_PAUSE }).await;
        }
        if self.replace(id, new) {
            self.allowed.notify_waiters();
        } else {
            // Another task detected the fence at the same time, and this process already uses the id that the other task
            // registered.
            self.deregister(new).await;
        }
    }

    /// Returns true if `new` is now the id of this process, and false if another id replaced `old` before.
    fn replace(&self, old: WorkerId, new: WorkerId) -> bool {
        let mut state = self.state.lock();
        if state.id != old {
            return false;
        }
        state.id = new;
        state.confirmed_at = Instant::now();
        true
    }

    /// Sends heartbeats until `stop`.
    pub(super) async fn run(&self, stop: CancellationToken) {
        let pause = self.lease / BEATS_PER_LEASE;
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = self.beat_now.notified() => {}
            }
            self.beat().await;
        }
    }

    async fn beat(&self) {
        let id = self.id();
        let asked_at = Instant::now();
        match tokio::time::timeout(self.lease / 2, workers::heartbeat(&self.db, id)).await {
            Ok(Ok(true)) => {
                self.state.lock().confirmed_at = asked_at;
                self.allowed.notify_waiters();
            }
            Ok(Ok(false)) => self.replace_fenced(id).await,
            Ok(Err(error)) => {
                tracing::warn!(%error, "a heartbeat failed");
                // After an outage, the heartbeats of other workers may be missing too. A refusal concerns only this worker's row.
                if failure_kind(&error) != FailureKind::Refusal {
                    self.database_failed();
                    self.retry_soon().await;
                }
            }
            Err(_) => {
                self.database_failed();
                tracing::warn!("a heartbeat timed out");
            }
        }
    }

    async fn retry_soon(&self) {
        tokio::time::sleep(REGISTER_PAUSE).await;
        self.beat_now.notify_one();
    }

    pub(super) async fn end(&self) {
        self.deregister(self.id()).await;
    }

    async fn deregister(&self, id: WorkerId) {
        if let Err(error) = with_timeout(workers::end(&self.db, id)).await {
            tracing::warn!(%error, "the worker could not deregister; the reaper will fence it");
        }
    }
}
