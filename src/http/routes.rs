//! The routes of the API and their OpenAPI document.

use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

use super::auth::access::{Access, Route, RouteHandler};
use super::openapi::document;
use super::resources::{
    agents, deliveries, endpoint_tests, event_batch, event_types, events, me, operations, portal, push_config_history,
    push_configs, push_renewals, push_subscriptions, push_tests, replays, signing_secrets, stats, tokens,
    user_browsers, workspace,
};
use super::server::{docs, health};
use super::state::ApiState;

/// The routes that were added so far.
pub(super) struct Routes {
    pub(super) router: OpenApiRouter<ApiState>,
    pub(super) list: Vec<Route>,
}

/// A handler's method and path, and who may use it.
macro_rules! route {
    ($($handler:ident)::+) => {
        (routes!($($handler)::+), access_of(&$($handler)::+))
    };
}

fn access_of<Arguments, H: RouteHandler<ApiState, Arguments>>(_handler: &H) -> Access {
    H::ACCESS
}

impl Routes {
    fn with(mut self, (mut route, access): (UtoipaMethodRouter<ApiState>, Access)) -> Self {
        for (template, item) in &mut route.1.paths {
            let operations = document::operations(item);
            self.list.extend(operations.map(|(method, _)| Route { method, template: template.clone(), access }));
        }
        Self { router: self.router.routes(route), ..self }
    }

    /// Splits the routes into the router and the document, which is complete except for the servers.
    pub(super) fn split(self) -> (axum::Router<ApiState>, OpenApi) {
        let (router, mut document) = self.router.split_for_parts();
        document::complete(&mut document, &self.list);
        (router, document)
    }
}

/// All routes. No other function registers a route, so each route is documented.
pub(super) fn routes() -> Routes {
    routes_without_push().with(route!(push_renewals::renew))
}

/// The routes of a deployment without browser push. Only the route for subscription renewals is missing.
pub(super) fn routes_without_push() -> Routes {
    Routes { router: OpenApiRouter::with_openapi(document::Document::openapi()), list: Vec::new() }
        .with(route!(events::post_event))
        .with(route!(event_batch::post_batch))
        .with(route!(deliveries::get_event))
        .with(route!(deliveries::list_deliveries))
        .with(route!(deliveries::get_delivery))
        .with(route!(event_types::list_event_types))
        .with(route!(me::read))
        .with(route!(agents::list))
        .with(route!(tokens::create_token))
        .with(route!(tokens::list_tokens))
        .with(route!(tokens::revoke_token))
        .with(route!(workspace::active_conversations))
        .with(route!(workspace::stream))
        .with(route!(workspace::create_ticket))
        .with(route!(health::livez))
        .with(route!(health::readyz))
        .with(route!(document::openapi_json))
        .with(route!(docs::docs))
        .with(route!(docs::docs_file))
        .with(route!(portal::root))
        .with(route!(portal::without_slash))
        .with(route!(portal::index))
        .with(route!(portal::file))
        .with(route!(portal::file_in_folder))
        .with(route!(push_configs::read))
        .with(route!(push_configs::replace))
        .with(route!(push_configs::patch))
        .with(route!(push_configs::delete))
        .with(route!(push_config_history::list))
        .with(route!(endpoint_tests::test))
        .with(route!(signing_secrets::list))
        .with(route!(signing_secrets::rotate))
        .with(route!(replays::replay_delivery))
        .with(route!(replays::replay_many))
        .with(route!(operations::list))
        .with(route!(operations::read))
        .with(route!(operations::cancel))
        .with(route!(stats::read))
        .with(route!(push_subscriptions::vapid_public_key))
        .with(route!(push_subscriptions::register))
        .with(route!(push_subscriptions::list))
        .with(route!(push_subscriptions::remove))
        .with(route!(push_tests::test))
        .with(route!(user_browsers::list))
        .with(route!(user_browsers::remove))
}
