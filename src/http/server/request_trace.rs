//! Reads the trace of a request from the headers, passes it to the handler, and reports it to the tracer.

use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName};
use chrono::{DateTime, Utc};

use crate::domain::event::EventType;
use crate::domain::ids::EventId;
use crate::domain::names::TenantId;
use crate::domain::trace::CallerSpan;
use crate::http::clock::now;
use crate::telemetry::traces::{AcceptedEvent, Answered, RequestTrace, Tracer};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Starts the trace of a request. The function [`of`] returns it to the handler. Probes, documentation and unknown
/// routes have no trace.
pub(crate) fn begin(tracer: &Tracer, request: &mut Request, route: &str) -> RequestTrace {
    if !route.starts_with("/v1/") || route == "/v1/openapi.json" {
        return RequestTrace::default();
    }
    let trace = tracer.request(caller(request.headers()));
    if trace.id().is_some() {
        request.extensions_mut().insert(trace.clone());
    }
    trace
}

/// Ends the trace. Requests without valid credentials are not recorded, because anyone could set the sampled flag and fill the
/// span queue.
pub(crate) fn end(tracer: &Tracer, trace: &RequestTrace, answered: Answered<'_>) {
    if !matches!(answered.status, 401 | 429 | 431) {
        tracer.request_answered(trace, answered);
    }
}

/// The trace that the function [`begin`] has stored for the handler.
pub(crate) fn of(request: &Request) -> RequestTrace {
    request.extensions().get().cloned().unwrap_or_default()
}

/// The caller's span; `None` if the header `traceparent` occurs several times. The header `tracestate` may do so.
fn caller(headers: &HeaderMap) -> Option<CallerSpan> {
    let mut parents = headers.get_all(TRACEPARENT).iter();
    let parent = parents.next().filter(|_| parents.next().is_none())?.to_str().ok()?;
    let states: Option<Vec<&str>> = headers.get_all(TRACESTATE).iter().map(|state| state.to_str().ok()).collect();
    CallerSpan::parse(parent, states.map(|states| states.join(",")).as_deref())
}

/// Measures the time until a request's events are accepted.
pub(crate) struct Accepting {
    trace: RequestTrace,
    began: DateTime<Utc>,
    clock: Instant,
}

impl Accepting {
    pub(crate) fn begin(trace: RequestTrace) -> Self {
        Self { trace, began: now(), clock: Instant::now() }
    }

    /// Records an accepted event in the trace, and in the logs at debug level.
    pub(crate) fn accepted(
        &self,
        tracer: &Tracer,
        id: EventId,
        event_type: EventType,
        tenant: &TenantId,
        deliveries: u16,
    ) {
        tracing::debug!(event.id = %id, event.type = event_type.as_str(), tenant.id = %tenant, deliveries, "accepted an event");
        let (began, duration) = (self.began, self.clock.elapsed());
        let accepted = AcceptedEvent { id, event_type, tenant: tenant.as_str(), deliveries, began, duration };
        tracer.event_accepted(&self.trace, accepted);
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn read(headers: &[(&'static str, &'static str)]) -> Option<CallerSpan> {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        caller(&headers.collect())
    }

    #[test]
    fn accepts_several_tracestate_headers_but_only_one_traceparent() {
        let found = read(&[("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]).unwrap();
        assert_eq!(found.trace.state(), Some("a=1,b=2"));
        assert_eq!(read(&[("traceparent", PARENT), ("traceparent", PARENT)]), None);
        assert_eq!(read(&[("tracestate", "a=1")]), None);
    }
}
