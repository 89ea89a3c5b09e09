//! Who may use a route. The rule is the type of the first argument of the route's handler (`authorized.rs`).
//!
//! The argument checks the request, and the OpenAPI document, the list of routes and the tests learn the rule from its type. A
//! handler without such an argument cannot become a route: see [`RouteHandler`].

use axum::handler::Handler;
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

impl Access {
    pub fn allows(self, role: Role) -> bool {
        match self {
            Self::Anyone | Self::AnyRole | Self::BySecret => true,
            Self::With(permission) | Self::ByTicket(permission) => role.may(permission),
        }
    }

    /// Returns 403 unless the role may use the route.
    pub(crate) fn check(self, role: Role) -> Result<(), Problem> {
        if self.allows(role) {
            return Ok(());
        }
        let detail = format!("the role {} may not use this route", role.as_str());
        Err(Problem::new(ProblemCode::Forbidden).detail(detail))
    }

    /// Documents the roles that may use an operation, as text and as scopes (OpenAPI 3.1, Security Requirement Object).
    pub(crate) fn note(self, operation: &mut Operation) {
        let (roles, words) = match self {
            Self::Anyone | Self::BySecret => {
                operation.security = Some(Vec::new());
                return;
            }
            Self::AnyRole => (Role::ALL.as_slice(), "any".to_owned()),
            Self::With(permission) | Self::ByTicket(permission) => {
                let roles = permission.roles();
                (roles, roles.iter().map(|role| format!("`{}`", role.as_str())).collect::<Vec<_>>().join(", "))
            }
        };
        let names = roles.iter().map(|role| role.as_str());
        let ticket = matches!(self, Self::ByTicket(_)).then_some("ticket");
        let kinds = ["token", "person"].into_iter().chain(ticket);
        operation.security = Some(kinds.map(|kind| SecurityRequirement::new(kind, names.clone())).collect());
        let note = format!("Roles: {words}.");
        operation.description = Some(match operation.description.take() {
            Some(text) if !text.is_empty() => format!("{text}\n\n{note}"),
            Some(_) | None => note,
        });
    }
}

/// A route of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub method: &'static str,
    /// The path, with parameters in braces.
    pub template: String,
    pub access: Access,
}

/// The argument of a handler that says who may use the route.
pub(crate) trait AccessArgument {
    const ACCESS: Access;
}

/// A handler whose first argument is an [`AccessArgument`]. `S` is the state, `Arguments` are the types of all arguments.
pub(crate) trait RouteHandler<S, Arguments> {
    const ACCESS: Access;
}

macro_rules! handlers {
    ($(($($argument:ident),*))+) => {$(
        impl<H, M, A: AccessArgument, S, $($argument),*> RouteHandler<S, (M, A, $($argument,)*)> for H
        where
            H: Handler<(M, A, $($argument,)*), S>,
        {
            const ACCESS: Access = A::ACCESS;
        }
    )+};
}

handlers! { () (B) (B, C) (B, C, D) (B, C, D, E) (B, C, D, E, F) }
