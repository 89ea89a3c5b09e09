//! Reads the table `deliveries`. Only `queue` inserts rows.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Error;
use uuid::Uuid;

use super::events::event_type;
use super::{Db, known};
use crate::domain::delivery::{Attempt, Outcome};
use crate::domain::delivery_record::{DeliveryFilter, EventSummary, FinishedDelivery, ListedDelivery, WebhookTarget};
use crate::domain::endpoint::Channel;
use crate::domain::event::EventType;
use crate::domain::ids::{DeliveryId, EndpointId, EventId, lower_bound};
use crate::domain::names::{AgentId, SessionId, TenantId};
use crate::domain::page::{Cursor, Page, PageRows};

/// Maximum number of delivery records that a page reads, even if few of them match the filter. It bounds the work of one request.
pub const MAX_SCANNED_ROWS: u16 = 10_000;

struct DeliveryRow {
    id: Uuid,
    event_id: Uuid,
    endpoint_id: Uuid,
    channel: String,
    endpoint_version: Option<i32>,
    claimed_at: DateTime<Utc>,
    finished_at: DateTime<Utc>,
    outcome: String,
    http_status: Option<i16>,
    duration_us: i32,
    detail: Option<String>,
}

impl TryFrom<DeliveryRow> for FinishedDelivery {
    type Error = Error;

    fn try_from(row: DeliveryRow) -> Result<Self, Error> {
        let outcome = known(&row.outcome, "a delivery has the unknown outcome")?;
        let channel = known(&row.channel, "a delivery has the unknown channel")?;
        let detail = row.detail.map(|json| serde_json::from_str(&json)).transpose();
        Ok(Self {
            id: DeliveryId::from_uuid(row.id),
            event_id: EventId::from_uuid(row.event_id),
            endpoint_id: EndpointId::from_uuid(row.endpoint_id),
            channel,
            endpoint_version: row.endpoint_version,
            claimed_at: row.claimed_at,
            finished_at: row.finished_at,
            attempt: Attempt {
                outcome,
                http_status: row.http_status.map(i16::unsigned_abs),
                duration: Duration::from_micros(u64::from(row.duration_us.unsigned_abs())),
                detail: detail.map_err(|error| Error::Decode(Box::new(error)))?,
            },
        })
    }
}

struct ListRow {
    id: Uuid,
    event_id: Uuid,
    endpoint_id: Uuid,
    channel: String,
    endpoint_version: Option<i32>,
    claimed_at: DateTime<Utc>,
    finished_at: DateTime<Utc>,
    outcome: String,
    http_status: Option<i16>,
    duration_us: i32,
    event_type: Option<String>,
    agent_id: Option<String>,
    session_id: Option<String>,
    fits: bool,
    is_last_scanned: bool,
}

impl TryFrom<ListRow> for ListedDelivery {
    type Error = Error;

    fn try_from(row: ListRow) -> Result<Self, Error> {
        let event = match (row.event_type, row.agent_id, row.session_id) {
            (Some(name), Some(agent), Some(session)) => Some(EventSummary {
                event_type: event_type(&name)?,
                agent_id: AgentId::from_stored(agent),
                session_id: SessionId::from_stored(session),
            }),
            _ => None,
        };
        let delivery = DeliveryRow {
            id: row.id,
            event_id: row.event_id,
            endpoint_id: row.endpoint_id,
            channel: row.channel,
            endpoint_version: row.endpoint_version,
            claimed_at: row.claimed_at,
            finished_at: row.finished_at,
            outcome: row.outcome,
            http_status: row.http_status,
            duration_us: row.duration_us,
            detail: None,
        };
        Ok(Self { delivery: delivery.try_into()?, event })
    }
}

