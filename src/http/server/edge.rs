//! Middleware for every request: sets its id, records a span and metrics, limits its time, and turns a panic into a response.

use std::any::Any;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;
use tracing::Instrument;

use crate::http::auth::own_origin;
use crate::http::clock::now;
use crate::http::request::problem::{Problem, ProblemCode, RETRY_SOON};
use crate::http::server::request_id::{REQUEST_ID, RequestId};
use crate::http::server::request_trace;
use crate::http::state::ApiState;
use crate::supervision::panic_message;
use crate::telemetry::traces::Answered;

/// The `route` label of requests that match no route.
const NO_ROUTE: &str = "none";

/// Runs a request with its id and a timeout, and records it in logs and metrics.
pub(crate) async fn observe(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    let (began, started_at) = (now(), Instant::now());
    let id = RequestId::of(request.headers());
    let method = request.method().clone();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let trace = request_trace::begin(&state.tracer, &mut request, route);
    let trace_id = trace.id().map(tracing::field::display);
    let span = tracing::info_span!("http_request", request.id = %id, trace.id = trace_id, http.method = %method, http.route = route);

    let mut response = match check(&state, &request) {
        Ok(()) => {
            let answer = timeout(state.settings.request_timeout, next.run(request).instrument(span.clone())).await;
            answer.unwrap_or_else(|_elapsed| too_slow().into_response())
        }
        Err(refused) => refused.into_response(),
    };
    name_request(&mut response, id.clone());

    let status = response.status();
    let duration = started_at.elapsed();
    state.metrics.http_request(route, method.as_str(), status.as_u16(), duration);
    let (method, request_id, status_code) = (method.as_str(), id.as_str(), status.as_u16());
    let answered = Answered { method, route, request_id, status: status_code, began, duration };
    request_trace::end(&state.tracer, &trace, answered);
    span.in_scope(|| log(status, duration.as_micros()));
    response
}

/// Rejects a request with too large headers or a too long path. In a demonstration, also rejects a request for another host.
fn check(state: &ApiState, request: &Request) -> Result<(), Problem> {
    if head_bytes(request) > state.settings.head_bytes {
        let detail = format!("the path and the headers may have at most {} bytes in total", state.settings.head_bytes);
        return Err(Problem::new(ProblemCode::HeadersTooLarge).detail(detail));
    }
    own_origin::check_host(&state.settings.own_hosts, request)
}

fn head_bytes(request: &Request) -> usize {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    target + headers.sum::<usize>()
}

/// Responds with 503 to a request on a connection over the limit.
pub(crate) async fn too_many_connections(request: Request) -> Response {
    let id = RequestId::of(request.headers());
    let problem = Problem::new(ProblemCode::Overloaded).detail("too many connections").retry_after(RETRY_SOON);
    let mut response = problem.into_response();
    name_request(&mut response, id);
    response
}

/// The response if a handler timed out. The handler may have committed its changes.
fn too_slow() -> Problem {
    Problem::unavailable().detail("the request took too long; its changes may have been made")
}

/// Adds the request id to the response header and to a problem document. Forbids caching unless the response says otherwise.
fn name_request(response: &mut Response, id: RequestId) {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        *response.body_mut() = problem.document(Some(id.as_str()));
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id.into_header());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// Logs successes and client errors at debug level only.
fn log(status: StatusCode, duration_us: u128) {
    let status = status.as_u16();
    if status >= 500 {
        tracing::warn!(http.status = status, duration_us, "a request failed");
    } else {
        tracing::debug!(http.status = status, duration_us, "responded to a request");
    }
}

/// Logs a panic as an internal error. The client gets 500 without details.
#[expect(clippy::needless_pass_by_value, reason = "CatchPanicLayer requires this function signature")]
pub(crate) fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!(panic = panic_message(&*panic), "a handler panicked");
    Problem::new(ProblemCode::Internal).into_response()
}

pub(crate) async fn not_found() -> Problem {
    Problem::new(ProblemCode::NotFound)
}

pub(crate) async fn method_not_allowed() -> Problem {
    Problem::new(ProblemCode::MethodNotAllowed)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::routing::get;
    use tower::ServiceExt;
    use tower_http::catch_panic::CatchPanicLayer;

    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_a_problem_without_internal_details() {
        async fn panics() {
            panic!("the inside");
        }
        let router: Router = Router::new().route("/", get(panics)).layer(CatchPanicLayer::custom(panicked));
        let response = router.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&document["code"], &document["detail"]), (&"internal".into(), &serde_json::Value::Null));
    }
}
