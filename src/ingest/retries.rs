//! Events that may need a locked session or idempotency key. Retriers retry them separately from the committers, first by
//! tenant and then by caller. Pure state.
//!
//! A retrier first tries all callers of a tenant in one transaction. So callers whose group failed because of another tenant's
//! lock succeed at once. If this transaction also times out on a lock, the retrier tries each caller alone. At most one
//! transaction at a time uses a session or an idempotency key, because a second transaction would wait for the same lock.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::job::{Job, runs};
use super::locks::{FoundLocked, LockKey, LockKeys};
use super::round_robin::RoundRobin;
use super::{GROUP, GROUP_LOCK_TIMEOUT};
use crate::domain::event::NewEvent;
use crate::domain::names::TenantId;
use crate::store::accept::LOCK_TIMEOUT;

/// The maximum wait for a retry. Callers have given up by then.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);
/// If this many callers of a tenant wait for retries, the tenant's next events also go to the retriers, not to the committers.
const CROWD: usize = 8;

/// A caller's events to retry.
#[derive(Debug)]
pub(super) struct Retry {
    pub(super) job: Job,
    keys: Vec<LockKey>,
    since: Instant,
    /// True if a transaction with other callers of the tenant failed, so that the caller is retried alone.
    is_alone: bool,
}

/// The next transaction of a retrier.
#[derive(Debug, Default)]
pub(super) struct RetryGroup {
    /// The retries of one transaction, all of one tenant. May be empty.
    pub(super) group: Vec<Retry>,
    pub(super) lock_timeout: Duration,
    /// Jobs that waited too long for a retry.
    pub(super) given_up: Vec<Job>,
}

#[derive(Debug)]
pub(super) struct Retries {
    /// The maximum number of concurrent transactions for one tenant.
    most_of_tenant: usize,
    waiting: RoundRobin<Retry>,
    /// The lock keys of all waiting and running retries.
    keys: HashMap<LockKey, KeyUse>,
    tenants: HashMap<TenantId, TenantUse>,
    found: FoundLocked,
    /// The locks on which a retry timed out. `found` also has locks that delayed a committer only briefly.
    timed_out: FoundLocked,
    hash: LockKeys,
}

#[derive(Debug, Default)]
struct KeyUse {
    jobs: usize,
    is_under_way: bool,
}

#[derive(Debug, Default)]
struct TenantUse {
    jobs: usize,
    under_way: usize,
}

