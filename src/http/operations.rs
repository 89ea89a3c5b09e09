//! Operations: replays of many deliveries, asked for, watched and canceled; and what the schedules did.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Caller;
use super::parameter_docs::{OfPage, OfTenant};
use super::parameters::{NoParameters, Parameters};
use super::path::PathName;
use super::problem::{Problem, ProblemCode};
use super::refusals::DoesNotFit;
use super::state::ApiState;
use crate::domain::delivery::Outcome;
use crate::domain::ids::OperationId;
use crate::domain::names::TenantId;
use crate::domain::operation::{Operation, OperationKind, OperationState, ReplayProgress};
use crate::domain::page::{Cursor, PageRows};
use crate::domain::replay::ReplayRequest;
use crate::store::operation_log;

/// Work besides deliveries: one tick of a schedule, or one request.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OperationView {
    id: OperationId,
    kind: OperationKind,
    state: OperationState,
    /// Which time of its schedule it stands for; null: it was asked for.
    scheduled_for: Option<DateTime<Utc>>,
    agent_id: Option<String>,
    /// How often it was started.
    attempts: u32,
    /// What went wrong last, in words.
    note: Option<String>,
    /// Null for schedules.
    replay: Option<ReplayView>,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

/// What a replay was asked to do, and how far it is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReplayView {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    outcomes: Vec<Outcome>,
    limit: u64,
    dry_run: bool,
    /// Deliveries of the tenant that were looked at.
    examined: u64,
    /// Of these, the agent's webhooks with one of the outcomes that were not replayed since.
    matched: u64,
    /// Of these, not replayed: a replay is in flight already, today's settings do not want the event, or it is too old.
    skipped: u64,
    /// New deliveries; in a dry run 0, and `matched` less `skipped` is what they would be.
    replayed: u64,
    /// How much of the range of time was looked at: 0 to 1.
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

/// How much of the time from `from` to `to` had passed at `at`.
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

/// A page of operations, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OperationPage {
    data: Vec<OperationView>,
    /// Where to go on; null: this was the end.
    next_cursor: Option<String>,
}

/// Operations of the tenant, the newest first. A token for all tenants that names none sees those of the schedules.
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
        (status = 200, description = "A page", body = OperationPage),
    ),
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
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

/// An operation and how far it is.
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
pub(super) async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    _: NoParameters,
    name: PathName,
) -> Result<Json<OperationView>, Problem> {
    found(&state, caller.tenant(), name.id()?).await.map(|operation| Json(operation.into()))
}

/// Cancels an operation that has not ended: what it has replayed remains, and nothing comes after it. Safe to repeat; one
/// that has ended otherwise is a conflict.
///
/// Not a DELETE: the operation stays, to be read.
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
pub(super) async fn cancel(
    State(state): State<ApiState>,
    caller: Caller,
    _: NoParameters,
    name: PathName,
) -> Result<Json<OperationView>, Problem> {
    let (tenant, id) = (caller.own_tenant()?, name.id()?);
    operation_log::cancel(&state.db, tenant, id).await?;
    let operation = found(&state, Some(tenant), id).await?;
    if operation.state != OperationState::Canceled {
        return Err(Problem::new(ProblemCode::Conflict).detail("the operation has ended already"));
    }
    tracing::info!(operation.id = %id, actor = caller.actor(), "an operation was canceled");
    Ok(Json(operation.into()))
}

async fn found(state: &ApiState, tenant: Option<&TenantId>, id: OperationId) -> Result<Operation, Problem> {
    let operation = operation_log::find(&state.db, tenant, id).await?;
    operation.ok_or_else(|| Problem::new(ProblemCode::NotFound))
}

/// What was entered: 202, or 200 if its key had been entered before.
pub(super) async fn entered(
    state: &ApiState,
    tenant: &TenantId,
    id: OperationId,
    is_new: bool,
) -> Result<Response, Problem> {
    let status = if is_new { StatusCode::ACCEPTED } else { StatusCode::OK };
    let operation = found(state, Some(tenant), id).await?;
    Ok((status, Json(OperationView::from(operation))).into_response())
}
