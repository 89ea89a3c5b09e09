//! Tests how claims are planned: turns, quotas, caps and the limits of tenants.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::lane::{AttemptSignal, FIRST_CAP, STALL_AFTER};
use super::lanes::{LaneLimits, Lanes, Planned};
use super::tenants::unproven_permits;
use crate::domain::ids::EndpointId;
use crate::domain::names::TenantId;

pub(super) const LIMITS: LaneLimits = LaneLimits { permits: 1_200, endpoint_permits: 30 };

pub(super) fn endpoint(number: u128) -> EndpointId {
    EndpointId::from_uuid(Uuid::from_u128(number))
}

pub(super) fn acme() -> TenantId {
    TenantId::parse("acme").unwrap()
}

pub(super) fn lanes_with_work(endpoints: u128, now: Instant) -> Lanes {
    let tenant = acme();
    let mut lanes = Lanes::new(LIMITS);
    for number in 0..endpoints {
        lanes.hint(&tenant, endpoint(number), 1, now);
    }
    lanes
}

/// Settles a plan with full quotas, as if every lane always had ready deliveries.
pub(super) fn settle_fully(lanes: &mut Lanes, plan: &[Planned], next: &mut i64, now: Instant) -> Vec<EndpointId> {
    let mut started = Vec::new();
    for one in plan {
        let positions: Vec<i64> = (0..one.quota.quota).map(|_| std::mem::replace(next, *next + 1)).collect();
        started.extend(positions.iter().map(|_| one.quota.endpoint_id));
        lanes.settle(one, &positions, now);
    }
    started
}

#[test]
fn a_claim_is_shared_equally_among_the_lanes() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(4, now);
    let plan = lanes.plan(16, now);
    assert_eq!(plan.iter().map(|one| one.quota.quota).collect::<Vec<_>>(), [4, 4, 4, 4]);
}

#[test]
fn a_lane_that_fills_its_quota_gets_a_larger_quota_and_an_empty_lane_gets_a_quota_of_one() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(100, now);
    let mut next = 1;
    for _ in 0..50 {
        let plan = lanes.plan(4, now);
        for one in settle_fully(&mut lanes, &plan, &mut next, now) {
            lanes.answered(&acme(), one, AttemptSignal::Answered, now, now);
            lanes.recorded(&acme(), one);
        }
    }
    let plan = lanes.plan(16, now);
    assert!(plan.len() < 16, "{plan:?}");
    let emptied = plan[0].quota.endpoint_id;
    for one in &plan {
        lanes.settle(one, &[], now);
    }
    lanes.hint(&acme(), emptied, next, now);
    let mut asked = None;
    while asked.is_none() {
        let plan = lanes.plan(4, now);
        assert!(!plan.is_empty(), "the lane never got its turn");
        for one in &plan {
            lanes.settle(one, &[], now);
        }
        asked = plan.iter().find(|one| one.quota.endpoint_id == emptied).map(|one| one.quota.quota);
    }
    assert_eq!(asked, Some(1));
}

#[test]
fn the_next_claim_starts_with_the_lanes_that_the_last_claim_did_not_reach() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(4, now);
    let first: Vec<_> = lanes.plan(2, now).iter().map(|one| one.quota.endpoint_id).collect();
    let second: Vec<_> = lanes.plan(2, now).iter().map(|one| one.quota.endpoint_id).collect();
    assert_eq!(first, [endpoint(0), endpoint(1)]);
    assert_eq!(second, [endpoint(2), endpoint(3)]);
}

#[test]
fn a_new_endpoint_may_start_only_a_few_deliveries() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(1, now);
    assert_eq!(lanes.plan(80, now)[0].quota.quota, FIRST_CAP);
    assert!(lanes.plan(80, now).is_empty());
}

