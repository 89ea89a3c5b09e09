//! The OpenAPI document, made from the handlers themselves.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::problem::ProblemDocument;
use super::state::ApiState;
use super::workspace::TICKET_PARAMETER;

/// What the document says besides the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "flametree-notify",
        description = "Turns session events into webhooks and browser pushes. Each delivery is attempted once and ends \
            in exactly one outcome.",
    ),
    components(schemas(ProblemDocument<'static>)),
    tags(
        (name = "Events", description = "Posted by platform services."),
        (name = "Push configs", description = "Where an agent's events go, set by admins."),
        (name = "Deliveries", description = "What became of events."),
        (name = "Operator workspace", description = "What waits for human operators, or is with them."),
        (name = "Operations", description = "Replays of many deliveries, and what schedules did."),
        (name = "Browser push", description = "Notifications to people, in their browsers."),
        (name = "Tokens", description = "Who may use this API."),
        (name = "Service", description = "Health and documentation."),
    ),
    modifiers(&Credentials),
)]
pub(super) struct Document;

/// Who may use a route stands at the route, from the table in `access.rs`.
struct Credentials;

impl Modify for Credentials {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = |description| Http::builder().scheme(HttpAuthScheme::Bearer).description(Some(description));
        let token = bearer("A service's API token: `ftn_` and 43 characters.").build();
        let person = bearer(
            "A portal user's token, signed by the identity provider of the deployment, with the claims `sub`, \
             `tenant_id`, `role` and `exp`.",
        );
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(token));
        components.add_security_scheme("person", SecurityScheme::Http(person.bearer_format("JWT").build()));
        let ticket = "A ticket from `POST /v1/workspace/stream-tickets`, for one stream, once.";
        let ticket = ApiKey::Query(ApiKeyValue::with_description(TICKET_PARAMETER, ticket));
        components.add_security_scheme("ticket", SecurityScheme::ApiKey(ticket));
    }
}

/// This document.
#[utoipa::path(
    get,
    path = "/v1/openapi.json",
    tag = "Service",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = serde_json::Value)),
)]
pub(super) async fn openapi_json(State(state): State<ApiState>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], state.document)
}
