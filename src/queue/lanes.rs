//! Decides which endpoints may send next: the lanes of one channel on this node. Pure state, no I/O.
//!
//! A lane is an endpoint that may have ready deliveries. Tenants are scheduled round-robin, and so are the lanes of each tenant
//! within its turn. Turns are bounded and all deliveries cost the same, so no deficit counters are needed. A cap limits the
//! permits of each lane, and shares limit the permits of each tenant.

use std::time::Instant;

use super::batch_window::{BatchWindow, ENOUGH, MANY};
use super::known_lanes::KnownLanes;
pub(super) use super::lane::Planned;
use super::lane::{AttemptSignal, Lane, LaneHealth, MAX_BATCH_SIZE};
use super::tenants::{Kind, Tenants, Turn};
use crate::domain::ids::EndpointId;
use crate::domain::names::TenantId;

/// Limits of one channel on one node.
#[derive(Debug, Clone, Copy)]
pub(super) struct LaneLimits {
    /// The maximum number of deliveries that are claimed and not yet recorded.
    pub(super) permits: u32,
    /// The maximum number of permits that one endpoint may hold.
    pub(super) endpoint_permits: u32,
}

#[derive(Debug)]
pub(super) struct Lanes {
    limits: LaneLimits,
    known: KnownLanes,
    pub(super) tenants: Tenants,
    /// Number of slow lanes.
    slow: usize,
    /// The furthest position that this node has claimed in any lane.
    furthest_taken: i64,
    batch_window: BatchWindow,
}

impl Lanes {
    pub(super) fn new(limits: LaneLimits) -> Self {
        Self {
            limits,
            known: KnownLanes::default(),
            tenants: Tenants::new(limits.permits),
            slow: 0,
            furthest_taken: 0,
            batch_window: BatchWindow::default(),
        }
    }

    pub(super) fn known(&self) -> &KnownLanes {
        &self.known
    }

    pub(super) fn held(&self) -> u32 {
        self.tenants.held()
    }

    pub(super) fn free(&self) -> u32 {
        self.tenants.free()
    }

    pub(super) fn slow_lanes(&self) -> usize {
        self.slow
    }

    pub(super) fn furthest_taken(&self) -> i64 {
        self.furthest_taken
    }

    /// True if any endpoint waits for a turn.
    pub(super) fn has_turns(&self) -> bool {
        self.tenants.has_turns()
    }

    /// Notes that a delivery of this endpoint is ready at `position`.
    pub(super) fn hint(&mut self, tenant: &TenantId, endpoint: EndpointId, position: i64, now: Instant) {
        if !self.work_seen(tenant, endpoint, position, now) {
            self.confirm(tenant, endpoint, now);
        }
        for forgotten in self.known.forget_idle(now) {
            self.tenants.remove_lane(&forgotten.tenant, true);
            self.slow -= usize::from(forgotten.health == LaneHealth::Slow);
        }
    }

    /// Like `hint`, for a hint from another process, which may be forged. Ignores the hint and returns false if its lane is not
    /// known and too many lanes are unconfirmed.
    pub(super) fn heard(&mut self, tenant: &TenantId, endpoint: EndpointId, position: i64, now: Instant) -> bool {
        let is_known = self.known.get(tenant.as_str(), endpoint).is_some();
        let is_accepted = is_known || self.tenants.may_add_unconfirmed(tenant);
        if is_accepted {
            self.work_seen(tenant, endpoint, position, now);
        }
        is_accepted
    }

    /// Returns true if the lane is confirmed.
    fn work_seen(&mut self, tenant: &TenantId, endpoint: EndpointId, position: i64, now: Instant) -> bool {
        let known = self.known.get_mut(tenant, endpoint);
        let is_confirmed = known.as_ref().is_some_and(|lane| lane.is_confirmed);
        if let Some(lane) = known {
            lane.work_seen(position);
        } else {
            self.tenants.add_lane(tenant);
            self.known.add(endpoint, Lane::new(tenant.clone(), position, self.limits.endpoint_permits, now));
        }
        self.batch_window.work_seen(now);
        self.queue(tenant, endpoint);
        is_confirmed
    }

