//! Accepts events. One database function stores the events, fans them out and makes their deliveries ready, in one transaction.

use std::time::Duration;

use sqlx::Error;
use uuid::Uuid;

use super::Db;
use super::failure::sqlstate;
use crate::domain::endpoint::Channel;
use crate::domain::event::NewEvent;
use crate::domain::ids::{EndpointId, EventId};
use crate::domain::names::{CustomerId, TenantId, UserId};
use crate::domain::trace::Trace;

/// The result of accepting events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// One result per event, in the order of the events.
    pub answers: Vec<Acceptance>,
    /// The new ready deliveries, each with the position where a claimer finds it.
    pub ready: Vec<ReadyDelivery>,
}

/// The result for one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acceptance {
    Accepted {
        id: EventId,
        deliveries: u16,
    },
    /// An event with this idempotency key and body was accepted before. The values are from the first acceptance.
    Duplicate {
        id: EventId,
        deliveries: u16,
    },
    /// An event with this idempotency key but another body was accepted before. This event is not accepted.
    Conflict,
}

/// A delivery's position in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyDelivery {
    pub channel: Channel,
    pub tenant_id: TenantId,
    pub endpoint_id: EndpointId,
    pub position: i64,
}

/// How long the events of one caller wait for a lock. The wait is longer than a usual transaction of a SQL caller, but short
/// for a caller of the API.
pub const LOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// Accepts all `events`, in their order, or accepts none. Only events with idempotency keys are safe to repeat. If another open
/// transaction keeps a key or a session locked for longer than `lock_timeout`, returns an error ([`is_lock_timeout`]) and
/// accepts nothing.
pub async fn accept(
    db: &Db,
    events: &[&NewEvent],
    default_expiry_seconds: u32,
    lock_timeout: Duration,
) -> Result<Accepted, Error> {
    let tenants: Vec<&str> = events.iter().map(|event| event.tenant_id.as_str()).collect();
    let types: Vec<&str> = events.iter().map(|event| event.event_type.as_str()).collect();
    let agents: Vec<&str> = events.iter().map(|event| event.agent_id.as_str()).collect();
    let sessions: Vec<&str> = events.iter().map(|event| event.session_id.as_str()).collect();
    let customers: Vec<_> = events.iter().map(|event| event.customer_id.as_ref().map(CustomerId::as_str)).collect();
    let assignees: Vec<_> = events.iter().map(|event| event.assignee_id.as_ref().map(UserId::as_str)).collect();
    let occurred: Vec<_> = events.iter().map(|event| event.occurred_at).collect();
    let texts: Vec<_> = events.iter().map(|event| event.text.as_deref()).collect();
    let metadata: Vec<_> = events.iter().map(|event| event.metadata.as_deref()).collect();
    let keys: Vec<_> = events.iter().map(|event| event.idempotency_key.as_deref()).collect();
    let expiries: Vec<_> = events.iter().map(|event| event.expires_in_seconds.map(seconds)).collect();
    let traces = traces(events);
    let row = sqlx::query_as!(
        AcceptedRow,
        r#"-- accept::accept
        SELECT results AS "results!", event_ids AS "event_ids!", deliveries AS "deliveries!", webhooks AS "webhooks!: _",
               positions AS "positions!: _", push_events, push_endpoints, push_positions
        FROM flametree.accept_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"#,
        &tenants as &[&str],
        &types as &[&str],
        &agents as &[&str],
        &sessions as &[&str],
        &customers as &[Option<&str>],
        &assignees as &[Option<&str>],
        &occurred as &[Option<chrono::DateTime<chrono::Utc>>],
        &texts as &[Option<&str>],
        &metadata as &[Option<&str>],
        &keys as &[Option<&str>],
        &expiries as &[Option<i32>],
        &traces as &[Option<Vec<u8>>],
        seconds(default_expiry_seconds),
        format!("{}ms", lock_timeout.as_millis()),
    )
    .fetch_one(db)
    .await?;
    let answers: Vec<Acceptance> = row.answers().collect::<Result<_, _>>()?;
    if answers.len() != events.len() {
        return Err(Error::Decode(format!("{} results for {} events", answers.len(), events.len()).into()));
    }
    Ok(Accepted { answers, ready: row.ready(events)? })
}

/// True if a statement failed because it did not get a lock in time.
pub fn is_lock_timeout(error: &Error) -> bool {
    sqlstate(error).is_some_and(|code| code == "55P03")
}

/// The type `flametree.accepted`. Its arrays have one item per event, except the last three, which have one item per browser
/// delivery.
struct AcceptedRow {
    results: Vec<String>,
    event_ids: Vec<Uuid>,
    deliveries: Vec<i16>,
    webhooks: Vec<Option<Uuid>>,
    positions: Vec<Option<i64>>,
    push_events: Option<Vec<i32>>,
    push_endpoints: Option<Vec<Uuid>>,
    push_positions: Option<Vec<i64>>,
}

impl AcceptedRow {
    fn answers(&self) -> impl Iterator<Item = Result<Acceptance, Error>> {
        self.results.iter().zip(&self.event_ids).zip(&self.deliveries).map(|((result, id), deliveries)| {
            let (id, deliveries) = (EventId::from_uuid(*id), deliveries.unsigned_abs());
            match result.as_str() {
                "accepted" => Ok(Acceptance::Accepted { id, deliveries }),
                "duplicate" => Ok(Acceptance::Duplicate { id, deliveries }),
                "conflict" => Ok(Acceptance::Conflict),
                _ => Err(Error::Decode(format!("accept_events returned the unknown result {result}").into())),
            }
        })
    }

    fn ready(self, events: &[&NewEvent]) -> Result<Vec<ReadyDelivery>, Error> {
        let mut ready = Vec::with_capacity(events.len());
        let place = |channel, event: &NewEvent, endpoint, position| ReadyDelivery {
            channel,
            tenant_id: event.tenant_id.clone(),
            endpoint_id: EndpointId::from_uuid(endpoint),
            position,
        };
        for ((event, webhook), position) in events.iter().zip(self.webhooks).zip(self.positions) {
            if let (Some(webhook), Some(position)) = (webhook, position) {
                ready.push(place(Channel::Webhook, event, webhook, position));
            }
        }
        let (numbers, endpoints) = (self.push_events.unwrap_or_default(), self.push_endpoints.unwrap_or_default());
        for ((number, browser), position) in
            numbers.into_iter().zip(endpoints).zip(self.push_positions.unwrap_or_default())
        {
            let event = usize::try_from(number).ok().and_then(|number| events.get(number.checked_sub(1)?));
            let event =
                event.ok_or_else(|| Error::Decode(format!("accept_events returned an event {number}").into()))?;
            ready.push(place(Channel::BrowserPush, event, browser, position));
        }
        Ok(ready)
    }
}

/// The traces of the events. Usually no event has a trace, and the list is empty.
fn traces(events: &[&NewEvent]) -> Vec<Option<Vec<u8>>> {
    if events.iter().all(|event| event.trace.is_none()) {
        return Vec::new();
    }
    events.iter().map(|event| event.trace.as_ref().map(Trace::to_bytes)).collect()
}

fn seconds(seconds: u32) -> i32 {
    i32::try_from(seconds).unwrap_or(i32::MAX)
}
