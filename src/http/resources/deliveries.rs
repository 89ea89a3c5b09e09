//! Lists deliveries, and returns one delivery with its request and response, or one event with all its deliveries.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::domain::delivery::Outcome;
use crate::domain::delivery_record::{DeliveryFilter, EventSummary, FinishedDelivery};
use crate::domain::endpoint::Channel;
use crate::domain::event::{EventType, StoredEvent};
use crate::domain::fault::FaultCode;
use crate::domain::ids::{DeliveryId, EventId};
use crate::domain::names::{AgentId, SessionId, TenantId};
use crate::domain::page::{Cursor, PageRows};
use crate::domain::role::Permission;
use crate::domain::role::permissions::ReadDeliveries;
use crate::http::auth::authorized::Authorized;
use crate::http::openapi::parameter_docs::{OfPage, OfTenant};
use crate::http::request::parameters::{NoParameters, Parameters};
use crate::http::request::path::PathName;
use crate::http::request::problem::{Problem, ProblemCode};
use crate::http::resources::delivery_view::{DeliveryDetailView, DeliveryView, RequestView, ResponseView, sent_body};
use crate::http::state::ApiState;
use crate::store::{deliveries, events};

/// A page of deliveries, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryPage {
    data: Vec<DeliveryView>,
    /// Cursor of the next page; null on the last page. Other pages can have fewer rows than `limit`, or no rows.
    next_cursor: Option<String>,
}

/// Lists finished deliveries, newest first.
#[utoipa::path(
    get,
    path = "/v1/deliveries",
    tag = "Deliveries",
    params(
        ("agent_id" = Option<String>, Query, min_length = 1, max_length = 128, example = "agent-1"),
        ("session_id" = Option<String>, Query, min_length = 1, max_length = 128, example = "s-1"),
        ("event_type" = Option<EventType>, Query),
        ("channel" = Option<Channel>, Query),
        ("outcome" = Option<Outcome>, Query),
        ("from" = Option<DateTime<Utc>>, Query, description = "Accepted at or after this time."),
        ("to" = Option<DateTime<Utc>>, Query, description = "Accepted before this time."),
        OfPage,
        OfTenant,
    ),
    responses(
        (status = 200, description = "A page of deliveries", body = DeliveryPage),
    ),
)]
pub(crate) async fn list_deliveries(
    caller: Authorized<ReadDeliveries>,
    State(state): State<ApiState>,
    mut parameters: Parameters,
) -> Result<Json<DeliveryPage>, Problem> {
    let filter = filter(&mut parameters);
    let rows = parameters.parsed("limit", |text| PageRows::parse(&text)).unwrap_or_default();
    let cursor = parameters.parsed("cursor", |text| Cursor::parse(&text));
    parameters.finish()?;
    let page = deliveries::list(&state.db, caller.own_tenant()?, &filter, cursor, rows).await?;
    Ok(Json(DeliveryPage {
        data: page.rows.into_iter().map(|row| DeliveryView::finished(&row.delivery, row.event)).collect(),
        next_cursor: page.next.map(|cursor| cursor.to_string()),
    }))
}

fn filter(parameters: &mut Parameters) -> DeliveryFilter {
    let filter = DeliveryFilter {
        agent_id: parameters.parsed("agent_id", AgentId::parse),
        session_id: parameters.parsed("session_id", SessionId::parse),
        event_type: parameters.one_of("event_type", EventType::ALL, EventType::as_str),
        channel: parameters.one_of("channel", Channel::ALL, Channel::as_str),
        outcome: parameters.one_of("outcome", Outcome::ALL, Outcome::as_str),
        from: parameters.time("from"),
        to: parameters.time("to"),
    };
    if let (Some(from), Some(to)) = (filter.from, filter.to)
        && from >= to
    {
        parameters.fault("to", FaultCode::InvalidValue, "must be after from");
    }
    filter
}

/// Returns a delivery, the request that was sent (without its secrets) and the start of the response.
#[utoipa::path(
    get,
    path = "/v1/deliveries/{id}",
    tag = "Deliveries",
    params(
        ("id" = DeliveryId, Path),
        OfTenant,
    ),
    responses(
        (status = 200, description = "The delivery", body = DeliveryDetailView),
    ),
)]
pub(crate) async fn get_delivery(
    caller: Authorized<ReadDeliveries>,
    State(state): State<ApiState>,
    _: NoParameters,
    name: PathName,
) -> Result<Json<DeliveryDetailView>, Problem> {
    let tenant = caller.own_tenant()?;
    let id: DeliveryId = name.id()?;
    match deliveries::find(&state.db, tenant, id).await? {
        Some(delivery) => finished(&state, tenant, delivery, caller.may(Permission::ReadBodies)).await,
        None => unfinished(&state, tenant, id).await,
    }
    .map(Json)
}

