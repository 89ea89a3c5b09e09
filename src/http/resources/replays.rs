//! Replays one delivery, or selects an agent's deliveries by time and outcome and replays them.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use utoipa::PartialSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use crate::domain::delivery::Outcome;
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::ids::DeliveryId;
use crate::domain::names::TenantId;
use crate::domain::operation::NewReplay;
use crate::domain::replay::{DEFAULT_LIMIT, MAX_LIMIT, ReplayRequest, Replayed, failed, named};
use crate::domain::role::permissions::Replay;
use crate::http::auth::authorized::Authorized;
use crate::http::clock::now;
use crate::http::openapi::parameter_docs::{OfAgent, OfRepetition, OfTenant};
use crate::http::openapi::refusals::{DoesNotFitOrOtherRequest, OtherBody};
use crate::http::request::body::JsonBody;
use crate::http::request::fields::{At, Field, read_and};
use crate::http::request::parameters::NoParameters;
use crate::http::request::path::{AgentPath, PathName};
use crate::http::request::problem::{Problem, ProblemCode};
use crate::http::request::request_body::request_body;
use crate::http::request::values::Whole;
use crate::http::resources::deliveries::summary;
use crate::http::resources::delivery_view::DeliveryView;
use crate::http::resources::events::idempotency_key;
use crate::http::resources::operations::{OperationView, entered};
use crate::http::state::ApiState;
use crate::store::operation_log::{Entered, MAX_WAITING_REPLAYS};
use crate::store::replays::Bounds;
use crate::store::{deliveries, events, operation_log, replays};

/// The retry delay for a replay that was refused because too many replays are waiting.
const RETRY_REPLAY: Duration = Duration::from_mins(1);
/// Maximum length of an idempotency key.
const MAX_KEY_CHARACTERS: usize = 255;

/// Replays a finished delivery: creates a delivery of the same event, with the same `webhook-id` and the current settings.
/// Returns 409 if the delivery is in flight, if the current settings do not select the event, or if the event is too old.
///
/// If the response is lost, repeat the request with the same idempotency key. The repeated request returns the delivery
/// that the first request created. The key is kept as long as the event.
#[utoipa::path(
    post,
    path = "/v1/deliveries/{id}/replay",
    tag = "Deliveries",
    params(
        ("id" = DeliveryId, Path),
        OfRepetition,
        OfTenant,
    ),
    responses(
        (status = 202, description = "The new delivery", body = DeliveryView),
        (status = 200, description = "The delivery that an earlier request created with this key", body = DeliveryView),
        DoesNotFitOrOtherRequest,
    ),
)]
pub(crate) async fn replay_delivery(
    caller: Authorized<Replay>,
    State(state): State<ApiState>,
    _: NoParameters,
    name: PathName,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let tenant = caller.own_tenant()?;
    let id: DeliveryId = name.id()?;
    let key = idempotency_key(&headers)?;
    if let Some(fault) = wrong_length(key.as_deref()) {
        return Err(Problem::invalid(vec![fault]));
    }
    let conflict = |detail: &str| Err(Problem::new(ProblemCode::Conflict).detail(detail));
    let bounds = Bounds::new(state.settings.retention_days, state.settings.replay_expires, now());
    let (replay, is_new) = match replays::replay(&state.db, tenant, id, bounds, caller.actor(), key.as_deref()).await? {
        Replayed::Ready(replay) => (replay, true),
        Replayed::Repeated(replay) => (replay, false),
        Replayed::OtherRequest => {
            let problem = Problem::new(ProblemCode::IdempotencyConflict);
            return Err(problem.detail("the key belongs to the replay of another delivery"));
        }
        Replayed::Unknown => return Err(Problem::new(ProblemCode::NotFound)),
        Replayed::InFlight => return conflict("the delivery, or a replay of it, has no outcome yet"),
        Replayed::Unwanted => {
            return conflict(
                "the current settings do not select the event: the endpoint is missing, disabled, or not subscribed to it",
            );
        }
        Replayed::TooOld => return conflict("the event is too old: retention may remove it before the replay ends"),
        Replayed::Exhausted => return conflict("the event already has the maximum number of deliveries"),
    };
    if is_new {
        tracing::info!(delivery.id = %replay, replay_of = %id, actor = caller.actor(), "started a replay of a delivery");
    }
    made(&state, tenant, replay, is_new).await
}

