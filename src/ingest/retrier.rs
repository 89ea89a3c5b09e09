//! Retries events whose transaction timed out on a lock, separately from the committers.

use std::time::{Duration, Instant};

use super::acceptor::{Acceptor, is_about_the_events};
use super::retries::Retry;
use super::shared::NextRetry;
use crate::store::accept::is_lock_timeout;

#[derive(Debug)]
pub(super) struct Retrier {
    acceptor: Acceptor,
}

impl Retrier {
    pub(super) fn new(acceptor: Acceptor) -> Self {
        Self { acceptor }
    }

    /// Runs until the committers have ended and no event waits for a retry.
    pub(super) async fn run(self) {
        let shared = &self.acceptor.shared;
        loop {
            // Must be created before the check, so that a retry that is added meanwhile wakes this task.
            let woken = shared.retry.notified();
            match shared.next_retry(Instant::now()) {
                NextRetry::Work(taken) => {
                    shared.refuse(taken.given_up);
                    if !taken.group.is_empty() {
                        self.retry(taken.group, taken.lock_timeout).await;
                    }
                }
                NextRetry::Nothing => woken.await,
                NextRetry::Ended => return,
            }
        }
    }

    async fn retry(&self, group: Vec<Retry>, lock_timeout: Duration) {
        let shared = &self.acceptor.shared;
        let error = match self.acceptor.accept(group.iter().map(|retry| &retry.job), lock_timeout).await {
            Ok(accepted) => return shared.accepted_retry(group, accepted),
            Err(error) => error,
        };
        let is_locked = is_lock_timeout(&error);
        if group.len() > 1 && is_about_the_events(&error) {
            return shared.separate_retry(group);
        }
        if is_locked {
            tracing::warn!(%error, "refused events; an open transaction keeps their session or idempotency key locked");
        } else {
            tracing::error!(%error, callers = group.len(), "could not accept events");
        }
        shared.refuse_retry(group, is_locked);
    }
}
