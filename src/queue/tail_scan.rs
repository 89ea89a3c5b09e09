//! One tail scan of all endpoints, in steps of bounded size. Pure state, no I/O.
//!
//! A step finds the first endpoint in each gap between known endpoints. The gap may contain more endpoints, so the next step
//! scans the rest of the gap before the scan continues with the next lanes.
//!
//! The scan first visits every tenant, and scans only the first lanes of each. If lanes or gaps remain, it then scans all
//! lanes. Half of the later steps visit every tenant again. So the time until the scan finds another tenant's delivery does
//! not depend on a tenant with thousands of lanes.

use uuid::Uuid;

use crate::store::queue::lanes::{LaneCursor, Place, WaitingLane};

/// The maximum number of lanes that a visit scans per tenant.
const FIRST_LANES: usize = 32;

#[derive(Debug)]
pub(super) struct TailScan {
    /// The lane at which the visit of all tenants continues. `None` after the last tenant.
    visit: Option<LaneCursor>,
    /// The number of steps of this visit so far.
    visited: usize,
    /// The number of other steps until the next visit.
    left: usize,
    is_visit: bool,
    /// True if the visit skipped lanes or gaps.
    is_partial: bool,
    /// For each gap in which the last step found endpoints, the rest that is not scanned yet.
    gaps: Vec<Place>,
    /// The lane at which the scan continues after the gaps. `None` after the last lane.
    next: Option<LaneCursor>,
}

impl Default for TailScan {
    fn default() -> Self {
        let first = Some(LaneCursor::default());
        Self {
            visit: first.clone(),
            visited: 0,
            left: 0,
            is_visit: true,
            is_partial: false,
            gaps: Vec::new(),
            next: first,
        }
    }
}

impl TailScan {
    /// Returns the places to scan in the next step. The function `lanes` gets a start key and the maximum number
    /// of lanes per tenant, and returns the places of known lanes.
    pub(super) fn next_places(&mut self, lanes: impl FnOnce(&LaneCursor, usize) -> Vec<Place>) -> Vec<Place> {
        self.is_visit = self.visit.is_some();
        if !self.is_visit && !self.gaps.is_empty() {
            return std::mem::take(&mut self.gaps);
        }
        let (next, of_each) = if self.is_visit { (&mut self.visit, FIRST_LANES) } else { (&mut self.next, usize::MAX) };
        let Some(from) = next.take() else { return Vec::new() };
        let mut places = lanes(&from, of_each);
        *next = places.last().filter(|last| last.after.is_none()).map(|end| end.key.clone());
        // The lane at the start of the step might be unknown or removed.
        if places.first().is_none_or(|first| first.key != from) {
            places.insert(0, Place { key: from, after: Some(0) });
        }
        places
    }

    /// Notes that a step scanned these places and found these endpoints, in key order.
    pub(super) fn scanned(&mut self, places: &[Place], found: &[WaitingLane]) {
        let gaps = gaps(places, found);
        if self.is_visit {
            let has_skipped = places.iter().any(|place| place.key.endpoint_id == Uuid::max());
            self.is_partial |= has_skipped || !gaps.is_empty();
            self.visited += 1;
            if self.visit.is_none() {
                self.left = std::mem::take(&mut self.visited);
                self.next = self.next.take().filter(|_| self.is_partial);
            }
        } else {
            self.gaps = gaps;
            self.left = self.left.saturating_sub(1);
            if self.left == 0 && !self.is_end() {
                self.visit = Some(LaneCursor::default());
            }
        }
    }

    pub(super) fn has_gaps(&self) -> bool {
        !self.gaps.is_empty()
    }

    pub(super) fn is_end(&self) -> bool {
        self.visit.is_none() && self.gaps.is_empty() && self.next.is_none()
    }
}

