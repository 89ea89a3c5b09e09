//! How many events per second a tenant may post to this process, so that one cannot take the room of the others.

use std::num::NonZeroU32;

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use super::problem::{Problem, ProblemCode};
use crate::domain::names::TenantId;

type Limiter = RateLimiter<TenantId, HashMapStateStore<TenantId>, DefaultClock>;

/// Takes events off each tenant's allowance, which grows back evenly.
#[derive(Debug)]
pub(super) struct TenantRates(Option<Limiter>);

impl TenantRates {
    /// `None`: there is no limit. What was not used is saved up for a second, and in any case for a whole batch, which
    /// would never be accepted otherwise.
    pub(super) fn new(events_per_second: Option<NonZeroU32>, batch_events: usize) -> Self {
        Self(events_per_second.map(|rate| {
            let batch = u32::try_from(batch_events).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
            RateLimiter::hashmap(Quota::per_second(rate).allow_burst(rate.max(batch)))
        }))
    }

    pub(super) fn are_limited(&self) -> bool {
        self.0.is_some()
    }

    /// 429, and nothing taken, unless all of these events fit the tenant's allowance.
    pub(super) fn take(&self, tenant: &TenantId, events: u32) -> Result<(), Problem> {
        let (Some(limiter), Some(events)) = (&self.0, NonZeroU32::new(events)) else { return Ok(()) };
        let too_many = Problem::new(ProblemCode::RateLimited).detail("the tenant posts more events than it may");
        match limiter.check_key_n(tenant, events) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_yet)) => Err(too_many.retry_after(not_yet.wait_time_from(limiter.clock().now()))),
            // The allowance holds a batch, and more cannot be posted at once.
            Err(_never) => Err(Problem::new(ProblemCode::PayloadTooLarge)),
        }
    }
}
