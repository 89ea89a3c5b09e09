//! The queue of one delivery channel on this node: its lanes behind a lock, and the mpsc channels between claimers, workers and
//! completers. Permits bound these mpsc channels, because each delivery in them holds a permit.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, mpsc};

use super::Settings;
use super::completion::{Completion, count};
use super::lane::AttemptSignal;
use super::lanes::{LaneLimits, Lanes, Planned};
use crate::domain::endpoint::Channel;
use crate::domain::ids::EndpointId;
use crate::domain::names::TenantId;
use crate::store::accept::ReadyDelivery;
use crate::store::queue::claim::ClaimedDelivery;
use crate::store::queue::finish::FinishedDelivery;
use crate::store::queue::lanes::{LaneCursor, Place, WaitingLane};

/// The maximum number of deliveries per claim. The row of a claim of this size fits into one database page.
const BATCH: u32 = 128;

#[derive(Debug)]
pub(super) struct ChannelQueue {
    channel: Channel,
    permits: u32,
    lanes: Mutex<Lanes>,
    /// The permits of set-aside deliveries and claims. A shutdown does not wait for these permits.
    set_aside: AtomicU32,
    /// Wakes a claimer when deliveries may be ready to claim.
    pub(super) work: Notify,
    /// Wakes discovery when another process reported ready deliveries without their lanes.
    pub(super) search: Notify,
    /// Wakes a claimer that waits for capacity, when a claim has its result or enough deliveries are ready.
    pub(super) capacity_freed: Notify,
    /// Wakes the shutdown when the last claimed delivery was recorded or released.
    idle: Notify,
    draining: AtomicBool,
    /// One sender per completer. All deliveries of a claim go to the same completer.
    completions: Vec<mpsc::UnboundedSender<Completion>>,
}

