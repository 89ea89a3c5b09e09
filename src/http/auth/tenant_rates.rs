//! Limits the events per second that a tenant may post to this process, so that a busy tenant does not delay other tenants.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::domain::names::TenantId;
use crate::http::request::problem::{Problem, ProblemCode};

type Limiter = RateLimiter<TenantId, HashMapStateStore<TenantId>, DefaultClock>;

/// The maximum burst is as many events as the rate allows in this number of seconds. A service that could not reach this
/// process for a while can then send its backlog at once.
const SAVED_SECONDS: u32 = 10;
/// After this number of requests, the tenants whose allowance is full again are removed.
const REQUESTS_BETWEEN_LOOKS: usize = 10_000;

/// Gives each tenant an allowance of events (a token bucket), which refills evenly.
#[derive(Debug)]
pub(crate) struct TenantRates(Option<Rates>);

#[derive(Debug)]
struct Rates {
    limiter: Limiter,
    requests: AtomicUsize,
}

impl TenantRates {
    /// The value `None` sets no limit. The maximum allowance is the rate times [`SAVED_SECONDS`], but at least a full batch,
    /// because a batch larger than the allowance could never be accepted.
    pub(crate) fn new(events_per_second: Option<NonZeroU32>, batch_events: usize) -> Self {
        Self(events_per_second.map(|rate| {
            let batch = u32::try_from(batch_events).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
            let saved = NonZeroU32::new(SAVED_SECONDS).map_or(rate, |seconds| rate.saturating_mul(seconds));
            let limiter = RateLimiter::hashmap(Quota::per_second(rate).allow_burst(saved.max(batch)));
            Rates { limiter, requests: AtomicUsize::new(0) }
        }))
    }

    pub(crate) fn are_limited(&self) -> bool {
        self.0.is_some()
    }

    /// Subtracts events from the tenant's allowance. If the allowance is too small, returns 429 and subtracts nothing.
    pub(crate) fn take(&self, tenant: &TenantId, events: u32) -> Result<(), Problem> {
        let (Some(rates), Some(events)) = (&self.0, NonZeroU32::new(events)) else { return Ok(()) };
        let limiter = rates.of_those_who_post();
        let too_many =
            Problem::new(ProblemCode::RateLimited).detail("the tenant posts more events per second than allowed");
        match limiter.check_key_n(tenant, events) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_yet)) => Err(too_many.retry_after(not_yet.wait_time_from(limiter.clock().now()))),
            // This error cannot happen: the maximum allowance is at least a full batch, and no request has more events.
            Err(_never) => Err(Problem::new(ProblemCode::PayloadTooLarge)),
        }
    }
}

impl Rates {
    /// Returns the limiter. Regularly removes tenants that have not posted for a while.
    fn of_those_who_post(&self) -> &Limiter {
        if (self.requests.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(REQUESTS_BETWEEN_LOOKS) {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        &self.limiter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: usize) -> TenantId {
        TenantId::parse(format!("tenant-{number}")).unwrap()
    }

    #[test]
    fn removes_a_tenant_whose_allowance_is_full_again() {
        let rates = TenantRates::new(NonZeroU32::new(1_000_000), 500);
        for number in 0..REQUESTS_BETWEEN_LOOKS {
            rates.take(&tenant(number), 1).unwrap();
        }
        let kept = rates.0.unwrap().limiter.len();
        // One event refills within a microsecond.
        assert!(kept < REQUESTS_BETWEEN_LOOKS / 2, "{kept}");
    }

    #[test]
    fn does_not_remove_a_tenant_that_exceeds_its_rate() {
        let rates = TenantRates::new(NonZeroU32::new(1), 1);
        let busy = tenant(0);
        rates.take(&busy, 1).unwrap();
        for number in 1..=REQUESTS_BETWEEN_LOOKS {
            rates.take(&tenant(number), 1).unwrap();
        }
        assert!(rates.0.unwrap().limiter.len() > 1);
    }
}
