//! One walk through all endpoints with ready deliveries, in steps of bounded size, tenant by tenant. Pure state, no I/O.
//!
//! The walk first visits every tenant, and reads the first endpoints of each. If one tenant fills a whole step, its other
//! endpoints wait until the walk has visited every tenant. Then the walk reads the remaining endpoints of these tenants
//! round-robin. Half of these later steps visit every tenant again. So the time until the walk finds another tenant's delivery
//! does not depend on a tenant with thousands of endpoints, even if the delivery becomes ready during the walk.

use std::collections::VecDeque;

use uuid::Uuid;

use crate::store::queue::lanes::{LaneCursor, WaitingLane};

/// The maximum number of endpoints that a tenant's first step reads. It is small, so that the walk reaches the last tenant
/// soon.
const FIRST_STEP: usize = 32;
/// The maximum number of endpoints that any step reads. Each step of a tenant is twice as large as the tenant's previous step,
/// so that the last step of a tenant reads few endpoints of later tenants.
const LARGEST_STEP: usize = 256;

#[derive(Debug)]
pub(super) struct Walk {
    /// The key after which the walk searches for the next tenant. `None` if the walk has visited every tenant.
    tenants: Option<LaneCursor>,
    /// For each tenant with unread endpoints: the last endpoint that was read, and how many endpoints the next step reads.
    rest: VecDeque<(LaneCursor, usize)>,
    /// The number of steps of this visit of all tenants so far.
    visit: usize,
    /// The number of other steps until the next visit. It starts at the number of steps of the last visit.
    left: usize,
    is_first_visit: bool,
}

impl Default for Walk {
    fn default() -> Self {
        let tenants = Some(LaneCursor::default());
        Self { tenants, rest: VecDeque::new(), visit: 0, left: 0, is_first_visit: true }
    }
}

impl Walk {
    /// The key after which the next step begins.
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

    /// Notes that the step found these endpoints, in key order.
    pub(super) fn found(&mut self, found: &[WaitingLane]) {
        let limit = self.limit();
        self.advance(found, limit);
    }

    fn advance(&mut self, found: &[WaitingLane], limit: usize) {
        // If the step is full, more endpoints may follow.
        let last = found.last().filter(|_| found.len() >= limit).map(WaitingLane::key);
        let first_tenant = found.first().map(|lane| lane.key().tenant_id);
        let mut only_tenant = last.clone().filter(|last| Some(&last.tenant_id) == first_tenant.as_ref());
        if self.tenants.is_some() {
            let behind_tenant = only_tenant.clone().map(|last| LaneCursor { endpoint_id: Uuid::max(), ..last });
            self.tenants = behind_tenant.or(last);
            // Only the first visit decides which endpoints are left to read, so that the walk ends.
            only_tenant = only_tenant.filter(|_| self.is_first_visit);
            self.visit += 1;
            if self.tenants.is_none() {
                self.left = std::mem::take(&mut self.visit);
                self.is_first_visit = false;
            }
        } else {
            // The step may also find endpoints of later tenants. Other steps read those tenants.
            let tenant = self.rest.pop_front().map(|(from, _)| from.tenant_id);
            only_tenant = only_tenant.filter(|last| Some(&last.tenant_id) == tenant.as_ref());
            self.left -= 1;
        }
        self.rest.extend(only_tenant.map(|last| (last, (2 * limit).min(LARGEST_STEP))));
        if self.left == 0 && self.tenants.is_none() && !self.rest.is_empty() {
            self.tenants = Some(LaneCursor::default());
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

    /// Simulates the database: returns up to `limit` lanes after the cursor.
    fn behind(ready: &[WaitingLane], from: &LaneCursor, limit: usize) -> Vec<WaitingLane> {
        ready.iter().filter(|lane| lane.key() > *from).take(limit).cloned().collect()
    }

    proptest! {
        #[test]
        fn a_walk_finds_every_lane_and_reaches_a_tenant_after_one_step_per_earlier_tenant(
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
                // Each step reaches a new tenant, or reads `limit` lanes.
                prop_assert!(seen.len() == all.len() || seen.len() * 2 + 1 >= steps, "{} after {steps} steps", seen.len());
                prop_assert!(steps <= 4 * ready.len() + 2);
            }
            prop_assert_eq!(found.len(), ready.len());
        }
    }

    proptest! {
        #[test]
        fn finds_a_new_delivery_within_a_number_of_steps_that_only_depends_on_the_tenants(
            endpoints in 1..1_500_u128, tenants in 1..6_u8, arrives_at in 0.0..1.0_f64,
        ) {
            // The first tenant has many endpoints, and the next tenants have a few. Later the last tenant gets its only delivery.
            let few = (1..tenants).flat_map(|tenant| (0..3).map(move |number| lane(tenant, number)));
            let mut ready: Vec<WaitingLane> = (0..endpoints).map(|number| lane(0, number)).chain(few).collect();
            ready.sort_by_key(WaitingLane::key);
            let steps_of = |ready: &[WaitingLane]| {
                let (mut walk, mut steps) = (Walk::default(), 0_u32);
                while !walk.is_end() {
                    walk.found(&behind(ready, &walk.next(), walk.limit()));
                    steps += 1;
                }
                steps
            };
            let arrives_at = f64::from(steps_of(&ready)) * arrives_at;
            let (mut walk, mut steps, mut waited) = (Walk::default(), 0_u32, None);
            let arrived = lane(tenants, 0);
            // After the end of this walk, the next walk begins.
            loop {
                if waited.is_none() && f64::from(steps) >= arrives_at {
                    ready.push(arrived.clone());
                    waited = Some(0);
                }
                if walk.is_end() {
                    walk = Walk::default();
                }
                let found = behind(&ready, &walk.next(), walk.limit());
                walk.found(&found);
                steps += 1;
                waited = waited.map(|steps| steps + 1);
                if found.contains(&arrived) {
                    break;
                }
                prop_assert!(waited.is_none_or(|waited| waited <= 2 * (u32::from(tenants) + 1)), "{waited:?} steps");
            }
        }
    }

    #[test]
    fn a_tenant_with_many_endpoints_delays_other_tenants_by_a_single_step() {
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
        let mut of_first_tenant: BTreeSet<_> = first.iter().map(WaitingLane::key).collect();
        while !walk.is_end() {
            let found = step(&mut walk);
            of_first_tenant.extend(found.iter().map(WaitingLane::key).filter(|key| key.tenant_id == "tenant-0"));
        }
        assert_eq!(of_first_tenant.len(), 1_000);
    }

    #[test]
    fn a_walk_reads_each_endpoint_at_most_three_times_on_average() {
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
