//! Outcomes that the database does not accept now. They keep their permits and are retried.

use std::collections::{BTreeMap, VecDeque};

use chrono::NaiveDate;
use sqlx::Error;
use uuid::Uuid;

use super::claimed::{Completion, CompletionKind};
use crate::domain::delivery::Outcome;
use crate::domain::endpoint::Channel;
use crate::store::{FailureKind, failure_kind, sqlstate};

/// Outcomes that are recorded together, or deliveries of one claim that are released together.
pub(super) type Part = Vec<Completion>;

/// The set-aside parts of one completer, in the order of the next retries.
#[derive(Debug, Default)]
pub(super) struct SetAsideOutcomes {
    parts: VecDeque<SetAside>,
}

#[derive(Debug)]
struct SetAside {
    part: Part,
    /// The lock that the part waits for; `None`: the database refused it, or it is to be released.
    lock: Option<Lock>,
}

/// A lock that some outcomes need and others do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lock {
    /// On the table of a day.
    Day(NaiveDate),
    /// On the row of an endpoint that is gone, which its outcome disables or deletes.
    Endpoint(Uuid),
}

impl SetAsideOutcomes {
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    pub(super) fn outcomes(&self) -> usize {
        self.parts.iter().map(|set_aside| set_aside.part.len()).sum()
    }

    /// True if other outcomes wait for the same lock: this one would wait too.
    pub(super) fn waits_for_lock(&self, completion: &Completion) -> bool {
        let lock = lock(completion);
        lock.is_some() && self.parts.iter().any(|set_aside| set_aside.lock == lock)
    }

    /// Adds a part that the database refused.
    pub(super) fn push_refused(&mut self, part: Part) {
        self.parts.push_back(SetAside { part, lock: None });
    }

    /// Adds a part that timed out on one lock. Parts that wait for the same lock are merged, up to `most` outcomes.
    pub(super) fn push_locked(&mut self, mut part: Part, most: usize) {
        let lock = part.first().and_then(lock);
        let same_lock = |other: &&mut SetAside| lock.is_some() && other.lock == lock;
        match self.parts.iter_mut().rfind(same_lock) {
            Some(last) if last.part.len() + part.len() <= most => last.part.append(&mut part),
            _ => self.parts.push_back(SetAside { part, lock }),
        }
    }

    pub(super) fn pop(&mut self) -> Option<Part> {
        self.parts.pop_front().map(|set_aside| set_aside.part)
    }
}

/// Splits outcomes by the locks that they may wait for. Deliveries to release stay together, because they go to the same tables.
pub(super) fn by_lock(part: Part) -> Vec<Part> {
    let mut locks: BTreeMap<Option<Lock>, Part> = BTreeMap::new();
    for completion in part {
        locks.entry(lock(&completion)).or_default().push(completion);
    }
    locks.into_values().collect()
}

fn lock(completion: &Completion) -> Option<Lock> {
    let finished = &completion.finished;
    match (completion.kind, finished.attempt.outcome) {
        (CompletionKind::Release, _) => None,
        (CompletionKind::Record, Outcome::Gone) => Some(Lock::Endpoint(finished.endpoint_id.uuid())),
        (CompletionKind::Record, _) => finished.id.accepted_at().map(|at| Lock::Day(at.date_naive())),
    }
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
