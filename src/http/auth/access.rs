//! A table with the access rule of each route. The handlers' checks and the OpenAPI document use the table.
//!
//! A `Caller` value exists only after an access check. Requests to a route that is missing from the table are rejected.

use axum::extract::MatchedPath;
use axum::http::request::Parts;
use utoipa::openapi::SecurityRequirement;
use utoipa::openapi::path::Operation;

use crate::domain::role::{Permission, Role};
use crate::http::request::problem::{Problem, ProblemCode};

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Any caller, even without a credential: the route returns no protected data.
    Anyone,
    /// A caller with any valid token, whatever the token's role.
    AnyRole,
    With(Permission),
    /// A caller whose role has the permission. The caller may send a ticket instead of a token.
    ByTicket(Permission),
    /// A caller that sends a secret in the body, such as a browser's service worker while no user is signed in.
    BySecret,
}

use Access::{AnyRole, Anyone, BySecret, ByTicket, With};
use Permission::{
    EditConfigs, ManageBrowsers, ManageTokens, PostEvents, ReadConfigs, ReadDeliveries, Replay, SubscribeBrowsers,
    TestEndpoint, UseWorkspace,
};

const PUSH_CONFIG: &str = "/v1/agents/{agent_id}/push-config";
const SIGNING_SECRET: &str = "/v1/agents/{agent_id}/push-config/signing-secret";
const ROTATE: &str = "/v1/agents/{agent_id}/push-config/signing-secret/rotate";

/// The method, path template and access rule of each route.
const ROUTES: &[(&str, &str, Access)] = &[
    // The busiest routes come first, because a lookup scans the table from the top.
    ("POST", "/v1/events", With(PostEvents)),
    ("POST", "/v1/events/batch", With(PostEvents)),
    ("GET", "/v1/events/{id}", With(ReadDeliveries)),
    ("GET", "/v1/deliveries", With(ReadDeliveries)),
    ("GET", "/v1/deliveries/{id}", With(ReadDeliveries)),
    ("POST", "/v1/deliveries/{id}/replay", With(Replay)),
    ("GET", "/v1/agents/{agent_id}/stats", With(ReadDeliveries)),
    ("POST", "/v1/agents/{agent_id}/replays", With(Replay)),
    ("GET", "/v1/operations", With(Replay)),
    ("GET", "/v1/operations/{id}", With(Replay)),
    ("POST", "/v1/operations/{id}/cancel", With(Replay)),
    ("GET", "/v1/agents", With(ReadConfigs)),
    ("GET", PUSH_CONFIG, With(ReadConfigs)),
    ("PUT", PUSH_CONFIG, With(EditConfigs)),
    ("PATCH", PUSH_CONFIG, With(EditConfigs)),
    ("DELETE", PUSH_CONFIG, With(EditConfigs)),
    ("GET", "/v1/agents/{agent_id}/push-config/history", With(ReadConfigs)),
    ("POST", "/v1/agents/{agent_id}/push-config/test", With(TestEndpoint)),
    ("GET", SIGNING_SECRET, With(ReadConfigs)),
    ("POST", ROTATE, With(EditConfigs)),
    ("GET", "/v1/workspace/active-conversations", With(UseWorkspace)),
    ("GET", "/v1/workspace/stream", ByTicket(UseWorkspace)),
    ("POST", "/v1/workspace/stream-tickets", With(UseWorkspace)),
    ("GET", "/v1/me", AnyRole),
    ("GET", "/v1/push/vapid-public-key", AnyRole),
    ("PUT", "/v1/me/push-subscriptions", With(SubscribeBrowsers)),
    ("GET", "/v1/me/push-subscriptions", With(SubscribeBrowsers)),
    ("DELETE", "/v1/me/push-subscriptions/{id}", With(SubscribeBrowsers)),
    ("POST", "/v1/me/push-subscriptions/{id}/test", With(SubscribeBrowsers)),
    ("GET", "/v1/users/{user_id}/push-subscriptions", With(ManageBrowsers)),
    ("DELETE", "/v1/users/{user_id}/push-subscriptions/{id}", With(ManageBrowsers)),
    ("POST", "/v1/push/renewals", BySecret),
    ("POST", "/v1/tokens", With(ManageTokens)),
    ("GET", "/v1/tokens", With(ManageTokens)),
    ("DELETE", "/v1/tokens/{id}", With(ManageTokens)),
    ("GET", "/v1/event-types", AnyRole),
    ("GET", "/v1/openapi.json", Anyone),
    ("GET", "/docs", Anyone),
    ("GET", "/docs/{file}", Anyone),
    ("GET", "/", Anyone),
    ("GET", "/portal", Anyone),
    ("GET", "/portal/", Anyone),
    ("GET", "/portal/{file}", Anyone),
    ("GET", "/portal/{folder}/{file}", Anyone),
    ("GET", "/livez", Anyone),
    ("GET", "/readyz", Anyone),
];

