//! Generates the OpenAPI document from the handlers.

use axum::Extension;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use bytes::Bytes;
use url::Url;
use utoipa::Modify;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{OpenApi, PathItem, ServerBuilder};

use crate::http::auth::access::Route;
use crate::http::auth::authorized::Anyone;
use crate::http::openapi::examples::Examples;
use crate::http::openapi::refusals;
use crate::http::request::parameters::TICKET_PARAMETER;
use crate::http::request::problem::ProblemDocument;

/// General information in the document.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "flametree-notify",
        description = "Turns session events into webhooks and browser pushes. Each delivery is attempted once and ends \
            in exactly one outcome.",
    ),
    components(schemas(ProblemDocument<'static>)),
    tags(
        (name = "Events", description = "Posted by platform services."),
        (name = "Push configs", description = "Webhook settings of agents, set by admins."),
        (name = "Deliveries", description = "Outcomes of events."),
        (name = "Operator workspace", description = "Sessions that wait for a human operator or are with one."),
        (name = "Operations", description = "Replays of many deliveries, and scheduled maintenance."),
        (name = "Browser push", description = "Notifications in users' browsers."),
        (name = "Tokens", description = "Access to this API."),
        (name = "Portal", description = "Web pages for users."),
        (name = "Service", description = "Health and documentation."),
    ),
    modifiers(&Credentials),
)]
pub(crate) struct Document;

/// The authentication methods. Each route lists those that it accepts.
struct Credentials;

impl Modify for Credentials {
    fn modify(&self, document: &mut OpenApi) {
        let bearer = |description| Http::builder().scheme(HttpAuthScheme::Bearer).description(Some(description));
        let token = bearer("A service's API token: `ftn_` and 48 characters.").build();
        let person = bearer(
            "A portal user's token, signed by the identity provider of the deployment, with the claims `sub`, \
             `tenant_id`, `role` and `exp`.",
        );
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(token));
        components.add_security_scheme("person", SecurityScheme::Http(person.bearer_format("JWT").build()));
        let ticket = "A ticket from `POST /v1/workspace/stream-tickets`, valid for one stream.";
        let ticket = ApiKey::Query(ApiKeyValue::with_description(TICKET_PARAMETER, ticket));
        components.add_security_scheme("ticket", SecurityScheme::ApiKey(ticket));
    }
}

/// Sets the servers of the document. `public_url` is the origin under which callers reach the API.
pub(crate) fn name_servers(document: &mut OpenApi, public_url: Option<&Url>) {
    document.servers = public_url.map(|url| {
        let server = |url: String, words| ServerBuilder::new().url(url).description(Some(words)).build();
        let origin = url.origin().ascii_serialization();
        vec![server(origin, "Where callers reach the API."), server("/".to_owned(), "The server of this document.")]
    });
}

/// Adds the access rule, the refusals and the response examples to each route.
pub(crate) fn complete(document: &mut OpenApi, routes: &[Route]) {
    refusals::define(document.components.get_or_insert_default());
    let examples = Examples::read();
    for route in routes {
        let item = document.paths.paths.get_mut(&route.template).into_iter();
        for (_, operation) in item.flat_map(operations).filter(|(method, _)| *method == route.method) {
            route.access.note(operation);
            refusals::add_shared(operation, route.access);
            examples.add_to(operation);
        }
    }
}

pub(crate) fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    let all = [("GET", get), ("PUT", put), ("POST", post), ("DELETE", delete), ("PATCH", patch)];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// The OpenAPI document as it is served.
#[derive(Debug, Clone)]
pub(crate) struct ApiDocument(pub(crate) Bytes);

/// Returns this document.
#[utoipa::path(
    get,
    path = "/v1/openapi.json",
    tag = "Service",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = serde_json::Value,
        example = json!({"openapi": "3.1.0", "info": {"title": "flametree-notify", "version": "1.0.0"}, "paths": {}}))),
)]
pub(crate) async fn openapi_json(_: Anyone, Extension(document): Extension<ApiDocument>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], document.0)
}
