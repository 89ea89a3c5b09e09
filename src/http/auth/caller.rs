//! Authentication and authorization: identifies a service by its API token or a user by a JWT, and checks the route's access
//! rule.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use tokio_util::task::TaskTracker;
use url::form_urlencoded;

use super::access::Access;
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::names::{TenantId, UserId};
use crate::domain::role::{Permission, Role};
use crate::domain::token::{Token, TokenScope, TokenSecret};
use crate::http::auth::throttle::{AuthThrottle, Peer};
use crate::http::auth::token_cache::TokenCache;
use crate::http::clock::now;
use crate::http::request::parameters::TENANT_PARAMETER;
use crate::http::request::problem::{Problem, ProblemCode};
use crate::store::Db;
use crate::users::{Person, Refusal, UserAuthenticator};

/// The peer address for requests that have no connection, such as requests in tests.
const NO_PEER: Peer = Peer(IpAddr::V4(Ipv4Addr::UNSPECIFIED));

/// The authenticated caller of a request. The caller may use the requested route.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    identity: Identity,
    actor: String,
    tenant: Option<TenantId>,
}

#[derive(Debug, Clone)]
enum Identity {
    Token(Arc<Token>),
    Person(Person),
}

impl Caller {
    pub(crate) fn role(&self) -> Role {
        self.identity.role()
    }

    /// Whether the caller's role has the permission. Access to the route has already been checked.
    pub(crate) fn may(&self, permission: Permission) -> bool {
        self.role().may(permission)
    }

    /// The tenant that the request is about; `None` if the token is valid for all tenants and the request names no tenant.
    pub(crate) fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    /// The tenant that the request is about. Fails if the token is valid for all tenants and the request names no tenant.
    pub(crate) fn own_tenant(&self) -> Result<&TenantId, Problem> {
        self.tenant.as_ref().ok_or_else(|| {
            Problem::new(ProblemCode::TenantRequired)
                .detail("the token is valid for all tenants: name a tenant in the query parameter tenant_id")
        })
    }

    /// The user who sent the request; `None` if a service sent it.
    pub(crate) fn user(&self) -> Option<&UserId> {
        match &self.identity {
            Identity::Token(_) => None,
            Identity::Person(person) => Some(&person.user),
        }
    }

    /// The expiry time of the caller's credential; `None` if the credential is valid until it is revoked.
    pub(crate) fn valid_until(&self) -> Option<DateTime<Utc>> {
        match &self.identity {
            Identity::Token(token) => token.expires_at,
            Identity::Person(person) => Some(person.until),
        }
    }

    /// The actor for histories and logs: the id of an API token, or the prefix `user:` and the user's claim `sub`.
    pub(crate) fn actor(&self) -> &str {
        &self.actor
    }
}

impl Identity {
    fn role(&self) -> Role {
        match self {
            Self::Token(token) => token.role,
            Self::Person(person) => person.role,
        }
    }

    fn actor(&self) -> String {
        match self {
            Self::Token(token) => token.id.to_string(),
            Self::Person(person) => format!("user:{}", person.user),
        }
    }
}

/// Identifies callers by their credentials.
#[derive(Debug)]
pub(crate) struct Authenticator {
    pub(crate) db: Db,
    pub(crate) tokens: TokenCache,
    pub(crate) throttle: AuthThrottle,
    /// Verifies the tokens of portal users; `None` if the deployment has no portal users.
    pub(crate) users: Option<Arc<UserAuthenticator>>,
    /// Runs look-ups that outlive a request.
    pub(crate) tasks: TaskTracker,
}

