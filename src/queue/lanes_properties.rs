//! Tests invariants of turns and limits with random sequences of events.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::lane::{AttemptSignal, LaneHealth};
use super::lanes::{LaneLimits, Lanes, Planned};
use super::lanes_tests::{LIMITS, endpoint};
use crate::domain::ids::EndpointId;
use crate::domain::names::TenantId;

const ENDPOINTS: u128 = 6;
/// With so few permits, lanes often wait for permits.
const TIGHT: LaneLimits = LaneLimits { permits: 24, endpoint_permits: 3 };
/// The number of other tenants. They must not delay the tested tenant.
const OTHERS: u128 = 3;
/// Identifies the endpoint of the tested tenant.
const OWN: u128 = 1_000;
/// A tenant without endpoints.
const EVIL: u128 = 2_000;

#[derive(Debug, Clone)]
enum Step {
    Hint(u128),
    /// A hint from another process. A forged hint names the endpoint with a wrong tenant.
    Heard {
        number: u128,
        is_forged: bool,
    },
    Claim(u32),
    Settle {
        number: usize,
        found: u32,
    },
    Answer {
        number: usize,
        timed_out: bool,
    },
    Record(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..ENDPOINTS).prop_map(Step::Hint),
        (0..ENDPOINTS, any::<bool>()).prop_map(|(number, is_forged)| Step::Heard { number, is_forged }),
        (1..40_u32).prop_map(Step::Claim),
        (0..1000_usize, 0..40_u32).prop_map(|(number, found)| Step::Settle { number, found }),
        (0..1000_usize, any::<bool>()).prop_map(|(number, timed_out)| Step::Answer { number, timed_out }),
        (0..1000_usize).prop_map(Step::Record),
        (1..3000_u64).prop_map(Step::Wait),
    ]
}

fn tenant_of(number: u128) -> TenantId {
    TenantId::parse(format!("tenant-{number}")).unwrap()
}

/// The lanes, and a model of their expected state.
struct World {
    lanes: Lanes,
    now: Instant,
    next: i64,
    /// Planned claims that have no result yet.
    planned: Vec<Planned>,
    running: Vec<(EndpointId, Instant)>,
    ended: Vec<EndpointId>,
    /// Endpoints that never respond.
    hanging: Vec<EndpointId>,
    /// Number of tenants that share the endpoints.
    tenants: u128,
}

impl World {
    fn new(limits: LaneLimits, hanging: Vec<EndpointId>) -> Self {
        let (lanes, now) = (Lanes::new(limits), Instant::now());
        Self { lanes, now, next: 1, planned: Vec::new(), running: Vec::new(), ended: Vec::new(), hanging, tenants: 1 }
    }

    fn hint(&mut self, endpoint: EndpointId) {
        self.hint_of(endpoint.uuid().as_u128() % self.tenants, endpoint);
    }

    fn hint_of(&mut self, tenant: u128, endpoint: EndpointId) {
        self.lanes.hint(&tenant_of(tenant), endpoint, self.next, self.now);
    }

    /// Ends an attempt of the endpoint with this signal.
    fn answer(&mut self, endpoint: EndpointId, signal: AttemptSignal, started: Instant) {
        self.lanes.answered(&self.owner(endpoint), endpoint, signal, started, self.now);
    }

    fn record(&mut self, endpoint: EndpointId) {
        self.lanes.recorded(&self.owner(endpoint), endpoint);
    }

    /// True if this is a claim of the endpoint's lane.
    fn is_of(&self, one: &Planned, endpoint: EndpointId) -> bool {
        one.quota.endpoint_id == endpoint && one.quota.tenant_id == self.owner(endpoint)
    }

    fn owner(&self, endpoint: EndpointId) -> TenantId {
        let number = endpoint.uuid().as_u128();
        tenant_of(if number == OWN { OTHERS } else { number % self.tenants })
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Hint(number) => self.hint(endpoint(number)),
            Step::Heard { number, is_forged } => {
                let tenant = if is_forged { tenant_of(EVIL) } else { self.owner(endpoint(number)) };
                assert!(self.lanes.heard(&tenant, endpoint(number), self.next, self.now));
            }
            Step::Claim(batch) => self.planned.extend(self.lanes.plan(batch, self.now)),
            Step::Settle { number, found } if !self.planned.is_empty() => {
                let one = self.planned.swap_remove(number % self.planned.len());
                self.settle(&one, found);
            }
            Step::Answer { number, timed_out } if !self.running.is_empty() => {
                let number = number % self.running.len();
                if self.hanging.contains(&self.running[number].0) {
                    return;
                }
                let (of, started) = self.running.swap_remove(number);
                let signal = if timed_out { AttemptSignal::TimedOut } else { AttemptSignal::Answered };
                self.answer(of, signal, started);
                self.ended.push(of);
            }
            Step::Record(number) if !self.ended.is_empty() => {
                let of = self.ended.swap_remove(number % self.ended.len());
                self.record(of);
            }
            Step::Settle { .. } | Step::Answer { .. } | Step::Record(_) => {}
            Step::Wait(milliseconds) => self.now += Duration::from_millis(milliseconds),
        }
    }

    /// Settles a planned claim with `found` deliveries, up to its quota. A lane with a wrong tenant has no deliveries.
    fn settle(&mut self, one: &Planned, found: u32) {
        let count = if self.is_of(one, one.quota.endpoint_id) { i64::from(one.quota.quota.min(found)) } else { 0 };
        let positions: Vec<i64> = (self.next..self.next + count).collect();
        self.next += count;
        self.running.extend(positions.iter().map(|_| (one.quota.endpoint_id, self.now)));
        self.lanes.settle(one, &positions, self.now);
    }

    fn settle_all(&mut self, found: u32) {
        for one in std::mem::take(&mut self.planned) {
            self.settle(&one, found);
        }
    }

    /// Ends and records all attempts of endpoints that do not hang. Returns these endpoints.
    fn answer_healthy(&mut self) -> Vec<EndpointId> {
        self.settle_all(u32::MAX);
        let (hanging, healthy): (Vec<_>, Vec<_>) =
            self.running.drain(..).partition(|(of, _)| self.hanging.contains(of));
        self.running = hanging;
        for (of, _) in &healthy {
            self.answer(*of, AttemptSignal::Answered, self.now);
            self.record(*of);
        }
        for of in std::mem::take(&mut self.ended) {
            self.record(of);
        }
        healthy.into_iter().map(|(of, _)| of).collect()
    }

    /// Ends and records all attempts with a neutral signal.
    fn end_all(&mut self) {
        for (of, started) in std::mem::take(&mut self.running) {
            self.answer(of, AttemptSignal::Neutral, started);
            self.ended.push(of);
        }
        for of in std::mem::take(&mut self.ended) {
            self.record(of);
        }
        self.settle_all(0);
    }

    /// True if the endpoint gets its turn within `ENDPOINTS` claims, while all endpoints that do not hang respond at once.
    fn has_its_turn(&mut self, endpoint: EndpointId) -> bool {
        (0..ENDPOINTS).any(|_| {
            let plan = self.lanes.plan(LIMITS.permits, self.now);
            self.planned.extend(plan.iter().cloned());
            self.answer_healthy();
            plan.iter().any(|one| self.is_of(one, endpoint))
        })
    }

    fn held(&self) -> u32 {
        let reserved: u32 = self.planned.iter().map(|one| one.quota.quota).sum();
        reserved + u32::try_from(self.running.len() + self.ended.len()).unwrap()
    }
}

