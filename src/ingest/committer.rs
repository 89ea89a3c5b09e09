//! A committer takes waiting events in groups, round-robin by tenant, and commits each group. It never waits long for a lock.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::GROUP;
use super::acceptor::{Acceptor, is_about_the_events};
use super::job::Job;
use super::shared::{Running, Shared, UnderWay};
use crate::store::accept::is_lock_timeout;

/// If this many events wait, a transaction starts even while another transaction is in progress.
const ENOUGH: usize = 32;
/// The maximum wait for `ENOUGH` events.
const GATHER: Duration = Duration::from_millis(2);
/// How long a transaction of several callers waits for a lock. The limit is longer than nearly every commit takes, so that a
/// group usually gets a lock that another group holds. It is short, because meanwhile all callers of the transaction wait and
/// the committer takes no other events.
pub(super) const GROUP_LOCK_TIMEOUT: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Committer {
    acceptor: Acceptor,
    /// Locked by the committer that fills a group, so that only one committer at a time fills a group.
    gathering: Arc<Mutex<()>>,
    _running: Running,
}

impl Committer {
    pub(super) fn new(acceptor: Acceptor, gathering: Arc<Mutex<()>>) -> Self {
        let running = Running::new(&acceptor.shared);
        Self { acceptor, gathering, _running: running }
    }

    pub(super) async fn run(self, stop: CancellationToken) {
        let shared = &*self.acceptor.shared;
        loop {
            let gathering = self.gathering.lock().await;
            let Some(first) = first(shared, &stop).await else { return };
            let group = gather(shared, first).await;
            let under_way = UnderWay::begin(shared);
            drop(gathering);
            self.commit(group).await;
            drop(under_way);
        }
    }

    async fn commit(&self, group: Vec<Job>) {
        let shared = &self.acceptor.shared;
        let error = match self.acceptor.accept(group.iter(), GROUP_LOCK_TIMEOUT).await {
            Ok(accepted) => return shared.answer(group, accepted),
            Err(error) => error,
        };
        let is_locked = is_lock_timeout(&error);
        if is_locked || (group.len() > 1 && is_about_the_events(&error)) {
            tracing::warn!(%error, callers = group.len(), "a transaction failed; retrying its events separately");
            shared.hand_over(group, is_locked);
        } else {
            tracing::error!(%error, callers = group.len(), "could not accept events");
            shared.refuse(group);
        }
    }
}

/// Waits for the first job of a group. Returns `None` if the process stops and no job waits.
async fn first(shared: &Shared, stop: &CancellationToken) -> Option<Job> {
    loop {
        if let Some(first) = shared.next() {
            return Some(first);
        }
        tokio::select! {
            biased;
            () = shared.arrived.notified() => {}
            () = stop.cancelled() => return shared.next(),
        }
    }
}

/// Collects the jobs for one transaction, starting with `first`.
async fn gather(shared: &Shared, first: Job) -> Vec<Job> {
    let deadline = tokio::time::Instant::now() + GATHER;
    let mut events = first.events().len();
    let mut group = vec![first];
    while events < GROUP {
        if let Some(job) = shared.next() {
            events += job.events().len();
            group.push(job);
            continue;
        }
        if events >= ENOUGH || shared.under_way.load(Ordering::Acquire) == 0 {
            break;
        }
        tokio::select! {
            () = shared.arrived.notified() => {}
            () = shared.ended.notified() => {}
            () = tokio::time::sleep_until(deadline) => break,
        }
    }
    group
}
