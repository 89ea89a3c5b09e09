//! The arguments of handlers that check whether the caller may use the route.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;

use super::access::{Access, AccessArgument};
use super::caller::{Authenticator, Caller};
use crate::domain::role::Permit;
use crate::http::request::problem::Problem;

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
