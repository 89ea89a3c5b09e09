//! A claim with its events, as the database returns it: one row of arrays.

use std::collections::HashMap;
use std::sync::Arc;
use std::vec::IntoIter;

use chrono::{DateTime, Utc};
use sqlx::Error;
use uuid::Uuid;

use crate::domain::delivery::Delivery;
use crate::domain::endpoint::Channel;
use crate::domain::event::{EventType, StoredEvent};
use crate::domain::ids::{DeliveryId, EndpointId, EventId};
use crate::domain::names::{AgentId, CustomerId, SessionId, TenantId, UserId};
use crate::domain::trace::Trace;

/// One claimed delivery.
#[derive(Debug, Clone)]
pub struct ClaimedDelivery {
    pub delivery: Result<Delivery, NoEvent>,
    pub id: DeliveryId,
    pub event_id: EventId,
    pub tenant_id: TenantId,
    pub endpoint_id: EndpointId,
    pub endpoint_version: Option<i32>,
    pub position: i64,
    pub claimed_at: DateTime<Utc>,
}

/// Why a claimed delivery cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoEvent {
    /// Retention has removed the event.
    #[error("The event is no longer stored.")]
    Gone,
    /// A process of a later release has accepted the event.
    #[error("The worker that claimed the delivery does not know the event's type.")]
    Unknown,
}

/// The type `flametree.claimed`. All columns are NULL if nothing was claimed. The array `lanes` and all later arrays have one
/// item per delivery. The items of the event's fields are NULL if the event no longer exists.
#[derive(Debug)]
pub(super) struct ClaimRow {
    pub(super) claimed_at: Option<DateTime<Utc>>,
    pub(super) lane_tenants: Option<Vec<String>>,
    pub(super) lane_endpoints: Option<Vec<Uuid>>,
    pub(super) lane_versions: Option<Vec<Option<i32>>>,
    pub(super) lanes: Option<Vec<i16>>,
    pub(super) positions: Option<Vec<i64>>,
    pub(super) delivery_ids: Option<Vec<Uuid>>,
    pub(super) event_ids: Option<Vec<Uuid>>,
    pub(super) expiries: Option<Vec<DateTime<Utc>>>,
    pub(super) event_types: Option<Vec<Option<String>>>,
    pub(super) agents: Option<Vec<Option<String>>>,
    pub(super) sessions: Option<Vec<Option<String>>>,
    pub(super) customers: Option<Vec<Option<String>>>,
    pub(super) assignees: Option<Vec<Option<String>>>,
    pub(super) occurred: Option<Vec<Option<DateTime<Utc>>>>,
    pub(super) texts: Option<Vec<Option<String>>>,
    pub(super) metadata: Option<Vec<Option<String>>>,
    pub(super) traces: Option<Vec<Option<Vec<u8>>>>,
}

impl ClaimRow {
    pub(super) fn deliveries(self, channel: Channel) -> Result<Vec<ClaimedDelivery>, Error> {
        let Some(claimed_at) = self.claimed_at else { return Ok(Vec::new()) };
        let lanes = lanes(self.lane_tenants, self.lane_endpoints, self.lane_versions)?;
        let mut lane_numbers = column(self.lanes);
        let mut positions = column(self.positions);
        let mut event_ids = column(self.event_ids);
        let mut expiries = column(self.expiries);
        let mut traces = column(self.traces);
        let mut columns = EventColumns {
            types: column(self.event_types),
            agents: column(self.agents),
            sessions: column(self.sessions),
            customers: column(self.customers),
            assignees: column(self.assignees),
            occurred: column(self.occurred),
            texts: column(self.texts),
            metadata: column(self.metadata),
        };
        // Deliveries of the same event share the parsed event.
        let mut events: HashMap<EventId, Result<Arc<StoredEvent>, NoEvent>> = HashMap::new();
        let one = |id: Uuid| {
            let id = DeliveryId::from_uuid(id);
            let lane = usize::try_from(next(&mut lane_numbers)?).ok().and_then(|lane| lanes.get(lane.checked_sub(1)?));
            let lane = lane.ok_or_else(|| Error::Decode("the claim has no such lane".into()))?;
            let event_id = EventId::from_uuid(next(&mut event_ids)?);
            let event = columns.next(event_id, &lane.tenant_id)?;
            let event = events.entry(event_id).or_insert_with(|| event.map(Arc::new)).clone();
            let expires_at = next(&mut expiries)?;
            let trace = next(&mut traces)?.and_then(|bytes| Trace::from_bytes(&bytes)).map(Arc::new);
            let delivery = event.map(|event| Delivery {
                id,
                channel,
                endpoint_id: lane.endpoint_id,
                endpoint_version: lane.endpoint_version,
                event,
                trace,
                expires_at,
                claimed_at,
            });
            Ok(ClaimedDelivery {
                delivery,
                id,
                event_id,
                tenant_id: lane.tenant_id.clone(),
                endpoint_id: lane.endpoint_id,
                endpoint_version: lane.endpoint_version,
                position: next(&mut positions)?,
                claimed_at,
            })
        };
        column(self.delivery_ids).map(one).collect()
    }
}

