//! A claimer reserves permits, claims at most one delivery per permit, and sends the claimed deliveries to the workers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::claimed::Claimed;
use super::completion::OpenClaim;
use super::lanes::Planned;
use super::pool::{ChannelQueue, Plan};
use super::registration::WorkerRegistration;
use crate::domain::ids::{ClaimId, WorkerId};
use crate::store::queue::claim::{self, ClaimError, ClaimedDelivery, LaneQuota};
use crate::store::{Db, FailureKind, failure_kind, sqlstate, with_timeout};
use crate::telemetry::metrics::{ClaimStep, Metrics};

/// The number of concurrent claims of one channel. While one claim commits, the next claim can read.
pub(super) const CLAIMERS: usize = 3;
/// Pause between queries for the status of a claim whose response was lost.
const RESOLVE_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Clone)]
pub(super) struct Claimer {
    pub(super) db: Db,
    pub(super) queue: Arc<ChannelQueue>,
    pub(super) registration: Arc<WorkerRegistration>,
    pub(super) metrics: Metrics,
    pub(super) set_aside: mpsc::UnboundedSender<SetAsideClaim>,
    /// Sends the deliveries of a claim to the workers.
    pub(super) dispatched: mpsc::UnboundedSender<Vec<Claimed>>,
}

/// Why nothing was claimed.
#[derive(Debug)]
pub(super) struct ClaimFailure {
    /// The claim and its worker, if it is unknown whether the claim was committed. `None` if the claim was not committed.
    pub(super) unresolved: Option<(ClaimId, WorkerId)>,
    pub(super) error: sqlx::Error,
}

/// A planned claim that waits for the database to accept it.
#[derive(Debug)]
pub(super) struct SetAsideClaim {
    pub(super) planned: Vec<Planned>,
    pub(super) why: ClaimFailure,
}

impl SetAsideClaim {
    pub(super) fn permits(&self) -> u32 {
        self.planned.iter().map(|lane| lane.quota.quota).sum()
    }
}

