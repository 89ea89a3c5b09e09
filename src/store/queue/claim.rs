//! Claims: the durable statement that deliveries are now begun.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::Error;
use uuid::Uuid;

use crate::domain::delivery::Delivery;
use crate::domain::endpoint::Channel;
use crate::domain::event::{EventType, StoredEvent};
use crate::domain::ids::{ClaimId, DeliveryId, EndpointId, EventId, WorkerId};
use crate::domain::names::{AgentId, CustomerId, SessionId, TenantId, UserId};
use crate::store::Db;

/// What to take from one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneQuota {
    pub tenant_id: TenantId,
    pub endpoint_id: EndpointId,
    /// Deliveries up to this position are not looked at.
    pub after: i64,
    pub quota: u32,
}

/// One claimed delivery.
#[derive(Debug, Clone)]
pub struct ClaimedDelivery {
    /// `None`: its event is gone (retention), it cannot be sent.
    pub delivery: Option<Delivery>,
    pub id: DeliveryId,
    pub event_id: EventId,
    pub tenant_id: TenantId,
    pub endpoint_id: EndpointId,
    pub endpoint_version: Option<i32>,
    pub position: i64,
    pub claimed_at: DateTime<Utc>,
}

/// Why a claim was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The worker was found dead and replaced; it must register anew.
    #[error("the worker is fenced")]
    Fenced,
    /// It may have happened or not: ask with `resolve`.
    #[error("the claim was not answered: {0}")]
    Unknown(#[source] Error),
}

/// SQLSTATE of a claim by a fenced worker.
const FENCED: &str = "FT001";

macro_rules! claimed {
    ($row:expr, $channel:expr, $tenant:expr, $endpoint:expr, $events:expr) => {{
        let row = $row;
        let place = Place {
            id: DeliveryId::from_uuid(row.id),
            event_id: EventId::from_uuid(row.event_id),
            tenant_id: $tenant,
            endpoint_id: $endpoint,
            endpoint_version: row.endpoint_version,
            position: row.position,
            claimed_at: row.claimed_at,
            expires_at: row.expires_at,
        };
        let event = match (row.event_type, row.agent_id, row.session_id, row.occurred_at) {
            (Some(event_type), Some(agent_id), Some(session_id), Some(occurred_at)) => Some(EventColumns {
                event_type,
                agent_id,
                session_id,
                occurred_at,
                customer_id: row.customer_id,
                assignee_id: row.assignee_id,
                text: row.event_text,
                metadata: row.metadata,
            }),
            _ => None,
        };
        place.claimed($channel, event, $events)
    }};
}

/// Claims up to each lane's quota in one statement; the answer may be empty.
pub async fn claim(
    db: &Db,
    claim_id: ClaimId,
    worker_id: WorkerId,
    channel: Channel,
    lanes: &[LaneQuota],
) -> Result<Vec<ClaimedDelivery>, ClaimError> {
    let tenants: Vec<&str> = lanes.iter().map(|lane| lane.tenant_id.as_str()).collect();
    let endpoints: Vec<Uuid> = lanes.iter().map(|lane| lane.endpoint_id.uuid()).collect();
    let after: Vec<i64> = lanes.iter().map(|lane| lane.after).collect();
    let quotas: Vec<i32> = lanes.iter().map(|lane| i32::try_from(lane.quota).unwrap_or(i32::MAX)).collect();
    let rows = sqlx::query!(
        r#"-- queue::claim
        SELECT lane AS "lane!", position AS "position!", id AS "id!", event_id AS "event_id!", expires_at AS "expires_at!",
               claimed_at AS "claimed_at!", endpoint_version AS "endpoint_version?", event_type AS "event_type?",
               agent_id AS "agent_id?", session_id AS "session_id?", customer_id AS "customer_id?",
               assignee_id AS "assignee_id?", occurred_at AS "occurred_at?", event_text AS "event_text?",
               metadata AS "metadata?"
        FROM flametree.claim_deliveries($1, $2, $3::text::flametree.channel, $4, $5, $6, $7)"#,
        claim_id.uuid(),
        worker_id.uuid(),
        channel.as_str(),
        &tenants as &[&str],
        &endpoints,
        &after,
        &quotas,
    )
    .fetch_all(db)
    .await
    .map_err(claim_error)?;
    fail::fail_point!("claim::answer_lost", |_| Err(ClaimError::Unknown(Error::Io(
        std::io::ErrorKind::ConnectionReset.into()
    ))));
    let mut events = HashMap::new();
    rows.into_iter()
        .map(|row| {
            let lane = usize::try_from(row.lane).ok().and_then(|lane| lanes.get(lane.checked_sub(1)?));
            let lane =
                lane.ok_or_else(|| ClaimError::Unknown(Error::Decode("a lane that was not asked for".into())))?;
            claimed!(row, channel, lane.tenant_id.clone(), lane.endpoint_id, &mut events).map_err(ClaimError::Unknown)
        })
        .collect()
}

