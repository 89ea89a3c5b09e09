//! The HTTP API: a file per resource. Knows who asks and what JSON looks like; the rules are the domain's, the SQL is
//! the store's, and events go in through `ingest` alone.

pub mod auth;
pub mod body;
mod edge;
mod health;
mod openapi;
mod preconditions;
pub mod problem;
mod push_config_answers;
mod push_configs;
pub mod request_id;
mod schemas;
mod signing_secrets;
pub mod state;
mod token_cache;

use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use state::ApiState;

/// The bounds of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Largest body of a request other than a batch, in bytes.
    pub event_body_bytes: usize,
    /// Largest body of a batch, in bytes.
    pub batch_body_bytes: usize,
    /// Most events in a batch.
    pub batch_events: usize,
    /// Longest time for a request from its head to its answer.
    pub request_timeout: Duration,
    /// Longest time for the body of a request to arrive.
    pub body_timeout: Duration,
    /// Most connections at once; further ones wait in the kernel's queue.
    pub max_connections: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            event_body_bytes: 64 * 1024,
            batch_body_bytes: 1024 * 1024,
            batch_events: 500,
            request_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(10),
            max_connections: 10_000,
        }
    }
}

/// Every route, with its documentation: a route outside of this is not documented, so there is none.
fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(openapi::Document::openapi())
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(openapi::openapi_json))
        .routes(routes!(push_configs::read, push_configs::replace, push_configs::patch, push_configs::delete))
        .routes(routes!(signing_secrets::list))
        .routes(routes!(signing_secrets::rotate))
}

/// The API.
pub fn router(state: ApiState) -> Router {
    Router::from(routes())
        .fallback(edge::not_found)
        .method_not_allowed_fallback(edge::method_not_allowed)
        .layer(CatchPanicLayer::custom(edge::panicked))
        .layer(from_fn_with_state(state.clone(), edge::observe))
        .with_state(state)
}

/// The OpenAPI document as JSON text.
pub fn openapi_json() -> String {
    // Text keys only: this cannot fail, and the tests read the document.
    routes().into_openapi().to_pretty_json().unwrap_or_default()
}
