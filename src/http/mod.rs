//! The HTTP API: a file per resource. Knows who asks and what JSON looks like; the rules are the domain's, the SQL is
//! the store's, and events go in through `ingest` alone.

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

/// The bounds of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Largest body of a posted event, in bytes.
    pub event_body_bytes: usize,
    /// Largest body of a batch, in bytes.
    pub batch_body_bytes: usize,
    /// Most events in a batch.
    pub batch_events: usize,
    /// Most events per second of a tenant; `None`: no limit.
    pub tenant_events_per_second: Option<NonZeroU32>,
    /// Most wrong credentials of an address in ten seconds; then it is told to wait.
    pub wrong_credentials: u32,
    /// Proxies whose word about the address of their client is believed.
    pub trusted_proxies: Arc<[IpNet]>,
    /// Largest head of a request, in bytes: its path and its headers.
    pub head_bytes: usize,
    /// Events and deliveries are kept for so many days.
    pub retention_days: u32,
    /// How long a replayed delivery may wait.
    pub replay_expires: Duration,
    /// Longest time for the head of a request to arrive, and for a connection to be idle.
    pub head_timeout: Duration,
    /// Longest time for a request from its head to its answer.
    pub request_timeout: Duration,
    /// Longest time for the body of a request to arrive.
    pub body_timeout: Duration,
    /// Longest time that an answer waits for its client to read on.
    pub write_timeout: Duration,
    /// Longest time for requests to end when the process stops.
    pub drain_timeout: Duration,
    /// Most connections at once; further ones are told to come back, as far as there is room for that.
    pub max_connections: usize,
    /// Whom the portal's sign-in page offers to be, as JSON; `None`: nobody, as everywhere but in a demonstration.
    pub sign_in_choices: Option<String>,
    /// The hosts that requests must name, with their ports; empty: any, as everywhere but in a demonstration.
    pub own_hosts: Arc<[String]>,
    /// The origin under which callers reach the API; `None`: the document names none.
    pub public_url: Option<Url>,
    /// The bounds of the operator workspace's streams, each of which is a connection.
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

/// Every route, with its documentation: a route outside of this is not documented, so there is none.
fn routes() -> OpenApiRouter<ApiState> {
    routes_without_push().routes(routes!(push_renewals::renew))
}

/// The routes of a deployment without browser push: what strangers may send to is absent then.
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

/// The metrics, and whether the process lives, for a listener of their own: they are for operators, not for callers.
pub fn metrics_router(metrics: Metrics, stage: Stage) -> Router {
    let render = || async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render()) };
    let livez = || async move { health::liveness(&stage) };
    Router::new().route("/metrics", get(render)).route("/livez", get(livez)).fallback(edge::not_found)
}

/// The OpenAPI document as JSON text; `public_url` is the origin under which callers reach the API.
pub fn openapi_json(public_url: Option<&Url>) -> String {
    let mut document = routes().into_openapi();
    openapi::complete(&mut document, public_url);
    // Text keys only: this cannot fail, and the tests read the document.
    document.to_pretty_json().unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "requests happen now: here the clock is read for all that they lead to")]
fn now() -> DateTime<Utc> {
    Utc::now()
}
