//! Watches workspaces for this process. Polls the database once for all streams, and keeps the latest view of each tenant.
//!
//! Handlers of this process report changes at once. The next poll finds the changes of other processes. After a database
//! failure, and every 30 s, the hub reads all watched workspaces again, so that streams also show a change that the polls
//! missed.

use std::collections::HashMap;
use std::slice::from_ref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sqlx::Error;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::documents::View;
use crate::domain::names::TenantId;
use crate::domain::workspace::ActiveConversations;
use crate::store::workspace::{self, Snapshot};
use crate::store::{Db, FailureKind, failure_kind};

/// Minimum pause between polls. It limits how often the hub reads a workspace that changes constantly.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
/// The pause after a poll, as a multiple of the poll's duration, to limit the load on the database.
const REST_FACTOR: u32 = 4;
/// Pause between attempts while the database is unavailable.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(500);
/// Timeout of a poll, because the connection to the database may be dead without an error.
const ROUND_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum age of a view before it is read again.
const READ_ANEW: Duration = Duration::from_secs(30);
/// Tenants per statement.
const TENANTS_AT_ONCE: usize = 100;
/// How long the first stream of a tenant waits for the tenant's view.
const FIRST_VIEW_TIMEOUT: Duration = Duration::from_secs(5);

/// Receives the latest view of a tenant and a notification of each new view. Stores only one view, so that slow clients do
/// not use more memory.
pub(crate) type Views = watch::Receiver<Option<Arc<View>>>;

#[derive(Debug, Clone)]
pub(crate) struct Hub {
    db: Db,
    watched: Arc<Mutex<HashMap<TenantId, Watched>>>,
    wake: Arc<Notify>,
}

#[derive(Debug)]
struct Watched {
    views: watch::Sender<Option<Arc<View>>>,
    /// Whether the next poll must read the workspace.
    due: bool,
    read_at: Option<Instant>,
}

impl Hub {
    pub(crate) fn new(db: Db) -> Self {
        Self { db, watched: Arc::default(), wake: Arc::default() }
    }

    /// Starts watching a tenant's workspace; `None` if the database does not respond.
    pub(crate) async fn watch(&self, tenant: &TenantId) -> Option<Views> {
        let mut views = {
            let mut watched = self.watched.lock();
            let entry = watched.entry(tenant.clone()).or_insert_with(|| {
                self.wake.notify_one();
                Watched { views: watch::channel(None).0, due: true, read_at: None }
            });
            entry.views.subscribe()
        };
        let is_read = matches!(timeout(FIRST_VIEW_TIMEOUT, views.wait_for(Option::is_some)).await, Ok(Ok(_)));
        is_read.then_some(views)
    }

    /// Reports that the tenant's workspace may have changed.
    pub(crate) fn changed(&self, tenant: &TenantId) {
        if let Some(watched) = self.watched.lock().get_mut(tenant) {
            watched.due = true;
            self.wake.notify_one();
        }
    }

    /// Keeps the views up to date until the process stops.
    pub(crate) async fn run(self, poll_every: Duration, stop: CancellationToken) {
        let mut known: Option<Snapshot> = None;
        let mut failing = false;
        while !stop.is_cancelled() {
            let started = Instant::now();
            if self.is_watched() {
                let round = timeout(ROUND_TIMEOUT, self.round(known.take()));
                let Some(round) = stop.run_until_cancelled(round).await else { return };
                match round.unwrap_or(Err(Error::PoolTimedOut)) {
                    Ok(snapshot) => (known, failing) = (Some(snapshot), false),
                    Err(error) if failing => tracing::debug!(%error, "still could not read the workspaces"),
                    Err(error) => {
                        failing = true;
                        tracing::warn!(%error, "could not read the workspaces; streams resume when the database responds");
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
                        // Without streams, the hub polls no workspace.
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

    /// Reads the workspaces that have changed since the snapshot `known`. Without a snapshot, reads all watched workspaces.
    async fn round(&self, known: Option<Snapshot>) -> Result<Snapshot, Error> {
        let changes = workspace::changes(&self.db, known.as_ref()).await?;
        let due = self.take_due(known.is_none(), &changes.tenants);
        for tenants in due.chunks(TENANTS_AT_ONCE) {
            let read = self.read(tenants).await?;
            let mut watched = self.watched.lock();
            for (tenant, active) in read {
                if let Some(watched) = watched.get_mut(&tenant) {
                    watched.show(View::new(active));
                }
            }
        }
        Ok(changes.until)
    }

    /// Reads the workspaces of these tenants. If a workspace cannot be read, skips it until it changes or its view is old.
    async fn read(&self, tenants: &[TenantId]) -> Result<HashMap<TenantId, ActiveConversations>, Error> {
        match workspace::active(&self.db, tenants).await {
            Err(error) if failure_kind(&error) == FailureKind::Refusal => {}
            answer => return answer,
        }
        let mut read = HashMap::new();
        for tenant in tenants {
            match workspace::active(&self.db, from_ref(tenant)).await {
                Err(error) if failure_kind(&error) == FailureKind::Refusal => {
                    tracing::error!(%error, tenant.id = %tenant, "could not read the workspace of a tenant; its streams show the last view");
                    if let Some(watched) = self.watched.lock().get_mut(tenant) {
                        watched.read_at = Some(Instant::now());
                    }
                }
                answer => read.extend(answer?),
            }
        }
        Ok(read)
    }

    /// Stops watching tenants without streams, then returns whether any tenant is still watched.
    fn is_watched(&self) -> bool {
        let mut watched = self.watched.lock();
        watched.retain(|_, watched| watched.views.receiver_count() > 0);
        !watched.is_empty()
    }

    /// The tenants whose workspace this poll must read.
    fn take_due(&self, all: bool, changed: &[TenantId]) -> Vec<TenantId> {
        let mut watched = self.watched.lock();
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
}

impl Watched {
    fn is_due(&self) -> bool {
        self.due || self.read_at.is_none_or(|at| at.elapsed() >= READ_ANEW)
    }

    /// Stores the view, and notifies the streams if its contents have changed.
    fn show(&mut self, view: View) {
        self.read_at = Some(Instant::now());
        self.views.send_if_modified(|shown| {
            let is_new = shown.as_ref().is_none_or(|shown| shown.id != view.id);
            *shown = Some(Arc::new(view));
            is_new
        });
    }
}
