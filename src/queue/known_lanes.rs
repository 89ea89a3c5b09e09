//! The lanes that this node knows, in key order and in the order of their idle checks.
//!
//! A lane is identified by its tenant and its endpoint, because a forged hint can name an endpoint with any tenant. Such a lane
//! stays unconfirmed, and is removed as soon as a claim finds it empty.
//!
//! No function visits all lanes, because the caller locks the channel during each call.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::lane::Lane;
use crate::domain::ids::EndpointId;
use crate::domain::names::TenantId;
use crate::store::queue::lanes::{LaneCursor, Place};

/// How long an unused lane is kept. After the lane is removed, discovery finds new deliveries of its endpoint.
const FORGET_AFTER: Duration = Duration::from_mins(10);
/// How many lanes one call of `forget_idle` checks. Each hint adds at most one lane and calls `forget_idle` once. With two
/// checks per call, unused lanes are removed faster than new lanes are added.
const IDLE_CHECKS: usize = 2;

#[derive(Debug, Default)]
pub(super) struct KnownLanes {
    /// The lanes of each endpoint id. The endpoint's confirmed lane comes first; its other lanes have wrong tenants.
    by_endpoint: HashMap<EndpointId, Vec<Lane>>,
    in_key_order: BTreeSet<LaneCursor>,
    /// Each confirmed lane once, ordered by the time of its next idle check.
    idle_checks: VecDeque<(Instant, TenantId, EndpointId)>,
}

impl KnownLanes {
    pub(super) fn get(&self, tenant: &str, endpoint: EndpointId) -> Option<&Lane> {
        self.by_endpoint.get(&endpoint)?.iter().find(|lane| lane.tenant.as_str() == tenant)
    }

    pub(super) fn get_mut(&mut self, tenant: &TenantId, endpoint: EndpointId) -> Option<&mut Lane> {
        self.by_endpoint.get_mut(&endpoint)?.iter_mut().find(|lane| lane.tenant == *tenant)
    }

    /// Adds an unconfirmed lane that is not known yet.
    pub(super) fn add(&mut self, endpoint: EndpointId, lane: Lane) {
        self.in_key_order.insert(lane.key(endpoint));
        self.by_endpoint.entry(endpoint).or_insert_with(|| Vec::with_capacity(1)).push(lane);
    }

    /// Marks that the lane exists in the database. Returns true if it was unconfirmed.
    pub(super) fn confirm(&mut self, tenant: &TenantId, endpoint: EndpointId, now: Instant) -> bool {
        let Some(lanes) = self.by_endpoint.get_mut(&endpoint) else { return false };
        let Some(number) = lanes.iter().position(|lane| lane.tenant == *tenant) else { return false };
        if std::mem::replace(&mut lanes[number].is_confirmed, true) {
            return false;
        }
        lanes.swap(0, number);
        self.idle_checks.push_back((now + FORGET_AFTER, tenant.clone(), endpoint));
        true
    }

    /// Removes an unconfirmed lane that a claim found empty. Returns true if the lane was removed.
    pub(super) fn forget_unconfirmed(&mut self, tenant: &TenantId, endpoint: EndpointId) -> bool {
        let lane = self.get(tenant.as_str(), endpoint);
        let is_empty = lane.is_some_and(|lane| !lane.is_confirmed && !lane.has_work && !lane.is_in_use());
        is_empty && self.remove(tenant, endpoint).is_some()
    }

    /// Checks up to `IDLE_CHECKS` confirmed lanes. Removes and returns the lanes that were idle for `FORGET_AFTER`.
    pub(super) fn forget_idle(&mut self, now: Instant) -> Vec<Lane> {
        let mut forgotten = Vec::new();
        for _ in 0..IDLE_CHECKS {
            let Some((_, tenant, endpoint)) = self.idle_checks.pop_front_if(|(due, ..)| *due <= now) else { break };
            let Some(lane) = self.get(tenant.as_str(), endpoint) else { continue };
            if lane.is_in_use() || now.duration_since(lane.active_at) < FORGET_AFTER {
                self.idle_checks.push_back((now + FORGET_AFTER, tenant, endpoint));
            } else {
                forgotten.extend(self.remove(&tenant, endpoint));
            }
        }
        forgotten
    }

    fn remove(&mut self, tenant: &TenantId, endpoint: EndpointId) -> Option<Lane> {
        let lanes = self.by_endpoint.get_mut(&endpoint)?;
        let number = lanes.iter().position(|lane| lane.tenant == *tenant)?;
        let lane = lanes.remove(number);
        if lanes.is_empty() {
            self.by_endpoint.remove(&endpoint);
        }
        self.in_key_order.remove(&lane.key(endpoint));
        Some(lane)
    }

    /// Returns the positions at which a tail scan starts in up to `most` lanes, in key order from `from`. In each lane, the
    /// scan starts after the last claimed position, or after `late_after` if that is earlier. Visits
    /// at most `of_each` lanes of a tenant, and skips the tenant's other lanes and their gaps. If further lanes exist, the last
    /// place has no position and names the lane at which the next step starts.
    pub(super) fn places(&self, from: &LaneCursor, most: usize, of_each: usize, late_after: i64) -> Vec<Place> {
        let mark = |key: &LaneCursor| Place { key: key.clone(), after: None };
        let mut places: Vec<Place> = Vec::new();
        let mut from = Included(from.clone());
        while let Some(first) = self.in_key_order.range((from.as_ref(), Unbounded)).next() {
            if places.len() >= most {
                places.push(mark(first));
                break;
            }
            let behind = LaneCursor { tenant_id: first.tenant_id.clone(), endpoint_id: Uuid::max() };
            let mut keys = self.in_key_order.range((from.as_ref(), Included(&behind)));
            let room = of_each.min(most - places.len());
            places.extend(keys.by_ref().take(room).filter_map(|key| {
                let endpoint = EndpointId::from_uuid(key.endpoint_id);
                Some(self.get(&key.tenant_id, endpoint)?.place(endpoint, late_after))
            }));
            if let Some(next) = keys.next() {
                places.push(mark(next));
                if room < of_each {
                    break;
                }
                places.push(Place { key: behind.clone(), after: Some(i64::MAX) });
            }
            from = Excluded(behind);
        }
        places
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.in_key_order.len()
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.by_endpoint.values().flatten()
    }
}
