//! Replays: which past deliveries of an agent to deliver again, and the results of replay requests.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::delivery::Outcome;
use super::ids::DeliveryId;

/// Default limit of deliveries per request.
pub const DEFAULT_LIMIT: u64 = 10_000;
pub const MAX_LIMIT: u64 = 100_000;
/// Every outcome except `delivered`.
const FAILED: &str = "failed";

/// Which deliveries to replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayRequest {
    /// Selects deliveries accepted at or after this time.
    pub from: DateTime<Utc>,
    /// Selects deliveries accepted before this time; `None` means before the request.
    pub to: Option<DateTime<Utc>>,
    /// Selects deliveries with one of these outcomes.
    pub outcomes: Vec<Outcome>,
    /// Maximum number of deliveries to replay.
    pub limit: u64,
    /// True if the replay only counts deliveries.
    pub dry_run: bool,
}

/// The outcomes that a name in a request selects: `failed`, or the name of an outcome.
pub fn named(name: &str) -> Option<Vec<Outcome>> {
    if name == FAILED { Some(failed().collect()) } else { Outcome::from_name(name).map(|outcome| vec![outcome]) }
}

/// The outcomes that `failed` covers.
pub fn failed() -> impl Iterator<Item = Outcome> {
    Outcome::ALL.into_iter().filter(|outcome| *outcome != Outcome::Delivered)
}

/// The result of a request to replay one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayed {
    /// A new delivery of the same event is ready.
    Ready(DeliveryId),
    /// An earlier request with the same idempotency key has created this delivery.
    Repeated(DeliveryId),
    /// The idempotency key belongs to the replay of another delivery.
    OtherRequest,
    /// The delivery does not exist.
    Unknown,
    /// The delivery, or a replay of it to the same endpoint, has no outcome yet.
    InFlight,
    /// The current settings exclude the event, because the endpoint does not exist, is paused, or does not select the event.
    Unwanted,
    /// Retention will soon remove the event.
    TooOld,
    /// All delivery numbers of the event are used.
    Exhausted,
}
