//! A committer takes waiting events in groups, round-robin by tenant, and commits each group. It never waits long for a lock.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::acceptor::{Acceptor, is_about_the_events};
use super::job::Job;
use super::shared::{Running, Shared, UnderWay};
use super::{GROUP, GROUP_LOCK_TIMEOUT};
use crate::store::accept::is_lock_timeout;

/// If this many events wait, a transaction starts even while another transaction is in progress.
const ENOUGH: usize = 32;
/// The maximum wait for `ENOUGH` events.
const GATHER: Duration = Duration::from_millis(2);
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
        if let Some(first) = shared.next(usize::MAX) {
            return Some(first);
        }
        tokio::select! {
            biased;
            () = shared.arrived.notified() => {}
            () = stop.cancelled() => return shared.next(usize::MAX),
        }
    }
}

/// Collects the jobs for one transaction, starting with `first`.
async fn gather(shared: &Shared, first: Job) -> Vec<Job> {
    let deadline = tokio::time::Instant::now() + GATHER;
    let mut events = first.events().len();
    let mut group = vec![first];
    while events < GROUP {
        if let Some(job) = shared.next(GROUP - events) {
            events += job.events().len();
            group.push(job);
            continue;
        }
        // A job that still waits is too large for this group.
        if events >= ENOUGH || shared.has_waiting() || shared.under_way.load(Ordering::Acquire) == 0 {
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::domain::event::{EventType, NewEvent};
    use crate::domain::names::{AgentId, SessionId, TenantId};

    fn messages(tenant: &str, count: usize) -> Vec<NewEvent> {
        let (tenant, agent, session) = (tenant.to_owned(), "agent-1".to_owned(), "s-1".to_owned());
        let (tenant, agent) = (TenantId::from_stored(tenant), AgentId::from_stored(agent));
        let event = NewEvent::new(tenant, EventType::UserMessage, agent, SessionId::from_stored(session));
        vec![NewEvent { text: Some("hi".to_owned()), ..event }; count]
    }

    #[tokio::test]
    async fn single_events_wait_for_at_most_one_large_batch_and_do_not_share_its_transaction() {
        let shared = Arc::new(Shared::new(10_000, 1));
        let _running = Running::new(&shared);
        let posts = [("a", 2 * GROUP), ("a", 2 * GROUP), ("a", 2 * GROUP), ("b", 1), ("b", 1), ("b", 1)];
        let _waiting = posts.map(|(tenant, count)| shared.offer(messages(tenant, count), Instant::now()).unwrap());
        let mut groups = Vec::new();
        while let Some(first) = shared.next(usize::MAX) {
            let group = gather(&shared, first).await;
            let sizes: Vec<_> =
                group.iter().map(|job| (job.tenant().as_str().to_owned(), job.events().len())).collect();
            groups.push(sizes);
        }
        let (batch, single) = (("a".to_owned(), 2 * GROUP), ("b".to_owned(), 1));
        assert_eq!(groups, [vec![batch.clone()], vec![single; 3], vec![batch.clone()], vec![batch]]);
    }
}
