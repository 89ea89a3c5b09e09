//! Who asks: the bearer token of a request, and what it may do.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use url::form_urlencoded;

use super::now;
use super::problem::{Problem, ProblemCode};
use super::state::ApiState;
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::names::TenantId;
use crate::domain::role::{Permission, Role};
use crate::domain::token::{Token, TokenScope, TokenSecret};

/// The query parameter by which a token for all tenants names one.
pub(super) const TENANT_PARAMETER: &str = "tenant_id";

/// The authenticated caller of a request.
#[derive(Debug, Clone)]
pub struct Caller {
    token: Arc<Token>,
    actor: String,
    tenant: Option<TenantId>,
}

impl Caller {
    pub fn role(&self) -> Role {
        self.token.role
    }

    /// 403 unless the caller's role has the permission.
    pub fn require(&self, permission: Permission) -> Result<(), Problem> {
        if self.may(permission) {
            return Ok(());
        }
        let detail = format!("the role {} may not do this", self.role().as_str());
        Err(Problem::new(ProblemCode::Forbidden).detail(detail))
    }

    /// Whether the caller's role has the permission.
    pub fn may(&self, permission: Permission) -> bool {
        self.role().may(permission)
    }

    /// The tenant that the request is about; `None`: the caller speaks for all tenants and has named none.
    pub fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    /// The tenant of a request about one tenant's things. A token for all tenants names it by `?tenant_id=`.
    pub fn own_tenant(&self) -> Result<&TenantId, Problem> {
        self.tenant.as_ref().ok_or_else(|| {
            Problem::new(ProblemCode::TenantRequired)
                .detail("the token speaks for all tenants: name one by the query parameter tenant_id")
        })
    }

    /// Who did it, for histories: the id of the token.
    pub fn actor(&self) -> &str {
        &self.actor
    }
}

impl FromRequestParts<ApiState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let secret = bearer(&parts.headers)?;
        let token = state.tokens.find(&state.db, &state.tasks, secret.hash()).await?;
        // Unknown, expired and revoked look the same from outside.
        let token = token.filter(|token| token.is_valid(now())).ok_or_else(unauthorized)?;
        let tenant = tenant(&token.scope, parts.uri.query())?;
        Ok(Self { actor: token.id.to_string(), token, tenant })
    }
}

fn unauthorized() -> Problem {
    Problem::new(ProblemCode::Unauthorized).detail("the token is unknown, expired or revoked")
}

/// The token of `Authorization: Bearer ...`; the scheme's name is without case (RFC 9110, 11.1).
fn bearer(headers: &HeaderMap) -> Result<TokenSecret, Problem> {
    let missing = || Problem::new(ProblemCode::Unauthorized).detail("send Authorization: Bearer and a token");
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or_else(missing)?;
    if values.next().is_some() {
        return Err(Problem::new(ProblemCode::Unauthorized).detail("send one Authorization header"));
    }
    let (scheme, text) = value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(missing());
    }
    TokenSecret::parse(text.trim()).ok_or_else(unauthorized)
}

/// The tenant that the request is about. Only a token for all tenants may name one.
fn tenant(scope: &TokenScope, query: Option<&str>) -> Result<Option<TenantId>, Problem> {
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let mut named = pairs.filter(|(name, _)| name == TENANT_PARAMETER).map(|(_, value)| value.into_owned());
    let fault = |code, message: String| Problem::invalid(vec![Fault::new(TENANT_PARAMETER, code, message)]);
    match (scope, named.next()) {
        (TokenScope::Tenant(tenant), None) => Ok(Some(tenant.clone())),
        (TokenScope::Tenant(_), Some(_)) => {
            Err(fault(FaultCode::NotAllowed, "is only for tokens that speak for all tenants".into()))
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
