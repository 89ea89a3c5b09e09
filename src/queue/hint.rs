//! Hints to other processes: messages that name the lanes with new work. Pure state, no I/O.
//!
//! A worker that gets a hint claims from the named lanes without a search. So the claim is fast even if there are many endpoints.
//! Discovery finds deliveries whose lane no message names, and deliveries whose message was lost.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::endpoint::Channel;
use crate::domain::ids::EndpointId;
use crate::domain::names::TenantId;
use crate::store::accept::ReadyDelivery;

/// PostgreSQL limits a NOTIFY payload to fewer than 8,000 bytes: <https://www.postgresql.org/docs/current/sql-notify.html>.
const MESSAGE_BYTES: usize = 7_999;
/// The size of a message without lanes: `{"search":false,"lanes":[]}`.
const EMPTY_MESSAGE_BYTES: usize = 27;
/// The maximum number of lanes that are kept for the next message. About this many lanes fit into one message.
/// A search finds further lanes.
const MOST_LANES: usize = 100;

/// Lanes with new deliveries that were not reported to other processes yet, each with the position of its first new delivery.
/// If there are too many lanes, drops lanes of the tenant with the most lanes.
#[derive(Debug, Default)]
pub(super) struct Hints {
    by_tenant: HashMap<TenantId, HashMap<EndpointId, (Channel, i64)>>,
    lanes: usize,
    /// True if lanes were dropped.
    has_more: bool,
}

/// The field `search` is true if the message omits lanes that have ready deliveries.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    search: bool,
    lanes: Vec<(String, String, Uuid, i64)>,
}

impl Hints {
    pub(super) fn add(&mut self, deliveries: &[ReadyDelivery]) {
        for one in deliveries {
            if let Some((_, first)) = self.by_tenant.get_mut(&one.tenant_id).and_then(|of| of.get_mut(&one.endpoint_id))
            {
                *first = one.position.min(*first);
            } else if self.lanes < MOST_LANES || self.make_room(&one.tenant_id) {
                self.lanes += 1;
                let of_tenant = self.by_tenant.entry(one.tenant_id.clone()).or_default();
                of_tenant.insert(one.endpoint_id, (one.channel, one.position));
            }
        }
    }

    /// Removes a lane of the tenant with the most lanes. If `tenant` would then have the most lanes, returns false.
    fn make_room(&mut self, tenant: &TenantId) -> bool {
        self.has_more = true;
        let of_tenant = self.by_tenant.get(tenant).map_or(0, HashMap::len);
        let Some(largest) = self.by_tenant.values_mut().max_by_key(|lanes| lanes.len()) else { return false };
        let victim = largest.keys().next().copied().filter(|_| of_tenant + 1 < largest.len());
        let is_removed = victim.is_some_and(|victim| largest.remove(&victim).is_some());
        self.lanes -= usize::from(is_removed);
        is_removed
    }

    /// Removes all lanes and returns a message that names the lanes, round-robin by tenant. If not all lanes fit, the message
    /// asks for a search.
    pub(super) fn take_message(&mut self) -> String {
        let Self { by_tenant, lanes, has_more } = std::mem::take(self);
        let mut message = Message { search: has_more, lanes: Vec::with_capacity(lanes) };
        let mut bytes = EMPTY_MESSAGE_BYTES;
        let mut waiting: VecDeque<_> =
            by_tenant.into_iter().map(|(tenant, lanes)| (tenant, lanes.into_iter())).collect();
        while let Some((tenant, mut lanes)) = waiting.pop_front() {
            let Some((endpoint, (channel, position))) = lanes.next() else { continue };
            let lane = (channel.as_str().to_owned(), tenant.as_str().to_owned(), endpoint.uuid(), position);
            // One more byte for the comma.
            bytes += serde_json::to_string(&lane).map_or(MESSAGE_BYTES, |text| text.len()) + 1;
            if bytes > MESSAGE_BYTES {
                message.search = true;
                break;
            }
            message.lanes.push(lane);
            waiting.push_back((tenant, lanes));
        }
        serde_json::to_string(&message).unwrap_or_default()
    }
}

