//! Set-aside claims. The database refuses to write these claims or to return their status. They keep their permits and are
//! retried one by one, while the claimers continue. If the database refuses every claim, no permits are left and claims stop.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::claimer::{Claimer, SetAsideClaim};
use crate::telemetry::metrics::ClaimStep;

/// Pause between two rounds of retries. It is short, so that retries soon succeed after an operator has removed the cause, but
/// long enough to cost little.
pub(super) const RETRY_EVERY: Duration = Duration::from_secs(10);
/// A round ends after this number of refusals, to bound the load on a database that refuses everything. The next round starts
/// with the claims or outcomes that this round did not try.
pub(super) const REFUSALS_PER_ROUND: usize = 16;

/// Set-aside claims of one channel. The permits bound their number.
#[derive(Debug)]
pub(super) struct SetAsideClaims {
    pub(super) claimer: Claimer,
    pub(super) received: mpsc::UnboundedReceiver<SetAsideClaim>,
}

impl SetAsideClaims {
    /// Retries set-aside claims until `stop`. The reaper then takes over the remaining claims.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut waiting = VecDeque::new();
        let mut retry_at = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(claim) = self.received.recv() => {
                    if waiting.is_empty() {
                        retry_at = Instant::now() + RETRY_EVERY;
                    }
                    waiting.push_back(claim);
                }
                () = sleep_until(retry_at), if !waiting.is_empty() => {
                    self.retry(&mut waiting).await;
                    retry_at = Instant::now() + RETRY_EVERY;
                }
            }
        }
    }

    async fn retry(&self, waiting: &mut VecDeque<SetAsideClaim>) {
        if !self.claimer.registration.may_claim() {
            return;
        }
        let mut refusals = 0;
        for _ in 0..waiting.len() {
            let Some(mut claim) = waiting.pop_front() else { return };
            match self.claimer.try_again(&claim).await {
                Ok((id, taken)) => {
                    self.claimer.queue.resumed(claim.permits());
                    let channel = self.claimer.queue.channel();
                    self.claimer.metrics.change_claims_set_aside(channel, ClaimStep::Claim, -1);
                    self.claimer.dispatch(id, &claim.planned, taken);
                }
                Err(why) => {
                    claim.why = why;
                    waiting.push_back(claim);
                    refusals += 1;
                    if refusals == REFUSALS_PER_ROUND {
                        return;
                    }
                }
            }
        }
    }
}
