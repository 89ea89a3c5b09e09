//! API tokens: admins create, list and revoke them.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::domain::ids::TokenId;
use crate::domain::page::{Cursor, PageRows};
use crate::domain::role::Role;
use crate::domain::role::permissions::ManageTokens;
use crate::domain::token::{NewToken, Token, TokenName, TokenScope};
use crate::http::auth::authorized::Authorized;
use crate::http::auth::caller::Caller;
use crate::http::clock::now;
use crate::http::openapi::parameter_docs::{OfPage, OfTenant};
use crate::http::request::body::JsonBody;
use crate::http::request::fields::read;
use crate::http::request::parameters::{NoParameters, Parameters};
use crate::http::request::path::PathName;
use crate::http::request::problem::{Problem, ProblemCode};
use crate::http::request::request_body::request_body;
use crate::http::request::values::Whole;
use crate::http::state::ApiState;
use crate::store::tokens::{self, CreateTokenError};

/// Maximum lifetime of a token that expires.
const MAX_LIFE_SECONDS: u64 = 10 * 365 * 24 * 3600;

request_body! {
    /// The token to create.
    #[example = json!({"name": "conversation service", "role": "service", "expires_in_seconds": 2_592_000})]
    pub(crate) struct TokenRequest {
        /// The name shown to users.
        name: TokenName,
        role: Role,
        /// Default: the token is valid until it is revoked.
        expires_in_seconds: Option<Whole<u32, 1, MAX_LIFE_SECONDS>>,
    }
}

/// A token without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenView {
    id: TokenId,
    name: String,
    role: Role,
    /// Null if the token is valid for all tenants.
    tenant_id: Option<String>,
    /// The token's creator: an API token's id, or the prefix `user:` and a user's claim `sub`; null if an operator
    /// created the token on the command line.
    created_by: Option<String>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
    /// Rounded to the minute.
    last_used_at: Option<DateTime<Utc>>,
}

impl From<Token> for TokenView {
    fn from(token: Token) -> Self {
        Self {
            id: token.id,
            name: token.name.as_str().to_owned(),
            role: token.role,
            tenant_id: token.scope.tenant().map(|tenant| tenant.as_str().to_owned()),
            created_by: token.created_by,
            created_at: token.created_at,
            expires_at: token.expires_at,
            revoked_at: token.revoked_at,
            last_used_at: token.last_used_at,
        }
    }
}

/// A new token. No other response contains the text of the token.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedToken {
    id: TokenId,
    /// The bearer token for the header `Authorization`. The token is never shown again.
    token: String,
}

/// A page of tokens, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenPage {
    data: Vec<TokenView>,
    /// Cursor of the next page; null on the last page.
    next_cursor: Option<String>,
}

/// Creates a token for the caller's tenant. If the caller's token is valid for all tenants and the request names no tenant, the
/// new token is valid for all tenants, too.
#[utoipa::path(
    post,
    path = "/v1/tokens",
    tag = "Tokens",
    params(OfTenant),
    request_body = TokenRequest,
    responses(
        (status = 201, description = "Created", body = CreatedToken),
    ),
)]
pub(crate) async fn create_token(
    caller: Authorized<ManageTokens>,
    State(state): State<ApiState>,
    _: NoParameters,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<CreatedToken>), Problem> {
    let new = new_token(body, &caller, now())?;
    let (id, secret) = tokens::create(&state.db, &new).await.map_err(|error| match error {
        CreateTokenError::Database(error) => Problem::from(error),
        CreateTokenError::Random(error) => {
            tracing::error!(%error, "could not create a token: no random bytes");
            Problem::new(ProblemCode::Internal)
        }
    })?;
    tracing::info!(token.id = %id, token.role = new.role.as_str(), actor = caller.actor(), "created a token");
    Ok((StatusCode::CREATED, Json(CreatedToken { id, token: secret.expose() })))
}

fn new_token(body: Value, caller: &Caller, now: DateTime<Utc>) -> Result<NewToken, Problem> {
    let TokenRequest { name, role, expires_in_seconds } = read(body, "").map_err(Problem::invalid)?;
    let expires_at = expires_in_seconds.map(|Whole(seconds)| now + TimeDelta::seconds(seconds.into()));
    let scope = TokenScope::from_tenant(caller.tenant().cloned());
    Ok(NewToken { name, role, scope, expires_at, created_by: Some(caller.actor().to_owned()) })
}

/// Lists the tenant's tokens, including revoked and expired tokens. If the caller's token is valid for all tenants and the
/// request names no tenant, lists the tokens of all tenants.
#[utoipa::path(
    get,
    path = "/v1/tokens",
    tag = "Tokens",
    params(
        OfPage,
        OfTenant,
    ),
    responses(
        (status = 200, description = "A page of tokens", body = TokenPage),
    ),
)]
pub(crate) async fn list_tokens(
    caller: Authorized<ManageTokens>,
    State(state): State<ApiState>,
    mut parameters: Parameters,
) -> Result<Json<TokenPage>, Problem> {
    let rows = parameters.parsed("limit", |text| PageRows::parse(&text)).unwrap_or_default();
    let cursor = parameters.parsed("cursor", |text| Cursor::parse(&text));
    parameters.finish()?;
    let page = tokens::list(&state.db, caller.tenant(), cursor, rows).await?;
    Ok(Json(TokenPage {
        data: page.rows.into_iter().map(TokenView::from).collect(),
        next_cursor: page.next.map(|cursor| cursor.to_string()),
    }))
}

/// Revokes a token. This process rejects the token at once, and other processes reject it within a second. The request can be
/// repeated safely.
#[utoipa::path(
    delete,
    path = "/v1/tokens/{id}",
    tag = "Tokens",
    params(
        ("id" = TokenId, Path),
        OfTenant,
    ),
    responses(
        (status = 204, description = "Revoked"),
    ),
)]
pub(crate) async fn revoke_token(
    caller: Authorized<ManageTokens>,
    State(state): State<ApiState>,
    _: NoParameters,
    name: PathName,
) -> Result<StatusCode, Problem> {
    let id: TokenId = name.id()?;
    if !tokens::revoke(&state.db, caller.tenant(), id).await? {
        return Err(Problem::new(ProblemCode::NotFound));
    }
    state.auth.tokens.forget(id);
    tracing::info!(token.id = %id, actor = caller.actor(), "revoked a token");
    Ok(StatusCode::NO_CONTENT)
}
