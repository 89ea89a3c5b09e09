//! Schedules tenants round-robin, and also the endpoints of each tenant. Limits their shares of the permits. Pure state, no
//! I/O.
//!
//! Endpoints that responded fast lately are proven; all others are unproven. The two kinds are scheduled separately, and
//! unproven endpoints share a third of the permits. A tenant's deliveries in progress may hold at most half of the permits
//! that are left by other tenants. So the first tenant gets half of all permits, and a second tenant gets half of the rest. A
//! delivery is in progress until its attempt ends. After that, its permit still counts towards the total, but not towards the
//! tenant's share, because the endpoint can no longer delay it. The last tenth of the permits is kept for proven endpoints
//! of tenants that hold no permits. Otherwise endpoints of many tenants that begin to hang could take all permits.

use std::collections::{HashMap, VecDeque};

use crate::domain::ids::EndpointId;
use crate::domain::names::TenantId;

/// A tenant leaves at least as many permits free as it has deliveries in progress. A lone tenant may use half of all permits.
const LEFT_OF_ALL: u32 = 1;
/// For unproven endpoints, a tenant leaves at least three times as many permits free as it holds. A lone tenant may hold a
/// quarter of these permits. An attempt to an unproven endpoint can hold its permit until the timeout, so more permits must
/// stay free for other tenants.
const LEFT_OF_UNPROVEN: u32 = 3;
/// The last tenth of the permits is a reserve: a tenant that holds no permits takes one of them, for a proven endpoint.
const RESERVE: u32 = 10;
/// The maximum number of lanes that only hints of other processes have named. A claim from one such lane takes less than a
/// millisecond. Discovery finds the deliveries of further lanes.
const MOST_UNCONFIRMED: u32 = 512;

/// `Proven` if the endpoint's last response was fast, otherwise `Unproven`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Proven,
    Unproven,
}

impl Kind {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Proven => Self::Unproven,
            Self::Unproven => Self::Proven,
        }
    }

    /// The order in which a claim serves the two kinds of endpoints. Unproven endpoints come first because they have the
    /// smaller share.
    pub(super) const ALL: [Self; 2] = [Self::Unproven, Self::Proven];
}

#[derive(Debug, Default)]
pub(super) struct ByKind<T> {
    proven: T,
    unproven: T,
}

impl<T> ByKind<T> {
    pub(super) fn of(&self, kind: Kind) -> &T {
        match kind {
            Kind::Proven => &self.proven,
            Kind::Unproven => &self.unproven,
        }
    }

    pub(super) fn of_mut(&mut self, kind: Kind) -> &mut T {
        match kind {
            Kind::Proven => &mut self.proven,
            Kind::Unproven => &mut self.unproven,
        }
    }
}

impl ByKind<u32> {
    pub(super) fn sum(&self) -> u32 {
        self.proven + self.unproven
    }
}

#[derive(Debug, Default)]
struct Tenant {
    lanes: usize,
    unconfirmed: u32,
    held: ByKind<u32>,
    /// The number of deliveries whose attempts have ended and whose outcomes are being recorded.
    recording: u32,
    /// The tenant's endpoints that might have deliveries and are below their caps, in the order of their turns.
    turns: ByKind<VecDeque<EndpointId>>,
}

#[derive(Debug)]
pub(super) struct Tenants {
    permits: u32,
    by_id: HashMap<TenantId, Tenant>,
    /// The number of unconfirmed lanes.
    unconfirmed: u32,
    /// The tenants whose endpoints wait for turns, in the order of the tenants' turns.
    turns: ByKind<VecDeque<TenantId>>,
    held: ByKind<u32>,
    recording: u32,
}

impl Tenants {
    pub(super) fn new(permits: u32) -> Self {
        Self {
            permits,
            by_id: HashMap::new(),
            unconfirmed: 0,
            turns: ByKind::default(),
            held: ByKind::default(),
            recording: 0,
        }
    }

