//! Who may send next: the lanes of one channel on this node, their fair turns and their bounds. Pure state, no I/O.
//!
//! A lane is an endpoint with, perhaps, work. Lanes take turns (deficit round-robin with deliveries of equal cost), each
//! bounded by its own cap, all by the permits, and the slow ones together by the slow pool: a third of the permits. So a
//! hanging endpoint costs the others nothing.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::company::Company;
use super::known_lanes::KnownLanes;
use super::lane::{Lane, Verdict};
use crate::domain::ids::EndpointId;
use crate::domain::names::TenantId;
use crate::store::queue::claim::LaneQuota;

/// The bounds of one channel on one node.
#[derive(Debug, Clone, Copy)]
pub(super) struct LaneLimits {
    /// Deliveries that may be begun and not recorded at once.
    pub(super) permits: u32,
    /// The most that one endpoint may have of them.
    pub(super) endpoint_permits: u32,
}

impl LaneLimits {
    /// What the slow endpoints share.
    pub(super) fn slow_permits(self) -> u32 {
        (self.permits / 3).max(1)
    }
}

/// One lane's part of a planned claim. Its quota is reserved until `settle`.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) quota: LaneQuota,
    generation: u64,
}

/// All lanes of a channel.
#[derive(Debug)]
pub(super) struct Lanes {
    limits: LaneLimits,
    known: KnownLanes,
    /// Lanes that may have work and room, in the order of their turns.
    turns: VecDeque<EndpointId>,
    /// Slow lanes with work that wait for room in the slow pool, by their places.
    waiting_slow: BTreeMap<u64, EndpointId>,
    next_slow_place: u64,
    /// How many lanes are slow.
    slow: usize,
    held: u32,
    held_by_slow: u32,
    /// The furthest position that any lane has given.
    furthest_taken: i64,
    company: Company,
}

/// So much work is worth a claim of its own, whatever else is coming.
const ENOUGH: u32 = 64;
/// So are so many lanes with work.
const MANY: usize = 32;

impl Lanes {
    pub(super) fn new(limits: LaneLimits) -> Self {
        Self {
            limits,
            known: KnownLanes::default(),
            turns: VecDeque::new(),
            waiting_slow: BTreeMap::new(),
            next_slow_place: 0,
            slow: 0,
            held: 0,
            held_by_slow: 0,
            furthest_taken: 0,
            company: Company::default(),
        }
    }

    pub(super) fn known(&self) -> &KnownLanes {
        &self.known
    }

    pub(super) fn held(&self) -> u32 {
        self.held
    }

    pub(super) fn free(&self) -> u32 {
        self.limits.permits.saturating_sub(self.held)
    }

    pub(super) fn slow_lanes(&self) -> usize {
        self.slow
    }

    pub(super) fn furthest_taken(&self) -> i64 {
        self.furthest_taken
    }