/// One lane of the claim.
struct Lane {
    tenant_id: TenantId,
    endpoint_id: EndpointId,
    endpoint_version: Option<i32>,
}

fn lanes(
    tenants: Option<Vec<String>>,
    endpoints: Option<Vec<Uuid>>,
    versions: Option<Vec<Option<i32>>>,
) -> Result<Vec<Lane>, Error> {
    let (mut endpoints, mut versions) = (column(endpoints), column(versions));
    let lane = |tenant| {
        Ok(Lane {
            tenant_id: TenantId::from_stored(tenant),
            endpoint_id: EndpointId::from_uuid(next(&mut endpoints)?),
            endpoint_version: next(&mut versions)?,
        })
    };
    column(tenants).map(lane).collect()
}

struct EventColumns {
    types: IntoIter<Option<String>>,
    agents: IntoIter<Option<String>>,
    sessions: IntoIter<Option<String>>,
    customers: IntoIter<Option<String>>,
    assignees: IntoIter<Option<String>>,
    occurred: IntoIter<Option<DateTime<Utc>>>,
    texts: IntoIter<Option<String>>,
    metadata: IntoIter<Option<String>>,
}

impl EventColumns {
    /// Parses the event of the next delivery.
    fn next(&mut self, id: EventId, tenant_id: &TenantId) -> Result<Result<StoredEvent, NoEvent>, Error> {
        let (event_type, occurred_at) = (next(&mut self.types)?, next(&mut self.occurred)?);
        let (agent_id, session_id) = (next(&mut self.agents)?, next(&mut self.sessions)?);
        let (customer_id, assignee_id) = (next(&mut self.customers)?, next(&mut self.assignees)?);
        let (text, metadata) = (next(&mut self.texts)?, next(&mut self.metadata)?);
        let (Some(event_type), Some(occurred_at), Some(agent_id), Some(session_id)) =
            (event_type, occurred_at, agent_id, session_id)
        else {
            return Ok(Err(NoEvent::Gone));
        };
        let Some(event_type) = EventType::from_name(&event_type) else {
            tracing::warn!(event.id = %id, event_type, "an event has a type that this release does not know");
            return Ok(Err(NoEvent::Unknown));
        };
        Ok(Ok(StoredEvent {
            id,
            tenant_id: tenant_id.clone(),
            event_type,
            agent_id: AgentId::from_stored(agent_id),
            session_id: SessionId::from_stored(session_id),
            customer_id: customer_id.map(CustomerId::from_stored),
            occurred_at,
            text,
            assignee_id: assignee_id.map(UserId::from_stored),
            metadata,
        }))
    }
}

fn column<T>(values: Option<Vec<T>>) -> IntoIter<T> {
    values.unwrap_or_default().into_iter()
}

/// The next item of an array. Fails if the array is too short, so that no delivery is lost silently.
fn next<T>(column: &mut IntoIter<T>) -> Result<T, Error> {
    column.next().ok_or_else(|| Error::Decode("the arrays of a claim differ in length".into()))
}