impl Retries {
    /// Creates the state for this number of `retriers`. One tenant may use half of them.
    pub(super) fn new(retriers: usize) -> Self {
        Self {
            most_of_tenant: (retriers / 2).max(1),
            waiting: RoundRobin::default(),
            keys: HashMap::new(),
            tenants: HashMap::new(),
            found: FoundLocked::default(),
            timed_out: FoundLocked::default(),
            hash: LockKeys::default(),
        }
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// True if these events would probably delay a committer, because another transaction holds a lock that they need. The
    /// check is cheap if no lock is remembered.
    pub(super) fn concern(&mut self, events: &[NewEvent], now: Instant) -> bool {
        if self.found.is_empty(now) && self.tenants.is_empty() {
            return false;
        }
        runs(events).any(|run| {
            let (tenant, keys) = (&run[0].tenant_id, self.hash.of(run));
            let is_crowd = self.tenants.get(tenant).is_some_and(|of| of.jobs >= CROWD);
            let is_here = keys.iter().any(|key| self.keys.contains_key(key));
            !keys.is_empty() && (is_crowd || is_here || self.found.may_have(tenant, &keys, now))
        })
    }

    /// True if these events need a lock on which a retry timed out recently, and another caller already waits for this lock.
    pub(super) fn would_wait_in_vain(&mut self, events: &[NewEvent], now: Instant) -> bool {
        if self.timed_out.is_empty(now) {
            return false;
        }
        runs(events).any(|run| {
            let mut keys = self.hash.of(run);
            keys.retain(|key| self.keys.contains_key(key));
            self.timed_out.has(&run[0].tenant_id, &keys, now)
        })
    }

    /// Adds a job that a committer could not accept or should not try.
    pub(super) fn add(&mut self, job: Job, now: Instant) {
        let keys = self.hash.of(job.events());
        for key in &keys {
            self.keys.entry(*key).or_default().jobs += 1;
        }
        let tenant = job.tenant().clone();
        self.tenants.entry(tenant.clone()).or_default().jobs += 1;
        self.waiting.push(&tenant, Retry { job, keys, since: now, is_alone: false });
    }

    /// Adds the only job of a transaction that timed out on a lock. Remembers the sessions and
    /// idempotency keys of this job as locked.
    pub(super) fn add_locked(&mut self, job: Job, now: Instant) {
        self.found.note(&self.hash, job.events(), now);
        self.add(job, now);
    }

    /// Returns the next group to retry. The retrier reports the result with `accepted`, `refused` or `separate`.
    pub(super) fn take(&mut self, now: Instant) -> RetryGroup {
        let mut over = Vec::new();
        let Self { most_of_tenant, waiting, keys, tenants, found, .. } = self;
        let is_free = |retry: &Retry| !retry.keys.iter().any(|key| keys.get(key).is_some_and(|of| of.is_under_way));
        let is_locked = |retry: &Retry| found.has(retry.job.tenant(), &retry.keys, now);
        let is_over = |retry: &Retry| {
            let waited = now.saturating_duration_since(retry.since);
            waited >= TURN_TIMEOUT || (waited >= LOCK_TIMEOUT && is_locked(retry))
        };
        let group = waiting.next_by(|tenant, line| {
            if tenants.get(tenant).is_some_and(|of| of.under_way >= *most_of_tenant) {
                return None;
            }
            let first = loop {
                let first = line.remove(line.iter().position(is_free)?)?;
                if !is_over(&first) {
                    break first;
                }
                over.push(first);
            };
            let goes_alone = |retry: &Retry| retry.is_alone || is_locked(retry);
            let is_group = !goes_alone(&first);
            let mut group = vec![first];
            if is_group {
                add_others(&mut group, line, |retry| !goes_alone(retry) && is_free(retry) && !is_over(retry));
            }
            Some(group)
        });
        let group = group.unwrap_or_default();
        self.begin(&group);
        let given_up = over.into_iter().map(|retry| self.leave(retry)).collect();
        RetryGroup { lock_timeout: lock_timeout(&group, now), group, given_up }
    }

    /// Notes that the group was accepted, and forgets its locks.
    pub(super) fn accepted(&mut self, group: Vec<Retry>) -> Vec<Job> {
        self.end(&group);
        for retry in &group {
            self.found.forget(&self.hash, retry.job.events());
            self.timed_out.forget(&self.hash, retry.job.events());
        }
        group.into_iter().map(|retry| self.leave(retry)).collect()
    }

    /// Notes that the group was refused. If the events of a single caller timed out on a lock, remembers the lock.
    pub(super) fn refused(&mut self, group: Vec<Retry>, is_locked: bool, now: Instant) -> Vec<Job> {
        self.end(&group);
        if let ([retry], true) = (group.as_slice(), is_locked) {
            self.found.note(&self.hash, retry.job.events(), now);
            self.timed_out.note(&self.hash, retry.job.events(), now);
        }
        group.into_iter().map(|retry| self.leave(retry)).collect()
    }

    /// Notes that a group of several callers failed. Each of these callers is retried alone.
    pub(super) fn separate(&mut self, group: Vec<Retry>) {
        self.end(&group);
        for retry in group.into_iter().rev() {
            let tenant = retry.job.tenant().clone();
            self.waiting.push_front(&tenant, Retry { is_alone: true, ..retry });
        }
    }

    fn begin(&mut self, group: &[Retry]) {
        if let Some(of) = group.first().and_then(|retry| self.tenants.get_mut(retry.job.tenant())) {
            of.under_way += 1;
        }
        self.mark(group, true);
    }

    fn end(&mut self, group: &[Retry]) {
        if let Some(of) = group.first().and_then(|retry| self.tenants.get_mut(retry.job.tenant())) {
            of.under_way -= 1;
        }
        self.mark(group, false);
    }

    fn mark(&mut self, group: &[Retry], is_under_way: bool) {
        for key in group.iter().flat_map(|retry| &retry.keys) {
            if let Some(of) = self.keys.get_mut(key) {
                of.is_under_way = is_under_way;
            }
        }
    }

    /// Removes a retry whose caller now gets a response.
    fn leave(&mut self, retry: Retry) -> Job {
        for key in &retry.keys {
            if let Some(of) = self.keys.get_mut(key) {
                of.jobs -= 1;
                if of.jobs == 0 {
                    self.keys.remove(key);
                }
            }
        }
        if let Some(of) = self.tenants.get_mut(retry.job.tenant()) {
            of.jobs -= 1;
            if of.jobs == 0 {
                self.tenants.remove(retry.job.tenant());
            }
        }
        retry.job
    }
}

/// Moves other retries of the tenant into the group, if they fit into one transaction.
fn add_others(group: &mut Vec<Retry>, line: &mut VecDeque<Retry>, fits: impl Fn(&Retry) -> bool) {
    let mut events: usize = group.iter().map(|retry| retry.job.events().len()).sum();
    for retry in std::mem::take(line) {
        let count = retry.job.events().len();
        if events + count <= GROUP && fits(&retry) {
            events += count;
            group.push(retry);
        } else {
            line.push_back(retry);
        }
    }
}

/// How long a transaction waits for a lock. A group waits as long as a committer's transaction. A single caller waits for the
/// rest of `LOCK_TIMEOUT`.
fn lock_timeout(group: &[Retry], now: Instant) -> Duration {
    let [retry] = group else { return GROUP_LOCK_TIMEOUT };
    let waited = now.saturating_duration_since(retry.since);
    LOCK_TIMEOUT.saturating_sub(waited).max(GROUP_LOCK_TIMEOUT)
}
