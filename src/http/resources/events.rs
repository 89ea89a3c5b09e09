//! Accepts one event per request from platform services.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::event::EventType;
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::ids::EventId;
use crate::domain::role::permissions::PostEvents;
use crate::http::auth::authorized::Authorized;
use crate::http::auth::caller::Caller;
use crate::http::openapi::parameter_docs::{OfRepetition, OfTenant};
use crate::http::openapi::refusals::OtherBody;
use crate::http::request::body::{BodyTimeout, parse_json, read_json};
use crate::http::request::parameters::NoParameters;
use crate::http::request::problem::{Problem, ProblemCode, RETRY_SOON};
use crate::http::resources::posted_event::{PostedEvent, parse_event};
use crate::http::server::request_trace::Accepting;
use crate::http::state::ApiState;
use crate::http::{server::request_trace, workspace};
use crate::ingest::{Acceptance, IngestError};
use crate::telemetry::metrics::RejectReason;

pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// An accepted event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AcceptedEvent {
    id: EventId,
    /// Whether the event was accepted before with the same idempotency key.
    duplicate: bool,
    /// The number of deliveries created for the event.
    deliveries: u16,
}

/// Accepts an event. 202 means that the event is stored and that each of its deliveries will get exactly one outcome. Returns 429
/// if the tenant exceeds its rate, and 503 `overloaded` if too many events of the tenant are waiting. Returns 503 `unavailable`
/// if an open SQL transaction locks the session or the idempotency key for half a second. See the header `Retry-After`.
#[utoipa::path(
    post,
    path = "/v1/events",
    tag = "Events",
    params(
        OfRepetition,
        ("traceparent" = Option<String>, Header,
            description = "W3C Trace Context: the trace that the event, and its webhook, belong to; with `tracestate`.",
            example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        OfTenant,
    ),
    request_body = PostedEvent,
    responses(
        (status = 202, description = "Accepted", body = AcceptedEvent),
        (status = 200, description = "Accepted before", body = AcceptedEvent),
        OtherBody,
    ),
)]
pub(crate) async fn post_event(
    caller: Authorized<PostEvents>,
    State(state): State<ApiState>,
    _: NoParameters,
    request: Request,
) -> Result<Response, Problem> {
    fail::fail_point!("http::handler");
    let accepted = accept(&state, &caller, request).await;
    match &accepted {
        Ok((event_type, (StatusCode::ACCEPTED, _))) => state.metrics.event_accepted(*event_type),
        Ok(_) => {}
        Err(problem) => count_rejected(&state, problem.code()),
    }
    accepted.map(|(_, (status, body))| (status, Json(body)).into_response())
}

async fn accept(
    state: &ApiState,
    caller: &Caller,
    request: Request,
) -> Result<(EventType, (StatusCode, AcceptedEvent)), Problem> {
    let header_key = idempotency_key(request.headers())?;
    let trace = request_trace::of(&request);
    let bytes = read_json(request, BodyTimeout(state.settings.body_timeout), state.settings.event_body_bytes).await?;
    let mut body = parse_json(&bytes)?;
    let contradiction = header_key.and_then(|key| take_over_key(&mut body, key));
    let mut event = match (parse_event(body, caller.tenant(), ""), contradiction) {
        (Ok(event), None) => event,
        (parsed, contradiction) => {
            let faults = parsed.err().into_iter().flatten().chain(contradiction).collect();
            return Err(Problem::invalid(faults));
        }
    };
    state.tenant_rates.take(&event.tenant_id, 1)?;
    event.trace = trace.of_events();
    let (event_type, tenant, accepting) = (event.event_type, event.tenant_id.clone(), Accepting::begin(trace));
    let moved = workspace::concerned(std::slice::from_ref(&event));
    let acceptances = state.ingest.accept(vec![event]).await.map_err(refused)?;
    state.workspace.moved(&moved);
    let acceptance = acceptances.into_iter().next().ok_or_else(|| Problem::new(ProblemCode::Internal))?;
    if let Acceptance::Accepted { id, deliveries } = acceptance {
        accepting.accepted(&state.tracer, id, event_type, &tenant, deliveries);
    }
    answer(&acceptance).map(|answer| (event_type, answer))
}

/// The key in the header, if present.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    text.map(|text| Some(text.to_owned())).ok_or_else(|| {
        let message = "must be given once, in visible ASCII";
        Problem::invalid(vec![Fault::new("Idempotency-Key", FaultCode::InvalidValue, message)])
    })
}

/// Copies the key from the header to the body, where the event's rules validate it. The body may contain the same key, but
/// not a different key.
fn take_over_key(body: &mut Value, key: String) -> Option<Fault> {
    let fields = body.as_object_mut()?;
    match fields.get("idempotency_key") {
        None | Some(Value::Null) => {
            fields.insert("idempotency_key".to_owned(), Value::String(key));
            None
        }
        Some(Value::String(same)) if *same == key => None,
        Some(_) => {
            let message = "differs from the header Idempotency-Key";
            Some(Fault::new("/idempotency_key", FaultCode::NotAllowed, message))
        }
    }
}

/// Maps an acceptance to a response.
pub(crate) fn answer(acceptance: &Acceptance) -> Result<(StatusCode, AcceptedEvent), Problem> {
    match *acceptance {
        Acceptance::Accepted { id, deliveries } => {
            Ok((StatusCode::ACCEPTED, AcceptedEvent { id, duplicate: false, deliveries }))
        }
        Acceptance::Duplicate { id, deliveries } => {
            Ok((StatusCode::OK, AcceptedEvent { id, duplicate: true, deliveries }))
        }
        Acceptance::Conflict => Err(Problem::new(ProblemCode::IdempotencyConflict)),
    }
}

pub(crate) fn refused(error: IngestError) -> Problem {
    match error {
        IngestError::Overloaded => {
            Problem::new(ProblemCode::Overloaded).detail("nothing was accepted").retry_after(RETRY_SOON)
        }
        IngestError::Unavailable => {
            Problem::unavailable().detail("the event may have been accepted: post it again with its idempotency key")
        }
    }
}

/// Counts a rejected event. Does not count errors that are not about the event, such as a request timeout.
pub(crate) fn count_rejected(state: &ApiState, code: ProblemCode) {
    let reason = match code {
        ProblemCode::InvalidJson | ProblemCode::UnsupportedMediaType | ProblemCode::Invalid => RejectReason::Invalid,
        ProblemCode::PayloadTooLarge => RejectReason::TooLarge,
        ProblemCode::IdempotencyConflict | ProblemCode::Conflict => RejectReason::Conflict,
        ProblemCode::RateLimited => RejectReason::RateLimited,
        ProblemCode::Overloaded => RejectReason::Overload,
        ProblemCode::Unavailable | ProblemCode::Internal => RejectReason::Unavailable,
        ProblemCode::Unauthorized
        | ProblemCode::Forbidden
        | ProblemCode::TenantRequired
        | ProblemCode::NotFound
        | ProblemCode::MethodNotAllowed
        | ProblemCode::RequestTimeout
        | ProblemCode::HeadersTooLarge
        | ProblemCode::PreconditionFailed
        | ProblemCode::SecretReentryRequired
        | ProblemCode::BrowserPushNotConfigured => return,
    };
    state.metrics.event_rejected(reason);
}