/// The response with the new delivery: 202, or 200 with the delivery's current state if the idempotency key was used
/// before.
async fn made(state: &ApiState, tenant: &TenantId, id: DeliveryId, is_new: bool) -> Result<Response, Problem> {
    let found = events::find(&state.db, tenant, id.first_event()).await?;
    let event = found.ok_or_else(|| Problem::new(ProblemCode::NotFound))?.event;
    if is_new {
        return Ok((StatusCode::ACCEPTED, Json(DeliveryView::unfinished(id, &event))).into_response());
    }
    let finished = deliveries::find(&state.db, tenant, id).await?;
    let view = finished.map_or_else(
        || DeliveryView::unfinished(id, &event),
        |delivery| DeliveryView::finished(&delivery, Some(summary(&event))),
    );
    Ok(Json(view).into_response())
}

/// The fault of an idempotency key that is too long or empty.
fn wrong_length(key: Option<&str>) -> Option<Fault> {
    let message = || format!("must have 1 to {MAX_KEY_CHARACTERS} characters");
    key.filter(|key| !(1..=MAX_KEY_CHARACTERS).contains(&key.len()))
        .map(|_key| Fault::new("Idempotency-Key", FaultCode::TooLong, message()))
}

request_body! {
    /// Which deliveries to replay.
    #[example = json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T06:00:00Z", "outcomes": ["failed"],
        "limit": 10_000, "dry_run": true})]
    pub(crate) struct ReplayBody {
        /// Selects events that were accepted at or after this time.
        from: DateTime<Utc>,
        /// Selects events that were accepted before this time. Default: the time of the request.
        to: Option<DateTime<Utc>>,
        /// Names of outcomes (see the schema `Outcome`). The default name `failed` selects all outcomes except `delivered`.
        /// Deliveries in flight are never replayed.
        outcomes: Option<Outcomes>,
        /// Maximum number of deliveries.
        limit: Option<Whole<u32, 1, MAX_LIMIT>>,
        /// Only count the deliveries that would be replayed.
        dry_run: Option<bool>,
    }
}

/// The selected outcomes, in the order of their definition.
pub(crate) struct Outcomes(Vec<Outcome>);

impl Field for Outcomes {
    fn read(value: Value, mut at: At<'_>) -> Option<Self> {
        let names = at.list(value)?;
        if names.is_empty() {
            return at.fault(FaultCode::Required, "must name at least one outcome");
        }
        let mut wanted = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let message = "must be failed or the name of an outcome";
            let outcomes = name.as_str().and_then(named);
            let outcomes = outcomes.or_else(|| at.index(index).fault(FaultCode::InvalidValue, message));
            wanted.extend(outcomes.unwrap_or_default());
        }
        Some(Self(Outcome::ALL.into_iter().filter(|outcome| wanted.contains(outcome)).collect()))
    }

    fn schema() -> RefOr<Schema> {
        <Vec<String> as PartialSchema>::schema()
    }
}

impl ReplayBody {
    fn parse(body: Value) -> Result<ReplayRequest, Vec<Fault>> {
        read_and(body, "", |body, mut at| {
            let Self { from, to, outcomes, limit, dry_run } = body;
            if to.is_some_and(|to| from >= to) {
                return at.name("to").fault(FaultCode::InvalidValue, "must be after from");
            }
            let outcomes = outcomes.map_or_else(|| failed().collect(), |Outcomes(outcomes)| outcomes);
            let limit = limit.map_or(DEFAULT_LIMIT, |Whole(limit)| limit.into());
            Some(ReplayRequest { from, to, outcomes, limit, dry_run: dry_run.unwrap_or(false) })
        })
    }
}

