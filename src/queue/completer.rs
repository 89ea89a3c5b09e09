//! Completers: write outcomes in batches, and then free the permits. A completer repeats a batch while the database is away.
//! It splits a batch that the database refuses until the refused outcome is alone, sets that aside, and tries it again every
//! 10 s. Outcomes that wait keep their permits, so that claims stop once no outcome can be recorded.

use std::collections::{HashMap, VecDeque};
use std::slice::from_ref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::claimed::{End, Ended, OpenClaim};
use super::pool::ChannelQueue;
use super::set_aside::{REFUSALS_PER_ROUND, RETRY_EVERY};
use crate::domain::endpoint::Channel;
use crate::domain::ids::{ClaimId, DeliveryId};
use crate::store::queue::finish::{self, FinishedDelivery};
use crate::store::{Db, FailureKind, answered, failure_kind, sqlstate};
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
    db: Db,
    queue: Arc<ChannelQueue>,
    metrics: Metrics,
    ended: mpsc::UnboundedReceiver<Ended>,
    /// What the database refuses, one by one, in the order of the next tries.
    set_aside: VecDeque<Ended>,
    retry_at: tokio::time::Instant,
}

impl Completer {
    pub(super) fn new(
        db: Db,
        queue: Arc<ChannelQueue>,
        metrics: Metrics,
        ended: mpsc::UnboundedReceiver<Ended>,
    ) -> Self {
        Self { db, queue, metrics, ended, set_aside: VecDeque::new(), retry_at: tokio::time::Instant::now() }
    }

