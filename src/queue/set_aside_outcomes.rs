//! Outcomes that the database does not accept now. They keep their permits and are retried.

use std::collections::{BTreeMap, VecDeque};

use chrono::NaiveDate;
use sqlx::Error;

use super::claimed::{Completion, CompletionKind};
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
    /// The day whose outcomes wait for a lock; `None`: the database refused this part, or the lock is on another table.
    locked_day: Option<NaiveDate>,
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

    /// True if outcomes of the same day wait for a lock: this one would wait too.
    pub(super) fn waits_for_lock(&self, completion: &Completion) -> bool {
        let day = day(completion);
        day.is_some() && self.parts.iter().any(|set_aside| set_aside.locked_day == day)
    }

    /// Adds a part that the database refused.
    pub(super) fn push_refused(&mut self, part: Part) {
        self.parts.push_back(SetAside { part, locked_day: None });
    }

    /// Adds a part of one day that timed out on a lock. Parts of the same day are merged, up to `most` outcomes.
    pub(super) fn push_locked(&mut self, mut part: Part, most: usize) {
        let locked_day = part.first().and_then(day);
        let same_day = |other: &&mut SetAside| locked_day.is_some() && other.locked_day == locked_day;
        match self.parts.iter_mut().rfind(same_day) {
            Some(last) if last.part.len() + part.len() <= most => last.part.append(&mut part),
            _ => self.parts.push_back(SetAside { part, locked_day }),
        }
    }

    pub(super) fn pop(&mut self) -> Option<Part> {
        self.parts.pop_front().map(|set_aside| set_aside.part)
    }
}

/// Splits outcomes by day, because each day has its table. Deliveries to release stay together, because they go to the same
/// tables.
pub(super) fn by_day(part: Part) -> Vec<Part> {
    let mut days: BTreeMap<Option<NaiveDate>, Part> = BTreeMap::new();
    for completion in part {
        days.entry(day(&completion)).or_default().push(completion);
    }
    days.into_values().collect()
}

/// `None` for a delivery to release.
fn day(completion: &Completion) -> Option<NaiveDate> {
    match completion.kind {
        CompletionKind::Record => completion.finished.id.accepted_at().map(|at| at.date_naive()),
        CompletionKind::Release => None,
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
