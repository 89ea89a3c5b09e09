//! One tail scan of all endpoints, in steps of bounded size. Pure state, no I/O.
//!
//! A step finds the first endpoint in each gap between known endpoints. The gap may contain more endpoints, so the next step
//! scans the rest of the gap before the scan continues with the next lanes.

use crate::store::queue::lanes::{LaneCursor, Place, WaitingLane};

#[derive(Debug)]
pub(super) struct TailScan {
    /// The gaps in which the last step found endpoints. The part of each gap that is already scanned is left out.
    gaps: Vec<Place>,
    /// The lane at which the scan continues after the gaps. `None` after the last lane.
    next: Option<LaneCursor>,
}

impl Default for TailScan {
    fn default() -> Self {
        Self { gaps: Vec::new(), next: Some(LaneCursor::default()) }
    }
}

impl TailScan {
    /// Returns the places to scan in the next step. `lanes` returns the places of the known lanes, starting at a key.
    pub(super) fn next_places(&mut self, lanes: impl FnOnce(&LaneCursor) -> Vec<Place>) -> Vec<Place> {
        if !self.gaps.is_empty() {
            return std::mem::take(&mut self.gaps);
        }
        let Some(from) = self.next.take() else { return Vec::new() };
        let mut places = lanes(&from);
        self.next = places.last().filter(|last| last.after.is_none()).map(|end| end.key.clone());
        // The lane at the start of the step may be unknown or removed.
        if places.first().is_none_or(|first| first.key != from) {
            places.insert(0, Place { key: from, after: Some(0) });
        }
        places
    }

    /// Notes that a step scanned these places and found these endpoints, in key order.
    pub(super) fn scanned(&mut self, places: &[Place], found: &[WaitingLane]) {
        let mut found = found.iter().map(WaitingLane::key).peekable();
        for (number, place) in places.iter().enumerate() {
            let end = places.get(number + 1).map(|next| &next.key);
            let before = self.gaps.len();
            while let Some(key) = found.next_if(|key| end.is_none_or(|end| key < end)) {
                if key != place.key {
                    // The position `i64::MAX` skips the deliveries of this endpoint, because the step has already found the
                    // endpoint.
                    self.gaps.push(Place { key, after: Some(i64::MAX) });
                }
            }
            if self.gaps.len() > before {
                self.gaps.extend(end.map(|end| Place { key: end.clone(), after: None }));
            }
        }
    }

    pub(super) fn is_end(&self) -> bool {
        self.gaps.is_empty() && self.next.is_none()
    }
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
            most in 1..8_usize,
        ) {
            let mut lanes = Lanes::new(LIMITS);
            for (tenant, number) in &known {
                let lane = waiting(*tenant, *number);
                lanes.hint(&lane.tenant_id, lane.endpoint_id, 1, Instant::now());
            }
            let ready: Vec<WaitingLane> = ready.iter().map(|(tenant, number)| waiting(*tenant, *number)).collect();
            let (mut scan_of, mut found, mut steps) = (TailScan::default(), BTreeSet::new(), 0);
            while !scan_of.is_end() {
                let places = scan_of.next_places(|from| lanes.known().places(from, most, i64::MAX));
                prop_assert!(places.is_sorted_by(|one, next| one.key < next.key), "{:?}", places);
                let waiting = scan(&places, &ready);
                scan_of.scanned(&places, &waiting);
                found.extend(waiting.iter().map(WaitingLane::key));
                steps += 1;
            }
            prop_assert_eq!(found, ready.iter().map(WaitingLane::key).collect::<BTreeSet<_>>());
            prop_assert!(steps <= known.len().div_ceil(most).max(1) + ready.len());
        }
    }
}
