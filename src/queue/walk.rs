//! One walk through all endpoints with ready deliveries, in steps of bounded size, tenant by tenant. Pure state, no I/O.
//!
//! Endpoints are read in key order, by tenant. If one tenant fills a whole step, its further endpoints wait until the walk has
//! reached every tenant; then the walk serves such tenants round-robin. So a tenant with thousands of endpoints delays another
//! one by a single step.

use std::collections::VecDeque;

use uuid::Uuid;

use crate::store::queue::lanes::{LaneCursor, WaitingLane};

/// Endpoints of the first step of each tenant: few, so that the walk reaches the last tenant soon.
const FIRST_STEP: usize = 32;
/// Endpoints of the largest step. Each step of a tenant is twice as large as the one before, so that the last one reads few
/// endpoints of the tenants behind it.
const LARGEST_STEP: usize = 256;

#[derive(Debug)]
pub(super) struct Walk {
    /// The next tenants begin behind it; `None`: the walk has reached every tenant.
    tenants: Option<LaneCursor>,
    /// Tenants with further endpoints: where these begin, and how many the next step reads.
    rest: VecDeque<(LaneCursor, usize)>,
}

impl Default for Walk {
    fn default() -> Self {
        Self { tenants: Some(LaneCursor::default()), rest: VecDeque::new() }
    }
}

impl Walk {
    /// Where the next step begins.
    pub(super) fn next(&self) -> LaneCursor {
        self.tenants.as_ref().or(self.rest.front().map(|(from, _)| from)).cloned().unwrap_or_default()
    }

    /// How many endpoints the next step reads.
    pub(super) fn limit(&self) -> usize {
        match self.rest.front() {
            Some((_, limit)) if self.tenants.is_none() => *limit,
            _ => FIRST_STEP,
        }
    }

    /// The step found these endpoints, in key order.
    pub(super) fn found(&mut self, found: &[WaitingLane]) {
        let limit = self.limit();
        self.advance(found, limit);
    }

    fn advance(&mut self, found: &[WaitingLane], limit: usize) {
        // There may be more endpoints behind a full step.
        let last = found.last().filter(|_| found.len() >= limit).map(WaitingLane::key);
        let first_tenant = found.first().map(|lane| lane.key().tenant_id);
        let mut only_tenant = last.clone().filter(|last| Some(&last.tenant_id) == first_tenant.as_ref());
        if self.tenants.is_some() {
            let behind_tenant = only_tenant.clone().map(|last| LaneCursor { endpoint_id: Uuid::max(), ..last });
            self.tenants = behind_tenant.or(last);
        } else {
            // What a step finds behind its tenant, the first steps of other tenants have found.
            let tenant = self.rest.pop_front().map(|(from, _)| from.tenant_id);
            only_tenant = only_tenant.filter(|last| Some(&last.tenant_id) == tenant.as_ref());
        }
        self.rest.extend(only_tenant.map(|last| (last, (2 * limit).min(LARGEST_STEP))));
    }

    pub(super) fn is_end(&self) -> bool {
        self.tenants.is_none() && self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::names::TenantId;
    use crate::queue::lanes_tests::endpoint;

    fn lane(tenant: u8, number: u128) -> WaitingLane {
        WaitingLane {
            tenant_id: TenantId::parse(format!("tenant-{tenant}")).unwrap(),
            endpoint_id: endpoint(number * 10 + u128::from(tenant)),
            first_position: 1,
            waited: Duration::ZERO,
        }
    }

    /// Up to `limit` lanes behind the cursor, as the database returns them.
    fn behind(ready: &[WaitingLane], from: &LaneCursor, limit: usize) -> Vec<WaitingLane> {
        ready.iter().filter(|lane| lane.key() > *from).take(limit).cloned().collect()
    }

    proptest! {
        #[test]
        fn finds_every_lane_and_each_tenant_after_at_most_a_step_of_every_earlier_one(
            ready in prop::collection::btree_set((0..6_u8, 0..60_u128), 0..150), limit in 1..20_usize,
        ) {
            let mut ready: Vec<WaitingLane> = ready.iter().map(|(tenant, number)| lane(*tenant, *number)).collect();
            ready.sort_by_key(WaitingLane::key);
            let (mut walk, mut found, mut steps) = (Walk::default(), BTreeSet::new(), 0);
            while !walk.is_end() {
                let lanes = behind(&ready, &walk.next(), limit);
                walk.advance(&lanes, limit);
                found.extend(lanes.iter().map(WaitingLane::key));
                steps += 1;
                let all: BTreeSet<_> = ready.iter().map(|lane| lane.key().tenant_id).collect();
                let seen: BTreeSet<_> = found.iter().map(|key| key.tenant_id.clone()).collect();
                // A step ends within a tenant, or after as many lanes as it may have.
                prop_assert!(seen.len() == all.len() || seen.len() * 2 + 1 >= steps, "{} after {steps} steps", seen.len());
                prop_assert!(steps <= 2 * ready.len() + 2);
            }
            prop_assert_eq!(found.len(), ready.len());
        }
    }

    #[test]
    fn a_tenant_with_many_endpoints_costs_another_one_a_single_step() {
        let ready: Vec<WaitingLane> =
            (0..1_000).map(|number| lane(0, number)).chain([lane(1, 0), lane(2, 0)]).collect();
        let mut walk = Walk::default();
        let step = |walk: &mut Walk| {
            let lanes = behind(&ready, &walk.next(), walk.limit());
            walk.found(&lanes);
            lanes
        };
        let first = step(&mut walk);
        assert_eq!(step(&mut walk), [lane(1, 0), lane(2, 0)]);
        let mut of_first_tenant = first.len();
        while !walk.is_end() {
            of_first_tenant += step(&mut walk).iter().filter(|lane| lane.tenant_id.as_str() == "tenant-0").count();
        }
        assert_eq!(of_first_tenant, 1_000);
    }

    #[test]
    fn many_tenants_with_some_endpoints_cost_a_few_times_their_endpoints() {
        let lanes_of = |tenant| (0..40).map(move |number| lane(tenant, number));
        let mut ready: Vec<WaitingLane> = (0..50).flat_map(lanes_of).collect();
        ready.sort_by_key(WaitingLane::key);
        let (mut walk, mut read) = (Walk::default(), 0);
        while !walk.is_end() {
            let lanes = behind(&ready, &walk.next(), walk.limit());
            walk.found(&lanes);
            read += lanes.len();
        }
        assert!((ready.len()..=3 * ready.len()).contains(&read), "{read}");
    }
}