/// After an answer that never came: the deliveries of the claim if it happened. If not, none, and it cannot happen any
/// more, however late the lost statement arrives. Idempotent.
pub async fn resolve(
    db: &Db,
    claim_id: ClaimId,
    worker_id: WorkerId,
    channel: Channel,
) -> Result<Vec<ClaimedDelivery>, Error> {
    let rows = sqlx::query!(
        r#"-- queue::resolve_claim
        SELECT tenant_id AS "tenant_id!", endpoint_id AS "endpoint_id!",
               lane AS "lane!", position AS "position!", id AS "id!", event_id AS "event_id!", expires_at AS "expires_at!",
               claimed_at AS "claimed_at!", endpoint_version AS "endpoint_version?", event_type AS "event_type?",
               agent_id AS "agent_id?", session_id AS "session_id?", customer_id AS "customer_id?",
               assignee_id AS "assignee_id?", occurred_at AS "occurred_at?", event_text AS "event_text?",
               metadata AS "metadata?"
        FROM flametree.resolve_claim($1, $2)"#,
        claim_id.uuid(),
        worker_id.uuid(),
    )
    .fetch_all(db)
    .await?;
    let mut events = HashMap::new();
    rows.into_iter()
        .map(|row| {
            let tenant = TenantId::from_stored(row.tenant_id.clone());
            let endpoint = EndpointId::from_uuid(row.endpoint_id);
            claimed!(row, channel, tenant, endpoint, &mut events)
        })
        .collect()
}

fn claim_error(error: Error) -> ClaimError {
    match error.as_database_error().and_then(sqlx::error::DatabaseError::code) {
        Some(code) if code == FENCED => ClaimError::Fenced,
        _ => ClaimError::Unknown(error),
    }
}

struct Place {
    id: DeliveryId,
    event_id: EventId,
    tenant_id: TenantId,
    endpoint_id: EndpointId,
    endpoint_version: Option<i32>,
    position: i64,
    claimed_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

struct EventColumns {
    event_type: String,
    agent_id: String,
    session_id: String,
    occurred_at: DateTime<Utc>,
    customer_id: Option<String>,
    assignee_id: Option<String>,
    text: Option<String>,
    metadata: Option<String>,
}

impl Place {
    fn claimed(
        self,
        channel: Channel,
        columns: Option<EventColumns>,
        events: &mut HashMap<EventId, Arc<StoredEvent>>,
    ) -> Result<ClaimedDelivery, Error> {
        let event = match (events.get(&self.event_id), columns) {
            (Some(event), _) => Some(Arc::clone(event)),
            (None, Some(columns)) => {
                let event = Arc::new(columns.event(self.event_id, self.tenant_id.clone())?);
                events.insert(self.event_id, Arc::clone(&event));
                Some(event)
            }
            (None, None) => None,
        };
        let delivery = event.map(|event| Delivery {
            id: self.id,
            channel,
            endpoint_id: self.endpoint_id,
            endpoint_version: self.endpoint_version,
            event,
            expires_at: self.expires_at,
            claimed_at: self.claimed_at,
        });
        Ok(ClaimedDelivery {
            delivery,
            id: self.id,
            event_id: self.event_id,
            tenant_id: self.tenant_id,
            endpoint_id: self.endpoint_id,
            endpoint_version: self.endpoint_version,
            position: self.position,
            claimed_at: self.claimed_at,
        })
    }
}

impl EventColumns {
    fn event(self, id: EventId, tenant_id: TenantId) -> Result<StoredEvent, Error> {
        let event_type = EventType::from_name(&self.event_type)
            .ok_or_else(|| Error::Decode(format!("an event of the type {}", self.event_type).into()))?;
        Ok(StoredEvent {
            id,
            tenant_id,
            event_type,
            agent_id: AgentId::from_stored(self.agent_id),
            session_id: SessionId::from_stored(self.session_id),
            customer_id: self.customer_id.map(CustomerId::from_stored),
            occurred_at: self.occurred_at,
            text: self.text,
            assignee_id: self.assignee_id.map(UserId::from_stored),
            metadata: self.metadata,
        })
    }
}
