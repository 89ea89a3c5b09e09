//! The routes of the API and their OpenAPI document.

use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::openapi::document;
use super::resources::{
    agents, deliveries, endpoint_tests, event_batch, event_types, events, me, operations, portal, push_config_history,
    push_configs, push_renewals, push_subscriptions, push_tests, replays, signing_secrets, stats, tokens,
    user_browsers, workspace,
};
use super::server::{docs, health};
use super::state::ApiState;

/// All routes. No other function registers a route, so each route is documented.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    routes_without_push().routes(routes!(push_renewals::renew))
}

/// The routes of a deployment without browser push. Only the route for subscription renewals is missing.
pub(super) fn routes_without_push() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(document::Document::openapi())
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
        .routes(routes!(document::openapi_json))
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
