//! One lane: its position in the endpoint's deliveries, its cap, and the health of its endpoint. Pure state.
//!
//! The cap limits the concurrent attempts of the endpoint. It grows by one after each response and halves after a timeout
//! (additive increase, multiplicative decrease). So an endpoint gets as many attempts as it can handle, and a hanging endpoint
//! gets one attempt at a time.

use std::time::{Duration, Instant};

use super::tenants::{ByKind, Kind, share};
use crate::domain::ids::EndpointId;
use crate::domain::names::TenantId;
use crate::store::queue::claim::LaneQuota;
use crate::store::queue::lanes::{LaneCursor, Place};

/// The cap of a new endpoint, before its first response.
pub(super) const FIRST_CAP: u32 = 16;
/// An endpoint is slow if its attempts run for this long without any response.
pub(super) const STALL_AFTER: Duration = Duration::from_secs(1);
/// An endpoint whose last response took less than this is proven.
const FAST_ANSWER: Duration = Duration::from_secs(1);
/// A claim re-scans the positions that were claimed in the last second, or the last 256 claimed positions if these were claimed
/// in less than a second. So the claim finds late commits: deliveries that became visible before the last claimed position.
/// Discovery finds even later commits.
const LOOK_BACK: Duration = Duration::from_secs(1);
const LOOK_BACK_DELIVERIES: u32 = 256;
/// The maximum number of deliveries that a lane claims in one turn. With this limit, at least eight lanes can share a claim of
/// 128 deliveries.
pub(super) const MAX_BATCH_SIZE: u32 = 16;

/// What an attempt shows about its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptSignal {
    /// The endpoint responded, with any status.
    Answered,
    /// The endpoint did not respond in time.
    TimedOut,
    /// Nothing was sent, or the result says nothing about the endpoint's speed.
    Neutral,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaneHealth {
    /// No response yet.
    New,
    /// The endpoint's last response was fast.
    Proven,
    /// The endpoint did not respond within `STALL_AFTER` or the timeout.
    Slow,
}

impl LaneHealth {
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Proven => Kind::Proven,
            Self::New | Self::Slow => Kind::Unproven,
        }
    }
}

/// A lane of a planned claim. The lane's quota is reserved until `settle`.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) quota: LaneQuota,
    pub(super) generation: u64,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) tenant: TenantId,
    /// False until the lane is found in the database. Until then, only a hint from another process, which may be forged, has
    /// named the lane.
    pub(super) is_confirmed: bool,
    /// The position after which the next claim starts. It later advances to `settling`, and `settling` then advances to
    /// `reached`, the furthest claimed position.
    settled: i64,
    settling: i64,
    reached: i64,
    /// The number of deliveries that were claimed since `settled` last advanced. `settled_at` is the time when `settled` last
    /// advanced.
    taken_since: u32,
    settled_at: Instant,
    /// True if the lane may have ready deliveries.
    pub(super) has_work: bool,
    /// Increases with each hint. So a claim that was planned before the hint and finds nothing does not clear `has_work`.
    pub(super) generation: u64,
    /// For each kind of endpoint, whether the lane waits for a turn. Only the flag of the current kind counts.
    queued: ByKind<bool>,
    pub(super) health: LaneHealth,
    /// The permits of planned, running and not yet recorded deliveries, counted by the kind of the endpoint when the
    /// permits were reserved. Permits that a hanging endpoint took while it was proven do not count against the share of
    /// unproven endpoints.
    held: ByKind<u32>,
    /// Claimed deliveries whose attempts have not ended.
    in_flight: u32,
    cap: u32,
    /// How many deliveries the lane may claim in one turn while many lanes wait. A lane that fills its quota gets a larger
    /// quota, because finding a lane's deliveries costs more than claiming the deliveries.
    pub(super) batch_size: u32,
    /// Estimated backlog: the size of the last batch if the last two batches were full, otherwise 0. A single full batch proves
    /// little, because quotas are small while many lanes wait.
    pub(super) backlog_estimate: u32,
    /// Deliveries that became ready since the lane's last turn.
    seen: u32,
    /// The time when the cap was last halved. A timeout of an attempt that started earlier does not halve it again.
    cut_at: Instant,
    /// The time of the last response, or of the start of the first attempt after an idle time.
    progress_at: Instant,
    pub(super) active_at: Instant,
}

impl Lane {
    /// Creates an unconfirmed lane whose first delivery is at `position`, for at most `most` concurrent attempts.
    pub(super) fn new(tenant: TenantId, position: i64, most: u32, now: Instant) -> Self {
        let before = position.saturating_sub(1);
        Self {
            tenant,
            is_confirmed: false,
            settled: before,
            settling: before,
            reached: before,
            taken_since: 0,
            settled_at: now,
            has_work: true,
            generation: 0,
            queued: ByKind::default(),
            health: LaneHealth::New,
            held: ByKind::default(),
            in_flight: 0,
            batch_size: 1,
            backlog_estimate: 0,
            seen: 1,
            cap: FIRST_CAP.min(most),
            cut_at: now,
            progress_at: now,
            active_at: now,
        }
    }

    pub(super) fn work_seen(&mut self, position: i64) {
        self.has_work = true;
        self.seen = self.seen.saturating_add(1);
        self.generation += 1;
        if position <= self.settled {
            self.settled = position.saturating_sub(1);
            self.settling = self.settling.min(self.settled);
            if !self.is_confirmed {
                // The earlier hint's position was too far, so `reached` was not claimed.
                self.reached = self.settled;
            }
        }
    }

