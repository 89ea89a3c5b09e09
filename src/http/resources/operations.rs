//! Operations: lists and cancels replays of many deliveries, and lists scheduled maintenance.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::delivery::Outcome;
use crate::domain::ids::OperationId;
use crate::domain::names::TenantId;
use crate::domain::operation::{Operation, OperationKind, OperationState, ReplayProgress};
use crate::domain::page::{Cursor, PageRows};
use crate::domain::replay::ReplayRequest;
use crate::domain::role::permissions::Replay;
use crate::http::auth::authorized::Authorized;
use crate::http::openapi::parameter_docs::{OfPage, OfTenant};
use crate::http::openapi::refusals::DoesNotFit;
use crate::http::request::parameters::{NoParameters, Parameters};
use crate::http::request::path::PathName;
use crate::http::request::problem::{Problem, ProblemCode};
use crate::http::state::ApiState;
use crate::store::operation_log;

/// An operation is background work other than deliveries. A schedule or a request creates it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OperationView {
    id: OperationId,
    kind: OperationKind,
    state: OperationState,
    /// The time at which the operation's schedule was due; null if a request created the operation.
    scheduled_for: Option<DateTime<Utc>>,
    agent_id: Option<String>,
    /// How many times the operation was started.
    attempts: u32,
    /// The last error, as text.
    note: Option<String>,
    /// Null for scheduled operations.
    replay: Option<ReplayView>,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

/// The request for a replay, and the replay's progress.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplayView {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    outcomes: Vec<Outcome>,
    limit: u64,
    dry_run: bool,
    /// The number of the tenant's deliveries that were examined so far.
    examined: u64,
    /// The number of examined deliveries that belong to the agent's webhook, have a requested outcome and were not replayed
    /// since.
    matched: u64,
    /// The number of matched deliveries that were not replayed, because another replay of the event is in flight, the
    /// current settings do not select the event, or the event is too old.
    skipped: u64,
    /// The number of new deliveries. In a dry run it is 0, and `matched` minus `skipped` is an estimate.
    replayed: u64,
    /// The fraction of the time range examined so far, from 0 to 1.
    progress: f64,
}

impl ReplayView {
    fn new(operation: &Operation, request: &ReplayRequest, done: ReplayProgress) -> Self {
        let to = request.to.unwrap_or(operation.created_at);
        Self {
            from: request.from,
            to,
            outcomes: request.outcomes.clone(),
            limit: request.limit,
            dry_run: request.dry_run,
            examined: done.examined,
            matched: done.matched,
            skipped: done.skipped,
            replayed: done.replayed,
            progress: match operation.state {
                OperationState::Succeeded => 1.0,
                OperationState::Waiting
                | OperationState::Running
                | OperationState::Failed
                | OperationState::Canceled => part(request.from, operation.reached.unwrap_or(request.from), to),
            },
        }
    }
}

/// The fraction of the time range that had passed at the time `at`.
fn part(from: DateTime<Utc>, at: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    let whole = (to - from).as_seconds_f64();
    if whole > 0.0 { ((at - from).as_seconds_f64() / whole).clamp(0.0, 1.0) } else { 1.0 }
}

impl From<Operation> for OperationView {
    fn from(operation: Operation) -> Self {
        let replay = operation.replay.as_ref().map(|(request, done)| ReplayView::new(&operation, request, *done));
        Self {
            id: operation.id,
            kind: operation.kind,
            state: operation.state,
            scheduled_for: operation.tick,
            agent_id: operation.agent_id.map(|agent| agent.as_str().to_owned()),
            attempts: operation.attempts,
            note: operation.note,
            replay,
            created_at: operation.created_at,
            started_at: operation.started_at,
            finished_at: operation.finished_at,
        }
    }
}

/// A page of operations, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OperationPage {
    data: Vec<OperationView>,
    /// Cursor of the next page; null on the last page.
    next_cursor: Option<String>,
}

/// Lists the tenant's operations, newest first. If the token is valid for all tenants and the request names no tenant, lists
/// the scheduled operations.
#[utoipa::path(
    get,
    path = "/v1/operations",
    operation_id = "list_operations",
    tag = "Operations",
    params(
        OfPage,
        OfTenant,
    ),
    responses(
        (status = 200, description = "A page of operations", body = OperationPage),
    ),
)]
pub(crate) async fn list(
    caller: Authorized<Replay>,
    State(state): State<ApiState>,
    mut parameters: Parameters,
) -> Result<Json<OperationPage>, Problem> {
    let rows = parameters.parsed("limit", |text| PageRows::parse(&text)).unwrap_or_default();
    let cursor = parameters.parsed("cursor", |text| Cursor::parse(&text));
    parameters.finish()?;
    let page = operation_log::list(&state.db, caller.tenant(), cursor, rows).await?;
    Ok(Json(OperationPage {
        data: page.rows.into_iter().map(OperationView::from).collect(),
        next_cursor: page.next.map(|cursor| cursor.to_string()),
    }))
}

/// Returns an operation and its progress.
#[utoipa::path(
    get,
    path = "/v1/operations/{id}",
    operation_id = "get_operation",
    tag = "Operations",
    params(
        ("id" = OperationId, Path),
        OfTenant,
    ),
    responses(
        (status = 200, description = "The operation", body = OperationView),
    ),
)]
pub(crate) async fn read(
    caller: Authorized<Replay>,
    State(state): State<ApiState>,
    _: NoParameters,
    name: PathName,
) -> Result<Json<OperationView>, Problem> {
    found(&state, caller.tenant(), name.id()?).await.map(|operation| Json(operation.into()))
}

/// Cancels an unfinished operation. Deliveries that a replay has already created remain. The request can be repeated
/// safely. Returns 409 if the operation has succeeded or failed.
///
/// The method is not DELETE, because the operation remains readable.
#[utoipa::path(
    post,
    path = "/v1/operations/{id}/cancel",
    operation_id = "cancel_operation",
    tag = "Operations",
    params(
        ("id" = OperationId, Path),
        OfTenant,
    ),
    responses(
        (status = 200, description = "Canceled", body = OperationView),
        DoesNotFit,
    ),
)]
pub(crate) async fn cancel(
    caller: Authorized<Replay>,
    State(state): State<ApiState>,
    _: NoParameters,
    name: PathName,
) -> Result<Json<OperationView>, Problem> {
    let (tenant, id) = (caller.own_tenant()?, name.id()?);
    operation_log::cancel(&state.db, tenant, id).await?;
    let operation = found(&state, Some(tenant), id).await?;
    if operation.state != OperationState::Canceled {
        return Err(Problem::new(ProblemCode::Conflict).detail("the operation has already ended"));
    }
    tracing::info!(operation.id = %id, actor = caller.actor(), "canceled an operation");
    Ok(Json(operation.into()))
}

async fn found(state: &ApiState, tenant: Option<&TenantId>, id: OperationId) -> Result<Operation, Problem> {
    let operation = operation_log::find(&state.db, tenant, id).await?;
    operation.ok_or_else(|| Problem::new(ProblemCode::NotFound))
}

/// The response for a created operation: 202, or 200 if its idempotency key was used before.
pub(crate) async fn entered(
    state: &ApiState,
    tenant: &TenantId,
    id: OperationId,
    is_new: bool,
) -> Result<Response, Problem> {
    let status = if is_new { StatusCode::ACCEPTED } else { StatusCode::OK };
    let operation = found(state, Some(tenant), id).await?;
    Ok((status, Json(OperationView::from(operation))).into_response())
}
