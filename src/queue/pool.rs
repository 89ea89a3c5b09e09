//! One channel's part of the queue on this node: its lanes behind a lock, and the ends of the pipes that claimers,
//! workers and completers share. What the pipes hold is bounded by the permits: each delivery in them has one.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, mpsc};

use super::Settings;
use super::claimed::{Claimed, Completion};
use super::lane::AttemptSignal;
use super::lanes::{LaneLimits, Lanes, Planned};
use crate::domain::endpoint::Channel;
use crate::domain::ids::{ClaimId, EndpointId};
use crate::store::accept::ReadyDelivery;
use crate::store::queue::lanes::{LaneCursor, Place, WaitingLane};

#[derive(Debug)]
pub(super) struct ChannelQueue {
    channel: Channel,
    permits: u32,
    lanes: Mutex<Lanes>,
    /// Permits of deliveries and claims that are set aside; a stop does not wait for them.
    set_aside: AtomicU32,
    /// There may be a claim to plan.
    work: Notify,
    /// Somebody said that there is work which this node does not know.
    search: Notify,
    /// A claim was answered, or enough work was seen.
    capacity_freed: Notify,
    /// The last claimed delivery was recorded.
    idle: Notify,
    draining: AtomicBool,
    dispatched: mpsc::UnboundedSender<Vec<Claimed>>,
    /// One pipe per completer; a claim's deliveries all go through the same.
    completions: Vec<mpsc::UnboundedSender<Completion>>,
}

impl ChannelQueue {
    pub(super) fn new(
        channel: Channel,
        settings: &Settings,
        dispatched: mpsc::UnboundedSender<Vec<Claimed>>,
        completions: Vec<mpsc::UnboundedSender<Completion>>,
    ) -> Self {
        let permits = settings.max_in_flight.max(1);
        let endpoint_permits = settings.endpoint_max_in_flight.unwrap_or(permits / 3).clamp(1, permits);
        Self {
            channel,
            permits,
            lanes: Mutex::new(Lanes::new(LaneLimits { permits, endpoint_permits })),
            set_aside: AtomicU32::new(0),
            work: Notify::new(),
            search: Notify::new(),
            capacity_freed: Notify::new(),
            idle: Notify::new(),
            draining: AtomicBool::new(false),
            dispatched,
            completions,
        }
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel
    }

    pub(super) fn permits(&self) -> u32 {
        self.permits
    }

    /// Deliveries that hold a permit, and slow endpoints.
    pub(super) fn load(&self) -> (u32, usize) {
        let lanes = self.lanes();
        (lanes.held(), lanes.slow_lanes())
    }

    /// New work of this node's own API; that of other channels is passed over.
    pub(super) fn ready(&self, deliveries: &[ReadyDelivery]) {
        let mut ours = deliveries.iter().filter(|delivery| delivery.channel == self.channel).peekable();
        if ours.peek().is_none() {
            return;
        }
        let now = Instant::now();
        let mut lanes = self.lanes();
        for delivery in ours {
            lanes.hint(&delivery.tenant_id, delivery.endpoint_id, delivery.position, now);
        }
        self.note_work(lanes);
    }

    /// Work that the search found.
    pub(super) fn found(&self, waiting: &[WaitingLane]) {
        let now = Instant::now();
        let mut lanes = self.lanes();
        for lane in waiting {
            lanes.hint(&lane.tenant_id, lane.endpoint_id, lane.first_position, now);
        }
        self.note_work(lanes);
    }

    fn note_work(&self, lanes: MutexGuard<'_, Lanes>) {
        let has_enough = lanes.has_enough();
        drop(lanes);
        self.work.notify_one();
        if has_enough {
            self.capacity_freed.notify_one();
        }
    }

    /// The places of up to `most` lanes: see [`KnownLanes::places`](super::known_lanes::KnownLanes::places).
    pub(super) fn places(&self, from: &LaneCursor, most: usize, late_after: i64) -> Vec<Place> {
        self.lanes().known().places(from, most, late_after)
    }

    /// The furthest position that this node has taken.
    pub(super) fn furthest_taken(&self) -> i64 {
        self.lanes().furthest_taken()
    }

    /// Work may have come from another process.
    pub(super) fn search(&self) {
        self.search.notify_one();
    }

    pub(super) async fn search_wanted(&self) {
        self.search.notified().await;
    }

