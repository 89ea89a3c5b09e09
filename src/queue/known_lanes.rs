//! The lanes that this node knows, in key order and in the order of their idle checks.
//!
//! No function visits all lanes, because the caller locks the channel during each call.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::lane::Lane;
use crate::domain::ids::EndpointId;
use crate::store::queue::lanes::{LaneCursor, Place};

/// How long an unused lane is kept. After the lane is removed, discovery finds new deliveries of its endpoint.
const FORGET_AFTER: Duration = Duration::from_mins(10);
/// How many lanes one call of `forget_idle` checks. Each hint adds at most one lane and calls `forget_idle` once. With two
/// checks per call, unused lanes are removed faster than new lanes are added.
const IDLE_CHECKS: usize = 2;

#[derive(Debug, Default)]
pub(super) struct KnownLanes {
    by_endpoint: HashMap<EndpointId, Lane>,
    in_key_order: BTreeSet<LaneCursor>,
    /// Each lane once, ordered by the time of its next idle check.
    idle_checks: VecDeque<(Instant, EndpointId)>,
}

impl KnownLanes {
    pub(super) fn get(&self, endpoint: EndpointId) -> Option<&Lane> {
        self.by_endpoint.get(&endpoint)
    }

    pub(super) fn get_mut(&mut self, endpoint: EndpointId) -> Option<&mut Lane> {
        self.by_endpoint.get_mut(&endpoint)
    }

    /// Returns the endpoint's lane. If the lane is not known yet, adds the lane that `new` returns.
    pub(super) fn get_or_add(&mut self, endpoint: EndpointId, now: Instant, new: impl FnOnce() -> Lane) -> &mut Lane {
        match self.by_endpoint.entry(endpoint) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) => {
                let lane = vacant.insert(new());
                self.in_key_order.insert(lane.key(endpoint));
                self.idle_checks.push_back((now + FORGET_AFTER, endpoint));
                lane
            }
        }
    }

    /// Checks up to `IDLE_CHECKS` lanes. Removes and returns those that were idle for `FORGET_AFTER`.
    pub(super) fn forget_idle(&mut self, now: Instant) -> Vec<Lane> {
        let mut forgotten = Vec::new();
        for _ in 0..IDLE_CHECKS {
            let Some((_, endpoint)) = self.idle_checks.pop_front_if(|(due, _)| *due <= now) else { break };
            let Entry::Occupied(lane) = self.by_endpoint.entry(endpoint) else { continue };
            if lane.get().is_in_use() || now.duration_since(lane.get().active_at) < FORGET_AFTER {
                self.idle_checks.push_back((now + FORGET_AFTER, endpoint));
            } else {
                self.in_key_order.remove(&lane.get().key(endpoint));
                forgotten.push(lane.remove());
            }
        }
        forgotten
    }

    /// Returns the positions at which a tail scan starts in up to `most` lanes, in key order from `from`. In each lane, the
    /// scan starts after the last claimed position, or after `late_after` if that is earlier. If further lanes exist, the last
    /// place names the first further lane and has no position. The next step starts at that lane.
    pub(super) fn places(&self, from: &LaneCursor, most: usize, late_after: i64) -> Vec<Place> {
        let mut keys = self.in_key_order.range(from..);
        let known = keys.by_ref().take(most).filter_map(|key| {
            let endpoint = EndpointId::from_uuid(key.endpoint_id);
            Some(self.get(endpoint)?.place(endpoint, late_after))
        });
        let mut places: Vec<Place> = known.collect();
        places.extend(keys.next().map(|key| Place { key: key.clone(), after: None }));
        places
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.by_endpoint.values()
    }
}
