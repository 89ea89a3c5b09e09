//! The HTTP API. Handles authentication and JSON. Other modules contain the rules (`domain`) and the SQL (`store`), and accept
//! events (`ingest`).
//!
//! - `resources/`: the handlers, a file per resource;
//! - `request/`: reads bodies, parameters and headers, and reports what is wrong with them;
//! - `auth/`: who the caller is, what the caller may do, and how often;
//! - `openapi/`: the OpenAPI document;
//! - `server/`: connections, limits of requests, health, request ids and traces;
//! - `workspace/`: what the streams of operators show.

pub mod auth;
mod clock;
mod openapi;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod request;
mod resources;
mod routes;
mod server;
mod settings;
pub mod state;
pub mod workspace;

use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use axum::{Extension, Router};
use tower_http::catch_panic::CatchPanicLayer;
use url::Url;

pub use auth::access::{Access, Route};
pub use resources::posted_event::parse_event;
pub use server::serve::serve;
pub use settings::Settings;

use crate::supervision::Stage;
use crate::telemetry::metrics::Metrics;
use openapi::document::ApiDocument;
use server::{edge, health};
use state::ApiState;

/// The API.
pub fn router(state: ApiState) -> Router {
    for route in routes() {
        state.metrics.http_route(&route.template, route.method);
    }
    let served = if state.push.is_some() { routes::routes() } else { routes::routes_without_push() };
    let document = ApiDocument(openapi_json(state.settings.public_url.as_ref()).into());
    let (router, _) = served.split();
    router
        .fallback(edge::not_found)
        .method_not_allowed_fallback(edge::method_not_allowed)
        .layer(CatchPanicLayer::custom(edge::panicked))
        .layer(from_fn_with_state(state.clone(), edge::observe))
        .layer(Extension(document))
        .with_state(state)
}

/// All routes, with the rule who may use them.
pub fn routes() -> Vec<Route> {
    routes::routes().list
}

/// The routes for metrics and liveness. They have a separate listener, because they are for operators, not for API callers.
pub fn metrics_router(metrics: Metrics, stage: Stage) -> Router {
    let render = || async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render()) };
    let livez = || async move { health::liveness(&stage) };
    Router::new().route("/metrics", get(render)).route("/livez", get(livez)).fallback(edge::not_found)
}

/// The OpenAPI document as JSON text; `public_url` is the origin under which callers reach the API.
pub fn openapi_json(public_url: Option<&Url>) -> String {
    let (_, mut document) = routes::routes().split();
    openapi::document::name_servers(&mut document, public_url);
    // All keys of the document are strings, so serialization cannot fail.
    document.to_pretty_json().unwrap_or_default()
}