proptest! {
    #[test]
    fn permits_and_slow_lanes_are_counted_exactly(steps in prop::collection::vec(step(), 1..300)) {
        let mut world = World::new(LIMITS, Vec::new());
        for step in &steps {
            world.take(step);
            prop_assert_eq!(world.lanes.held(), world.held());
            prop_assert!(world.lanes.held() <= LIMITS.permits);
            let slow = world.lanes.known().iter().filter(|lane| lane.health == LaneHealth::Slow).count();
            prop_assert_eq!(world.lanes.slow_lanes(), slow);
        }
    }

    #[test]
    fn a_delivery_to_a_healthy_endpoint_never_waits_for_a_hanging_endpoint(steps in prop::collection::vec(step(), 1..300)) {
        // After any sequence of steps, an endpoint with a new delivery gets its turn soon, even if the hanging endpoint holds
        // its maximum of permits.
        let mut world = World::new(LIMITS, vec![endpoint(0)]);
        for step in &steps {
            world.take(step);
            world.answer_healthy();
        }
        world.hint(endpoint(1));
        prop_assert!(world.has_its_turn(endpoint(1)));
    }

    #[test]
    fn hanging_endpoints_do_not_delay_another_tenant(steps in prop::collection::vec(step(), 1..400), is_known in any::<bool>()) {
        // The other tenants' endpoints respond, fail and hang. In the end all of these endpoints hang and keep their permits.
        let mut world = World::new(LIMITS, Vec::new());
        world.tenants = OTHERS;
        if is_known {
            world.hint_of(OTHERS, endpoint(OWN));
            prop_assert!(world.has_its_turn(endpoint(OWN)));
        }
        for step in &steps {
            world.take(step);
        }
        world.hanging = (0..ENDPOINTS).map(endpoint).collect();
        world.answer_healthy();
        for number in 0..ENDPOINTS {
            world.hint(endpoint(number));
        }
        world.hint_of(OTHERS, endpoint(OWN));
        // Turns of the other tenants and of `EVIL` may come first.
        let started = (0..=OTHERS + 1).any(|_| {
            let plan = world.lanes.plan(64, world.now);
            world.planned.extend(plan.iter().cloned());
            world.settle_all(u32::MAX);
            plan.iter().any(|one| one.quota.endpoint_id == endpoint(OWN))
        });
        prop_assert!(started);
    }

    #[test]
    fn an_endpoint_that_responds_again_never_waits_for_hanging_endpoints(steps in prop::collection::vec(step(), 1..300)) {
        // Two endpoints hang. The others are slow and sometimes fail. An endpoint that later responds gets its turn again.
        let mut world = World::new(TIGHT, vec![endpoint(0), endpoint(5)]);
        for step in &steps {
            world.take(step);
        }
        for recovered in world.answer_healthy() {
            world.hint(recovered);
            prop_assert!(world.has_its_turn(recovered));
        }
    }

    #[test]
    fn a_slow_endpoint_gets_its_turn_when_no_permit_is_held(steps in prop::collection::vec(step(), 1..300), last in 0..ENDPOINTS) {
        let mut world = World::new(TIGHT, Vec::new());
        for step in &steps {
            world.take(step);
        }
        world.end_all();
        prop_assert_eq!(world.lanes.held(), 0);
        world.hint(endpoint(last));
        prop_assert!(world.has_its_turn(endpoint(last)));
    }

    #[test]
    fn lanes_that_only_hints_named_are_removed_when_claims_find_them_empty(steps in prop::collection::vec(step(), 1..300)) {
        let mut world = World::new(TIGHT, Vec::new());
        for step in &steps {
            world.take(step);
        }
        world.end_all();
        for _ in 0..ENDPOINTS * 2 {
            let plan = world.lanes.plan(LIMITS.permits, world.now);
            world.planned.extend(plan);
            world.settle_all(0);
        }
        prop_assert!(!world.lanes.has_turns());
        prop_assert!(world.lanes.known().iter().all(|lane| lane.is_confirmed));
    }
}
