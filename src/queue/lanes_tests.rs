//! The rules of turns and bounds, as examples and as properties of any course of events.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use uuid::Uuid;

use super::lane::{FIRST_CAP, STALL_AFTER, Verdict};
use super::lanes::{LaneLimits, Lanes, Planned};
use crate::domain::ids::EndpointId;
use crate::domain::names::TenantId;

const LIMITS: LaneLimits = LaneLimits { permits: 90, endpoint_permits: 30 };

fn endpoint(number: u128) -> EndpointId {
    EndpointId::from_uuid(Uuid::from_u128(number))
}

fn lanes_with_work(endpoints: u128, now: Instant) -> Lanes {
    let tenant = TenantId::parse("acme").unwrap();
    let mut lanes = Lanes::new(LIMITS);
    for number in 0..endpoints {
        lanes.hint(&tenant, endpoint(number), 1, now);
    }
    lanes
}

/// Answers a plan with as much as was asked for: there is always more work.
fn settle_fully(lanes: &mut Lanes, plan: &[Planned], next: &mut i64, now: Instant) -> Vec<EndpointId> {
    let mut begun = Vec::new();
    for one in plan {
        let positions: Vec<i64> = (0..one.quota.quota).map(|_| std::mem::replace(next, *next + 1)).collect();
        begun.extend(positions.iter().map(|_| one.quota.endpoint_id));
        lanes.settle(one, &positions, now);
    }
    begun
}

#[test]
fn the_batch_is_shared_among_the_lanes() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(4, now);
    let plan = lanes.plan(16, now);
    assert_eq!(plan.iter().map(|one| one.quota.quota).collect::<Vec<_>>(), [4, 4, 4, 4]);
}

#[test]
fn a_lane_that_gives_all_is_asked_for_more_and_one_that_does_not_for_one() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(100, now);
    let mut next = 1;
    for _ in 0..50 {
        let plan = lanes.plan(4, now);
        for one in settle_fully(&mut lanes, &plan, &mut next, now) {
            lanes.answered(one, Verdict::Answered, now, now);
            lanes.release(one, 1);
        }
    }
    let plan = lanes.plan(16, now);
    assert!(plan.len() < 16, "{plan:?}");
    let emptied = plan[0].quota.endpoint_id;
    for one in &plan {
        lanes.settle(one, &[], now);
    }
    lanes.hint(&TenantId::parse("acme").unwrap(), emptied, next, now);
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
fn turns_go_on_where_they_stopped() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(4, now);
    let first: Vec<_> = lanes.plan(2, now).iter().map(|one| one.quota.endpoint_id).collect();
    let second: Vec<_> = lanes.plan(2, now).iter().map(|one| one.quota.endpoint_id).collect();
    assert_eq!(first, [endpoint(0), endpoint(1)]);
    assert_eq!(second, [endpoint(2), endpoint(3)]);
}

#[test]
fn a_new_endpoint_may_begin_only_a_few() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(1, now);
    assert_eq!(lanes.plan(80, now)[0].quota.quota, FIRST_CAP);
    assert!(lanes.plan(80, now).is_empty());
}

#[test]
fn a_lane_that_gave_less_than_asked_has_no_more_work() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(1, now);
    let plan = lanes.plan(8, now);
    lanes.settle(&plan[0], &[1, 2, 3], now);
    assert_eq!(lanes.held(), 3);
    assert!(lanes.plan(8, now).is_empty());
}

#[test]
fn work_that_was_seen_during_a_claim_is_not_forgotten() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(1, now);
    let plan = lanes.plan(8, now);
    lanes.hint(&TenantId::parse("acme").unwrap(), endpoint(0), 9, now);
    lanes.settle(&plan[0], &[1], now);
    assert!(!lanes.plan(8, now).is_empty());
}

#[test]
fn an_empty_answer_does_not_hide_what_another_claim_of_the_lane_found() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(1, now);
    let first = lanes.plan(8, now);
    let second = lanes.plan(8, now);
    let positions: Vec<i64> = (1..=8).collect();
    lanes.settle(&first[0], &positions, now);
    lanes.settle(&second[0], &[], now);
    lanes.release(endpoint(0), 8);
    assert!(!lanes.plan(8, now).is_empty());
}

#[test]
fn successes_raise_the_cap_and_a_burst_of_timeouts_halves_it_once() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(1, now);
    let mut next = 1;
    let plan = lanes.plan(80, now);
    let begun = settle_fully(&mut lanes, &plan, &mut next, now);
    let later = now + Duration::from_millis(10);
    for one in &begun {
        lanes.answered(*one, Verdict::Answered, now, later);
        lanes.release(*one, 1);
    }
    let grown = lanes.plan(80, later);
    assert_eq!(grown[0].quota.quota, LIMITS.endpoint_permits);
    settle_fully(&mut lanes, &grown, &mut next, later);
    let much_later = later + Duration::from_secs(5);
    for _ in 0..LIMITS.endpoint_permits {
        lanes.answered(endpoint(0), Verdict::TimedOut, later + Duration::from_millis(1), much_later);
        lanes.release(endpoint(0), 1);
    }
    assert_eq!(lanes.slow_lanes(), 1);
    assert_eq!(lanes.plan(80, much_later)[0].quota.quota, LIMITS.endpoint_permits / 2);
}

#[test]
fn a_silent_endpoint_joins_the_slow_pool_before_its_first_timeout() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(1, now);
    let mut next = 1;
    let plan = lanes.plan(4, now);
    settle_fully(&mut lanes, &plan, &mut next, now);
    lanes.plan(4, now + STALL_AFTER);
    assert_eq!(lanes.slow_lanes(), 1);
    lanes.answered(endpoint(0), Verdict::Answered, now + STALL_AFTER, now + STALL_AFTER);
    assert_eq!(lanes.slow_lanes(), 0);
}

