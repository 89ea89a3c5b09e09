//! Completers: write outcomes in batches, free the permits, and retry for ever: the database that refuses to record an
//! outcome also refuses the next claims, so what waits here is bounded by the permits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::claimed::{End, Ended, OpenClaim};
use super::pool::ChannelQueue;
use crate::domain::endpoint::Channel;
use crate::domain::ids::{ClaimId, DeliveryId};
use crate::store::queue::finish::{self, FinishedDelivery};
use crate::store::{Db, answered};
use crate::telemetry::metrics::Metrics;

/// Transactions of outcomes that one channel may have under way. A claim's outcomes all go through one completer, so
/// that the ledger row is never removed before all of them are in the log.
pub(super) const COMPLETERS: usize = 2;
/// Outcomes of one transaction.
const BATCH: usize = 512;
/// How long the first outcome of a batch waits for others.
const GATHER: Duration = Duration::from_millis(4);
/// Between attempts while the database is away.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// What a completer works with.
#[derive(Debug)]
pub(super) struct Completer {
    pub(super) db: Db,
    pub(super) queue: Arc<ChannelQueue>,
    pub(super) metrics: Metrics,
    pub(super) ended: mpsc::UnboundedReceiver<Ended>,
}

impl Completer {
    /// Records until `stop`, and then what is still there.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let stopped = tokio::select! {
                biased;
                received = self.ended.recv_many(&mut batch, BATCH) => received == 0,
                () = stop.cancelled() => true,
            };
            if stopped {
                break;
            }
            self.gather(&mut batch).await;
            self.complete(std::mem::take(&mut batch)).await;
        }
        while let Ok(ended) = self.ended.try_recv() {
            batch.push(ended);
        }
        if !batch.is_empty() {
            self.complete(batch).await;
        }
    }

    async fn gather(&mut self, batch: &mut Vec<Ended>) {
        let deadline = tokio::time::Instant::now() + GATHER;
        while batch.len() < BATCH / 2 {
            let room = BATCH - batch.len();
            match tokio::time::timeout_at(deadline, self.ended.recv_many(batch, room)).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
        }
    }

    async fn complete(&self, batch: Vec<Ended>) {
        let (put_back, recorded): (Vec<_>, Vec<_>) = batch.into_iter().partition(|one| one.end == End::PutBack);
        if !put_back.is_empty() {
            self.put_back(put_back).await;
        }
        if !recorded.is_empty() {
            self.record(recorded).await;
        }
    }

    async fn record(&self, batch: Vec<Ended>) {
        let (claims, finished): (Vec<Arc<OpenClaim>>, Vec<FinishedDelivery>) =
            batch.into_iter().map(|one| (one.claim, one.finished)).unzip();
        let counts = count(&claims);
        let complete: Vec<ClaimId> =
            counts.values().filter(|(claim, ended)| claim.open() == *ended).map(|(claim, _)| claim.id).collect();
        let late = self.finish(&complete, &finished).await;
        for (claim, ended) in counts.values() {
            claim.closed(*ended);
        }
        self.observe(&finished, &late);
        self.queue.recorded(finished.iter().map(|one| one.endpoint_id));
    }

    /// Writes until it is written.
    async fn finish(&self, complete: &[ClaimId], finished: &[FinishedDelivery]) -> Vec<DeliveryId> {
        loop {
            fail::fail_point!("finish::before");
            let started = Instant::now();
            let written = finish::finish(&self.db, self.queue.channel(), complete, finished);
            match answered(written).await {
                Ok(late) => {
                    fail::fail_point!("finish::after");
                    self.metrics.finish_observed(started.elapsed());
                    return late;
                }
                Err(error) => tracing::warn!(%error, "outcomes could not be recorded; trying again"),
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn put_back(&self, batch: Vec<Ended>) {
        let mut by_claim: HashMap<ClaimId, (Arc<OpenClaim>, Vec<FinishedDelivery>)> = HashMap::new();
        for one in batch {
            by_claim.entry(one.claim.id).or_insert_with(|| (Arc::clone(&one.claim), Vec::new())).1.push(one.finished);
        }
        for (claim, deliveries) in by_claim.into_values() {
            let ids: Vec<DeliveryId> = deliveries.iter().map(|one| one.id).collect();
            fail::fail_point!("release::before");
            while let Err(error) = answered(finish::release(&self.db, claim.id, &ids)).await {
                tracing::warn!(%error, "deliveries could not be put back; trying again");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            fail::fail_point!("release::after");
            claim.closed(u32::try_from(ids.len()).unwrap_or(u32::MAX));
            if claim.open() == 0 {
                // The others of the claim are recorded, so its row has nothing more to say.
                self.finish(&[claim.id], &[]).await;
            }
            self.queue.recorded(deliveries.iter().map(|one| one.endpoint_id));
        }
    }

    fn observe(&self, finished: &[FinishedDelivery], late: &[DeliveryId]) {
        let channel = self.queue.channel();
        for one in finished {
            if late.contains(&one.id) {
                self.metrics.late_outcome();
                continue;
            }
            self.metrics.delivery_recorded(channel, one.attempt.outcome);
            if !one.attempt.duration.is_zero() {
                self.metrics.attempt_observed(channel, one.attempt.duration);
            }
            if channel == Channel::Webhook && one.id.ordinal() > 1 {
                // A replay: its id has the time of an event that may be days old.
                continue;
            }
            let waited = one.id.accepted_at().and_then(|accepted| (one.claimed_at - accepted).to_std().ok());
            self.metrics.latency_observed(channel, waited.unwrap_or_default() + one.attempt.duration);
        }
    }
}

/// How many deliveries of each claim are in the batch.
fn count(claims: &[Arc<OpenClaim>]) -> HashMap<ClaimId, (Arc<OpenClaim>, u32)> {
    let mut counts: HashMap<ClaimId, (Arc<OpenClaim>, u32)> = HashMap::new();
    for claim in claims {
        counts.entry(claim.id).or_insert_with(|| (Arc::clone(claim), 0)).1 += 1;
    }
    counts
}