/// Replays deliveries of an agent's webhook by time and outcome. Considers only the last delivery of each event, which
/// can be an earlier replay. Uses the current settings and the same `webhook-id`.
///
/// A tenant can have one running replay and 20 waiting replays. A further request gets 429.
#[utoipa::path(
    post,
    path = "/v1/agents/{agent_id}/replays",
    operation_id = "replay_deliveries",
    tag = "Operations",
    params(
        OfAgent,
        OfRepetition,
        OfTenant,
    ),
    request_body = ReplayBody,
    responses(
        (status = 202, description = "Queued; its progress is at `/v1/operations/{id}`", body = OperationView),
        (status = 200, description = "Queued before with the same key", body = OperationView),
        OtherBody,
    ),
)]
pub(crate) async fn replay_many(
    caller: Authorized<Replay>,
    State(state): State<ApiState>,
    AgentPath(agent_id): AgentPath,
    _: NoParameters,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let tenant = caller.own_tenant()?;
    let key = idempotency_key(&headers)?;
    let request = match (ReplayBody::parse(body), wrong_length(key.as_deref())) {
        (Ok(request), None) => request,
        (parsed, wrong_length) => {
            return Err(Problem::invalid(parsed.err().into_iter().flatten().chain(wrong_length).collect()));
        }
    };
    let requested_by = caller.actor().to_owned();
    let new = NewReplay { tenant_id: tenant.clone(), agent_id, requested_by, key, request };
    let (id, is_new) = match operation_log::enter_replay(&state.db, &new).await? {
        Entered::New(id) => (id, true),
        Entered::Repeated(id) => (id, false),
        Entered::OtherRequest => return Err(Problem::new(ProblemCode::IdempotencyConflict)),
        Entered::TooMany => {
            let detail = format!(
                "{MAX_WAITING_REPLAYS} replays of this tenant are waiting; cancel some, or retry when some have ended"
            );
            return Err(Problem::new(ProblemCode::RateLimited).detail(detail).retry_after(RETRY_REPLAY));
        }
    };
    if is_new {
        tracing::info!(operation.id = %id, agent.id = %new.agent_id, actor = caller.actor(), "queued a replay");
    }
    entered(&state, tenant, id, is_new).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_fields_have_defaults() {
        let request = ReplayBody::parse(json!({"from": "2026-01-01T00:00:00Z"})).unwrap();
        assert_eq!((request.limit, request.dry_run, request.to), (10_000, false, None));
        assert_eq!(request.outcomes.len(), Outcome::ALL.len() - 1);
        assert!(!request.outcomes.contains(&Outcome::Delivered));
    }

    #[test]
    fn outcomes_are_a_set() {
        let body = json!({"from": "2026-01-01T00:00:00Z", "outcomes": ["timeout", "delivered", "timeout"]});
        assert_eq!(ReplayBody::parse(body).unwrap().outcomes, [Outcome::Delivered, Outcome::Timeout]);
        let body = json!({"from": "2026-01-01T00:00:00Z", "outcomes": ["failed", "interrupted"]});
        assert_eq!(ReplayBody::parse(body).unwrap().outcomes, failed().collect::<Vec<_>>());
    }

    #[test]
    fn reports_every_fault() {
        let body = json!({"to": "yesterday", "outcomes": ["failed", "lost", 1], "limit": 0, "dry_run": "no", "x": 1});
        let faults = ReplayBody::parse(body).unwrap_err();
        let places: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(places, ["/from", "/to", "/outcomes/1", "/outcomes/2", "/limit", "/dry_run", "/x"]);
    }

    #[test]
    fn rejects_a_range_that_ends_before_it_starts() {
        let body = json!({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"});
        assert_eq!(ReplayBody::parse(body).unwrap_err()[0].pointer, "/to");
        assert_eq!(ReplayBody::parse(json!({"from": "0000-01-01T00:00:00Z"})).unwrap_err()[0].pointer, "/from");
        assert_eq!(ReplayBody::parse(json!({"from": null})).unwrap_err()[0].code, FaultCode::Required);
    }
}
