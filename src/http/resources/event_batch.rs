//! Accepts many events in one request. Each event gets a result, and an invalid event does not affect the others.

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::domain::event::{EventType, NewEvent};
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::ids::EventId;
use crate::domain::names::TenantId;
use crate::domain::role::permissions::PostEvents;
use crate::http::auth::authorized::Authorized;
use crate::http::auth::caller::Caller;
use crate::http::openapi::parameter_docs::OfTenant;
use crate::http::request::body::{BodyTimeout, parse_json, read_json};
use crate::http::request::fields::unknown_in_body;
use crate::http::request::parameters::NoParameters;
use crate::http::request::problem::{Problem, ProblemCode, whole_seconds};
use crate::http::resources::events::{AcceptedEvent, IDEMPOTENCY_KEY, answer, count_rejected, refused};
use crate::http::resources::posted_event::{PostedEvent, parse_event};
use crate::http::server::request_trace::Accepting;
use crate::http::state::ApiState;
use crate::http::{server::request_trace, workspace};
use crate::ingest::Acceptance;
use crate::telemetry::traces::RequestTrace;

/// Events of one request.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents the body; the handler reads event by event to report every fault")]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"events": [
    {"type": "user_message", "agent_id": "agent-1", "session_id": "s-1", "text": "Where is my order?"},
    {"type": "session_resolved", "agent_id": "agent-1", "session_id": "s-2"},
]}))]
pub(crate) struct EventBatch {
    /// The events to accept: at most 500 events and 1 MiB in total.
    #[schema(min_items = 1, max_items = 500)]
    events: Vec<PostedEvent>,
}

/// The results of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchAnswer {
    results: Vec<BatchResult>,
}

/// The result for one event of a batch, the same as if the event had been posted alone.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchResult {
    /// The event's index in the request, from 0.
    index: usize,
    /// 202 if accepted, 200 if accepted before, otherwise the status of the problem.
    status: u16,
    #[serde(flatten)]
    #[schema(value_type = AcceptedInBatch)]
    accepted: Option<AcceptedEvent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<ProblemCode>,
    /// Present if the event's tenant exceeds its rate: the seconds to wait before posting the event again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Fault>,
}

/// Additional fields of an accepted event.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents an `AcceptedEvent` whose fields are absent for rejected events")]
struct AcceptedInBatch {
    id: Option<EventId>,
    /// Whether the event was accepted before with the same idempotency key.
    duplicate: Option<bool>,
    /// The number of deliveries created for the event.
    deliveries: Option<u16>,
}

/// Accepts the valid events of a batch together and returns a result for each event.
#[utoipa::path(
    post,
    path = "/v1/events/batch",
    tag = "Events",
    params(
        ("traceparent" = Option<String>, Header,
            description = "W3C Trace Context: the trace that the events belong to; with `tracestate`.",
            example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        OfTenant,
    ),
    request_body = EventBatch,
    responses(
        (status = 200, description = "A result for each event", body = BatchAnswer),
    ),
)]
pub(crate) async fn post_batch(
    caller: Authorized<PostEvents>,
    State(state): State<ApiState>,
    _: NoParameters,
    request: Request,
) -> Result<Json<BatchAnswer>, Problem> {
    let trace = request_trace::of(&request);
    let bytes = read(&state, request).await.inspect_err(|problem| count_rejected(&state, problem.code()))?;
    let bodies = bodies(&bytes, state.settings.batch_events);
    let bodies = bodies.inspect_err(|problem| count_rejected(&state, problem.code()))?;
    let results = accept(&state, &caller, trace, bodies).await?;
    Ok(Json(BatchAnswer { results }))
}

async fn read(state: &ApiState, request: Request) -> Result<Bytes, Problem> {
    if request.headers().contains_key(IDEMPOTENCY_KEY) {
        let message = "is for a single event; in a batch each event has its own idempotency_key";
        return Err(Problem::invalid(vec![Fault::new("Idempotency-Key", FaultCode::NotAllowed, message)]));
    }
    read_json(request, BodyTimeout(state.settings.body_timeout), state.settings.batch_body_bytes).await
}

async fn accept(
    state: &ApiState,
    caller: &Caller,
    trace: RequestTrace,
    bodies: Vec<&RawValue>,
) -> Result<Vec<BatchResult>, Problem> {
    let parsed = bodies.into_iter().enumerate().map(|(index, body)| parse(body, index, state, caller)).collect();
    let mut good = Vec::new();
    let mut places: Vec<Result<(EventType, TenantId), Problem>> = Vec::new();
    for event in within_rates(state, parsed)? {
        places.push(event.map(|mut event| {
            let place = (event.event_type, event.tenant_id.clone());
            event.trace = trace.of_events();
            good.push(event);
            place
        }));
    }
    let (offered, moved) = (good.len(), workspace::concerned(&good));
    let accepting = Accepting::begin(trace);
    let accepted = state.ingest.accept(good).await.map_err(refused);
    let accepted = accepted.inspect_err(|problem| (0..offered).for_each(|_| count_rejected(state, problem.code())))?;
    state.workspace.moved(&moved);

    let mut acceptances = accepted.into_iter();
    let results = places.into_iter().enumerate().map(|(index, place)| {
        let answered = place.and_then(|(event_type, tenant)| {
            let acceptance = acceptances.next().ok_or_else(|| Problem::new(ProblemCode::Internal))?;
            if let Acceptance::Accepted { id, deliveries } = acceptance {
                accepting.accepted(&state.tracer, id, event_type, &tenant, deliveries);
            }
            answer(&acceptance).map(|answer| (event_type, answer))
        });
        result(state, index, answered)
    });
    Ok(results.collect())
}

