//! Outcomes that the database does not accept now. They keep their permits and are retried.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sqlx::Error;

use super::completion::{Completion, CompletionKind};
use crate::domain::endpoint::Channel;
use crate::domain::ids::ClaimId;
use crate::store::queue::finish::{self, Lock};
use crate::store::{Db, FailureKind, failure_kind, sqlstate, with_timeout};

/// Outcomes to record in one transaction, or deliveries of one claim to release in one transaction.
pub(super) type Part = Vec<Completion>;

/// The set-aside outcomes and releases of one completer, ordered by their next retries.
#[derive(Debug, Default)]
pub(super) struct SetAsideOutcomes {
    parts: VecDeque<SetAside>,
}

#[derive(Debug)]
struct SetAside {
    part: Part,
    /// The lock that the outcomes wait for, or the first that they need. `None` if the database refused the outcomes. A release
    /// also has `None`.
    lock: Option<Lock>,
}

impl SetAsideOutcomes {
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(super) fn outcomes(&self) -> usize {
        self.parts.iter().map(|set_aside| set_aside.part.len()).sum()
    }

    /// True if the completion might need a lock that set-aside outcomes wait for. For a `gone` outcome, also true if the `gone`
    /// outcome of another endpoint waits, because the lock might be on the whole table of endpoints.
    pub(super) fn waits_for_lock(&self, completion: &Completion) -> bool {
        let needed: Vec<Lock> = needed_locks(completion).collect();
        let is_gone = |lock: &Lock| matches!(lock, Lock::Endpoint(_));
        let mut waited_for = self.parts.iter().filter_map(|set_aside| set_aside.lock);
        waited_for.any(|lock| needed.contains(&lock) || is_gone(&lock) && needed.iter().any(is_gone))
    }

    pub(super) fn completions(&self) -> impl Iterator<Item = &Completion> {
        self.parts.iter().flat_map(|set_aside| &set_aside.part)
    }

    /// The claims whose rows other sessions have locked.
    pub(super) fn locked_claims(&self) -> Vec<ClaimId> {
        let claim = |lock| if let Lock::Claim(claim) = lock { Some(claim) } else { None };
        self.parts.iter().filter_map(|set_aside| set_aside.lock.and_then(claim)).collect()
    }

    /// Adds outcomes or releases that the database refused, or that timed out on this lock. Groups up to `most` outcomes that
    /// wait for the same lock.
    pub(super) fn push(&mut self, mut part: Part, lock: Option<Lock>, most: usize) {
        let same_lock = |other: &&mut SetAside| lock.is_some() && other.lock == lock;
        match self.parts.iter_mut().rfind(same_lock) {
            Some(last) if last.part.len() + part.len() <= most => last.part.append(&mut part),
            _ => self.parts.push_back(SetAside { part, lock }),
        }
    }

    /// How many groups of outcomes need none of these locks.
    pub(super) fn free(&self, taken: &BTreeSet<Lock>) -> usize {
        self.parts.iter().filter(|set_aside| set_aside.is_free(taken)).count()
    }

    /// Takes the first group of outcomes that needs none of these locks.
    pub(super) fn pop_free(&mut self, taken: &BTreeSet<Lock>) -> Option<Part> {
        let free = self.parts.iter().position(|set_aside| set_aside.is_free(taken))?;
        self.parts.remove(free).map(|set_aside| set_aside.part)
    }
}

impl SetAside {
    fn is_free(&self, taken: &BTreeSet<Lock>) -> bool {
        !self.lock.is_some_and(|lock| taken.contains(&lock)) && !needs_any(&self.part, taken)
    }
}

/// Splits completions by their locked claims in `taken`, and the others by the first lock that each needs: newer days come
/// first, then `gone` outcomes, then locked claims. Releases stay together, because they need the same tables.
pub(super) fn by_lock(part: Part, taken: &BTreeSet<Lock>) -> BTreeMap<Option<Lock>, Part> {
    let mut locks: BTreeMap<Option<Lock>, Part> = BTreeMap::new();
    for completion in part {
        let claim = taken.get(&Lock::Claim(completion.claim.id)).copied();
        let lock = claim.or_else(|| first_lock(&completion));
        locks.entry(lock).or_default().push(completion);
    }
    locks
}

pub(super) fn first_lock(completion: &Completion) -> Option<Lock> {
    needed_locks(completion).next()
}

/// The locks that recording this completion needs, without the lock of its claim. [`by_lock`] groups completions by the first of
/// these locks.
fn needed_locks(completion: &Completion) -> impl Iterator<Item = Lock> {
    let is_outcome = completion.kind == CompletionKind::Record;
    is_outcome.then(|| finish::locks(&completion.finished)).into_iter().flatten()
}

/// Returns the locks that these completions and the deletion of the claims in `complete` need, and that other sessions hold now.
/// If the database does not respond, returns an empty set.
pub(super) async fn taken_locks(
    db: &Db,
    channel: Channel,
    complete: &[ClaimId],
    completions: impl Iterator<Item = &Completion>,
) -> BTreeSet<Lock> {
    let taken = finish::taken_locks(db, channel, complete, completions.map(|one| &one.finished));
    with_timeout(taken).await.unwrap_or_else(|error: Error| {
        tracing::warn!(%error, "could not check which locks are taken");
        BTreeSet::new()
    })
}

pub(super) fn needs_any(part: &[Completion], taken: &BTreeSet<Lock>) -> bool {
    part.iter().any(|completion| needed_locks(completion).any(|lock| taken.contains(&lock)))
}

pub(super) fn log_set_aside(channel: Channel, part: &[Completion], error: &Error) {
    let Some(first) = part.first() else { return };
    let (channel, code) = (channel.as_str(), sqlstate(error));
    if failure_kind(error) == FailureKind::TimeLimit {
        tracing::error!(%error, sqlstate = code.as_deref(), outcomes = part.len(), first.delivery.id = %first.finished.id, channel, "outcomes could not be recorded in time and were set aside; they are tried again every 10 s");
        return;
    }
    let outcome = match first.kind {
        CompletionKind::Record => first.finished.attempt.outcome.as_str(),
        CompletionKind::Release => "released",
    };
    tracing::error!(%error, sqlstate = code.as_deref(), claim.id = %first.claim.id, delivery.id = %first.finished.id, tenant.id = %first.finished.tenant_id, channel, outcome, "an outcome was refused by the database and set aside; it is tried again every 10 s");
}