    /// Why [`Plan::WaitForCapacity`] may have ended early.
    pub(super) async fn capacity_freed(&self) {
        self.capacity_freed.notified().await;
    }

    pub(super) async fn work_wanted(&self) {
        self.work.notified().await;
    }

    /// Plans a claim and reserves its permits; not while a moment's patience makes one claim of many, for permits and work
    /// come one by one.
    pub(super) fn plan(&self, batch: u32) -> Plan {
        let now = Instant::now();
        let mut lanes = self.lanes();
        if !lanes.has_turns() {
            return Plan::Nothing;
        }
        let wanted = batch.min(self.permits) / 2;
        if let Some(until) = lanes.waits_until(wanted, now) {
            return Plan::WaitForCapacity(until);
        }
        let planned = lanes.plan(batch, now);
        let more = !planned.is_empty() && lanes.has_turns() && lanes.free() > 0;
        drop(lanes);
        if more {
            self.work.notify_one();
        }
        if planned.is_empty() { Plan::Nothing } else { Plan::Claim(planned) }
    }

    /// The answer to a planned claim: the positions that each lane gave.
    pub(super) fn settle(&self, planned: &[Planned], taken: &[(EndpointId, i64)]) {
        let now = Instant::now();
        let mut lanes = self.lanes();
        for one in planned {
            let endpoint = one.quota.endpoint_id;
            let positions: Vec<i64> =
                taken.iter().filter(|(of, _)| *of == endpoint).map(|(_, position)| *position).collect();
            lanes.settle(one, &positions, now);
        }
        lanes.claim_ended(u32::try_from(taken.len()).unwrap_or(u32::MAX), now);
        let again = lanes.has_turns();
        drop(lanes);
        self.capacity_freed.notify_one();
        if again {
            self.work.notify_one();
        }
        self.note_idle();
    }

    /// Hands a claimed delivery to the workers.
    pub(super) fn dispatch(&self, claimed: Vec<Claimed>) {
        // The workers' end is as old as the queue; if it is gone, the drop records each delivery as interrupted.
        drop(self.dispatched.send(claimed));
    }

    pub(super) fn answered(&self, endpoint: EndpointId, signal: AttemptSignal, started: Instant) {
        self.lanes().answered(endpoint, signal, started, Instant::now());
    }

    /// Hands an ended delivery to the completer of its claim.
    pub(super) fn complete(&self, completion: Completion) {
        let completer = completer_of(completion.claim.id, self.completions.len());
        if self.completions[completer].send(completion).is_err() {
            tracing::error!(channel = self.channel.as_str(), "an outcome came after the completers had ended");
        }
    }

    /// Outcomes are recorded, or deliveries are back in the queue: their permits are free.
    pub(super) fn recorded(&self, endpoints: impl Iterator<Item = EndpointId>) {
        let mut lanes = self.lanes();
        for endpoint in endpoints {
            lanes.release(endpoint, 1);
        }
        let again = lanes.has_turns();
        drop(lanes);
        if again {
            self.work.notify_one();
        }
        self.note_idle();
    }

    /// Deliveries or a claim with this number of permits were set aside.
    pub(super) fn set_aside(&self, permits: u32) {
        self.set_aside.fetch_add(permits, Ordering::AcqRel);
        self.note_idle();
    }

    /// They are no longer set aside. To be called before the permits are released.
    pub(super) fn resumed(&self, permits: u32) {
        self.set_aside.fetch_sub(permits, Ordering::AcqRel);
    }

    /// After this, deliveries that were claimed and not started are released.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Waits until no delivery holds a permit, but for what is set aside.
    pub(super) async fn wait_idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.is_idle() {
                return;
            }
            idle.await;
        }
    }

    fn note_idle(&self) {
        if self.is_draining() && self.is_idle() {
            self.idle.notify_waiters();
        }
    }

    fn is_idle(&self) -> bool {
        self.lanes().held() <= self.set_aside.load(Ordering::Acquire)
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a claimer may do now.
#[derive(Debug)]
pub(super) enum Plan {
    Claim(Vec<Planned>),
    /// There is work, but little of it or little room: a claim now would be a small one. Wait until then at most.
    WaitForCapacity(Instant),
    Nothing,
}

fn completer_of(claim: ClaimId, completers: usize) -> usize {
    // The last bits of a random UUID.
    usize::try_from(claim.uuid().as_u128() & 0xff).unwrap_or(0) % completers.max(1)
}
