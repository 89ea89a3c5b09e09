//! What is watched in this process: one question to the database for all streams, and the latest view of each tenant.
//!
//! A change is learnt from the process's own handlers at once, and from the database within a poll. After a failure of the
//! database, and every now and then, everything that is watched is read anew: what was missed, for whatever reason, heals.

use std::collections::HashMap;
use std::slice::from_ref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::Error;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::documents::View;
use crate::domain::names::TenantId;
use crate::domain::workspace::ActiveConversations;
use crate::store::workspace::{self, Snapshot};
use crate::store::{Db, FailureKind, failure_kind};

/// Between two rounds at least: a tenant that changes all the time is read so often and no more.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
/// Rounds take at most this part of the time.
const REST_FACTOR: u32 = 4;
/// Between attempts while the database is away.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(500);
/// A round that takes longer has failed: the way to the database may be gone without a word.
const ROUND_TIMEOUT: Duration = Duration::from_secs(10);
/// A view that is older is read again.
const READ_ANEW: Duration = Duration::from_secs(30);
/// Tenants of one statement.
const TENANTS_AT_ONCE: usize = 100;
/// How long the first watcher of a tenant waits for its view.
const FIRST_VIEW_TIMEOUT: Duration = Duration::from_secs(5);

/// The latest view of a tenant, and the news of later ones. Holds one view, so that nobody's slowness fills memory.
pub(super) type Views = watch::Receiver<Option<Arc<View>>>;

#[derive(Debug, Clone)]
pub(super) struct Hub {
    db: Db,
    watched: Arc<Mutex<HashMap<TenantId, Watched>>>,
    wake: Arc<Notify>,
}

#[derive(Debug)]
struct Watched {
    views: watch::Sender<Option<Arc<View>>>,
    /// To be read in the next round.
    due: bool,
    read_at: Option<Instant>,
}

impl Hub {
    pub(super) fn new(db: Db) -> Self {
        Self { db, watched: Arc::default(), wake: Arc::default() }
    }

    /// The workspace of a tenant from now on; `None`: the database does not answer.
    pub(super) async fn watch(&self, tenant: &TenantId) -> Option<Views> {
        let mut views = {
            let mut watched = self.watched();
            let entry = watched.entry(tenant.clone()).or_insert_with(|| {
                self.wake.notify_one();
                Watched { views: watch::channel(None).0, due: true, read_at: None }
            });
            entry.views.subscribe()
        };
        let is_read = matches!(timeout(FIRST_VIEW_TIMEOUT, views.wait_for(Option::is_some)).await, Ok(Ok(_)));
        is_read.then_some(views)
    }

    /// The tenant's workspace may have changed.
    pub(super) fn changed(&self, tenant: &TenantId) {
        if let Some(watched) = self.watched().get_mut(tenant) {
            watched.due = true;
            self.wake.notify_one();
        }
    }

    /// Keeps the views up to date until `stop`.
    pub(super) async fn run(self, poll_every: Duration, stop: CancellationToken) {
        let mut known: Option<Snapshot> = None;
        let mut failing = false;
        while !stop.is_cancelled() {
            let started = Instant::now();
            if self.is_watched() {
                let round = timeout(ROUND_TIMEOUT, self.round(known.take()));
                let Some(round) = stop.run_until_cancelled(round).await else { return };
                match round.unwrap_or(Err(Error::PoolTimedOut)) {
                    Ok(snapshot) => (known, failing) = (Some(snapshot), false),
                    Err(error) if failing => tracing::debug!(%error, "the workspaces still cannot be read"),
                    Err(error) => {
                        failing = true;
                        tracing::warn!(%error, "the workspaces cannot be read; streams go on when the database does");
                    }
                }
            } else {
                (known, failing) = (None, false);
            }
            let rest = if failing { PAUSE_AFTER_FAILURE } else { SHORTEST_PAUSE.max(started.elapsed() * REST_FACTOR) };
            let resting = async {
                sleep(rest).await;
                let poll = async {
                    match known {
                        Some(_) => sleep(poll_every.saturating_sub(rest)).await,
                        // Nobody watches: there is nothing to ask for.
                        None if !failing => std::future::pending().await,
                        None => {}
                    }
                };
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = poll => {}
                }
            };
            stop.run_until_cancelled(resting).await;
        }
    }

    /// Asks what has changed since `known`, and reads that. If that is not known, everything may have changed.
    async fn round(&self, known: Option<Snapshot>) -> Result<Snapshot, Error> {
        let changes = workspace::changes(&self.db, known.as_ref()).await?;
        let due = self.take_due(known.is_none(), &changes.tenants);
        for tenants in due.chunks(TENANTS_AT_ONCE) {
            let read = self.read(tenants).await?;
            let mut watched = self.watched();
            for (tenant, active) in read {
                if let Some(watched) = watched.get_mut(&tenant) {
                    watched.show(View::new(active));
                }
            }
        }
        Ok(changes.until)
    }

    /// The workspaces of these tenants. One that the database refuses to read is left out, until it changes or its view is old.
    async fn read(&self, tenants: &[TenantId]) -> Result<HashMap<TenantId, ActiveConversations>, Error> {
        match workspace::active(&self.db, tenants).await {
            Err(error) if failure_kind(&error) == FailureKind::Refusal => {}
            answer => return answer,
        }
        let mut read = HashMap::new();
        for tenant in tenants {
            match workspace::active(&self.db, from_ref(tenant)).await {
                Err(error) if failure_kind(&error) == FailureKind::Refusal => {
                    tracing::error!(%error, tenant.id = %tenant, "the workspace of a tenant cannot be read; its streams show the last view");
                    if let Some(watched) = self.watched().get_mut(tenant) {
                        watched.read_at = Some(Instant::now());
                    }
                }
                answer => read.extend(answer?),
            }
        }
        Ok(read)
    }

    /// Whether anybody watches. Tenants that nobody watches any more are forgotten.
    fn is_watched(&self) -> bool {
        let mut watched = self.watched();
        watched.retain(|_, watched| watched.views.receiver_count() > 0);
        !watched.is_empty()
    }

    /// What this round has to read.
    fn take_due(&self, all: bool, changed: &[TenantId]) -> Vec<TenantId> {
        let mut watched = self.watched();
        for tenant in changed {
            if let Some(watched) = watched.get_mut(tenant) {
                watched.due = true;
            }
        }
        let due = watched.iter_mut().filter(|(_, watched)| all || watched.is_due());
        due.map(|(tenant, watched)| {
            watched.due = false;
            tenant.clone()
        })
        .collect()
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<TenantId, Watched>> {
        // Nothing that can panic happens under the lock; the map is whole even if it did.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn is_due(&self) -> bool {
        self.due || self.read_at.is_none_or(|at| at.elapsed() >= READ_ANEW)
    }

    /// Tells those who watch, if there is anything new to see.
    fn show(&mut self, view: View) {
        self.read_at = Some(Instant::now());
        self.views.send_if_modified(|shown| {
            let is_new = shown.as_ref().is_none_or(|shown| shown.id != view.id);
            *shown = Some(Arc::new(view));
            is_new
        });
    }
}
