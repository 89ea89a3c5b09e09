//! Claimers: take permits first, then claim only that many, then hand each delivery to the workers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::claimed::{Claimed, OpenClaim};
use super::lanes::Planned;
use super::members::Membership;
use super::pool::{ChannelQueue, Plan};
use crate::domain::ids::{ClaimId, WorkerId};
use crate::store::queue::claim::{self, ClaimError, ClaimedDelivery, LaneQuota};
use crate::store::{Db, answered};
use crate::telemetry::metrics::Metrics;

/// Claims that one channel may have under way at once: while one commits, the next one is read.
pub(super) const CLAIMERS: usize = 3;
/// Deliveries of one claim: its ledger row then fits a page of the database.
const BATCH: u32 = 128;
/// Between questions about a claim whose answer was lost.
const RESOLVE_PAUSE: Duration = Duration::from_millis(200);

/// What a claimer works with.
#[derive(Debug, Clone)]
pub(super) struct Claimer {
    pub(super) db: Db,
    pub(super) queue: Arc<ChannelQueue>,
    pub(super) membership: Arc<Membership>,
    pub(super) metrics: Metrics,
}

impl Claimer {
    /// Claims until `stop`; a claim that is under way is answered first.
    pub(super) async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if !self.membership.may_claim() {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = self.membership.claiming_allowed() => {}
                }
                continue;
            }
            match self.queue.plan(BATCH) {
                Plan::Claim(planned) => self.claim(planned).await,
                Plan::Crowded(until) => tokio::select! {
                    () = self.queue.relief() => {}
                    () = tokio::time::sleep_until(until.into()) => {}
                },
                Plan::Nothing => tokio::select! {
                    () = stop.cancelled() => {}
                    () = self.queue.work_wanted() => {}
                },
            }
        }
    }

    async fn claim(&self, planned: Vec<Planned>) {
        let claim_id = ClaimId::from_uuid(Uuid::new_v4());
        let worker_id = self.membership.id();
        let quotas: Vec<LaneQuota> = planned.iter().map(|lane| lane.quota.clone()).collect();
        fail::fail_point!("claim::before");
        let started = Instant::now();
        let channel = self.queue.channel();
        let taken = match answered(claim::claim(&self.db, claim_id, worker_id, channel, &quotas)).await {
            Ok(taken) => {
                self.metrics.claim_observed(started.elapsed());
                taken
            }
            Err(ClaimError::Fenced) => {
                self.membership.lost(worker_id).await;
                Vec::new()
            }
            Err(ClaimError::Unknown(error)) => {
                tracing::warn!(%error, claim.id = %claim_id, "a claim was not answered; asking for it again by its id");
                self.resolve(claim_id, worker_id).await
            }
        };
        fail::fail_point!("claim::after");
        self.begin(claim_id, &planned, taken);
    }

    /// Finds out what became of a claim; does not return before that is known, for the deliveries would be lost.
    async fn resolve(&self, claim_id: ClaimId, worker_id: WorkerId) -> Vec<ClaimedDelivery> {
        loop {
            match answered(claim::resolve(&self.db, claim_id, worker_id, self.queue.channel())).await {
                Ok(taken) => return taken,
                Err(error) => {
                    self.membership.database_failed();
                    tracing::warn!(%error, claim.id = %claim_id, "the database does not say what became of a claim");
                    tokio::time::sleep(RESOLVE_PAUSE).await;
                }
            }
        }
    }

    fn begin(&self, claim_id: ClaimId, planned: &[Planned], taken: Vec<ClaimedDelivery>) {
        let places: Vec<_> = taken.iter().map(|one| (one.endpoint_id, one.position)).collect();
        self.queue.settle(planned, &places);
        let count = u32::try_from(taken.len()).unwrap_or(u32::MAX);
        if count == 0 {
            return;
        }
        self.metrics.deliveries_claimed(u64::from(count));
        let open = Arc::new(OpenClaim::new(claim_id, count));
        let claimed = |one| Claimed::new(Arc::clone(&self.queue), Arc::clone(&open), one);
        self.queue.begin(taken.into_iter().map(claimed).collect());
    }
}
