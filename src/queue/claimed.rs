//! A claimed delivery that a worker holds. Each claimed delivery reaches the completer, even if the worker drops it.

use std::sync::Arc;
use std::time::Instant;

use super::completion::{Completion, CompletionKind, OpenClaim};
use super::lane::AttemptSignal;
use super::pool::ChannelQueue;
use crate::domain::delivery::{Attempt, Delivery, Outcome};
use crate::store::queue::claim::{ClaimedDelivery, NoEvent};
use crate::store::queue::finish::FinishedDelivery;

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