#[test]
fn slow_endpoints_together_hold_a_third_and_take_turns() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(10, now);
    for number in 0..10 {
        lanes.answered(endpoint(number), Verdict::TimedOut, now, now);
    }
    let mut next = 1;
    let mut held: HashMap<EndpointId, u32> = HashMap::new();
    loop {
        let plan = lanes.plan(5, now);
        if plan.is_empty() {
            break;
        }
        for one in settle_fully(&mut lanes, &plan, &mut next, now) {
            *held.entry(one).or_default() += 1;
        }
    }
    assert_eq!(held.values().sum::<u32>(), LIMITS.slow_permits());
    lanes.release(endpoint(0), 3);
    assert_eq!(lanes.plan(80, now).iter().map(|one| one.quota.quota).sum::<u32>(), 3);
}

#[test]
fn work_behind_the_reached_position_moves_the_start_back() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(1, now);
    let mut next = 100;
    for step in 0..4 {
        let at = now + Duration::from_secs(step * 2);
        let plan = lanes.plan(4, at);
        for one in settle_fully(&mut lanes, &plan, &mut next, at) {
            lanes.answered(one, Verdict::Answered, at, at);
            lanes.release(one, 1);
        }
    }
    let at = now + Duration::from_secs(8);
    assert!(lanes.plan(1, at)[0].quota.after > 50);
    lanes.hint(&TenantId::parse("acme").unwrap(), endpoint(0), 50, at);
    assert_eq!(lanes.plan(1, at)[0].quota.after, 49);
}

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    Hint(u128),
    Claim { batch: u32, found: u32 },
    Answer { number: usize, timed_out: bool },
    Record(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..6_u128).prop_map(Step::Hint),
        (1..40_u32, 0..40_u32).prop_map(|(batch, found)| Step::Claim { batch, found }),
        (0..1000_usize, any::<bool>()).prop_map(|(number, timed_out)| Step::Answer { number, timed_out }),
        (0..1000_usize).prop_map(Step::Record),
        (1..3000_u64).prop_map(Step::Wait),
    ]
}

/// What a test keeps beside the lanes, to compare them with.
struct World {
    lanes: Lanes,
    now: Instant,
    next: i64,
    running: Vec<(EndpointId, Instant)>,
    ended: Vec<EndpointId>,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        Self { lanes: Lanes::new(LIMITS), now, next: 1, running: Vec::new(), ended: Vec::new() }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Hint(number) => {
                self.lanes.hint(&TenantId::parse("acme").unwrap(), endpoint(number), self.next, self.now);
            }
            Step::Claim { batch, found } => {
                let plan = self.lanes.plan(batch, self.now);
                for one in &plan {
                    let count = one.quota.quota.min(found);
                    let positions: Vec<i64> = (0..i64::from(count)).map(|offset| self.next + offset).collect();
                    self.next += i64::from(count);
                    self.running.extend(positions.iter().map(|_| (one.quota.endpoint_id, self.now)));
                    self.lanes.settle(one, &positions, self.now);
                }
            }
            Step::Answer { number, timed_out } if !self.running.is_empty() => {
                let (of, started) = self.running.swap_remove(number % self.running.len());
                let verdict = if timed_out { Verdict::TimedOut } else { Verdict::Answered };
                self.lanes.answered(of, verdict, started, self.now);
                self.ended.push(of);
            }
            Step::Record(number) if !self.ended.is_empty() => {
                let of = self.ended.swap_remove(number % self.ended.len());
                self.lanes.release(of, 1);
            }
            Step::Answer { .. } | Step::Record(_) => {}
            Step::Wait(milliseconds) => self.now += Duration::from_millis(milliseconds),
        }
    }

    fn held(&self) -> u32 {
        u32::try_from(self.running.len() + self.ended.len()).unwrap()
    }
}

proptest! {
    #[test]
    fn permits_are_exactly_what_is_begun_and_not_recorded(steps in prop::collection::vec(step(), 1..300)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            prop_assert_eq!(world.lanes.held(), world.held());
            prop_assert!(world.lanes.held() <= LIMITS.permits);
        }
    }

    #[test]
    fn a_healthy_delivery_never_waits_for_a_permit_that_a_hanging_one_holds(steps in prop::collection::vec(step(), 1..300)) {
        // Endpoint 0 never answers. Whatever happens, another one with work is planned as soon as the healthy ones
        // hold less than the permits that the hanging one can never have.
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            world.running.sort_by_key(|(of, _)| *of == endpoint(0));
            let hanging = world.running.iter().filter(|(of, _)| *of == endpoint(0)).count();
            while world.running.len() > hanging {
                let (of, started) = world.running.remove(0);
                world.lanes.answered(of, Verdict::Answered, started, world.now);
                world.ended.push(of);
            }
            for of in world.ended.drain(..) {
                world.lanes.release(of, 1);
            }
        }
        let now = world.now;
        world.lanes.hint(&TenantId::parse("acme").unwrap(), endpoint(1), world.next, now);
        let planned = world.lanes.plan(LIMITS.permits, now);
        prop_assert!(planned.iter().any(|one| one.quota.endpoint_id == endpoint(1)));
    }

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
                lanes.answered(one, Verdict::Answered, now, now);
                lanes.release(one, 1);
            }
        }
        prop_assert_eq!(seen.len(), usize::try_from(endpoints).unwrap());
    }
}
