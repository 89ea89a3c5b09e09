//! The lanes that this node knows: by endpoint in key order, and in the order of their idle checks.
//!
//! All calls hold the channel's lock, so none visits all lanes.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::lane::Lane;
use crate::domain::ids::EndpointId;
use crate::store::queue::lanes::{LaneCursor, Place};

/// How long an unused lane is kept; discovery finds its endpoint again.
const FORGET_AFTER: Duration = Duration::from_mins(10);
/// Lanes that one call checks for being idle. A call follows each delivery that is seen, which adds at most one lane. With two
/// checks, lanes are forgotten faster than they are added.
const IDLE_CHECKS: usize = 2;

#[derive(Debug, Default)]
pub(super) struct KnownLanes {
    by_endpoint: HashMap<EndpointId, Lane>,
    in_key_order: BTreeSet<LaneCursor>,
    /// Each lane once, by the time of its next check.
    idle_checks: VecDeque<(Instant, EndpointId)>,
}

impl KnownLanes {
    pub(super) fn get(&self, endpoint: EndpointId) -> Option<&Lane> {
        self.by_endpoint.get(&endpoint)
    }

    pub(super) fn get_mut(&mut self, endpoint: EndpointId) -> Option<&mut Lane> {
        self.by_endpoint.get_mut(&endpoint)
    }

    /// Returns the endpoint's lane, made by `new` if it is not known yet.
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

    /// Checks a few lanes, and forgets and returns those that have been idle for long.
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

    /// The places where a tail scan starts in up to `most` lanes, in key order from `from`. It scans deliveries after `late_after`,
    /// and those after the last claimed position. The last place may only mark the end, where the next part starts.
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