impl ChannelQueue {
    pub(super) fn new(
        channel: Channel,
        settings: &Settings,
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
            completions,
        }
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel
    }

    pub(super) fn permits(&self) -> u32 {
        self.permits
    }

    /// The number of held permits, and the number of slow endpoints.
    pub(super) fn load(&self) -> (u32, usize) {
        let lanes = self.lanes.lock();
        (lanes.held(), lanes.slow_lanes())
    }

    /// Adds ready deliveries from this node's API. Ignores deliveries of other channels.
    pub(super) fn ready(&self, deliveries: &[ReadyDelivery]) {
        self.add(deliveries, |lanes, one, now| {
            lanes.hint(&one.tenant_id, one.endpoint_id, one.position, now);
        });
    }

    /// Adds ready deliveries from a hint of another process, which may be forged. Ignores deliveries of other channels.
    pub(super) fn heard(&self, deliveries: &[ReadyDelivery]) {
        self.add(deliveries, |lanes, one, now| {
            if !lanes.heard(&one.tenant_id, one.endpoint_id, one.position, now) {
                self.search();
            }
        });
    }

    fn add(&self, deliveries: &[ReadyDelivery], hint: impl Fn(&mut Lanes, &ReadyDelivery, Instant)) {
        let mut ours = deliveries.iter().filter(|delivery| delivery.channel == self.channel).peekable();
        if ours.peek().is_none() {
            return;
        }
        let now = Instant::now();
        let mut lanes = self.lanes.lock();
        for delivery in ours {
            hint(&mut lanes, delivery, now);
        }
        self.note_work(lanes);
    }

    /// Adds the lanes in which discovery found ready deliveries.
    pub(super) fn found(&self, waiting: &[WaitingLane]) {
        let now = Instant::now();
        let mut lanes = self.lanes.lock();
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

    /// Returns the positions at which a tail scan starts in up to `most` lanes. See
    /// [`KnownLanes::places`](super::known_lanes::KnownLanes::places).
    pub(super) fn places(&self, from: &LaneCursor, most: usize, of_each: usize, late_after: i64) -> Vec<Place> {
        self.lanes.lock().known().places(from, most, of_each, late_after)
    }

    /// The furthest position that this node has claimed.
    pub(super) fn furthest_taken(&self) -> i64 {
        self.lanes.lock().furthest_taken()
    }

    /// Makes discovery search, because another process may have added ready deliveries.
    pub(super) fn search(&self) {
        self.search.notify_one();
    }

    /// A claim waits a little for this number of permits.
    fn wanted(&self) -> u32 {
        BATCH.min(self.permits) / 2
    }

    /// Plans a claim and reserves its permits. Permits and ready deliveries arrive one by one, so a short wait can merge
    /// several small claims. Returns [`Plan::WaitForCapacity`] in this case.
    pub(super) fn plan(&self) -> Plan {
        let now = Instant::now();
        let mut lanes = self.lanes.lock();
        if !lanes.has_turns() {
            return Plan::Nothing;
        }
        if let Some(until) = lanes.waits_until(self.wanted(), now) {
            return Plan::WaitForCapacity(until);
        }
        let planned = lanes.plan(BATCH, now);
        let more = !planned.is_empty() && lanes.has_turns() && lanes.free() > 0;
        drop(lanes);
        if more {
            self.work.notify_one();
        }
        if planned.is_empty() { Plan::Nothing } else { Plan::Claim(planned) }
    }

    /// Applies the result of a planned claim: `taken` are the claimed deliveries.
    pub(super) fn settle(&self, planned: &[Planned], taken: &[ClaimedDelivery]) {
        let now = Instant::now();
        let mut lanes = self.lanes.lock();
        for one in planned {
            let is_of_lane = |taken: &&ClaimedDelivery| {
                taken.endpoint_id == one.quota.endpoint_id && taken.tenant_id == one.quota.tenant_id
            };
            let positions: Vec<i64> = taken.iter().filter(is_of_lane).map(|taken| taken.position).collect();
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

    pub(super) fn answered(&self, tenant: &TenantId, endpoint: EndpointId, signal: AttemptSignal, started: Instant) {
        self.lanes.lock().answered(tenant, endpoint, signal, started, Instant::now());
    }

    pub(super) fn complete(&self, completion: Completion) {
        // The last byte of a claim id is random.
        let completer = usize::from(completion.claim.id.uuid().as_bytes()[15]) % self.completions.len();
        if self.completions[completer].send(completion).is_err() {
            tracing::error!(channel = self.channel.as_str(), "an outcome arrived after the completers had ended");
        }
    }

    /// Frees the permits of deliveries that are recorded or released.
    pub(super) fn recorded<'a>(&self, deliveries: impl Iterator<Item = &'a FinishedDelivery>) {
        let mut lanes = self.lanes.lock();
        for one in deliveries {
            lanes.recorded(&one.tenant_id, one.endpoint_id);
        }
        let again = lanes.has_turns();
        let is_room_for_claim = again && lanes.has_room(self.wanted());
        drop(lanes);
        if again {
            self.work.notify_one();
        }
        if is_room_for_claim {
            self.capacity_freed.notify_one();
        }
        self.note_idle();
    }

    /// Notes that these outcomes were set aside. Their permits count against their tenants' shares again.
    pub(super) fn outcomes_set_aside(&self, outcomes: &[Completion]) {
        for one in outcomes {
            self.lanes.lock().tenants.recording_ended(&one.finished.tenant_id);
        }
        self.set_aside(count(outcomes.len()));
    }

    /// Notes that these outcomes are no longer set aside. Must be called before they are recorded.
    pub(super) fn outcomes_resumed(&self, outcomes: &[Completion]) {
        for one in outcomes {
            self.lanes.lock().tenants.recording_started(&one.finished.tenant_id);
        }
        self.resumed(count(outcomes.len()));
    }

    /// Notes that outcomes or a claim with this number of permits were set aside.
    pub(super) fn set_aside(&self, permits: u32) {
        self.set_aside.fetch_add(permits, Ordering::AcqRel);
        self.note_idle();
    }

    /// Notes that this number of permits is no longer set aside. Must be called before the permits become free.
    pub(super) fn resumed(&self, permits: u32) {
        self.set_aside.fetch_sub(permits, Ordering::AcqRel);
    }

    /// Makes workers release deliveries that they have not started.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Waits until only set-aside deliveries and claims hold permits.
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
        self.lanes.lock().held() <= self.set_aside.load(Ordering::Acquire)
    }
}

#[derive(Debug)]
pub(super) enum Plan {
    Claim(Vec<Planned>),
    /// A claim would be small, because few deliveries or permits are available. The claimer waits at most until this time.
    WaitForCapacity(Instant),
    Nothing,
}