impl Claimer {
    /// Claims deliveries until `stop`, and then waits for the result of the current claim.
    pub(super) async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if !self.registration.may_claim() {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = self.registration.claiming_allowed() => {}
                }
                continue;
            }
            match self.queue.plan() {
                Plan::Claim(planned) => self.claim(planned).await,
                Plan::WaitForCapacity(until) => tokio::select! {
                    () = self.queue.capacity_freed.notified() => {}
                    () = tokio::time::sleep_until(until.into()) => {}
                },
                Plan::Nothing => tokio::select! {
                    () = stop.cancelled() => {}
                    () = self.queue.work.notified() => {}
                },
            }
        }
    }

    /// Claims the planned lanes. If the database refuses a claim of several lanes, claims each half of these lanes separately.
    /// Sets aside a refused claim of one lane.
    async fn claim(&self, planned: Vec<Planned>) {
        let mut parts = vec![planned];
        while let Some(mut part) = parts.pop() {
            match self.try_claim(&part).await {
                Ok((id, taken)) => self.dispatch(id, &part, taken),
                Err(ClaimFailure { unresolved: None, .. }) if part.len() > 1 => {
                    let rest = part.split_off(part.len() / 2);
                    parts.extend([rest, part]);
                }
                Err(why) => self.set_aside(part, why),
            }
        }
    }

    async fn try_claim(&self, planned: &[Planned]) -> Result<(ClaimId, Vec<ClaimedDelivery>), ClaimFailure> {
        let claim_id = ClaimId::from_uuid(Uuid::new_v4());
        let worker_id = self.registration.id();
        let quotas: Vec<LaneQuota> = planned.iter().map(|lane| lane.quota.clone()).collect();
        fail::fail_point!("claim::before");
        let started = Instant::now();
        let channel = self.queue.channel();
        let taken = match with_timeout(claim::claim(&self.db, claim_id, worker_id, channel, &quotas)).await {
            Ok(taken) => {
                self.metrics.claim_observed(started.elapsed());
                taken
            }
            Err(ClaimError::Fenced) => {
                self.registration.replace_fenced(worker_id).await;
                Vec::new()
            }
            Err(ClaimError::Refused(error)) => return Err(ClaimFailure { unresolved: None, error }),
            Err(ClaimError::Unknown(error)) => {
                tracing::warn!(%error, claim.id = %claim_id, "a claim got no response; querying its status");
                self.resolve(claim_id, worker_id).await?
            }
        };
        fail::fail_point!("claim::after");
        Ok((claim_id, taken))
    }

    /// Queries the status of a claim, until the database returns the status or refuses the query.
    async fn resolve(&self, claim_id: ClaimId, worker_id: WorkerId) -> Result<Vec<ClaimedDelivery>, ClaimFailure> {
        loop {
            let error = match with_timeout(claim::resolve(&self.db, claim_id, worker_id, self.queue.channel())).await {
                Ok(taken) => return Ok(taken),
                Err(error) => error,
            };
            match failure_kind(&error) {
                FailureKind::Refusal => return Err(ClaimFailure { unresolved: Some((claim_id, worker_id)), error }),
                FailureKind::Outage => self.registration.database_failed(),
                FailureKind::Conflict | FailureKind::TimeLimit => {}
            }
            tracing::warn!(%error, claim.id = %claim_id, "could not query the status of a claim; retrying");
            tokio::time::sleep(RESOLVE_PAUSE).await;
        }
    }

    fn set_aside(&self, planned: Vec<Planned>, why: ClaimFailure) {
        let channel = self.queue.channel();
        let (error, code) = (&why.error, sqlstate(&why.error));
        let claim_id = why.unresolved.map(|(id, _)| tracing::field::display(id));
        let first = planned.first().map(|lane| &lane.quota);
        let tenant_id = first.map(|lane| tracing::field::display(&lane.tenant_id));
        let endpoint_id = first.map(|lane| tracing::field::display(lane.endpoint_id));
        tracing::error!(%error, sqlstate = code.as_deref(), claim.id = claim_id, channel = channel.as_str(), tenant.id = tenant_id, endpoint.id = endpoint_id, endpoints = planned.len(), "a claim was set aside, because the database refuses it; it is tried again every 10 s");
        let claim = SetAsideClaim { planned, why };
        self.queue.set_aside(claim.permits());
        self.metrics.change_claims_set_aside(channel, ClaimStep::Claim, 1);
        // `send` only fails while the process stops. The reaper then records the claimed deliveries as interrupted.
        drop(self.set_aside.send(claim));
    }

    /// Retries a claim that was set aside, or the query for its status.
    pub(super) async fn try_again(
        &self,
        claim: &SetAsideClaim,
    ) -> Result<(ClaimId, Vec<ClaimedDelivery>), ClaimFailure> {
        match claim.why.unresolved {
            Some((claim_id, worker_id)) => Ok((claim_id, self.resolve(claim_id, worker_id).await?)),
            None => self.try_claim(&claim.planned).await,
        }
    }

    /// Settles the planned lanes, and sends the claimed deliveries to the workers.
    pub(super) fn dispatch(&self, claim_id: ClaimId, planned: &[Planned], taken: Vec<ClaimedDelivery>) {
        self.queue.settle(planned, &taken);
        let count = u32::try_from(taken.len()).unwrap_or(u32::MAX);
        if count == 0 {
            return;
        }
        self.metrics.deliveries_claimed(u64::from(count));
        let open = Arc::new(OpenClaim::new(claim_id, count));
        let claimed = |one| Claimed::new(Arc::clone(&self.queue), Arc::clone(&open), one);
        // Fails only if the receiver was dropped. The deliveries are then dropped too, which records them as interrupted.
        drop(self.dispatched.send(taken.into_iter().map(claimed).collect()));
    }
}
