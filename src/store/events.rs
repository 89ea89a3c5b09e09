//! Reads the table `events`. Only `accept` inserts rows.

use sqlx::Error;

use super::{Db, known};
use crate::domain::event::{EventType, StoredEvent};
use crate::domain::ids::EventId;
use crate::domain::names::{AgentId, CustomerId, SessionId, TenantId, UserId};

/// An event and the number of its deliveries, including its replays.
#[derive(Debug, Clone, PartialEq)]
pub struct FannedOutEvent {
    pub event: StoredEvent,
    pub deliveries: u16,
}

/// An event of the tenant; `None` if it does not exist or retention has removed it.
pub async fn find(db: &Db, tenant: &TenantId, id: EventId) -> Result<Option<FannedOutEvent>, Error> {
    let row = sqlx::query!(
        r#"-- events::find
        SELECT type::text AS "event_type!", (deliveries + replays)::smallint AS "deliveries!", occurred_at, agent_id, session_id, customer_id, assignee_id, text,
               metadata
        FROM flametree.events
        WHERE tenant_id = $1 AND id = $2"#,
        tenant.as_str(),
        id.uuid(),
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        Ok(FannedOutEvent {
            event: StoredEvent {
                id,
                tenant_id: tenant.clone(),
                event_type: event_type(&row.event_type)?,
                agent_id: AgentId::from_stored(row.agent_id),
                session_id: SessionId::from_stored(row.session_id),
                customer_id: row.customer_id.map(CustomerId::from_stored),
                occurred_at: row.occurred_at,
                text: row.text,
                assignee_id: row.assignee_id.map(UserId::from_stored),
                metadata: row.metadata,
            },
            deliveries: row.deliveries.unsigned_abs(),
        })
    })
    .transpose()
}

pub(super) fn event_type(name: &str) -> Result<EventType, Error> {
    known(name, "an event has the unknown type")
}
