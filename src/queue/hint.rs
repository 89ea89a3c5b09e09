//! Hints to other processes: messages that name the lanes with new work. Pure state, no I/O.
//!
//! A worker that gets a hint claims from the named lanes without a search. So the number of endpoints does not delay the claim.
//! Discovery finds deliveries whose lane no message names, and deliveries whose message was lost.

use std::collections::HashMap;

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
/// The maximum number of lanes that are kept for the next message. About as many fit into one message. Further lanes are left
/// out, and a search finds them.
const MOST_LANES: usize = 100;

/// Lanes with new deliveries that were not reported to other processes yet, each with the position of its first new delivery.
#[derive(Debug, Default)]
pub(super) struct Hints {
    lanes: HashMap<Uuid, (Channel, TenantId, i64)>,
    /// True if lanes were left out, because there were too many.
    has_more: bool,
}

/// `search` is true if lanes that `lanes` does not name have ready deliveries too.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    search: bool,
    lanes: Vec<(String, String, Uuid, i64)>,
}

impl Hints {
    pub(super) fn add(&mut self, deliveries: &[ReadyDelivery]) {
        for one in deliveries {
            let endpoint = one.endpoint_id.uuid();
            if self.lanes.len() >= MOST_LANES && !self.lanes.contains_key(&endpoint) {
                self.has_more = true;
                continue;
            }
            let first = self.lanes.entry(endpoint).or_insert((one.channel, one.tenant_id.clone(), one.position));
            first.2 = first.2.min(one.position);
        }
    }

    /// Removes all lanes and returns a message that names the lanes. If not all lanes fit, the message asks for a search.
    pub(super) fn take_message(&mut self) -> String {
        let Self { lanes, has_more } = std::mem::take(self);
        let mut message = Message { search: has_more, lanes: Vec::with_capacity(lanes.len()) };
        let mut bytes = EMPTY_MESSAGE_BYTES;
        for (endpoint, (channel, tenant, position)) in lanes {
            let lane = (channel.as_str().to_owned(), tenant.as_str().to_owned(), endpoint, position);
            // One more byte for the comma.
            bytes += serde_json::to_string(&lane).map_or(MESSAGE_BYTES, |text| text.len()) + 1;
            if bytes > MESSAGE_BYTES {
                message.search = true;
                break;
            }
            message.lanes.push(lane);
        }
        serde_json::to_string(&message).unwrap_or_default()
    }
}

/// Returns the lanes that a message names, and whether it asks for a search. A message that cannot be read asks for a search too,
/// such as the empty message that an earlier release sends. Any role that can connect to the database can forge messages, so
/// that any lane and any position above zero may be named.
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
        fn messages_are_short_and_name_each_lane_once_or_ask_for_a_search(
            deliveries in prop::collection::vec((0..200_u32, 1..1_000_000_000_i64), 0..300),
            tenant in "[a-z\"\\\\é]{1,60}",
        ) {
            prop_assume!(TenantId::parse(tenant.as_str()).is_ok());
            let mut hints = Hints::default();
            let deliveries: Vec<_> = deliveries.into_iter().map(|(number, at)| ready(number, at, &tenant)).collect();
            hints.add(&deliveries);
            let message = hints.take_message();
            prop_assert!(message.len() < 8_000);
            let (lanes, search) = read(&message);
            let mut named = BTreeSet::new();
            for lane in lanes {
                let of_lane = deliveries.iter().filter(|one| one.endpoint_id == lane.endpoint_id);
                prop_assert_eq!(of_lane.map(|one| one.position).min(), Some(lane.position));
                prop_assert!(named.insert(lane.endpoint_id.uuid()), "named twice");
            }
            let all: BTreeSet<_> = deliveries.iter().map(|one| one.endpoint_id.uuid()).collect();
            prop_assert_eq!(search, named != all);
            prop_assert_eq!(read(&hints.take_message()), (Vec::new(), false), "nothing is left");
        }
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