    /// True if the tenant may have one more unconfirmed lane. Its share is half of the unconfirmed lanes that other tenants leave.
    pub(super) fn may_add_unconfirmed(&self, tenant: &TenantId) -> bool {
        let of_tenant = self.by_id.get(tenant).map_or(0, |of| of.unconfirmed);
        share(MOST_UNCONFIRMED.saturating_sub(self.unconfirmed), of_tenant, LEFT_OF_ALL) > 0
    }

    /// Adds an unconfirmed lane.
    pub(super) fn add_lane(&mut self, tenant: &TenantId) {
        let of = self.by_id.entry(tenant.clone()).or_default();
        of.lanes += 1;
        of.unconfirmed += 1;
        self.unconfirmed += 1;
    }

    /// Notes that one of the tenant's unconfirmed lanes is confirmed.
    pub(super) fn confirm_lane(&mut self, tenant: &TenantId) {
        if let Some(of) = self.by_id.get_mut(tenant) {
            of.unconfirmed -= 1;
            self.unconfirmed -= 1;
        }
    }

    /// Removes a lane that holds no permits and does not wait for a turn.
    pub(super) fn remove_lane(&mut self, tenant: &TenantId, is_confirmed: bool) {
        if !is_confirmed {
            self.confirm_lane(tenant);
        }
        if let Some(of) = self.by_id.get_mut(tenant) {
            of.lanes -= 1;
            if of.lanes == 0 {
                self.by_id.remove(tenant);
            }
        }
    }

    pub(super) fn held(&self) -> u32 {
        self.held.sum()
    }

    pub(super) fn free(&self) -> u32 {
        self.permits.saturating_sub(self.held())
    }

    pub(super) fn has_turns(&self) -> bool {
        Kind::ALL.iter().any(|kind| self.waiting(*kind) > 0)
    }

    /// The number of tenants with endpoints of this kind that wait for turns.
    pub(super) fn waiting(&self, kind: Kind) -> usize {
        self.turns.of(kind).len()
    }