/// Rejects all events of each tenant that exceeds its rate. If no valid event is left, rejects the whole request.
fn within_rates(
    state: &ApiState,
    parsed: Vec<Result<NewEvent, Problem>>,
) -> Result<Vec<Result<NewEvent, Problem>>, Problem> {
    let mut counts: HashMap<TenantId, u32> = HashMap::new();
    for event in parsed.iter().flatten().filter(|_| state.tenant_rates.are_limited()) {
        *counts.entry(event.tenant_id.clone()).or_default() += 1;
    }
    let refused = counts.into_iter().filter_map(|(tenant, events)| {
        let problem = state.tenant_rates.take(&tenant, events).err()?;
        Some((tenant, problem))
    });
    let refused: HashMap<TenantId, Problem> = refused.collect();
    let Some(longest) = refused.values().max_by_key(|problem| problem.after()).cloned() else { return Ok(parsed) };
    let parsed: Vec<_> = parsed
        .into_iter()
        .map(|event| event.and_then(|event| refused.get(&event.tenant_id).cloned().map_or(Ok(event), Err)))
        .collect();
    if parsed.iter().any(Result::is_ok) {
        return Ok(parsed);
    }
    parsed.iter().filter_map(|event| event.as_ref().err()).for_each(|problem| count_rejected(state, problem.code()));
    Err(longest)
}

/// The events of the body, not parsed yet.
fn bodies(bytes: &[u8], most: usize) -> Result<Vec<&RawValue>, Problem> {
    let raw: &RawValue = parse_json(bytes)?;
    let Ok(mut fields) = serde_json::from_str::<BTreeMap<String, &RawValue>>(raw.get()) else {
        return Err(Problem::invalid(vec![Fault::new("", FaultCode::InvalidType, "must be a JSON object")]));
    };
    let events = list(fields.remove("events"), most);
    let unknown = unknown_in_body(fields.keys());
    let faults: Vec<Fault> = events.as_ref().err().cloned().into_iter().chain(unknown).collect();
    events.ok().filter(|_| faults.is_empty()).ok_or_else(|| Problem::invalid(faults))
}

fn list(events: Option<&RawValue>, most: usize) -> Result<Vec<&RawValue>, Fault> {
    let fault = |code, message: String| Fault::new("/events", code, message);
    let events = events.ok_or_else(|| fault(FaultCode::Required, "is required".into()))?;
    match serde_json::from_str::<Vec<&RawValue>>(events.get()) {
        Err(_) => Err(fault(FaultCode::InvalidType, "must be a list".into())),
        Ok(events) if events.is_empty() => Err(fault(FaultCode::Required, "must not be empty".into())),
        Ok(events) if events.len() > most => Err(fault(FaultCode::TooLong, format!("must be at most {most} events"))),
        Ok(events) => Ok(events),
    }
}

fn parse(body: &RawValue, index: usize, state: &ApiState, caller: &Caller) -> Result<NewEvent, Problem> {
    let pointer = format!("/events/{index}");
    let limit = state.settings.event_body_bytes;
    if body.get().len() > limit {
        let message = format!("must be at most {limit} bytes");
        let fault = Fault::new(pointer, FaultCode::TooLong, message);
        return Err(Problem::new(ProblemCode::PayloadTooLarge).faults(vec![fault]));
    }
    let value = parse_json(body.get().as_bytes())?;
    parse_event(value, caller.tenant(), &pointer).map_err(Problem::invalid)
}

fn result(
    state: &ApiState,
    index: usize,
    answered: Result<(EventType, (StatusCode, AcceptedEvent)), Problem>,
) -> BatchResult {
    match answered {
        Ok((event_type, (status, accepted))) => {
            if status == StatusCode::ACCEPTED {
                state.metrics.event_accepted(event_type);
            }
            BatchResult {
                index,
                status: status.as_u16(),
                accepted: Some(accepted),
                code: None,
                retry_after_seconds: None,
                errors: Vec::new(),
            }
        }
        Err(problem) => {
            let code = problem.code();
            count_rejected(state, code);
            BatchResult {
                index,
                status: code.status().as_u16(),
                accepted: None,
                code: Some(code),
                retry_after_seconds: problem.after().map(whole_seconds),
                errors: problem.into_faults(),
            }
        }
    }
}
