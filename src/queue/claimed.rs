//! A claimed delivery that a worker holds. Each claimed delivery reaches the completer, even if the worker drops it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::lane::AttemptSignal;
use super::pool::ChannelQueue;
use crate::domain::delivery::{Attempt, Delivery, Outcome};
use crate::domain::ids::ClaimId;
use crate::store::queue::claim::{ClaimedDelivery, NoEvent};
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

/// One claimed delivery. Dropping it records the outcome `interrupted`.
#[derive(Debug)]
pub struct Claimed {
    queue: Arc<ChannelQueue>,
    claim: Arc<OpenClaim>,
    delivery: Result<Delivery, NoEvent>,
    /// `None` after the delivery has ended.
    place: Option<ClaimedDelivery>,
    started: Instant,
}

impl Claimed {
    pub(super) fn new(queue: Arc<ChannelQueue>, claim: Arc<OpenClaim>, mut place: ClaimedDelivery) -> Self {
        // `place` keeps only the fields that the outcome needs. `delivery` has the fields to send.
        let delivery = std::mem::replace(&mut place.delivery, Err(NoEvent::Gone));
        Self { queue, claim, delivery, place: Some(place), started: Instant::now() }
    }

    /// The delivery to send. Returns an error if its event cannot be sent.
    pub fn delivery(&self) -> Result<&Delivery, NoEvent> {
        self.delivery.as_ref().map_err(|why| *why)
    }

    /// True if the process is stopping. The caller then releases deliveries that it has not started.
    pub fn is_draining(&self) -> bool {
        self.queue.is_draining()
    }

    pub fn start(&mut self) {
        self.started = Instant::now();
    }

    /// Ends the delivery with the outcome of its attempt.
    pub fn record(mut self, attempt: Attempt) {
        let signal = signal(attempt.outcome);
        self.finish(CompletionKind::Record, attempt, signal);
    }

    /// Releases a delivery that was not started.
    pub fn release(mut self) {
        self.finish(CompletionKind::Release, Attempt::not_sent(Outcome::Interrupted, None), AttemptSignal::Neutral);
    }

    fn finish(&mut self, kind: CompletionKind, attempt: Attempt, signal: AttemptSignal) {
        let Some(place) = self.place.take() else { return };
        self.queue.answered(&place.tenant_id, place.endpoint_id, signal, self.started);
        let channel = self.queue.channel().as_str();
        match kind {
            CompletionKind::Record => {
                let (outcome, duration_us) = (attempt.outcome.as_str(), attempt.duration.as_micros());
                tracing::debug!(delivery.id = %place.id, event.id = %place.event_id, channel, outcome, http.status = attempt.http_status, duration_us, "a delivery ended");
            }
            CompletionKind::Release => {
                tracing::debug!(delivery.id = %place.id, event.id = %place.event_id, channel, "a delivery was released");
            }
        }
        let finished = FinishedDelivery {
            id: place.id,
            event_id: place.event_id,
            tenant_id: place.tenant_id,
            endpoint_id: place.endpoint_id,
            endpoint_version: place.endpoint_version,
            claimed_at: place.claimed_at,
            attempt,
        };
        self.queue.complete(Completion { claim: Arc::clone(&self.claim), kind, finished });
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.finish(CompletionKind::Record, Attempt::not_sent(Outcome::Interrupted, None), AttemptSignal::Neutral);
    }
}

fn signal(outcome: Outcome) -> AttemptSignal {
    match outcome {
        Outcome::Timeout => AttemptSignal::TimedOut,
        Outcome::Delivered
        | Outcome::HttpError
        | Outcome::Redirect
        | Outcome::ProtocolError
        | Outcome::ConnectError
        | Outcome::TlsError
        | Outcome::Gone
        | Outcome::PayloadTooLarge
        | Outcome::Throttled => AttemptSignal::Answered,
        Outcome::DnsError
        | Outcome::BlockedAddress
        | Outcome::Expired
        | Outcome::Interrupted
        | Outcome::Canceled
        | Outcome::ConfigError => AttemptSignal::Neutral,
    }
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