#[test]
fn a_lane_that_did_not_fill_its_quota_has_no_more_work() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(1, now);
    let plan = lanes.plan(8, now);
    lanes.settle(&plan[0], &[1, 2, 3], now);
    assert_eq!(lanes.held(), 3);
    assert!(lanes.plan(8, now).is_empty());
}

#[test]
fn a_hint_during_a_claim_is_not_lost() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(1, now);
    let plan = lanes.plan(8, now);
    lanes.hint(&acme(), endpoint(0), 9, now);
    lanes.settle(&plan[0], &[1], now);
    assert!(!lanes.plan(8, now).is_empty());
}

#[test]
fn an_empty_claim_does_not_hide_deliveries_that_another_claim_found() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(1, now);
    let first = lanes.plan(8, now);
    lanes.hint(&acme(), endpoint(0), 9, now);
    let second = lanes.plan(8, now);
    let positions: Vec<i64> = (1..=8).collect();
    lanes.settle(&first[0], &positions, now);
    lanes.settle(&second[0], &[], now);
    lanes.release(&acme(), endpoint(0), 8);
    assert!(!lanes.plan(8, now).is_empty());
}

#[test]
fn a_lane_with_a_pending_claim_is_planned_again_only_if_it_filled_its_last_quota() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(1, now);
    let shallow = lanes.plan(4, now);
    assert!(lanes.plan(4, now).is_empty());
    lanes.settle(&shallow[0], &[1, 2, 3, 4], now);
    assert!(!lanes.plan(4, now).is_empty());
    assert!(!lanes.plan(4, now).is_empty(), "the lane filled its quota");
}

#[test]
fn successes_raise_the_cap_and_a_burst_of_timeouts_halves_it_once() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(1, now);
    let mut next = 1;
    let plan = lanes.plan(80, now);
    let started = settle_fully(&mut lanes, &plan, &mut next, now);
    let later = now + Duration::from_millis(10);
    for one in &started {
        lanes.answered(&acme(), *one, AttemptSignal::Answered, now, later);
        lanes.recorded(&acme(), *one);
    }
    let grown = lanes.plan(80, later);
    assert_eq!(grown[0].quota.quota, LIMITS.endpoint_permits);
    settle_fully(&mut lanes, &grown, &mut next, later);
    let much_later = later + Duration::from_secs(5);
    for _ in 0..LIMITS.endpoint_permits {
        lanes.answered(&acme(), endpoint(0), AttemptSignal::TimedOut, later + Duration::from_millis(1), much_later);
        lanes.recorded(&acme(), endpoint(0));
    }
    assert_eq!(lanes.slow_lanes(), 1);
    assert_eq!(lanes.plan(80, much_later)[0].quota.quota, LIMITS.endpoint_permits / 2);
}

#[test]
fn a_silent_endpoint_counts_as_slow_before_its_first_timeout() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(1, now);
    let mut next = 1;
    let plan = lanes.plan(4, now);
    settle_fully(&mut lanes, &plan, &mut next, now);
    lanes.plan(4, now + STALL_AFTER);
    assert_eq!(lanes.slow_lanes(), 1);
    lanes.answered(&acme(), endpoint(0), AttemptSignal::Answered, now + STALL_AFTER, now + STALL_AFTER);
    assert_eq!(lanes.slow_lanes(), 0);
}

/// Claims until no lane may claim more. Returns how many permits each endpoint holds.
fn claim_all(lanes: &mut Lanes, now: Instant) -> HashMap<EndpointId, u32> {
    let mut held: HashMap<EndpointId, u32> = HashMap::new();
    loop {
        let plan = lanes.plan(5, now);
        if plan.is_empty() {
            return held;
        }
        for one in settle_fully(lanes, &plan, &mut 1, now) {
            *held.entry(one).or_default() += 1;
        }
    }
}

