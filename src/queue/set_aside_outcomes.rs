//! Outcomes that the database does not accept now. They keep their permits and are retried.

use std::collections::{BTreeMap, VecDeque};

use chrono::NaiveDate;
use sqlx::Error;
use uuid::Uuid;

use super::claimed::{Completion, CompletionKind};
use crate::domain::delivery::Outcome;
use crate::domain::endpoint::Channel;
use crate::store::{FailureKind, failure_kind, sqlstate};

/// Outcomes to record in one transaction, or deliveries of one claim to release in one transaction.
pub(super) type Part = Vec<Completion>;

/// The set-aside parts of one completer, ordered by their next retries.
#[derive(Debug, Default)]
pub(super) struct SetAsideOutcomes {
    parts: VecDeque<SetAside>,
}

#[derive(Debug)]
struct SetAside {
    part: Part,
    /// The lock that the part waits for. `None` if the database refused the part, or if the part is a release.
    lock: Option<Lock>,
}

/// A database lock that some outcomes need and other outcomes do not need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lock {
    /// The lock of the table that stores the deliveries of this day.
    Day(NaiveDate),
    /// The lock of an endpoint's row, because the outcome `gone` disables or deletes the row.
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

    /// True if set-aside outcomes wait for a lock that this completion needs too.
    pub(super) fn waits_for_lock(&self, completion: &Completion) -> bool {
        let lock = lock(completion);
        lock.is_some() && self.parts.iter().any(|set_aside| set_aside.lock == lock)
    }

    /// Adds a part that the database refused.
    pub(super) fn push_refused(&mut self, part: Part) {
        self.parts.push_back(SetAside { part, lock: None });
    }

    /// Adds a part that timed out on a lock. Merges parts that wait for the same lock, up to `most` outcomes.
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

/// Splits outcomes by the locks that they need. Deliveries to release stay together, because they need the same tables.
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