async fn finished(
    state: &ApiState,
    tenant: &TenantId,
    delivery: FinishedDelivery,
    with_bodies: bool,
) -> Result<DeliveryDetailView, Problem> {
    let event = events::find(&state.db, tenant, delivery.event_id).await?.map(|found| found.event);
    let target = match delivery.channel {
        Channel::Webhook => deliveries::webhook_target(&state.db, tenant, delivery.endpoint_id).await?,
        // The URL of a push subscription is a secret.
        Channel::BrowserPush => None,
    };
    let body = event.as_ref().filter(|_| with_bodies).and_then(sent_body);
    let detail = delivery.attempt.detail.clone().unwrap_or_default();
    Ok(DeliveryDetailView {
        request: target.map(|target| RequestView::new(target, &delivery, body)),
        response: delivery.attempt.http_status.map(|status| ResponseView {
            status,
            body: detail.response_body.filter(|_| with_bodies),
            truncated: detail.response_truncated,
        }),
        note: detail.note,
        delivery: DeliveryView::finished(&delivery, event.as_ref().map(summary)),
    })
}

/// An unfinished delivery has no delivery record. The delivery exists if its number is at most the event's number of deliveries.
async fn unfinished(state: &ApiState, tenant: &TenantId, id: DeliveryId) -> Result<DeliveryDetailView, Problem> {
    let found = events::find(&state.db, tenant, id.first_event()).await?;
    let found = found.filter(|found| (1..=found.deliveries).contains(&id.ordinal()));
    let found = found.ok_or_else(|| Problem::new(ProblemCode::NotFound))?;
    let delivery = DeliveryView::unfinished(id, &found.event);
    Ok(DeliveryDetailView { delivery, note: None, request: None, response: None })
}

pub(crate) fn summary(event: &StoredEvent) -> EventSummary {
    EventSummary {
        event_type: event.event_type,
        agent_id: event.agent_id.clone(),
        session_id: event.session_id.clone(),
    }
}

/// An accepted event and its deliveries.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventView {
    id: EventId,
    #[serde(rename = "type")]
    event_type: EventType,
    agent_id: String,
    session_id: String,
    customer_id: Option<String>,
    assignee_id: Option<String>,
    occurred_at: DateTime<Utc>,
    accepted_at: Option<DateTime<Utc>>,
    /// `text` and `metadata` are null for callers who may not see messages.
    text: Option<String>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Box<RawValue>>,
    deliveries: Vec<DeliveryView>,
}

/// Returns an event with all its deliveries, including unfinished ones.
#[utoipa::path(
    get,
    path = "/v1/events/{id}",
    tag = "Events",
    params(
        ("id" = EventId, Path),
        OfTenant,
    ),
    responses(
        (status = 200, description = "The event", body = EventView),
    ),
)]
pub(crate) async fn get_event(
    caller: Authorized<ReadDeliveries>,
    State(state): State<ApiState>,
    _: NoParameters,
    name: PathName,
) -> Result<Json<EventView>, Problem> {
    let tenant = caller.own_tenant()?;
    let id: EventId = name.id()?;
    let found = events::find(&state.db, tenant, id).await?.ok_or_else(|| Problem::new(ProblemCode::NotFound))?;
    let finished = deliveries::of_event(&state.db, tenant, id).await?;
    let event = found.event;
    let with_bodies = caller.may(Permission::ReadBodies);
    Ok(Json(EventView {
        deliveries: in_order(&event, found.deliveries, &finished),
        id,
        event_type: event.event_type,
        agent_id: event.agent_id.into_string(),
        session_id: event.session_id.into_string(),
        customer_id: event.customer_id.map(|id| id.as_str().to_owned()),
        assignee_id: event.assignee_id.map(|id| id.as_str().to_owned()),
        occurred_at: event.occurred_at,
        accepted_at: id.accepted_at(),
        text: event.text.filter(|_| with_bodies),
        metadata: event.metadata.filter(|_| with_bodies).and_then(|json| RawValue::from_string(json).ok()),
    }))
}

/// All deliveries of an event, ordered by number. `finished` must be ordered by number, too.
fn in_order(event: &StoredEvent, count: u16, finished: &[FinishedDelivery]) -> Vec<DeliveryView> {
    let mut finished = finished.iter().peekable();
    let mut view = |ordinal| {
        let id = event.id.delivery(ordinal);
        match finished.next_if(|delivery| delivery.id == id) {
            Some(delivery) => DeliveryView::finished(delivery, Some(summary(event))),
            None => DeliveryView::unfinished(id, event),
        }
    };
    (1..=count).map(&mut view).collect()
}
