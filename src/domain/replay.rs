//! Replays: which past deliveries of an agent to deliver again, and the results of replay requests.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::delivery::Outcome;
use super::fault::{Fault, FaultCode};
use super::fields::Fields;
use super::ids::DeliveryId;
use super::timestamp;

/// Default limit of deliveries per request.
const DEFAULT_LIMIT: u64 = 10_000;
const MAX_LIMIT: u64 = 100_000;
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

impl ReplayRequest {
    /// Parses a request and reports every fault.
    pub fn parse(body: Value) -> Result<Self, Vec<Fault>> {
        let mut fields = Fields::of(body, "").map_err(|fault| vec![fault])?;
        let text = fields.required_text("from");
        let from = time(&mut fields, "from", text);
        let text = fields.text("to");
        let to = time(&mut fields, "to", text);
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
        {
            fields.fault::<()>("to", FaultCode::InvalidValue, "must be after from");
        }
        let outcomes = outcomes(&mut fields);
        let limit = fields.integer("limit", 1..=MAX_LIMIT).unwrap_or(DEFAULT_LIMIT);
        let dry_run = fields.boolean("dry_run").unwrap_or(false);
        match (fields.finish(), from) {
            (faults, Some(from)) if faults.is_empty() => Ok(Self { from, to, outcomes, limit, dry_run }),
            (faults, _) => Err(faults),
        }
    }
}

fn time(fields: &mut Fields, name: &str, text: Option<String>) -> Option<DateTime<Utc>> {
    fields.parsed(name, timestamp::parse(&text?))
}

/// Parses a set of outcomes and sorts it in the order of their definition. The default is all failed outcomes.
fn outcomes(fields: &mut Fields) -> Vec<Outcome> {
    let Some(names) = fields.list("outcomes") else { return failed().collect() };
    if names.is_empty() {
        fields.fault::<()>("outcomes", FaultCode::Required, "must name at least one outcome");
    }
    let mut wanted = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match name.as_str().map(|name| (name, Outcome::from_name(name))) {
            Some((FAILED, _)) => wanted.extend(failed()),
            Some((_, Some(outcome))) => wanted.push(outcome),
            Some((_, None)) | None => {
                let message = "must be failed or the name of an outcome";
                fields.fault::<()>(&format!("outcomes/{index}"), FaultCode::InvalidValue, message);
            }
        }
    }
    Outcome::ALL.into_iter().filter(|outcome| wanted.contains(outcome)).collect()
}

/// The outcomes that `failed` covers.
fn failed() -> impl Iterator<Item = Outcome> {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_fields_have_defaults() {
        let request = ReplayRequest::parse(json!({"from": "2026-01-01T00:00:00Z"})).unwrap();
        assert_eq!((request.limit, request.dry_run, request.to), (10_000, false, None));
        assert_eq!(request.outcomes.len(), Outcome::ALL.len() - 1);
        assert!(!request.outcomes.contains(&Outcome::Delivered));
    }

    #[test]
    fn outcomes_are_a_set() {
        let body = json!({"from": "2026-01-01T00:00:00Z", "outcomes": ["timeout", "delivered", "timeout"]});
        assert_eq!(ReplayRequest::parse(body).unwrap().outcomes, [Outcome::Delivered, Outcome::Timeout]);
        let body = json!({"from": "2026-01-01T00:00:00Z", "outcomes": ["failed", "interrupted"]});
        assert_eq!(ReplayRequest::parse(body).unwrap().outcomes, failed().collect::<Vec<_>>());
    }

    #[test]
    fn reports_every_fault() {
        let body = json!({"to": "yesterday", "outcomes": ["failed", "lost", 1], "limit": 0, "dry_run": "no", "x": 1});
        let faults = ReplayRequest::parse(body).unwrap_err();
        let places: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(places, ["/from", "/to", "/outcomes/1", "/outcomes/2", "/limit", "/dry_run", "/x"]);
    }

    #[test]
    fn rejects_a_range_that_ends_before_it_starts() {
        let body = json!({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"});
        assert_eq!(ReplayRequest::parse(body).unwrap_err()[0].pointer, "/to");
        assert_eq!(ReplayRequest::parse(json!({"from": "0000-01-01T00:00:00Z"})).unwrap_err()[0].pointer, "/from");
        assert_eq!(ReplayRequest::parse(json!({"from": null})).unwrap_err()[0].code, FaultCode::Required);
    }
}