    /// Records until `stop`, and then what is still there.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let stopped = tokio::select! {
                biased;
                () = tokio::time::sleep_until(self.retry_at), if !self.set_aside.is_empty() => {
                    self.retry().await;
                    continue;
                }
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
        self.retry().await;
        if !self.set_aside.is_empty() {
            let (channel, outcomes) = (self.queue.channel().as_str(), self.set_aside.len());
            tracing::error!(channel, outcomes, "outcomes were left to the reaper, because the database refuses them");
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

    async fn complete(&mut self, batch: Vec<Ended>) {
        let (put_back, recorded): (Vec<_>, Vec<_>) = batch.into_iter().partition(|one| one.end == End::PutBack);
        if !put_back.is_empty() {
            self.put_back(put_back).await;
        }
        if !recorded.is_empty() {
            self.record(recorded).await;
        }
    }

    async fn record(&mut self, batch: Vec<Ended>) {
        let (claims, finished): (Vec<Arc<OpenClaim>>, Vec<FinishedDelivery>) =
            batch.into_iter().map(|one| (one.claim, one.finished)).unzip();
        let mut parts = vec![(claims.as_slice(), finished.as_slice())];
        while let Some((claims, finished)) = parts.pop() {
            if let ([claim], [finished]) = (claims, finished) {
                self.one(Ended { claim: Arc::clone(claim), end: End::Record, finished: finished.clone() }).await;
            } else if self.try_record(claims, finished).await.is_err() {
                let half = finished.len() / 2;
                let ((first_claims, last_claims), (first, last)) = (claims.split_at(half), finished.split_at(half));
                parts.extend([(last_claims, last), (first_claims, first)]);
            }
        }
    }

    async fn put_back(&mut self, batch: Vec<Ended>) {
        let mut by_claim: HashMap<ClaimId, (Arc<OpenClaim>, Vec<FinishedDelivery>)> = HashMap::new();
        for one in batch {
            by_claim.entry(one.claim.id).or_insert_with(|| (Arc::clone(&one.claim), Vec::new())).1.push(one.finished);
        }
        for (claim, deliveries) in by_claim.into_values() {
            let mut parts = vec![deliveries.as_slice()];
            while let Some(part) = parts.pop() {
                if let [finished] = part {
                    self.one(Ended { claim: Arc::clone(&claim), end: End::PutBack, finished: finished.clone() }).await;
                } else if self.try_release(&claim, part).await.is_err() {
                    let (first, last) = part.split_at(part.len() / 2);
                    parts.extend([last, first]);
                }
            }
        }
    }

    /// Records or releases one delivery, or sets it aside.
    async fn one(&mut self, ended: Ended) {
        let Err(error) = self.try_one(&ended).await else { return };
        let (channel, code) = (self.queue.channel(), sqlstate(&error));
        let what = match ended.end {
            End::Record => ended.finished.attempt.outcome.as_str(),
            End::PutBack => "released",
        };
        tracing::error!(%error, sqlstate = code.as_deref(), claim.id = %ended.claim.id, delivery.id = %ended.finished.id, tenant.id = %ended.finished.tenant_id, channel = channel.as_str(), outcome = what, "an outcome was refused by the database and set aside; it is tried again every 10 s");
        if self.set_aside.is_empty() {
            self.retry_at = tokio::time::Instant::now() + RETRY_EVERY;
        }
        self.set_aside.push_back(ended);
        self.queue.set_aside(1);
        self.metrics.change_outcomes_set_aside(channel, 1);
    }

    /// Tries again what is set aside.
    async fn retry(&mut self) {
        let mut refusals = 0;
        for _ in 0..self.set_aside.len() {
            let Some(ended) = self.set_aside.pop_front() else { break };
            // Before the permit is free.
            self.queue.resumed(1);
            if self.try_one(&ended).await.is_ok() {
                self.metrics.change_outcomes_set_aside(self.queue.channel(), -1);
                continue;
            }
            self.queue.set_aside(1);
            self.set_aside.push_back(ended);
            refusals += 1;
            if refusals == REFUSALS_PER_ROUND {
                break;
            }
        }
        self.retry_at = tokio::time::Instant::now() + RETRY_EVERY;
    }

    /// An outcome that is refused is recorded without its detail, if that is accepted: text from outside is the likeliest
    /// reason of a refusal.
    async fn try_one(&self, ended: &Ended) -> Result<(), Error> {
        let (claim, finished) = (&ended.claim, &ended.finished);
        if ended.end == End::PutBack {
            return self.try_release(claim, from_ref(finished)).await;
        }
        let refusal = match self.try_record(from_ref(claim), from_ref(finished)).await {
            Err(refusal) if finished.attempt.detail.is_some() => refusal,
            ended => return ended,
        };
        let mut without_detail = finished.clone();
        without_detail.attempt.detail = None;
        self.try_record(from_ref(claim), &[without_detail]).await?;
        tracing::warn!(error = %refusal, claim.id = %claim.id, delivery.id = %finished.id, "an outcome was recorded without its detail, which the database refuses");
        Ok(())
    }

    /// Records outcomes together. A claim whose last outcomes are among them is complete, and its row goes.
    async fn try_record(&self, claims: &[Arc<OpenClaim>], finished: &[FinishedDelivery]) -> Result<(), Error> {
        let counts = count(claims);
        let complete: Vec<ClaimId> =
            counts.values().filter(|(claim, ended)| claim.open() == *ended).map(|(claim, _)| claim.id).collect();
        let late = self.finish(&complete, finished).await?;
        for (claim, ended) in counts.values() {
            claim.closed(*ended);
        }
        self.observe(finished, &late);
        self.queue.recorded(finished.iter().map(|one| one.endpoint_id));
        Ok(())
    }

    /// Releases deliveries of a claim together.
    async fn try_release(&self, claim: &OpenClaim, deliveries: &[FinishedDelivery]) -> Result<(), Error> {
        let ids: Vec<DeliveryId> = deliveries.iter().map(|one| one.id).collect();
        fail::fail_point!("release::before");
        while let Err(error) = answered(finish::release(&self.db, claim.id, &ids)).await {
            if failure_kind(&error) == FailureKind::Refusal {
                return Err(error);
            }
            tracing::warn!(%error, "deliveries could not be released; trying again");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        fail::fail_point!("release::after");
        claim.closed(u32::try_from(ids.len()).unwrap_or(u32::MAX));
        if claim.open() == 0 {
            // The other deliveries of the claim are recorded, so that its row can go.
            if let Err(error) = self.finish(&[claim.id], &[]).await {
                tracing::warn!(%error, claim.id = %claim.id, "a complete claim could not be removed; the reaper will remove it");
            }
        }
        self.queue.recorded(deliveries.iter().map(|one| one.endpoint_id));
        Ok(())
    }

    /// Writes, and repeats that until the database answers. An error: it refuses.
    async fn finish(&self, complete: &[ClaimId], finished: &[FinishedDelivery]) -> Result<Vec<DeliveryId>, Error> {
        loop {
            fail::fail_point!("finish::before");
            let started = Instant::now();
            let written = finish::finish(&self.db, self.queue.channel(), complete, finished);
            match answered(written).await {
                Ok(late) => {
                    fail::fail_point!("finish::after");
                    self.metrics.finish_observed(started.elapsed());
                    return Ok(late);
                }
                Err(error) if failure_kind(&error) == FailureKind::Refusal => return Err(error),
                Err(error) => tracing::warn!(%error, "outcomes could not be recorded; trying again"),
            }
            tokio::time::sleep(RETRY_PAUSE).await;
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
