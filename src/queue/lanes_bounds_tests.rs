//! Tests that each call visits only a few of the known lanes, because the call locks the channel. Also tests that every lane
//! gets a turn.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::lane::AttemptSignal;
use super::lanes::Lanes;
use super::lanes_tests::{LIMITS, acme, endpoint, lanes_with_work, settle_fully};
use crate::domain::names::TenantId;
use crate::store::queue::lanes::LaneCursor;

const MANY_LANES: usize = 100_000;

/// Returns lanes from which all deliveries were claimed.
fn emptied_lanes(now: Instant) -> Lanes {
    let mut lanes = lanes_with_work(MANY_LANES as u128, now);
    loop {
        let plan = lanes.plan(LIMITS.permits, now);
        if plan.is_empty() {
            return lanes;
        }
        for one in &plan {
            lanes.settle(one, &[], now);
        }
    }
}

#[test]
fn each_hint_removes_at_most_two_idle_lanes() {
    let now = Instant::now();
    let tenant = TenantId::parse("acme").unwrap();
    let mut lanes = emptied_lanes(now);
    let later = now + Duration::from_hours(1);
    lanes.hint(&tenant, endpoint(0), 2, later);
    let forgotten = MANY_LANES - lanes.known().len();
    assert!((1..=2).contains(&forgotten), "one hint removed {forgotten} lanes");
    // The lane in use is kept. Each hint for a new lane removes two idle lanes.
    for number in 0..MANY_LANES / 2 {
        lanes.hint(&tenant, endpoint((MANY_LANES + number) as u128), 2, later);
        assert!(lanes.known().len() <= MANY_LANES);
    }
    assert_eq!(lanes.known().len(), 1 + MANY_LANES / 2);
}

#[test]
fn a_step_of_a_tail_scan_visits_a_bounded_number_of_lanes() {
    let now = Instant::now();
    let lanes = lanes_with_work(MANY_LANES as u128, now);
    let places = lanes.known().places(&LaneCursor::default(), 3, usize::MAX, i64::MAX);
    let numbers: Vec<_> = places.iter().map(|place| (place.key.endpoint_id.as_u128(), place.after)).collect();
    assert_eq!(
        numbers,
        [(0, Some(0)), (1, Some(0)), (2, Some(0)), (3, None)],
        "the last entry only marks where the next step starts"
    );
    assert_eq!(lanes.known().places(&places[3].key, MANY_LANES, usize::MAX, i64::MAX).len(), MANY_LANES - 3);
}

#[test]
fn a_tail_scan_starts_after_the_claimed_position_or_before_a_possible_late_commit() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(1, now);
    let plan = lanes.plan(8, now);
    lanes.settle(&plan[0], &[3, 5], now);
    assert_eq!(lanes.furthest_taken(), 5);
    for (late_after, after) in [(i64::MAX, 5), (9, 5), (4, 4)] {
        let places = lanes.known().places(&LaneCursor::default(), 8, usize::MAX, late_after);
        assert_eq!(places[0].after, Some(after));
    }
}

proptest! {
    #[test]
    fn every_lane_with_work_gets_a_turn(endpoints in 1..40_u128, batch in 1..20_u32) {
        let now = Instant::now();
        let mut lanes = lanes_with_work(endpoints, now);
        let mut next = 1;
        let mut seen = std::collections::HashSet::new();
        for _ in 0..endpoints {
            let plan = lanes.plan(batch, now);
            for one in settle_fully(&mut lanes, &plan, &mut next, now) {
                seen.insert(one);
                lanes.answered(&acme(), one, AttemptSignal::Answered, now, now);
                lanes.release(&acme(), one, 1);
            }
        }
        prop_assert_eq!(seen.len(), usize::try_from(endpoints).unwrap());
    }
}