    /// Notes that the lane exists in the database.
    fn confirm(&mut self, tenant: &TenantId, endpoint: EndpointId, now: Instant) {
        if self.known.confirm(tenant, endpoint, now) {
            self.tenants.confirm_lane(tenant);
        }
    }

    /// Plans a claim of at most `batch` deliveries and reserves its permits. The plan is empty if no delivery is ready or no
    /// permit is free.
    pub(super) fn plan(&mut self, batch: u32, now: Instant) -> Vec<Planned> {
        let mut planned = Vec::new();
        let mut left = batch.min(self.free());
        for kind in Kind::ALL {
            // Unproven endpoints may respond slowly, so they get only a third of a claim while proven endpoints wait.
            let is_shared = kind == Kind::Unproven && self.tenants.waiting(Kind::Proven) > 0;
            let most = if is_shared { left.div_ceil(3) } else { left };
            left -= self.plan_turns(kind, most, now, &mut planned);
        }
        self.batch_window.planned(!planned.is_empty());
        planned
    }

    /// Plans one turn for each tenant, of at most `most` deliveries in total. Returns the number of planned deliveries.
    fn plan_turns(&mut self, kind: Kind, most: u32, now: Instant, planned: &mut Vec<Planned>) -> u32 {
        let tenants = self.tenants.waiting(kind);
        let share = (most / u32::try_from(tenants).unwrap_or(u32::MAX).max(1)).max(MAX_BATCH_SIZE);
        let mut left = most;
        for _ in 0..tenants {
            if left == 0 {
                break;
            }
            let Some(mut turn) = self.tenants.next(kind) else { break };
            let free = self.tenants.room_of(&turn.tenant, kind);
            let taken = self.plan_turn(&mut turn, free, share.min(left), now, planned);
            left -= taken;
            self.tenants.end_turn(turn, left == 0 && taken < share);
        }
        most - left
    }

    /// Plans a tenant's turn of at most `most` deliveries, for which `free` permits may be reserved. Returns the number of
    /// planned deliveries.
    fn plan_turn(&mut self, turn: &mut Turn, free: u32, most: u32, now: Instant, planned: &mut Vec<Planned>) -> u32 {
        let room = most.min(free);
        let share = (room / u32::try_from(turn.endpoints.len()).unwrap_or(u32::MAX).max(1)).max(1);
        let mut left = room;
        for _ in 0..turn.endpoints.len() {
            if left == 0 {
                break;
            }
            let Some(endpoint) = turn.endpoints.pop_front() else { break };
            let Some(lane) = self.known.get_mut(&turn.tenant, endpoint) else { continue };
            lane.dequeued(turn.kind);
            if !lane.has_work {
                continue;
            }
            let before = lane.health;
            // A lane whose attempts get no response for a second becomes slow even before its first timeout.
            if lane.stalled(now) {
                lane.health = LaneHealth::Slow;
            }
            lane.count_slow(&mut self.slow, before);
            if lane.health.kind() != turn.kind {
                self.queue(&turn.tenant, endpoint);
                continue;
            }
            let quota = lane.room_within(free - (room - left)).min(lane.wants(share)).min(left);
            if quota == 0 {
                continue;
            }
            left -= quota;
            planned.push(Planned { quota: lane.quota(endpoint, quota, now), generation: lane.generation });
            lane.take(quota);
            self.tenants.take(&turn.tenant, turn.kind, quota);
            // If the last claim did not fill the quota, the lane is not planned again until this claim's result or a hint shows
            // more deliveries.
            lane.has_work = lane.is_deep();
            if lane.queue() {
                turn.endpoints.push_back(endpoint);
            }
        }
        room - left
    }

    /// Returns the time until which ready deliveries wait for permits or for more deliveries, or `None` if a claim can start
    /// now.
    pub(super) fn waits_until(&mut self, wanted: u32, now: Instant) -> Option<Instant> {
        if !self.has_room(wanted) {
            return self.batch_window.waits_for_permits(self.tenants.each_holds(wanted, MANY), now);
        }
        if self.expects_more(now) { self.batch_window.waits_for_work(self.is_there(), now) } else { None }
    }

