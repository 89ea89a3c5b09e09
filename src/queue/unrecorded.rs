//! Set-aside claims of dead workers. The database refuses to record these claims as interrupted, or a lock blocks them. The
//! reaper skips each of these claims until its next retry, so that it can record the other claims.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sqlx::Error;

use crate::domain::endpoint::Channel;
use crate::domain::ids::ClaimId;
use crate::store::sqlstate;
use crate::telemetry::metrics::{ClaimStep, Metrics};

/// How long the reaper skips a claim, as a number of leases. The claim holds no permit, so a retry after a minute (the default)
/// is soon enough.
const LEASES: u32 = 2;
/// The maximum number of skipped claims. Each skipped claim slows every reap statement. If a thousand claims are refused, the
/// database probably refuses every claim.
const MOST: usize = 1_000;
/// The maximum number of retries per round. It equals the number of claims that one transaction records.
const TRIES: usize = 64;

#[derive(Debug)]
pub(super) struct Unrecorded {
    lease: Duration,
    metrics: Metrics,
    /// The channel of each claim, and the time of its next retry.
    claims: HashMap<ClaimId, (Channel, Instant)>,
}

impl Unrecorded {
    pub(super) fn new(lease: Duration, metrics: Metrics) -> Self {
        Self { lease, metrics, claims: HashMap::new() }
    }

    /// The claims to skip.
    pub(super) fn claims(&self) -> Vec<ClaimId> {
        self.claims.keys().copied().collect()
    }

    /// The claims to retry now.
    pub(super) fn due(&self, now: Instant) -> Vec<(ClaimId, Channel)> {
        let due = self.claims.iter().filter(|(_, (_, at))| *at <= now);
        due.map(|(claim, (channel, _))| (*claim, *channel)).take(TRIES).collect()
    }

    pub(super) fn is_full(&self) -> bool {
        self.claims.len() >= MOST
    }

    /// Skips a claim that the database has not accepted. Logs each claim once.
    pub(super) fn set_aside(&mut self, (claim, channel): (ClaimId, Channel), error: &Error, now: Instant) {
        if self.claims.insert(claim, (channel, now + LEASES * self.lease)).is_none() {
            let code = sqlstate(error);
            tracing::error!(%error, sqlstate = code.as_deref(), claim.id = %claim, channel = channel.as_str(), "a claim of a dead worker could not be recorded and was set aside; it is tried again every two leases");
            self.metrics.change_claims_set_aside(channel, ClaimStep::Reap, 1);
        }
    }

    /// Stops skipping a claim that is recorded or deleted, or that another transaction has locked.
    pub(super) fn remove(&mut self, claim: ClaimId) {
        if let Some((channel, _)) = self.claims.remove(&claim) {
            self.metrics.change_claims_set_aside(channel, ClaimStep::Reap, -1);
        }
    }

    /// Stops skipping all claims, because another process is the reaper now.
    pub(super) fn clear(&mut self) {
        for claim in self.claims() {
            self.remove(claim);
        }
    }
}
