//! Acceptance of events: one call of the function that stores, fans out and makes ready, in one transaction.

use sqlx::Error;

use super::Db;
use crate::domain::endpoint::Channel;
use crate::domain::event::NewEvent;
use crate::domain::ids::{EndpointId, EventId};
use crate::domain::names::{CustomerId, UserId};
use crate::domain::trace::Trace;

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub result: Acceptance,
    /// The deliveries that are ready now: where a claimer finds them.
    pub ready: Vec<ReadyDelivery>,
}

/// The answer to one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acceptance {
    Accepted {
        id: EventId,
        deliveries: u16,
    },
    /// The same idempotency key and body were accepted before; this is the first acceptance.
    Duplicate {
        id: EventId,
        deliveries: u16,
    },
    /// The idempotency key belongs to another body; nothing was accepted.
    Conflict,
}

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyDelivery {
    pub channel: Channel,
    pub endpoint_id: EndpointId,
    pub position: i64,
}

/// Accepts `events` all together, in their order; answers in the same order. Not idempotent without idempotency keys. An
/// error of the database, and nothing accepted, where somebody's open transaction holds a key or a session for long.
pub async fn accept(db: &Db, events: &[&NewEvent], default_expiry_seconds: u32) -> Result<Vec<Accepted>, Error> {
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
    let rows = sqlx::query!(
        r#"-- accept::accept
        SELECT result AS "result!", event_id AS "event_id?", deliveries AS "deliveries!",
               lane_channels AS "lane_channels!", lane_endpoints AS "lane_endpoints!", lane_positions AS "lane_positions!"
        FROM flametree.accept_events_soon($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"#,
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
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let result = acceptance(&row.result, row.event_id, row.deliveries)?;
            let ready = ready(&row.lane_channels, &row.lane_endpoints, &row.lane_positions)?;
            Ok(Accepted { result, ready })
        })
        .collect()
}

/// Most events come without one: nothing stands for all of them then.
fn traces(events: &[&NewEvent]) -> Vec<Option<Vec<u8>>> {
    if events.iter().all(|event| event.trace.is_none()) {
        return Vec::new();
    }
    events.iter().map(|event| event.trace.as_ref().map(Trace::to_bytes)).collect()
}

fn seconds(seconds: u32) -> i32 {
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

fn acceptance(result: &str, id: Option<uuid::Uuid>, deliveries: i16) -> Result<Acceptance, Error> {
    let deliveries = deliveries.unsigned_abs();
    match (result, id.map(EventId::from_uuid)) {
        ("accepted", Some(id)) => Ok(Acceptance::Accepted { id, deliveries }),
        ("duplicate", Some(id)) => Ok(Acceptance::Duplicate { id, deliveries }),
        ("conflict", _) => Ok(Acceptance::Conflict),
        _ => Err(Error::Decode(format!("accept_events answered {result}").into())),
    }
}

fn ready(channels: &[String], endpoints: &[uuid::Uuid], positions: &[i64]) -> Result<Vec<ReadyDelivery>, Error> {
    channels
        .iter()
        .zip(endpoints)
        .zip(positions)
        .map(|((channel, endpoint), position)| {
            let channel = Channel::from_name(channel)
                .ok_or_else(|| Error::Decode(format!("accept_events answered the channel {channel}").into()))?;
            Ok(ReadyDelivery { channel, endpoint_id: EndpointId::from_uuid(*endpoint), position: *position })
        })
        .collect()
}
