//! Replaces a browser's subscription that the push service has dropped. The service worker sends the request, even if
//! no page is open and no token is valid. The old subscription authenticates the request, because only the browser and this
//! service know its `auth` secret. The push service has the endpoint, but not the secret.

use std::time::Instant;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;

use crate::http::auth::authorized::SecretInBody;
use crate::http::auth::throttle::Peer;
use crate::http::openapi::refusals::Missing;
use crate::http::request::body::{BodyTimeout, parse_json, read_json};
use crate::http::request::parameters::NoParameters;
use crate::http::request::problem::{Problem, ProblemCode};
use crate::http::resources::push_subscriptions::sender;
use crate::http::resources::subscription_request::RenewalRequest;
use crate::http::state::ApiState;
use crate::store::{SealedError, push_renewal};

/// Maximum size of a body, in bytes. It is enough for two endpoints of 2 KiB, keys and labels.
const MAX_BODY_BYTES: usize = 8 * 1024;

/// Replaces the subscription of a registered browser; the browser's user stays the same. Needs no token, because the old
/// subscription with its secret authenticates the request. The path exists only if browser push is configured.
#[utoipa::path(
    post,
    path = "/v1/push/renewals",
    tag = "Browser push",
    request_body = RenewalRequest,
    responses(
        (status = 204, description = "The new subscription is registered"),
        Missing,
    ),
)]
pub(crate) async fn renew(
    _: SecretInBody,
    State(state): State<ApiState>,
    Extension(peer): Extension<Peer>,
    _: NoParameters,
    request: Request,
) -> Result<StatusCode, Problem> {
    // Check the limits before reading the body, because the body might never arrive.
    state.auth.throttle.check(peer, Instant::now())?;
    let _place = state.renewals.take(&peer.counted()).map_err(|reason| reason.problem("renewals"))?;
    let body = parse_json(&read_json(request, BodyTimeout(state.settings.body_timeout), MAX_BODY_BYTES).await?)?;
    let renewal = RenewalRequest::parse(body, sender(&state)?.hosts()).map_err(Problem::invalid)?;
    let unknown = || {
        let problem = Problem::new(ProblemCode::Unauthorized).detail("no such subscription is registered");
        state.auth.throttle.wrong(peer, Instant::now(), problem)
    };
    let _turn = state.auth.tokens.turn().await?;
    match push_renewal::renew(&state.db, &state.keyring, &renewal).await {
        Ok(true) => {
            tracing::info!(endpoint = %renewal.new.endpoint, "renewed the subscription of a browser");
            Ok(StatusCode::NO_CONTENT)
        }
        Ok(false) => Err(unknown()),
        Err(SealedError::Database(error)) => Err(error.into()),
        Err(error) => {
            tracing::error!(%error, endpoint = %renewal.old.endpoint, "could not decrypt a push subscription");
            Err(unknown())
        }
    }
}
