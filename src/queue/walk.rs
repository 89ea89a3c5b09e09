//! One walk through all endpoints with ready deliveries, in steps of bounded size, tenant by tenant. Pure state, no I/O.
//!
//! Endpoints are read in key order, by tenant. A tenant that fills a whole step waits with its further endpoints until the
//! walk has been at every tenant; then the walk serves such tenants round-robin. So a tenant with thousands of endpoints costs
//! another one a single step.

use std::collections::VecDeque;

use uuid::Uuid;

use crate::store::queue::lanes::{LaneCursor, WaitingLane};

/// Endpoints of a step while there are tenants that the walk has not been at: few, so that it is soon at the last one.
const TENANTS_STEP: usize = 32;
/// Endpoints of each further step.
const STEP: usize = 256;

#[derive(Debug)]
pub(super) struct Walk {
    /// The next tenants begin behind it; `None`: the walk has been at every tenant.
    tenants: Option<LaneCursor>,
    /// Tenants with further endpoints, which begin behind it.
    rest: VecDeque<LaneCursor>,
}

impl Default for Walk {
    fn default() -> Self {
        Self { tenants: Some(LaneCursor::default()), rest: VecDeque::new() }
    }
}

impl Walk {
    /// Where the next step begins.
    pub(super) fn next(&self) -> LaneCursor {
        self.tenants.as_ref().or(self.rest.front()).cloned().unwrap_or_default()
    }

    /// How many endpoints the step looks for.
    pub(super) fn limit(&self) -> usize {
        if self.tenants.is_some() { TENANTS_STEP } else { STEP }
    }

    /// The step found these endpoints, in key order.
    pub(super) fn found(&mut self, found: &[WaitingLane]) {
        let is_full = found.len() >= self.limit();
        self.advance(found, is_full);
    }

    /// `is_full`: there may be more endpoints behind the found ones.
    fn advance(&mut self, found: &[WaitingLane], is_full: bool) {
        let (first, last) = (found.first().map(WaitingLane::key), found.last().map(WaitingLane::key));
        let rest_of = if self.tenants.is_none() { self.rest.pop_front().map(|from| from.tenant_id) } else { None };
        let last = last.filter(|_| is_full);
        let fills_step = last.as_ref().filter(|last| first.is_some_and(|first| first.tenant_id == last.tenant_id));
        if let Some(tenant) = rest_of {
            // Endpoints of the tenants behind it were found before.
            self.rest.extend(last.filter(|last| last.tenant_id == tenant));
        } else {
            let behind_tenant = fills_step.map(|last| LaneCursor { endpoint_id: Uuid::max(), ..last.clone() });
            self.rest.extend(fills_step.cloned());
            self.tenants = behind_tenant.or(last);
        }
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
                walk.advance(&lanes, lanes.len() == limit);
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
}