/// Returns the rest of each gap in which a step found endpoints, in key order.
fn gaps(places: &[Place], found: &[WaitingLane]) -> Vec<Place> {
    let mut gaps = Vec::new();
    let mut found = found.iter().map(WaitingLane::key).peekable();
    for (number, place) in places.iter().enumerate() {
        let end = places.get(number + 1).map(|next| &next.key);
        let before = gaps.len();
        while let Some(key) = found.next_if(|key| end.is_none_or(|end| key < end)) {
            if key != place.key {
                // The position `i64::MAX` skips the deliveries of this endpoint, because the step has already found the
                // endpoint.
                gaps.push(Place { key, after: Some(i64::MAX) });
            }
        }
        if gaps.len() > before {
            gaps.extend(end.map(|end| Place { key: end.clone(), after: None }));
        }
    }
    gaps
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::domain::names::TenantId;
    use crate::queue::lanes::Lanes;
    use crate::queue::lanes_tests::{LIMITS, endpoint};

    fn waiting(tenant: u8, number: u128) -> WaitingLane {
        WaitingLane {
            tenant_id: TenantId::parse(format!("tenant-{tenant}")).unwrap(),
            endpoint_id: endpoint(number * 10 + u128::from(tenant)),
            first_position: 1,
            waited: Duration::ZERO,
        }
    }

    /// Simulates the database: returns the endpoints at the places, and the first endpoint in each gap between them.
    fn scan(places: &[Place], ready: &[WaitingLane]) -> Vec<WaitingLane> {
        let mut found = Vec::new();
        for (number, place) in places.iter().enumerate() {
            let Some(after) = place.after else { continue };
            found.extend(ready.iter().find(|lane| lane.key() == place.key && lane.first_position > after).cloned());
            let end = places.get(number + 1).map(|next| &next.key);
            let in_gap = |lane: &&WaitingLane| lane.key() > place.key && end.is_none_or(|end| lane.key() < *end);
            found.extend(ready.iter().find(in_gap).cloned());
        }
        found
    }

    proptest! {
        #[test]
        fn a_tail_scan_finds_every_endpoint_with_work_in_a_bounded_number_of_steps(
            known in prop::collection::btree_set((0..3_u8, 0..200_u128), 0..40),
            ready in prop::collection::btree_set((0..3_u8, 0..200_u128), 0..40),
            (most, first) in (1..8_usize, 1..8_usize),
        ) {
            let mut lanes = Lanes::new(LIMITS);
            for (tenant, number) in &known {
                let lane = waiting(*tenant, *number);
                lanes.hint(&lane.tenant_id, lane.endpoint_id, 1, Instant::now());
            }
            let ready: Vec<WaitingLane> = ready.iter().map(|(tenant, number)| waiting(*tenant, *number)).collect();
            let (mut scan_of, mut found, mut steps) = (TailScan::default(), BTreeSet::new(), 0);
            while !scan_of.is_end() {
                let places = scan_of.next_places(|from, of_each| {
                    let of_each = if of_each == FIRST_LANES { first } else { of_each };
                    lanes.known().places(from, most, of_each, i64::MAX)
                });
                prop_assert!(places.is_sorted_by(|one, next| one.key < next.key), "{:?}", places);
                let waiting = scan(&places, &ready);
                scan_of.scanned(&places, &waiting);
                found.extend(waiting.iter().map(WaitingLane::key));
                steps += 1;
            }
            prop_assert_eq!(found, ready.iter().map(WaitingLane::key).collect::<BTreeSet<_>>());
            prop_assert!(steps <= 3 * (known.len() + ready.len()) + 2);
        }

        #[test]
        fn finds_a_new_delivery_within_a_number_of_steps_that_only_depends_on_the_tenants(
            (endpoints, unknown) in (1..1_000_u128, 0..50_u128), tenants in 1..6_u8, starts_at in 0..100_usize,
            (is_known, most) in (any::<bool>(), 40..80_usize),
        ) {
            // The first tenant has many known lanes, and unknown lanes with work. The other tenants have a few known lanes.
            let mut lanes = Lanes::new(LIMITS);
            let few = (1..tenants).flat_map(|tenant| (0..3).map(move |number| waiting(tenant, number)));
            let arrived = waiting(tenants, 0);
            for lane in (0..endpoints).map(|number| waiting(0, number)).chain(few).chain(is_known.then(|| arrived.clone())) {
                lanes.hint(&lane.tenant_id, lane.endpoint_id, 1, Instant::now());
            }
            let mut ready: Vec<_> = (endpoints..endpoints + unknown).map(|number| waiting(0, number)).collect();
            let (mut scan_of, mut waited) = (TailScan::default(), 0);
            for step in 0_usize.. {
                if step == starts_at {
                    ready.push(arrived.clone());
                }
                if scan_of.is_end() {
                    scan_of = TailScan::default();
                }
                let places = scan_of.next_places(|from, of_each| lanes.known().places(from, most, of_each, i64::MAX));
                let found = scan(&places, &ready);
                scan_of.scanned(&places, &found);
                if found.contains(&arrived) {
                    break;
                }
                waited += usize::from(step >= starts_at);
                // A visit scans only the first lanes of a tenant and their gaps. It finds unknown lanes in these gaps one by one.
                let before_end = if endpoints < FIRST_LANES as u128 { unknown as usize } else { 0 };
                prop_assert!(waited <= 2 * (usize::from(tenants) + before_end) + 2, "not found after {waited} steps");
            }
        }
    }
}