#[test]
fn unproven_endpoints_of_one_tenant_get_a_twelfth_of_the_permits_round_robin() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(20, now);
    for number in 0..20 {
        lanes.answered(&acme(), endpoint(number), AttemptSignal::TimedOut, now, now);
    }
    let held = claim_all(&mut lanes, now);
    let (sum, most) = (held.values().sum::<u32>(), unproven_permits(LIMITS.permits) / 4);
    // Each endpoint leaves at least as many permits free as it holds.
    assert!(sum <= most && sum + held.values().max().unwrap() >= most, "{sum} of {most}");
    assert_eq!(held.len(), 20, "{held:?}");
    lanes.release(&acme(), endpoint(0), 3);
    assert!(!lanes.plan(80, now).is_empty());
}

#[test]
fn tenants_are_scheduled_round_robin_however_many_endpoints_each_has() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(100, now);
    for number in 0..100 {
        lanes.answered(&acme(), endpoint(number), AttemptSignal::Answered, now, now);
    }
    let other = TenantId::parse("globex").unwrap();
    for position in 0..64 {
        lanes.hint(&other, endpoint(1_000), position, now);
    }
    lanes.answered(&other, endpoint(1_000), AttemptSignal::Answered, now, now);
    let mut of_other = 0;
    for _ in 0..2 {
        let plan = lanes.plan(32, now);
        of_other +=
            plan.iter().filter(|one| one.quota.endpoint_id == endpoint(1_000)).map(|one| one.quota.quota).sum::<u32>();
        settle_fully(&mut lanes, &plan, &mut 1, now);
    }
    assert_eq!(of_other, FIRST_CAP + 1, "the other tenant gets half of each claim, up to the cap of its endpoint");
}

#[test]
fn endpoints_that_start_to_hang_do_not_use_the_permits_for_new_endpoints() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(20, now);
    let mut next = 1;
    for _ in 0..40 {
        let plan = lanes.plan(64, now);
        for one in settle_fully(&mut lanes, &plan, &mut next, now) {
            lanes.answered(&acme(), one, AttemptSignal::Answered, now, now);
            lanes.recorded(&acme(), one);
        }
    }
    let held: u32 = claim_all(&mut lanes, now).values().sum();
    assert!(
        held > unproven_permits(LIMITS.permits),
        "the proven endpoints must hold more permits than new endpoints may hold"
    );
    let later = now + STALL_AFTER;
    assert!(lanes.plan(64, later).is_empty());
    lanes.hint(&TenantId::parse("globex").unwrap(), endpoint(1_000), 1, later);
    assert_eq!(lanes.plan(64, later)[0].quota.quota, FIRST_CAP);
}

#[test]
fn a_hint_before_the_claimed_position_makes_the_next_claim_start_at_the_hint() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(1, now);
    let mut next = 100;
    for step in 0..4 {
        let at = now + Duration::from_secs(step * 2);
        let plan = lanes.plan(4, at);
        for one in settle_fully(&mut lanes, &plan, &mut next, at) {
            lanes.answered(&acme(), one, AttemptSignal::Answered, at, at);
            lanes.recorded(&acme(), one);
        }
    }
    let at = now + Duration::from_secs(8);
    assert!(lanes.plan(1, at)[0].quota.after > 50);
    lanes.hint(&acme(), endpoint(0), 50, at);
    assert_eq!(lanes.plan(1, at)[0].quota.after, 49);
}

#[test]
fn a_slow_lane_is_removed_when_it_is_idle() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(1, now);
    let plan = lanes.plan(1, now);
    lanes.settle(&plan[0], &[1], now);
    lanes.answered(&acme(), endpoint(0), AttemptSignal::TimedOut, now, now);
    lanes.recorded(&acme(), endpoint(0));
    let plan = lanes.plan(1, now);
    lanes.settle(&plan[0], &[], now);
    assert!(lanes.plan(1, now).is_empty());
    assert_eq!(lanes.slow_lanes(), 1);
    lanes.hint(&acme(), endpoint(1), 2, now + Duration::from_hours(1));
    assert_eq!(lanes.slow_lanes(), 0);
}
