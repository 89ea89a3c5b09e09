//! Authenticates watchers by a bearer token or by a ticket. Clients that cannot send headers, such as `EventSource`, send a
//! ticket in the URL.
//!
//! URLs end up in many logs, so a ticket works only once and expires after a minute. Any process accepts it.

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::ids::TokenId;
use crate::domain::role::{Permit as _, permissions::UseWorkspace};
use crate::domain::stream_ticket::TicketSecret;
use crate::domain::workspace::Watcher;
use crate::http::auth::access::{Access, AccessArgument};
use crate::http::auth::authorized::Authorized;
use crate::http::auth::caller::{Caller, expired};
use crate::http::clock::now;
use crate::http::openapi::parameter_docs::OfTenant;
use crate::http::request::parameters::{NoParameters, Parameters, TENANT_PARAMETER, TICKET_PARAMETER};
use crate::http::request::problem::{Problem, ProblemCode};
use crate::http::state::ApiState;
use crate::store::{stream_tickets, tokens};

/// A ticket for one stream.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TicketDocument {
    /// The ticket's text. It is valid for one use: `GET /v1/workspace/stream?ticket=...`.
    #[schema(example = "ftt_hq3vT0mW8yqkXcZ5bR1nUo6eJd9aLs2gPiYf7wKxQ4M")]
    ticket: String,
    expires_at: DateTime<Utc>,
}

/// Creates a ticket that opens one stream of the workspace in the caller's name. The ticket is valid for one use within a minute.
#[utoipa::path(
    post,
    path = "/v1/workspace/stream-tickets",
    operation_id = "create_stream_ticket",
    tag = "Operator workspace",
    params(OfTenant),
    responses(
        (status = 201, description = "Created", body = TicketDocument),
    ),
)]
pub(crate) async fn create_ticket(
    caller: Authorized<UseWorkspace>,
    State(state): State<ApiState>,
    _: NoParameters,
) -> Result<(StatusCode, Json<TicketDocument>), Problem> {
    let watcher = watcher(&caller)?;
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "could not create a ticket: no random bytes");
        Problem::new(ProblemCode::Internal)
    })?;
    let ticket = TicketSecret::from_random(bytes);
    let life = state.settings.workspace.ticket_life;
    let expires_at = stream_tickets::create(&state.db, &ticket, &watcher, life).await?;
    Ok((StatusCode::CREATED, Json(TicketDocument { ticket: ticket.expose(), expires_at })))
}

/// A caller that may open a stream, authenticated by token or ticket.
pub(crate) struct Watching(pub(super) Watcher);

impl AccessArgument for Watching {
    const ACCESS: Access = Access::ByTicket(UseWorkspace::PERMISSION);
}

impl FromRequestParts<ApiState> for Watching {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        let Some(ticket) = Parameters::of(query).take(TICKET_PARAMETER) else {
            let caller = Authorized::<UseWorkspace>::from_request_parts(parts, state).await?;
            return watcher(&caller).map(Self);
        };
        if parts.headers.contains_key(AUTHORIZATION) {
            return Err(Problem::new(ProblemCode::Unauthorized).detail("send a token or a ticket, not both"));
        }
        if url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == TENANT_PARAMETER) {
            return Err(Problem::new(ProblemCode::Unauthorized)
                .detail("do not name a tenant: the ticket determines the tenant"));
        }
        let watcher = redeem(state, &ticket).await?;
        Self::ACCESS.check(watcher.role)?;
        Ok(Self(watcher))
    }
}

fn watcher(caller: &Caller) -> Result<Watcher, Problem> {
    let until = caller.valid_until();
    // JWT validation allows some clock skew, but a stream for an expired token would end at once.
    if until.is_some_and(|until| until <= now()) {
        return Err(expired());
    }
    let tenant = caller.own_tenant()?.clone();
    Ok(Watcher { tenant, role: caller.role(), actor: caller.actor().to_owned(), until })
}

/// The watcher for which the ticket was created, if the token that created the ticket is still valid.
async fn redeem(state: &ApiState, ticket: &str) -> Result<Watcher, Problem> {
    // Unknown, used and expired tickets get the same response.
    let refused = || Problem::new(ProblemCode::Unauthorized).detail("the ticket is unknown, used or expired");
    let ticket = TicketSecret::parse(ticket).ok_or_else(refused)?;
    // A used ticket does not count as a wrong credential, because browsers send it again when they reconnect.
    let _turn = state.auth.tokens.turn().await?;
    let watcher = stream_tickets::redeem(&state.db, &ticket).await?.ok_or_else(refused)?;
    if let Ok(token) = watcher.actor.parse::<TokenId>()
        && !tokens::still_valid(&state.db, &[token]).await?.contains(&token)
    {
        return Err(refused());
    }
    Ok(watcher)
}