    /// Whether a claim could be planned now.
    pub(super) fn has_turns(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Work was seen: a delivery of this endpoint is ready at `position`.
    pub(super) fn hint(&mut self, tenant: &TenantId, endpoint: EndpointId, position: i64, now: Instant) {
        let most = self.limits.endpoint_permits;
        let lane = self.known.get_or_add(endpoint, now, || Lane::new(tenant.clone(), position, most, now));
        lane.work_seen(position);
        self.company.work_seen(now);
        self.queue(endpoint);
        let forgotten = self.known.forget_idle(now);
        self.slow -= forgotten.iter().filter(|lane| lane.slow).count();
    }

    /// Plans a claim of at most `batch` deliveries and reserves permits for it; empty when there is no work or no room.
    pub(super) fn plan(&mut self, batch: u32, now: Instant) -> Vec<Planned> {
        let mut left = batch.min(self.free());
        let share = (batch / u32::try_from(self.turns.len()).unwrap_or(u32::MAX).max(1)).max(1);
        let mut planned = Vec::new();
        for _ in 0..self.turns.len() {
            if left == 0 {
                break;
            }
            let Some(endpoint) = self.turns.pop_front() else { break };
            let Some(lane) = self.known.get_mut(endpoint) else { continue };
            lane.queued = false;
            if !lane.has_work {
                continue;
            }
            // A lane whose attempts give no answer for long joins the slow pool before its first timeout.
            if !lane.slow && lane.stalled(now) {
                lane.slow = true;
                self.slow += 1;
                self.held_by_slow += lane.held;
            }
            let slow_room = self.limits.slow_permits().saturating_sub(self.held_by_slow);
            let room = if lane.slow { lane.room().min(slow_room) } else { lane.room() };
            let quota = room.min(lane.wants(share)).min(left);
            if quota == 0 {
                if lane.slow && lane.room() > 0 && lane.waits_for_slow_pool.is_none() {
                    lane.waits_for_slow_pool = Some(self.next_slow_place);
                    self.waiting_slow.insert(self.next_slow_place, endpoint);
                    self.next_slow_place += 1;
                }
                continue;
            }
            left -= quota;
            planned.push(Planned { quota: lane.quota(endpoint, quota, now), generation: lane.generation });
            lane.held += quota;
            self.held += quota;
            if lane.slow {
                self.held_by_slow += quota;
            }
            // Of a lane that is not known to have more than it was asked for, the answer or a hint will tell.
            lane.has_work = lane.is_deep();
            self.queue(endpoint);
        }
        // A slow lane whose turn it was may have had no work any more.
        self.wake_slow();
        self.company.planned(!planned.is_empty());
        planned
    }

    /// Until when the work that is there waits, for permits or for more work; `None`: it is to be claimed now.
    pub(super) fn waits_until(&mut self, wanted: u32, now: Instant) -> Option<Instant> {
        if self.free() < wanted {
            return self.company.waits_for_permits(now);
        }
        if self.expects_more(now) { self.company.waits_for_work(self.is_there(), now) } else { None }
    }

    /// Whether what is known to be there is little and more is coming.
    pub(super) fn expects_more(&self, now: Instant) -> bool {
        self.company.is_expected(now) && self.turns.len() < MANY && !self.has_enough()
    }

    /// Whether so much is known to be there that a claim need not wait for more.
    pub(super) fn has_enough(&self) -> bool {
        self.is_there() >= ENOUGH
    }

    /// Deliveries that are known to be there, or expected of lanes that gave all they were asked for.
    fn is_there(&self) -> u32 {
        let rest = |endpoint: &EndpointId| self.known.get(*endpoint).map_or(0, |lane| lane.rest);
        self.turns.iter().take(MANY).map(rest).fold(self.company.seen(), u32::saturating_add)
    }

    /// All lanes of a planned claim are settled; it gave so many deliveries.
    pub(super) fn claim_ended(&mut self, deliveries: u32, now: Instant) {
        self.company.claim_ended(deliveries, now);
    }

    /// The answer to a planned claim: `taken` are the positions that this lane gave. What was reserved and not taken is
    /// free again; a lane that gave less than asked has no more work, unless work was seen meanwhile.
    pub(super) fn settle(&mut self, planned: &Planned, taken: &[i64], now: Instant) {
        let endpoint = planned.quota.endpoint_id;
        let count = u32::try_from(taken.len()).unwrap_or(u32::MAX);
        self.furthest_taken = taken.iter().copied().fold(self.furthest_taken, i64::max);
        if let Some(lane) = self.known.get_mut(endpoint) {
            lane.took(taken, now);
            let emptied = count < planned.quota.quota;
            lane.gave(count, planned.quota.quota);
            if emptied && lane.generation == planned.generation {
                lane.has_work = false;
            }
            if !emptied {
                lane.generation += 1;
                lane.has_work = true;
            }
        }
        self.release(endpoint, planned.quota.quota.saturating_sub(count));
    }

    /// An attempt ended: what it says of the endpoint. To be called once for each delivery that was taken.
    pub(super) fn answered(&mut self, endpoint: EndpointId, verdict: Verdict, started: Instant, now: Instant) {
        let most = self.limits.endpoint_permits;
        let Some(lane) = self.known.get_mut(endpoint) else { return };
        let was_slow = lane.slow;
        lane.judge(verdict, started, now, most);
        match (was_slow, lane.slow) {
            (false, true) => {
                self.slow += 1;
                self.held_by_slow += lane.held;
            }
            (true, false) => {
                self.slow -= 1;
                self.held_by_slow = self.held_by_slow.saturating_sub(lane.held);
                if let Some(place) = lane.waits_for_slow_pool.take() {
                    self.waiting_slow.remove(&place);
                }
            }
            (true, true) | (false, false) => {}
        }
        self.queue(endpoint);
    }

    /// `count` deliveries of this endpoint are recorded (or were never taken): their permits are free.
    pub(super) fn release(&mut self, endpoint: EndpointId, count: u32) {
        self.held = self.held.saturating_sub(count);
        if let Some(lane) = self.known.get_mut(endpoint) {
            lane.held = lane.held.saturating_sub(count);
            if lane.slow {
                self.held_by_slow = self.held_by_slow.saturating_sub(count);
            }
            self.queue(endpoint);
        }
        self.wake_slow();
    }

    /// Gives the first slow lane that still has work its turn, if there is room in the slow pool.
    fn wake_slow(&mut self) {
        while self.held_by_slow < self.limits.slow_permits() {
            let Some((_, waiting)) = self.waiting_slow.pop_first() else { break };
            if let Some(lane) = self.known.get_mut(waiting) {
                lane.waits_for_slow_pool = None;
                if self.queue(waiting) {
                    break;
                }
            }
        }
    }

    /// Gives the lane its place in the turns if it has work and room and no place yet; whether it got one.
    fn queue(&mut self, endpoint: EndpointId) -> bool {
        if let Some(lane) = self.known.get_mut(endpoint)
            && lane.has_work
            && !lane.queued
            && lane.waits_for_slow_pool.is_none()
            && lane.room() > 0
        {
            lane.queued = true;
            self.turns.push_back(endpoint);
            return true;
        }
        false
    }
}