    /// True if the waiting tenants can take this number of permits.
    pub(super) fn has_room(&self, wanted: u32) -> bool {
        self.tenants.room(MANY) >= wanted
    }

    /// True if few deliveries are ready and more are expected.
    pub(super) fn expects_more(&self, now: Instant) -> bool {
        self.batch_window.is_expected(now) && self.tenants.endpoints().take(MANY).count() < MANY && !self.has_enough()
    }

    /// True if a claim need not wait for more deliveries, because enough are ready.
    pub(super) fn has_enough(&self) -> bool {
        self.is_there() >= ENOUGH
    }

    /// The number of new deliveries, plus the estimated backlog of the first waiting lanes.
    fn is_there(&self) -> u32 {
        let backlog = |(tenant, endpoint): (&TenantId, EndpointId)| {
            self.known.get(tenant.as_str(), endpoint).map_or(0, |lane| lane.backlog_estimate)
        };
        self.tenants.endpoints().take(MANY).map(backlog).fold(self.batch_window.seen(), u32::saturating_add)
    }

    /// Notes that all lanes of a planned claim are settled, and how many deliveries it claimed.
    pub(super) fn claim_ended(&mut self, deliveries: u32, now: Instant) {
        self.batch_window.claim_ended(deliveries, now);
    }

    /// Applies the result of a planned claim to one lane: `taken` are the lane's claimed positions. Frees the unused permits.
    /// A lane that did not fill its quota has no more ready deliveries, unless a hint arrived meanwhile.
    pub(super) fn settle(&mut self, planned: &Planned, taken: &[i64], now: Instant) {
        let (tenant, endpoint) = (&planned.quota.tenant_id, planned.quota.endpoint_id);
        let count = u32::try_from(taken.len()).unwrap_or(u32::MAX);
        self.furthest_taken = taken.iter().copied().fold(self.furthest_taken, i64::max);
        if let Some(lane) = self.known.get_mut(tenant, endpoint) {
            lane.took(taken, now);
            let emptied = count < planned.quota.quota;
            lane.gave(count, planned.quota.quota);
            if !emptied {
                lane.generation += 1;
                lane.has_work = true;
            } else if lane.generation == planned.generation {
                lane.has_work = false;
            }
            if count > 0 && !lane.is_confirmed {
                self.confirm(tenant, endpoint, now);
            }
        }
        self.release(tenant, endpoint, planned.quota.quota.saturating_sub(count));
        if count == 0 && self.known.forget_unconfirmed(tenant, endpoint) {
            self.tenants.remove_lane(tenant, false);
        }
    }

    /// Applies the signal of an ended attempt to its endpoint. Must be called once for each claimed delivery.
    pub(super) fn answered(
        &mut self,
        tenant: &TenantId,
        endpoint: EndpointId,
        signal: AttemptSignal,
        started: Instant,
        now: Instant,
    ) {
        let Some(lane) = self.known.get_mut(tenant, endpoint) else { return };
        let before = lane.health;
        lane.apply(signal, started, now, self.limits.endpoint_permits);
        lane.count_slow(&mut self.slow, before);
        self.tenants.recording_started(tenant);
        self.queue(tenant, endpoint);
    }

    /// Frees the permit of a delivery that is recorded or released.
    pub(super) fn recorded(&mut self, tenant: &TenantId, endpoint: EndpointId) {
        self.tenants.recording_ended(tenant);
        self.release(tenant, endpoint, 1);
    }

    /// Frees the permits of `count` deliveries of this endpoint, which are recorded, released or were never claimed.
    pub(super) fn release(&mut self, tenant: &TenantId, endpoint: EndpointId, count: u32) {
        if let Some(lane) = self.known.get_mut(tenant, endpoint) {
            for (kind, released) in lane.release(count) {
                self.tenants.release(tenant, kind, released);
            }
            self.queue(tenant, endpoint);
        }
    }

    /// Lets the lane wait for a turn if it may have deliveries and is below its cap.
    fn queue(&mut self, tenant: &TenantId, endpoint: EndpointId) {
        if let Some(lane) = self.known.get_mut(tenant, endpoint)
            && lane.queue()
        {
            self.tenants.push(tenant, lane.health.kind(), endpoint);
        }
    }
}
