//! Completers write outcomes in batches and then free the permits. A completer retries a batch while the database is
//! unavailable. If the database refuses a batch, the completer splits it until the refused outcome is alone. If a batch times
//! out on a lock, the completer splits it by the locks that the outcomes need. Each day has its own table with its own lock,
//! the outcome `gone` also locks the endpoint's row, and the last outcomes of a claim lock the claim's row. The completer sets
//! aside outcomes that the database still does not accept, and retries them every 10 s. These outcomes keep their permits, so
//! claims stop if no outcome can be recorded.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::completion::{Completion, CompletionKind, OpenClaim, by_claim, complete_claims, count};
use super::pool::ChannelQueue;
use super::set_aside::{REFUSALS_PER_ROUND, RETRY_EVERY};
use super::set_aside_outcomes::{Part, SetAsideOutcomes, by_lock, first_lock, log_set_aside, needs_any, taken_locks};
use crate::domain::delivery::Attempt;
use crate::domain::endpoint::Channel;
use crate::domain::ids::{ClaimId, DeliveryId};
use crate::store::queue::finish::{self, FinishedDelivery, Lock};
use crate::store::{Db, FailureKind, failure_kind, with_timeout};
use crate::telemetry::metrics::Metrics;

/// The number of concurrent transactions that record outcomes of one channel. All outcomes of a claim go through one completer,
/// so that the claim is never deleted before all of its outcomes are recorded.
pub(super) const COMPLETERS: usize = 2;
/// The maximum number of outcomes that one transaction records.
const BATCH: usize = 512;
/// How long the first outcome of a batch waits for more outcomes.
const GATHER: Duration = Duration::from_millis(4);
/// Pause between attempts while the database is unavailable.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Completer {
    db: Db,
    queue: Arc<ChannelQueue>,
    metrics: Metrics,
    completions: mpsc::UnboundedReceiver<Completion>,
    set_aside: SetAsideOutcomes,
    retry_at: tokio::time::Instant,
}

impl Completer {
    pub(super) fn new(
        db: Db,
        queue: Arc<ChannelQueue>,
        metrics: Metrics,
        completions: mpsc::UnboundedReceiver<Completion>,
    ) -> Self {
        Self {
            db,
            queue,
            metrics,
            completions,
            set_aside: SetAsideOutcomes::default(),
            retry_at: tokio::time::Instant::now(),
        }
    }

