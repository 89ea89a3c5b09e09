//! One lane: its position in the endpoint's work, its cap, and the health of its endpoint. Pure state.
//!
//! The cap follows the responses: it grows by one after each success and halves after a timeout (additive increase,
//! multiplicative decrease). So an endpoint gets as many attempts as it can handle, and one that hangs falls to one attempt at a
//! time.

use std::time::{Duration, Instant};

use super::tenants::{ByKind, Kind, share};
use crate::domain::ids::EndpointId;
use crate::domain::names::TenantId;
use crate::store::queue::claim::LaneQuota;
use crate::store::queue::lanes::{LaneCursor, Place};

/// The cap of a new endpoint, before its first response.
pub(super) const FIRST_CAP: u32 = 16;
/// An endpoint without any response for this long is slow, although its attempts still run.
pub(super) const STALL_AFTER: Duration = Duration::from_secs(1);
/// An endpoint that responds faster than this is proven.
const FAST_ANSWER: Duration = Duration::from_secs(1);
/// How far a claim starts before the last claimed position, in time and in deliveries: a transaction may commit after a later
/// one, so its deliveries appear before that position. Discovery finds those that commit even later.
const LOOK_BACK: Duration = Duration::from_secs(1);
const LOOK_BACK_DELIVERIES: u32 = 256;
/// The largest batch of a lane in one turn: a claim of 128 then serves at least eight lanes.
pub(super) const MAX_BATCH_SIZE: u32 = 16;

/// What an attempt shows about its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptSignal {
    /// It responded, with any status.
    Answered,
    /// It did not respond in time.
    TimedOut,
    /// Nothing was sent, or the result says nothing about the endpoint's speed.
    Neutral,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaneHealth {
    /// No response yet.
    New,
    /// Its last response was fast.
    Proven,
    /// It did not respond for long.
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

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) tenant: TenantId,
    /// Where the next claim starts. It follows `settling`, which follows `reached`, the furthest claimed position.
    settled: i64,
    settling: i64,
    reached: i64,
    /// How many deliveries were claimed since these three moved, and when they moved.
    taken_since: u32,
    settled_at: Instant,
    /// True if there may be work.
    pub(super) has_work: bool,
    /// Counts the hints: the result of an older claim does not hide newer work.
    pub(super) generation: u64,
    /// Whether the lane waits for a turn of each kind. Once its kind changes, the other entry is void.
    queued: ByKind<bool>,
    pub(super) health: LaneHealth,
    /// Permits held (reserved, in flight or not yet recorded), by the kind of the endpoint when it took them. Those of a proven
    /// endpoint that hangs now do not count against the share of new endpoints.
    held: ByKind<u32>,
    /// Attempts that were started and have no response.
    in_flight: u32,
    cap: u32,
    /// How many deliveries a turn may claim when many lanes wait. Finding a lane's work costs more than claiming it, so a lane
    /// that fills its quota gets a larger one.
    pub(super) batch_size: u32,
    /// Estimated backlog: the size of the last full batch, if the one before was full too. (A single full batch may be chance,
    /// because each of many lanes has a small quota.)
    pub(super) backlog_estimate: u32,
    /// Deliveries seen since its last turn.
    seen: u32,
    /// When the cap was last halved: attempts started before then add no information.
    cut_at: Instant,
    /// The last response, or the start of the first attempt after an idle time.
    progress_at: Instant,
    pub(super) active_at: Instant,
}

impl Lane {
    /// A lane whose work starts at `position`, with at most `most` attempts in flight.
    pub(super) fn new(tenant: TenantId, position: i64, most: u32, now: Instant) -> Self {
        Self {
            tenant,
            settled: position - 1,
            settling: position - 1,
            reached: position - 1,
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
            seen: 0,
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
            self.settled = position - 1;
            self.settling = self.settling.min(self.settled);
        }
    }

    pub(super) fn room(&self) -> u32 {
        self.cap.saturating_sub(self.held.sum())
    }

    /// How many deliveries it requests in a turn: the maximum of its `share`, of the deliveries seen, and of its batch size.
    pub(super) fn wants(&self, share: u32) -> u32 {
        share.max(self.batch_size).max(self.seen.min(MAX_BATCH_SIZE))
    }

    /// Puts the lane into the turns of its kind; true if it may have work, has free permits and was not there yet.
    pub(super) fn queue(&mut self) -> bool {
        let has_work_and_room = self.has_work && self.room() > 0;
        has_work_and_room && !std::mem::replace(self.queued.of_mut(self.health.kind()), true)
    }

    /// The lane's turn of this kind has come.
    pub(super) fn dequeued(&mut self, kind: Kind) {
        *self.queued.of_mut(kind) = false;
    }

    /// How many more it may claim while its tenant may claim `free`. An unproven one leaves as many to its tenant's others.
    pub(super) fn room_within(&self, free: u32) -> u32 {
        match self.health.kind() {
            Kind::Proven => self.room(),
            Kind::Unproven => self.room().min(share(free, self.held.sum(), 1)),
        }
    }

    pub(super) fn take(&mut self, permits: u32) {
        *self.held.of_mut(self.health.kind()) += permits;
    }

    /// Releases permits, first those taken before the endpoint's kind changed. Returns how many of each kind.
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

    /// Where a tail scan starts: behind the furthest claimed position, or behind `late_after` if that is earlier.
    pub(super) fn place(&self, endpoint: EndpointId, late_after: i64) -> Place {
        Place { key: self.key(endpoint), after: Some(self.reached.min(late_after)) }
    }

    /// True if it holds permits or waits for a turn.
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

    /// True if the last claim filled the lane's quota, so that there may be more.
    pub(super) fn is_deep(&self) -> bool {
        self.batch_size > 1
    }

    /// Notes that the lane gave `count` of the `asked` deliveries.
    pub(super) fn gave(&mut self, count: u32, asked: u32) {
        let all = count >= asked;
        self.backlog_estimate = if all && self.is_deep() { count } else { 0 };
        self.batch_size = if all { (self.batch_size * 2).min(MAX_BATCH_SIZE) } else { 1 };
    }

    /// True if attempts are in flight and none got a response for long.
    pub(super) fn stalled(&self, now: Instant) -> bool {
        self.in_flight > 0 && now.duration_since(self.progress_at) >= STALL_AFTER
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