/// Returns the lanes that a message names, and whether it asks for a search. A message that cannot be read, such as the
/// empty message of an earlier release, also asks for a search. Any role that can connect to the database can forge a message
/// that names any lane and any position above zero.
pub(super) fn read(message: &str) -> (Vec<ReadyDelivery>, bool) {
    let Ok(Message { search, lanes }) = serde_json::from_str(message) else { return (Vec::new(), true) };
    let lane = |(channel, tenant, endpoint, position): (String, String, Uuid, i64)| {
        (position > 0).then_some(ReadyDelivery {
            channel: Channel::from_name(&channel)?,
            tenant_id: TenantId::parse(tenant).ok()?,
            endpoint_id: EndpointId::from_uuid(endpoint),
            position,
        })
    };
    let named = lanes.len();
    let lanes: Vec<ReadyDelivery> = lanes.into_iter().filter_map(lane).collect();
    let search = search || lanes.len() < named;
    (lanes, search)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn ready(number: u32, position: i64, tenant: &str) -> ReadyDelivery {
        ReadyDelivery {
            channel: Channel::ALL[usize::from(number.is_multiple_of(7))],
            tenant_id: TenantId::parse(tenant).unwrap(),
            endpoint_id: EndpointId::from_uuid(Uuid::from_u128(number.into())),
            position,
        }
    }

    proptest! {
        #[test]
        fn a_message_is_short_and_either_names_every_lane_once_or_asks_for_a_search(
            deliveries in prop::collection::vec((0..200_u32, 1..1_000_000_000_i64, 0..4_usize), 0..400),
            tenants in prop::collection::vec("[a-z\"\\\\é]{1,60}", 4),
        ) {
            prop_assume!(tenants.iter().all(|tenant| TenantId::parse(tenant.as_str()).is_ok()));
            let mut hints = Hints::default();
            let deliveries: Vec<_> =
                deliveries.into_iter().map(|(number, at, tenant)| ready(number, at, &tenants[tenant])).collect();
            hints.add(&deliveries);
            let message = hints.take_message();
            prop_assert!(message.len() < 8_000);
            let (lanes, search) = read(&message);
            let key = |one: &ReadyDelivery| (one.tenant_id.clone(), one.endpoint_id);
            let mut named = BTreeSet::new();
            for lane in lanes {
                let positions: Vec<_> =
                    deliveries.iter().filter(|one| key(one) == key(&lane)).map(|one| one.position).collect();
                prop_assert!(positions.contains(&lane.position));
                prop_assert!(search || positions.iter().min() == Some(&lane.position));
                prop_assert!(named.insert(key(&lane)), "named twice");
            }
            let all: BTreeSet<_> = deliveries.iter().map(key).collect();
            prop_assert!(search || named == all);
            prop_assert!(!search || all.len() > 40);
            // If the message omits lanes of a tenant, it names at most one lane more for any other tenant.
            let of = |lanes: &BTreeSet<(TenantId, EndpointId)>, tenant: &str| {
                lanes.iter().filter(|(of, _)| of.as_str() == tenant).count()
            };
            let most = tenants.iter().map(|tenant| of(&named, tenant)).max().unwrap();
            for tenant in &tenants {
                prop_assert!(of(&named, tenant) == of(&all, tenant) || of(&named, tenant) + 1 >= most, "{}", message);
            }
            prop_assert_eq!(read(&hints.take_message()), (Vec::new(), false), "nothing is left");
        }
    }

    #[test]
    fn a_tenant_with_many_lanes_displaces_no_lane_of_another_tenant() {
        let mut hints = Hints::default();
        hints.add(&(0..500).map(|number| ready(number, 1, "acme")).collect::<Vec<_>>());
        hints.add(&[ready(1_000, 1, "globex")]);
        hints.add(&(500..1_000).map(|number| ready(number, 1, "acme")).collect::<Vec<_>>());
        let (lanes, search) = read(&hints.take_message());
        assert!(search && lanes.iter().any(|lane| lane.tenant_id.as_str() == "globex"));
    }

    #[test]
    fn a_message_that_cannot_be_read_asks_for_a_search() {
        let naming = |channel, position: i64| {
            format!(
                r#"{{"search":false,"lanes":[["{channel}","acme","00000000-0000-0000-0000-000000000001",{position}]]}}"#
            )
        };
        let (channel, first, last) = (naming("fax", 1), naming("webhook", 0), naming("webhook", i64::MIN));
        for message in ["", "{}", "[]", &channel, &first, &last] {
            assert_eq!(read(message), (Vec::new(), true), "{message}");
        }
        assert_eq!(read(&naming("webhook", 1)).0.len(), 1);
    }
}
