//! What holds of turns and bounds in any course of events.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::lane::Verdict;
use super::lanes::Lanes;
use super::lanes_tests::{LIMITS, endpoint, lanes_with_work, settle_fully};
use crate::domain::ids::EndpointId;
use crate::domain::names::TenantId;

/// How many endpoints there are.
const ENDPOINTS: u128 = 6;

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
        (0..ENDPOINTS).prop_map(Step::Hint),
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

    /// All but endpoint 0 answer, and are recorded.
    fn answer_healthy(&mut self) {
        let (hanging, healthy): (Vec<_>, Vec<_>) = self.running.drain(..).partition(|(of, _)| *of == endpoint(0));
        self.running = hanging;
        for (of, started) in healthy {
            self.lanes.answered(of, Verdict::Answered, started, self.now);
            self.lanes.release(of, 1);
        }
        for of in self.ended.drain(..) {
            self.lanes.release(of, 1);
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
        // Endpoint 0 never answers, the others do at once. Whatever happened before: another one that gets work has its
        // turn in one round of claims, though the hanging one holds all that it may have.
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            world.answer_healthy();
        }
        world.lanes.hint(&TenantId::parse("acme").unwrap(), endpoint(1), world.next, world.now);
        let had_its_turn = (0..ENDPOINTS).any(|_| {
            let plan = world.lanes.plan(LIMITS.permits, world.now);
            for one in settle_fully(&mut world.lanes, &plan, &mut world.next, world.now) {
                world.running.push((one, world.now));
            }
            world.answer_healthy();
            plan.iter().any(|one| one.quota.endpoint_id == endpoint(1))
        });
        prop_assert!(had_its_turn);
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