    /// All endpoints that wait for turns, tenant by tenant.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = (&TenantId, EndpointId)> {
        Kind::ALL.into_iter().flat_map(move |kind| {
            let tenants = self.turns.of(kind).iter().filter_map(|tenant| Some((tenant, self.by_id.get(tenant)?)));
            tenants.flat_map(move |(tenant, of)| of.turns.of(kind).iter().map(move |endpoint| (tenant, *endpoint)))
        })
    }

    /// How many more permits the first `most` waiting tenants of each kind may take together.
    pub(super) fn room(&self, most: usize) -> u32 {
        let rooms = Kind::ALL
            .into_iter()
            .flat_map(|kind| self.turns.of(kind).iter().take(most).map(move |tenant| self.room_of(tenant, kind)));
        rooms.fold(0, u32::saturating_add).min(self.free())
    }

    /// True if each of the first `most` waiting tenants holds at least `permits` permits.
    pub(super) fn each_holds(&self, permits: u32, most: usize) -> bool {
        let holds = |tenant| self.by_id.get(tenant).is_some_and(|of: &Tenant| of.held.sum() >= permits);
        Kind::ALL.into_iter().all(|kind| self.turns.of(kind).iter().take(most).all(holds))
    }

    /// How many more permits the tenant may take for endpoints of this kind.
    pub(super) fn room_of(&self, tenant: &TenantId, kind: Kind) -> u32 {
        let Some(of) = self.by_id.get(tenant) else { return 0 };
        let (free, in_progress) = (self.free(), of.held.sum().saturating_sub(of.recording));
        let room = share(free + self.recording, in_progress, LEFT_OF_ALL);
        let room = room.min(free.saturating_sub(self.permits / RESERVE));
        match kind {
            Kind::Proven if of.held.sum() == 0 => room.max(free.min(1)),
            Kind::Proven => room,
            Kind::Unproven => {
                let free = unproven_permits(self.permits).saturating_sub(self.held.unproven);
                room.min(share(free, of.held.unproven, LEFT_OF_UNPROVEN))
            }
        }
    }

    /// Adds the endpoint as the last of its tenant's waiting endpoints.
    pub(super) fn push(&mut self, tenant: &TenantId, kind: Kind, endpoint: EndpointId) {
        let Some(of) = self.by_id.get_mut(tenant) else { return };
        let endpoints = of.turns.of_mut(kind);
        if endpoints.is_empty() {
            self.turns.of_mut(kind).push_back(tenant.clone());
        }
        endpoints.push_back(endpoint);
    }

    /// Starts the turn of the next waiting tenant. The caller ends the turn with [`Tenants::end_turn`].
    pub(super) fn next(&mut self, kind: Kind) -> Option<Turn> {
        let tenant = self.turns.of_mut(kind).pop_front()?;
        let endpoints = self.by_id.get_mut(&tenant).map(|of| std::mem::take(of.turns.of_mut(kind)));
        Some(Turn { tenant, kind, endpoints: endpoints.unwrap_or_default() })
    }

    /// Ends a tenant's turn. The tenant's next turn comes after the other tenants' turns, or at once if this turn was cut
    /// short.
    pub(super) fn end_turn(&mut self, turn: Turn, is_cut_short: bool) {
        let Some(of) = self.by_id.get_mut(&turn.tenant) else { return };
        if turn.endpoints.is_empty() {
            return;
        }
        *of.turns.of_mut(turn.kind) = turn.endpoints;
        let turns = self.turns.of_mut(turn.kind);
        if is_cut_short {
            turns.push_front(turn.tenant);
        } else {
            turns.push_back(turn.tenant);
        }
    }

    pub(super) fn take(&mut self, tenant: &TenantId, kind: Kind, permits: u32) {
        *self.held.of_mut(kind) += permits;
        if let Some(of) = self.by_id.get_mut(tenant) {
            *of.held.of_mut(kind) += permits;
        }
    }

    /// Notes that the attempt of a delivery ended, so its outcome is being recorded.
    pub(super) fn recording_started(&mut self, tenant: &TenantId) {
        if let Some(of) = self.by_id.get_mut(tenant) {
            of.recording += 1;
            self.recording += 1;
        }
    }

    /// Notes that an outcome was recorded or set aside.
    pub(super) fn recording_ended(&mut self, tenant: &TenantId) {
        if let Some(of) = self.by_id.get_mut(tenant) {
            of.recording = of.recording.saturating_sub(1);
            self.recording = self.recording.saturating_sub(1);
        }
    }

    pub(super) fn release(&mut self, tenant: &TenantId, kind: Kind, permits: u32) {
        let held = self.held.of_mut(kind);
        *held = held.saturating_sub(permits);
        if let Some(of) = self.by_id.get_mut(tenant) {
            let held = of.held.of_mut(kind);
            *held = held.saturating_sub(permits);
        }
    }
}

#[derive(Debug)]
pub(super) struct Turn {
    pub(super) tenant: TenantId,
    pub(super) kind: Kind,
    pub(super) endpoints: VecDeque<EndpointId>,
}

/// The number of permits that unproven endpoints share.
pub(super) fn unproven_permits(permits: u32) -> u32 {
    (permits / 3).max(1)
}

/// How many of `free` permits a tenant that holds `held` may take. Afterwards, the number of free permits must be at least
/// `times` the number that the tenant holds. A tenant without permits may always take the last permit.
pub(super) fn share(free: u32, held: u32, times: u32) -> u32 {
    let most = free.saturating_sub(held.saturating_mul(times)) / (times + 1);
    if held == 0 { most.max(free.min(1)) } else { most }
}

#[cfg(test)]
#[path = "tenants_tests.rs"]
mod tests;
