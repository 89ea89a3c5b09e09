//! The HTTP API, one file per resource. Handles authentication and JSON. Other modules contain the rules (`domain`) and the SQL
//! (`store`), and accept events (`ingest`).

pub mod access;
mod agents;
pub mod auth;
mod auth_throttle;
pub mod body;
mod bounded_writes;
mod client_address;
mod curl;
mod deliveries;
mod delivery_view;
mod docs;
mod edge;
mod endpoint_test_view;
mod endpoint_tests;
mod event_batch;
mod event_types;
mod events;
mod examples;
mod health;
mod me;
mod openapi;
mod operations;
mod own_origin;
mod parameter_docs;
pub mod parameters;
pub mod path;
mod portal;
mod preconditions;
pub mod problem;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod push_config_answers;
mod push_config_history;
mod push_configs;
mod push_renewals;
mod push_subscriptions;
mod push_tests;
mod refusals;
mod replays;
pub mod request_id;
mod request_trace;
mod schemas;
mod serve;
mod shares;
mod signing_secrets;
pub mod state;
mod stats;
mod tenant_rates;
mod token_cache;
mod tokens;
mod user_browsers;
pub mod workspace;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use chrono::{DateTime, Utc};
use ipnet::IpNet;
use tower_http::catch_panic::CatchPanicLayer;
use url::Url;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use serve::serve;

use crate::supervision::Stage;
use crate::telemetry::metrics::Metrics;
use state::ApiState;

/// The limits of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Maximum size of a posted event, in bytes.
    pub event_body_bytes: usize,
    /// Maximum size of a batch, in bytes.
    pub batch_body_bytes: usize,
    /// Maximum number of events in a batch.
    pub batch_events: usize,
    /// Maximum number of events per second and tenant; `None` sets no limit.
    pub tenant_events_per_second: Option<NonZeroU32>,
    /// Maximum number of wrong credentials per address in ten seconds. Further wrong credentials get 429.
    pub wrong_credentials: u32,
    /// Proxies whose reports of client addresses are trusted.
    pub trusted_proxies: Arc<[IpNet]>,
    /// Maximum size of a request's path and headers, in bytes.
    pub head_bytes: usize,
    /// The number of days for which events and deliveries are kept.
    pub retention_days: u32,
    /// How long a replayed delivery may wait to be sent.
    pub replay_expires: Duration,
    /// Timeout for the head of a request to arrive, and for idle connections.
    pub head_timeout: Duration,
    /// Timeout from the head of a request to its response.
    pub request_timeout: Duration,
    /// Timeout for the body of a request to arrive.
    pub body_timeout: Duration,
    /// Timeout for a client to read more of its response.
    pub write_timeout: Duration,
    /// Timeout for open requests when the process stops.
    pub drain_timeout: Duration,
    /// Maximum number of connections. Some connections over the limit get 503.
    pub max_connections: usize,
    /// Users that the portal's sign-in page offers, as JSON; `Some` only in a demonstration.
    pub sign_in_choices: Option<String>,
    /// The hosts, with ports, that requests may name. If empty, requests may name any host. Set only in a demonstration.
    pub own_hosts: Arc<[String]>,
    /// The origin under which callers reach the API; `None` leaves it out of the OpenAPI document.
    pub public_url: Option<Url>,
    /// The limits of operator workspace streams; each stream uses a connection.
    pub workspace: workspace::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            event_body_bytes: 64 * 1024,
            batch_body_bytes: 1024 * 1024,
            batch_events: 500,
            tenant_events_per_second: None,
            wrong_credentials: 100,
            trusted_proxies: Arc::default(),
            head_bytes: 16 * 1024,
            retention_days: 30,
            replay_expires: Duration::from_hours(24),
            head_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(15),
            drain_timeout: Duration::from_secs(20),
            max_connections: 20_000,
            sign_in_choices: None,
            own_hosts: Arc::default(),
            public_url: None,
            workspace: workspace::Settings::default(),
        }
    }
}

/// All routes. No other function registers a route, so each route is documented.
fn routes() -> OpenApiRouter<ApiState> {
    routes_without_push().routes(routes!(push_renewals::renew))
}

/// The routes of a deployment without browser push. Only the route for subscription renewals is missing.
fn routes_without_push() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(openapi::Document::openapi())
        .routes(routes!(events::post_event))
        .routes(routes!(event_batch::post_batch))
        .routes(routes!(deliveries::get_event))
        .routes(routes!(deliveries::list_deliveries))
        .routes(routes!(deliveries::get_delivery))
        .routes(routes!(event_types::list_event_types))
        .routes(routes!(me::read))
        .routes(routes!(agents::list))
        .routes(routes!(tokens::create_token, tokens::list_tokens))
        .routes(routes!(tokens::revoke_token))
        .routes(routes!(workspace::active_conversations))
        .routes(routes!(workspace::stream))
        .routes(routes!(workspace::create_ticket))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(openapi::openapi_json))
        .routes(routes!(docs::docs))
        .routes(routes!(docs::docs_file))
        .routes(routes!(portal::root))
        .routes(routes!(portal::without_slash))
        .routes(routes!(portal::index))
        .routes(routes!(portal::file))
        .routes(routes!(portal::file_in_folder))
        .routes(routes!(push_configs::read, push_configs::replace, push_configs::patch, push_configs::delete))
        .routes(routes!(push_config_history::list))
        .routes(routes!(endpoint_tests::test))
        .routes(routes!(signing_secrets::list))
        .routes(routes!(signing_secrets::rotate))
        .routes(routes!(replays::replay_delivery))
        .routes(routes!(replays::replay_many))
        .routes(routes!(operations::list))
        .routes(routes!(operations::read))
        .routes(routes!(operations::cancel))
        .routes(routes!(stats::read))
        .routes(routes!(push_subscriptions::vapid_public_key))
        .routes(routes!(push_subscriptions::register, push_subscriptions::list))
        .routes(routes!(push_subscriptions::remove))
        .routes(routes!(push_tests::test))
        .routes(routes!(user_browsers::list))
        .routes(routes!(user_browsers::remove))
}

/// The API.
pub fn router(state: ApiState) -> Router {
    for (method, template, _) in access::routes() {
        state.metrics.http_route(template, method);
    }
    let served = if state.push.is_some() { routes() } else { routes_without_push() };
    Router::from(served)
        .fallback(edge::not_found)
        .method_not_allowed_fallback(edge::method_not_allowed)
        .layer(CatchPanicLayer::custom(edge::panicked))
        .layer(from_fn_with_state(state.clone(), edge::observe))
        .with_state(state)
}

/// The routes for metrics and liveness. They have a separate listener, because they are for operators, not for API callers.
pub fn metrics_router(metrics: Metrics, stage: Stage) -> Router {
    let render = || async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render()) };
    let livez = || async move { health::liveness(&stage) };
    Router::new().route("/metrics", get(render)).route("/livez", get(livez)).fallback(edge::not_found)
}

/// The OpenAPI document as JSON text; `public_url` is the origin under which callers reach the API.
pub fn openapi_json(public_url: Option<&Url>) -> String {
    let mut document = routes().into_openapi();
    openapi::complete(&mut document, public_url);
    // All keys of the document are strings, so serialization cannot fail.
    document.to_pretty_json().unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "the only place where request handlers read the clock")]
fn now() -> DateTime<Utc> {
    Utc::now()
}