pub fn of(method: &str, template: &str) -> Option<Access> {
    let line = ROUTES.iter().find(|(known, path, _)| *path == template && *known == method);
    line.map(|(_, _, access)| *access)
}

pub fn routes() -> &'static [(&'static str, &'static str, Access)] {
    ROUTES
}

impl Access {
    pub fn allows(self, role: Role) -> bool {
        match self {
            Anyone | AnyRole | BySecret => true,
            With(permission) | ByTicket(permission) => role.may(permission),
        }
    }
}

/// Returns 403 unless the role may use the requested route.
pub(crate) fn check(parts: &Parts, role: Role) -> Result<(), Problem> {
    let access = of_request(parts)?;
    if access.allows(role) { Ok(()) } else { Err(forbidden(role)) }
}

/// Returns 403 unless a ticket for this role may open the requested route.
pub(crate) fn check_ticket(parts: &Parts, role: Role) -> Result<(), Problem> {
    match of_request(parts)? {
        ByTicket(permission) if role.may(permission) => Ok(()),
        Anyone | AnyRole | BySecret | With(_) | ByTicket(_) => Err(forbidden(role)),
    }
}

fn of_request(parts: &Parts) -> Result<Access, Problem> {
    let template = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    // A HEAD request needs the same permission as a GET request.
    let method = if parts.method == "HEAD" { "GET" } else { parts.method.as_str() };
    of(method, template).ok_or_else(|| {
        tracing::error!(http.method = method, http.route = template, "a route is missing from the access table");
        Problem::new(ProblemCode::Internal)
    })
}

fn forbidden(role: Role) -> Problem {
    Problem::new(ProblemCode::Forbidden).detail(format!("the role {} may not use this route", role.as_str()))
}

/// Documents the roles that may use an operation, as text and as scopes (OpenAPI 3.1, Security Requirement Object).
pub(crate) fn note(operation: &mut Operation, access: Access) {
    let (roles, words) = match access {
        Anyone | BySecret => {
            operation.security = Some(Vec::new());
            return;
        }
        AnyRole => (Role::ALL.as_slice(), "any".to_owned()),
        With(permission) | ByTicket(permission) => {
            let roles = permission.roles();
            (roles, roles.iter().map(|role| format!("`{}`", role.as_str())).collect::<Vec<_>>().join(", "))
        }
    };
    let names = roles.iter().map(|role| role.as_str());
    let ticket = matches!(access, ByTicket(_)).then_some("ticket");
    let kinds = ["token", "person"].into_iter().chain(ticket);
    operation.security = Some(kinds.map(|kind| SecurityRequirement::new(kind, names.clone())).collect());
    let note = format!("Roles: {words}.");
    operation.description = Some(match operation.description.take() {
        Some(text) if !text.is_empty() => format!("{text}\n\n{note}"),
        Some(_) | None => note,
    });
}