impl Authenticator {
    /// Identifies the caller and checks whether the caller's role may use a route with this access rule.
    pub(crate) async fn caller(&self, parts: &Parts, access: Access) -> Result<Caller, Problem> {
        let credential = bearer(&parts.headers)?;
        let peer = parts.extensions.get::<Peer>().copied().unwrap_or(NO_PEER);
        let identity = match TokenSecret::parse(credential) {
            Some(secret) => Identity::Token(self.service(peer, &secret).await?),
            // A token with a wrong checksum needs no database lookup, so it does not count as a wrong credential.
            None if TokenSecret::is_of_kind(credential) => return Err(unauthorized()),
            None => Identity::Person(self.person(peer, credential).await?),
        };
        access.check(identity.role())?;
        let tenant = match &identity {
            Identity::Token(token) => tenant(&token.scope, parts.uri.query())?,
            Identity::Person(person) => tenant(&TokenScope::Tenant(person.tenant.clone()), parts.uri.query())?,
        };
        Ok(Caller { actor: identity.actor(), identity, tenant })
    }

    /// Looks up an API token by its secret. Unknown, expired and revoked tokens get the same response.
    async fn service(&self, peer: Peer, secret: &TokenSecret) -> Result<Arc<Token>, Problem> {
        let doubt = self.throttle.check(peer, Instant::now()).err();
        let token = self.tokens.find(&self.db, &self.tasks, secret.hash(), doubt).await?;
        token.filter(|token| token.is_valid(now())).ok_or_else(|| self.wrong(peer, unauthorized()))
    }

    async fn person(&self, peer: Peer, token: &str) -> Result<Person, Problem> {
        let Some(users) = &self.users else { return Err(self.wrong(peer, unauthorized())) };
        users.identify(token).await.map_err(|refusal| {
            tracing::debug!(reason = %refusal, "rejected a user token");
            match refusal {
                Refusal::KeysUnavailable => Problem::unavailable().detail("the token cannot be verified at the moment"),
                // Report the expiry only to a caller whose token was valid until it expired.
                Refusal::Expired => expired(),
                Refusal::Invalid(_) => self.wrong(peer, unauthorized()),
            }
        })
    }

    fn wrong(&self, peer: Peer, refused: Problem) -> Problem {
        self.throttle.wrong(peer, Instant::now(), refused)
    }
}

pub(crate) fn expired() -> Problem {
    Problem::new(ProblemCode::Unauthorized).detail("the token has expired")
}

fn unauthorized() -> Problem {
    Problem::new(ProblemCode::Unauthorized).detail("the token is unknown, expired or revoked")
}

/// The token in the header `Authorization`. The scheme `Bearer` is case-insensitive (RFC 9110, 11.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let missing = || Problem::new(ProblemCode::Unauthorized).detail("send `Authorization: Bearer <token>`");
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or_else(missing)?;
    if values.next().is_some() {
        return Err(Problem::new(ProblemCode::Unauthorized).detail("send only one Authorization header"));
    }
    let (scheme, text) = value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(missing());
    }
    Ok(text.trim())
}

/// The tenant that the request is about. Only requests with a token for all tenants may name a tenant.
fn tenant(scope: &TokenScope, query: Option<&str>) -> Result<Option<TenantId>, Problem> {
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let mut named = pairs.filter(|(name, _)| name == TENANT_PARAMETER).map(|(_, value)| value.into_owned());
    let fault = |code, message: String| Problem::invalid(vec![Fault::new(TENANT_PARAMETER, code, message)]);
    match (scope, named.next()) {
        (TokenScope::Tenant(tenant), None) => Ok(Some(tenant.clone())),
        (TokenScope::Tenant(_), Some(_)) => {
            Err(fault(FaultCode::NotAllowed, "is only for tokens that are valid for all tenants".into()))
        }
        (TokenScope::AllTenants, None) => Ok(None),
        (TokenScope::AllTenants, Some(_)) if named.next().is_some() => {
            Err(fault(FaultCode::Duplicate, "must be given once".into()))
        }
        (TokenScope::AllTenants, Some(name)) => {
            let tenant = TenantId::parse(name).map_err(|error| fault(FaultCode::InvalidValue, error.to_string()))?;
            Ok(Some(tenant))
        }
    }
}
