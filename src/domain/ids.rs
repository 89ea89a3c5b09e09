//! Public ids: a prefix that names the type, then the 32 hex digits of a UUID.
//!
//! Ids of events and deliveries contain the time of acceptance (UUID version 7, RFC 9562), so that a lookup by id reads one
//! partition. The id of a delivery is the id of its event, but the last 16 bits are the delivery's number. The numbers start
//! at 1. So the index on delivery ids also finds the deliveries of an event. A replay gets the next number.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The error if a text is not an id of the expected type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an id of the form `{prefix}_` and 32 hexadecimal digits")]
pub struct ParseIdError {
    prefix: &'static str,
}

macro_rules! public_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(Uuid);

        impl $name {
            pub const PREFIX: &'static str = $prefix;

            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!($prefix, "_"))?;
                f.write_str(self.0.simple().encode_lower(&mut Uuid::encode_buffer()))
            }
        }

        impl From<$name> for String {
            /// Allocates only once, because each message contains several ids.
            fn from(id: $name) -> Self {
                let mut text = Self::with_capacity($prefix.len() + 33);
                text.push_str(concat!($prefix, "_"));
                text.push_str(id.0.simple().encode_lower(&mut Uuid::encode_buffer()));
                text
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|hex| hex.len() == 32)
                    .and_then(|hex| Uuid::try_parse(hex).ok())
                    .map(Self)
                    .ok_or(ParseIdError { prefix: $prefix })
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseIdError;

            fn try_from(text: String) -> Result<Self, ParseIdError> {
                text.parse()
            }
        }
    };
}

public_id!(
    /// One accepted event. Messages contain this id in the header `webhook-id`, so that receivers can deduplicate.
    EventId,
    "evt"
);
public_id!(
    /// The delivery of one event to one endpoint.
    DeliveryId,
    "dlv"
);
public_id!(
    /// A receiver of events: an agent's webhook, or one browser's subscription.
    EndpointId,
    "end"
);
public_id!(
    /// One browser of a user. The id has the UUID of the browser's endpoint, but another prefix.
    PushSubscriptionId,
    "sub"
);
public_id!(
    /// Identifies a signing secret of a webhook. The id does not contain the secret.
    SigningSecretId,
    "sec"
);
public_id!(
    /// Identifies an API token. The id does not contain the secret.
    TokenId,
    "tok"
);
public_id!(
    /// One start of a worker process. A restarted process has a new id.
    WorkerId,
    "wrk"
);
public_id!(
    /// A worker's claim on a batch of deliveries, which is committed before their attempts.
    ClaimId,
    "clm"
);

public_id!(
    /// Background work other than deliveries: one tick of a schedule, or one request.
    OperationId,
    "opr"
);

/// Selects the low bits of a delivery id, which number the deliveries of an event.
const ORDINAL_MASK: u128 = 0xffff;

impl DeliveryId {
    /// The id of the delivery's event.
    pub fn first_event(self) -> EventId {
        EventId(Uuid::from_u128(self.0.as_u128() & !ORDINAL_MASK))
    }

    /// The number of this delivery among the deliveries of its event, starting at 1. No delivery has the number 0.
    pub fn ordinal(self) -> u16 {
        (self.0.as_u128() & ORDINAL_MASK) as u16
    }

    /// When the delivery's event was accepted, to the millisecond. The id contains this time.
    pub fn accepted_at(self) -> Option<DateTime<Utc>> {
        time_in(self.0)
    }
}

impl EventId {
    /// The id of the event's delivery with this number. Numbers start at 1.
    pub fn delivery(self, ordinal: u16) -> DeliveryId {
        DeliveryId(Uuid::from_u128((self.0.as_u128() & !ORDINAL_MASK) | u128::from(ordinal)))
    }

    /// When the event was accepted, to the millisecond. The id contains this time.
    pub fn accepted_at(self) -> Option<DateTime<Utc>> {
        time_in(self.0)
    }
}

pub fn time_in(id: Uuid) -> Option<DateTime<Utc>> {
    let milliseconds = i64::try_from(id.as_u128() >> 80).ok()?;
    DateTime::from_timestamp_millis(milliseconds)
}

/// The smallest possible id for this time. Queries use it to select ids by time. Times before 1970 count as 1970.
pub fn lower_bound(at: DateTime<Utc>) -> Uuid {
    let milliseconds = u128::try_from(at.timestamp_millis()).unwrap_or(0);
    Uuid::from_u128(milliseconds << 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_round_trips() {
        let id = EventId::from_uuid(Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0000));
        assert_eq!(id.to_string(), "evt_01930000000070008000000000000000");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn rejects_an_id_of_another_type() {
        for text in
            ["dlv_01930000000070008000000000000000", "evt_", "evt_0193", "evt_0193000000007000800000000000000g", ""]
        {
            assert!(text.parse::<EventId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_delivery_id_contains_its_event_and_number() {
        let event = EventId::from_uuid(Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0000));
        let delivery = event.delivery(3);
        assert_eq!((delivery.first_event(), delivery.ordinal()), (event, 3));
    }

    #[test]
    fn the_smallest_id_of_a_time_contains_the_time() {
        let at = DateTime::from_timestamp_millis(1_767_225_600_123).unwrap();
        assert_eq!(EventId::from_uuid(lower_bound(at)).accepted_at(), Some(at));
    }
}
