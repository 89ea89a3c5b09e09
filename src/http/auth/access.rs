//! Who may use a route: the first argument of the route's handler.
//!
//! The argument checks the request, and the OpenAPI document, the list of routes and the tests learn the rule from its type. A
//! handler without such an argument cannot become a route: see [`RouteHandler`].

use std::convert::Infallible;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use axum::handler::Handler;
use axum::http::request::Parts;
use utoipa::openapi::SecurityRequirement;
use utoipa::openapi::path::Operation;

use super::caller::{Authenticator, Caller};
use crate::domain::role::{Permission, Permit, Role};
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

/// Admits every request, even without a credential: the route returns no protected data.
#[derive(Debug)]
pub(crate) struct Anyone;

/// Admits every request. The handler checks a secret in the body.
#[derive(Debug)]
pub(crate) struct SecretInBody;

/// A caller with any valid token, whatever the token's role.
#[derive(Debug)]
pub(crate) struct Authenticated(Caller);

/// A caller whose role has the permission `P`.
#[derive(Debug)]
pub(crate) struct Authorized<P>(Caller, PhantomData<P>);

impl AccessArgument for Anyone {
    const ACCESS: Access = Access::Anyone;
}

impl AccessArgument for SecretInBody {
    const ACCESS: Access = Access::BySecret;
}

impl AccessArgument for Authenticated {
    const ACCESS: Access = Access::AnyRole;
}

impl<P: Permit> AccessArgument for Authorized<P> {
    const ACCESS: Access = Access::With(P::PERMISSION);
}

impl<S: Sync> FromRequestParts<S> for Anyone {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for SecretInBody {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for Authenticated
where
    Arc<Authenticator>: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Arc::<Authenticator>::from_ref(state).caller(parts, Self::ACCESS).await.map(Self)
    }
}

impl<S: Sync, P: Permit> FromRequestParts<S> for Authorized<P>
where
    Arc<Authenticator>: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = Arc::<Authenticator>::from_ref(state).caller(parts, Self::ACCESS).await?;
        Ok(Self(caller, PhantomData))
    }
}

impl Deref for Authenticated {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.0
    }
}

impl<P> Deref for Authorized<P> {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.0
    }
}