    pub(super) fn room(&self) -> u32 {
        self.cap.saturating_sub(self.held.sum())
    }

    /// How many deliveries the lane requests in a turn: the maximum of `share`, the number of new deliveries, and the batch size.
    pub(super) fn wants(&self, share: u32) -> u32 {
        share.max(self.batch_size).max(self.seen.min(MAX_BATCH_SIZE))
    }

    /// Marks the lane as waiting for a turn. Returns true if it was not waiting, may have deliveries and is below its cap.
    pub(super) fn queue(&mut self) -> bool {
        let has_work_and_room = self.has_work && self.room() > 0;
        has_work_and_room && !std::mem::replace(self.queued.of_mut(self.health.kind()), true)
    }

    /// Marks that the lane no longer waits for a turn among endpoints of this kind.
    pub(super) fn dequeued(&mut self, kind: Kind) {
        *self.queued.of_mut(kind) = false;
    }

    /// How many more deliveries the lane may claim if its tenant may claim `free`. The lane of an unproven endpoint must leave
    /// as many permits free as the lane holds.
    pub(super) fn room_within(&self, free: u32) -> u32 {
        match self.health.kind() {
            Kind::Proven => self.room(),
            Kind::Unproven => self.room().min(share(free, self.held.sum(), 1)),
        }
    }

    pub(super) fn take(&mut self, permits: u32) {
        *self.held.of_mut(self.health.kind()) += permits;
    }

    /// Releases permits, starting with permits that were reserved before the endpoint became proven or unproven. Returns the
    /// number of released permits for each kind of endpoint.
    pub(super) fn release(&mut self, permits: u32) -> [(Kind, u32); 2] {
        let kind = self.health.kind();
        let mut left = permits;
        [kind.other(), kind].map(|kind| {
            let held = self.held.of_mut(kind);
            let released = left.min(*held);
            *held -= released;
            left -= released;
            (kind, released)
        })
    }

    pub(super) fn quota(&mut self, endpoint: EndpointId, quota: u32, now: Instant) -> LaneQuota {
        self.seen = 0;
        if now.duration_since(self.settled_at) >= LOOK_BACK || self.taken_since >= LOOK_BACK_DELIVERIES {
            self.settled = self.settled.max(self.settling);
            self.settling = self.reached;
            self.taken_since = 0;
            self.settled_at = now;
        }
        LaneQuota { tenant_id: self.tenant.clone(), endpoint_id: endpoint, after: self.settled, quota }
    }

    pub(super) fn key(&self, endpoint: EndpointId) -> LaneCursor {
        LaneCursor::new(&self.tenant, endpoint)
    }

    /// The position after which a tail scan starts: the furthest claimed position, or `late_after` if that is earlier.
    pub(super) fn place(&self, endpoint: EndpointId, late_after: i64) -> Place {
        Place { key: self.key(endpoint), after: Some(self.reached.min(late_after)) }
    }

    /// True if the lane holds permits or waits for a turn.
    pub(super) fn is_in_use(&self) -> bool {
        self.held.sum() > 0 || Kind::ALL.iter().any(|kind| *self.queued.of(*kind))
    }

    pub(super) fn took(&mut self, positions: &[i64], now: Instant) {
        if let Some(last) = positions.iter().max() {
            let count = u32::try_from(positions.len()).unwrap_or(u32::MAX);
            self.reached = self.reached.max(*last);
            self.taken_since = self.taken_since.saturating_add(count);
            if self.in_flight == 0 {
                self.progress_at = now;
            }
            self.in_flight += count;
            self.active_at = now;
        }
    }

    /// True if the last claim filled the lane's quota. More deliveries may then be ready.
    pub(super) fn is_deep(&self) -> bool {
        self.batch_size > 1
    }

    /// Notes that a claim of up to `asked` deliveries returned `count`.
    pub(super) fn gave(&mut self, count: u32, asked: u32) {
        let all = count >= asked;
        self.backlog_estimate = if all && self.is_deep() { count } else { 0 };
        self.batch_size = if all { (self.batch_size * 2).min(MAX_BATCH_SIZE) } else { 1 };
    }

    /// True if attempts are running and none got a response for `STALL_AFTER`.
    pub(super) fn stalled(&self, now: Instant) -> bool {
        self.in_flight > 0 && now.duration_since(self.progress_at) >= STALL_AFTER
    }

    /// Updates the number of slow lanes after this lane's health may have changed.
    pub(super) fn count_slow(&self, slow: &mut usize, before: LaneHealth) {
        *slow += usize::from(self.health == LaneHealth::Slow);
        *slow -= usize::from(before == LaneHealth::Slow);
    }

    pub(super) fn apply(&mut self, signal: AttemptSignal, started: Instant, now: Instant, most: u32) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match signal {
            AttemptSignal::Answered => {
                self.progress_at = now;
                self.cap = self.cap.saturating_add(1).min(most);
                if now.duration_since(started) < FAST_ANSWER {
                    self.health = LaneHealth::Proven;
                }
            }
            AttemptSignal::TimedOut => {
                self.health = LaneHealth::Slow;
                if started > self.cut_at {
                    self.cap = (self.cap / 2).max(1);
                    self.cut_at = now;
                }
            }
            AttemptSignal::Neutral => {}
        }
    }
}
