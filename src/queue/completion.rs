//! The results of claimed deliveries, and the claims that they belong to.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::domain::ids::ClaimId;
use crate::store::queue::finish::FinishedDelivery;

/// A claim of this worker, and the number of its deliveries that are not recorded yet.
#[derive(Debug)]
pub(super) struct OpenClaim {
    pub(super) id: ClaimId,
    open: AtomicU32,
}

impl OpenClaim {
    pub(super) fn new(id: ClaimId, deliveries: u32) -> Self {
        Self { id, open: AtomicU32::new(deliveries) }
    }

    pub(super) fn open(&self) -> u32 {
        self.open.load(Ordering::Acquire)
    }

    /// Subtracts deliveries that are recorded or released. Only the completer calls this, after its transaction.
    pub(super) fn closed(&self, deliveries: u32) {
        self.open.fetch_sub(deliveries, Ordering::AcqRel);
    }
}

/// The result of a claimed delivery.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) claim: Arc<OpenClaim>,
    pub(super) kind: CompletionKind,
    pub(super) finished: FinishedDelivery,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CompletionKind {
    /// Record the outcome.
    Record,
    /// Make the delivery ready again, because it was not started.
    Release,
}

/// Counts the deliveries of each claim in the batch.
pub(super) fn by_claim(part: &[Completion]) -> HashMap<ClaimId, (&OpenClaim, u32)> {
    let mut counts: HashMap<ClaimId, (&OpenClaim, u32)> = HashMap::new();
    for one in part {
        counts.entry(one.claim.id).or_insert((&one.claim, 0)).1 += 1;
    }
    counts
}

/// The claims that are complete once these numbers of their deliveries are recorded.
pub(super) fn complete_claims(counts: &HashMap<ClaimId, (&OpenClaim, u32)>) -> Vec<ClaimId> {
    counts.values().filter(|(claim, ended)| claim.open() == *ended).map(|(claim, _)| claim.id).collect()
}

/// The result is exact, because a batch has at most 512 outcomes.
pub(super) fn count(outcomes: usize) -> u32 {
    u32::try_from(outcomes).unwrap_or(u32::MAX)
}