    /// Records outcomes until `stop`, and then the outcomes that are already in the channel.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let stopped = tokio::select! {
                biased;
                () = tokio::time::sleep_until(self.retry_at), if !self.set_aside.is_empty() => {
                    self.retry().await;
                    continue;
                }
                received = self.completions.recv_many(&mut batch, BATCH) => received == 0,
                () = stop.cancelled() => true,
            };
            if stopped {
                break;
            }
            self.gather(&mut batch).await;
            self.complete(std::mem::take(&mut batch)).await;
        }
        while let Ok(ended) = self.completions.try_recv() {
            batch.push(ended);
        }
        if !batch.is_empty() {
            self.complete(batch).await;
        }
        self.retry().await;
        if !self.set_aside.is_empty() {
            let (channel, outcomes) = (self.queue.channel().as_str(), self.set_aside.outcomes());
            tracing::error!(
                channel,
                outcomes,
                "left outcomes to the reaper, because the database does not accept them"
            );
        }
    }

    async fn gather(&mut self, batch: &mut Vec<Completion>) {
        let deadline = tokio::time::Instant::now() + GATHER;
        // Claims in progress and the other completer hold the other permits.
        let enough = (BATCH / 2).min(self.queue.permits() as usize / 4);
        while batch.len() < enough {
            let room = BATCH - batch.len();
            match tokio::time::timeout_at(deadline, self.completions.recv_many(batch, room)).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
        }
    }

    /// Writes the outcomes and releases of a batch. If set-aside outcomes wait for a lock, outcomes in the batch that need this
    /// lock are set aside too.
    async fn complete(&mut self, batch: Vec<Completion>) {
        let (waiting, batch): (Vec<_>, Vec<_>) = batch.into_iter().partition(|one| self.set_aside.waits_for_lock(one));
        for (lock, part) in by_lock(waiting, &BTreeSet::new()) {
            self.keep(part, lock);
        }
        let (released, recorded): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|one| one.kind == CompletionKind::Release);
        let mut parts: HashMap<ClaimId, Part> = HashMap::new();
        for one in released {
            parts.entry(one.claim.id).or_default().push(one);
        }
        for part in parts.into_values().chain([recorded]) {
            self.settle(part, false).await;
        }
    }

    /// Records or releases a part of a batch. If the database does not accept the part, tries smaller parts separately, and
    /// sets aside the outcomes that are still not accepted. After two timeouts on locks, sets aside the rest without trying it.
    /// Returns the number of failures. A timeout counts as half of `REFUSALS_PER_ROUND` failures.
    async fn settle(&mut self, part: Part, is_repeated: bool) -> usize {
        let mut failures = 0;
        let mut timeouts: Vec<Error> = Vec::new();
        let mut parts = vec![part];
        while let Some(mut part) = parts.pop() {
            if let [_, error] = timeouts.as_slice() {
                let lock = part.first().and_then(first_lock);
                self.put_aside(part, lock, error, is_repeated);
                continue;
            }
            let Err(error) = self.try_part(&part).await else { continue };
            if failure_kind(&error) == FailureKind::TimeLimit {
                failures += REFUSALS_PER_ROUND / 2;
                let complete = complete_claims(&by_claim(&part));
                let taken = taken_locks(&self.db, self.queue.channel(), &complete, part.iter()).await;
                let smaller = by_lock(part, &taken);
                let is_alone = smaller.len() == 1;
                for (lock, part) in smaller.into_iter().rev() {
                    let is_taken = lock.is_some_and(|lock| taken.contains(&lock));
                    if is_alone || is_taken || needs_any(&part, &taken) {
                        self.put_aside(part, lock, &error, is_repeated);
                    } else {
                        parts.push(part);
                    }
                }
                timeouts.push(error);
            } else if part.len() > 1 {
                let rest = part.split_off(part.len() / 2);
                parts.extend([rest, part]);
            } else {
                failures += 1;
                self.put_aside(part, None, &error, is_repeated);
            }
        }
        failures
    }

    fn put_aside(&mut self, part: Part, lock: Option<Lock>, error: &Error, is_repeated: bool) {
        if !is_repeated {
            log_set_aside(self.queue.channel(), &part, error);
        }
        self.keep(part, lock);
    }

    fn keep(&mut self, part: Part, lock: Option<Lock>) {
        if self.set_aside.is_empty() {
            self.retry_at = tokio::time::Instant::now() + RETRY_EVERY;
        }
        self.queue.outcomes_set_aside(&part);
        self.metrics.change_outcomes_set_aside(self.queue.channel(), count(part.len()).into());
        self.set_aside.push(part, lock, BATCH);
    }

    /// Retries the set-aside completions whose locks are free.
    async fn retry(&mut self) {
        let locked = self.set_aside.locked_claims();
        let taken = taken_locks(&self.db, self.queue.channel(), &locked, self.set_aside.completions()).await;
        let mut failures = 0;
        for _ in 0..self.set_aside.free(&taken) {
            let Some(part) = self.set_aside.pop_free(&taken) else { break };
            // Must come before `settle`, which frees the permits.
            self.queue.outcomes_resumed(&part);
            self.metrics.change_outcomes_set_aside(self.queue.channel(), -i64::from(count(part.len())));
            failures += self.settle(part, true).await;
            if failures >= REFUSALS_PER_ROUND {
                break;
            }
        }
        self.retry_at = tokio::time::Instant::now() + RETRY_EVERY;
    }

    /// If the database refuses a single outcome, tries to record it without its detail. The detail can contain external text,
    /// and that text is the most likely cause of a refusal.
    async fn try_part(&self, part: &[Completion]) -> Result<(), Error> {
        if let [Completion { kind: CompletionKind::Release, claim, .. }, ..] = part {
            return self.try_release(claim, part).await;
        }
        let finished: Vec<&FinishedDelivery> = part.iter().map(|one| &one.finished).collect();
        let answer = self.try_record(part, &finished).await;
        let (Err(refusal), [finished]) = (&answer, finished.as_slice()) else { return answer };
        if finished.attempt.detail.is_none() || failure_kind(refusal) != FailureKind::Refusal {
            return answer;
        }
        let attempt = Attempt { detail: None, ..finished.attempt.clone() };
        self.try_record(part, &[&FinishedDelivery { attempt, ..(*finished).clone() }]).await?;
        tracing::warn!(error = %refusal, delivery.id = %finished.id, "recorded an outcome without its detail, which the database refused");
        Ok(())
    }

    /// Records outcomes in one transaction. The transaction also deletes each claim whose deliveries are then all recorded.
    async fn try_record(&self, part: &[Completion], finished: &[&FinishedDelivery]) -> Result<(), Error> {
        let counts = by_claim(part);
        let late = self.finish(&complete_claims(&counts), finished).await?;
        for (claim, ended) in counts.values() {
            claim.closed(*ended);
        }
        self.observe(finished, &late);
        self.queue.recorded(finished.iter().copied());
        Ok(())
    }

    async fn try_release(&self, claim: &OpenClaim, part: &[Completion]) -> Result<(), Error> {
        let ids: Vec<DeliveryId> = part.iter().map(|one| one.finished.id).collect();
        fail::fail_point!("release::before");
        let is_last = claim.open() == count(ids.len());
        while let Err(error) = with_timeout(finish::release(&self.db, claim.id, &ids, is_last)).await {
            if failure_kind(&error).concerns_rows() {
                return Err(error);
            }
            tracing::warn!(%error, "could not release deliveries; retrying");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        fail::fail_point!("release::after");
        claim.closed(count(ids.len()));
        self.queue.recorded(part.iter().map(|one| &one.finished));
        Ok(())
    }

    /// Writes outcomes, and retries while the database is unavailable. Returns an error if the database does not accept these
    /// outcomes.
    async fn finish(&self, complete: &[ClaimId], finished: &[&FinishedDelivery]) -> Result<Vec<DeliveryId>, Error> {
        loop {
            fail::fail_point!("finish::before");
            let started = Instant::now();
            let written = finish::finish(&self.db, self.queue.channel(), complete, finished);
            match with_timeout(written).await {
                Ok(late) => {
                    fail::fail_point!("finish::after");
                    self.metrics.finish_observed(started.elapsed());
                    return Ok(late);
                }
                Err(error) if failure_kind(&error).concerns_rows() => return Err(error),
                Err(error) => tracing::warn!(%error, "could not record outcomes; retrying"),
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    fn observe(&self, finished: &[&FinishedDelivery], late: &[DeliveryId]) {
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
                // The id of a replayed delivery contains the time of its event, and the event can be days old.
                continue;
            }
            let waited = one.id.accepted_at().and_then(|accepted| (one.claimed_at - accepted).to_std().ok());
            self.metrics.latency_observed(channel, waited.unwrap_or_default() + one.attempt.duration);
        }
    }
}