/// Lists the newest deliveries of a tenant that match the filter, after the cursor. Reads at most `MAX_SCANNED_ROWS` rows, so
/// even a short or empty page can have a cursor.
///
/// `OFFSET 0` keeps the planner from turning the lookup of events by key into a join that reads a whole day of events.
pub async fn list(
    db: &Db,
    tenant: &TenantId,
    filter: &DeliveryFilter,
    behind: Option<Cursor>,
    page_rows: PageRows,
) -> Result<Page<ListedDelivery>, Error> {
    let before = [behind.map(Cursor::id), filter.to.map(lower_bound)].into_iter().flatten().min();
    let rows = sqlx::query_as!(
        ListRow,
        r#"-- deliveries::list
        SELECT d.id AS "id!", d.event_id AS "event_id!", d.endpoint_id AS "endpoint_id!", d.channel::text AS "channel!",
               d.endpoint_version, d.claimed_at AS "claimed_at!", d.finished_at AS "finished_at!",
               d.outcome::text AS "outcome!", d.http_status, d.duration_us AS "duration_us!",
               e.event_type AS "event_type?", e.agent_id AS "agent_id?", e.session_id AS "session_id?",
               m.fits AS "fits!", (d.number = $3) AS "is_last_scanned!"
        FROM (
            SELECT id, event_id, endpoint_id, channel, endpoint_version, claimed_at, finished_at, outcome, http_status,
                   duration_us, row_number() OVER (ORDER BY id DESC) AS number
            FROM flametree.deliveries
            WHERE tenant_id = $1 AND id >= $4 AND id < $5
            ORDER BY id DESC
            LIMIT $3
        ) AS d
        LEFT JOIN LATERAL (
            SELECT type::text AS event_type, agent_id, session_id
            FROM flametree.events
            WHERE tenant_id = $1 AND id = d.event_id
            OFFSET 0
        ) AS e ON true
        CROSS JOIN LATERAL (
            SELECT coalesce(
                ($6::text IS NULL OR e.agent_id = $6) AND ($7::text IS NULL OR e.session_id = $7)
                AND ($8::text IS NULL OR e.event_type = $8) AND ($9::text IS NULL OR d.channel::text = $9)
                AND ($10::text IS NULL OR d.outcome::text = $10), false) AS fits
        ) AS m
        WHERE m.fits OR d.number = $3
        ORDER BY d.id DESC
        LIMIT $2"#,
        tenant.as_str(),
        i64::from(page_rows.get()) + 1,
        i64::from(MAX_SCANNED_ROWS),
        filter.from.map_or(Uuid::nil(), lower_bound),
        before.unwrap_or(Uuid::max()),
        filter.agent_id.as_ref().map(AgentId::as_str),
        filter.session_id.as_ref().map(SessionId::as_str),
        filter.event_type.map(EventType::as_str),
        filter.channel.map(Channel::as_str),
        filter.outcome.map(Outcome::as_str),
    )
    .fetch_all(db)
    .await?;

    page(rows, usize::from(page_rows.get()))
}

/// Builds a page from the rows found. A further page exists if the query found more rows than a page holds, or if it read the
/// maximum number of rows.
fn page(rows: Vec<ListRow>, page_rows: usize) -> Result<Page<ListedDelivery>, Error> {
    let goes_on = rows.len() > page_rows || rows.last().is_some_and(|row| row.is_last_scanned);
    let mut page = Page { rows: Vec::with_capacity(page_rows.min(rows.len())), next: None };
    for row in rows.into_iter().take(page_rows) {
        page.next = goes_on.then(|| Cursor::behind(row.id));
        if row.fits {
            page.rows.push(row.try_into()?);
        }
    }
    Ok(page)
}

/// A delivery of the tenant, if it has an outcome.
pub async fn find(db: &Db, tenant: &TenantId, id: DeliveryId) -> Result<Option<FinishedDelivery>, Error> {
    sqlx::query_as!(
        DeliveryRow,
        r#"-- deliveries::find
        SELECT id, event_id, endpoint_id, channel::text AS "channel!", endpoint_version, claimed_at, finished_at,
               outcome::text AS "outcome!", http_status, duration_us, detail
        FROM flametree.deliveries
        WHERE tenant_id = $1 AND id = $2"#,
        tenant.as_str(),
        id.uuid(),
    )
    .fetch_optional(db)
    .await?
    .map(FinishedDelivery::try_from)
    .transpose()
}

/// The deliveries of an event that have an outcome, without replays, sorted by number.
pub async fn of_event(db: &Db, tenant: &TenantId, event: EventId) -> Result<Vec<FinishedDelivery>, Error> {
    let rows = sqlx::query_as!(
        DeliveryRow,
        r#"-- deliveries::of_event
        SELECT id, event_id, endpoint_id, channel::text AS "channel!", endpoint_version, claimed_at, finished_at,
               outcome::text AS "outcome!", http_status, duration_us, detail
        FROM flametree.deliveries
        WHERE tenant_id = $1 AND id >= $2 AND id <= $3
        ORDER BY id"#,
        tenant.as_str(),
        event.delivery(1).uuid(),
        event.delivery(u16::MAX).uuid(),
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(FinishedDelivery::try_from).collect()
}

/// The current webhook of a delivery's endpoint; `None` if the webhook was deleted or the endpoint is a browser.
pub async fn webhook_target(db: &Db, tenant: &TenantId, endpoint: EndpointId) -> Result<Option<WebhookTarget>, Error> {
    sqlx::query_as!(
        WebhookTarget,
        "-- deliveries::webhook_target
        SELECT url, header_names, version
        FROM flametree.push_configs
        WHERE tenant_id = $1 AND endpoint_id = $2",
        tenant.as_str(),
        endpoint.uuid(),
    )
    .fetch_optional(db)
    .await
}
