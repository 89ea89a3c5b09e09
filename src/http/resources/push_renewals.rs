//! Replaces a browser's subscription that the push service has dropped. The service worker sends the request, even if
//! no page is open and no token is valid. The old subscription authenticates the request, because only the browser and this
//! service know its `auth` secret. The push service has the endpoint, but not the secret.

use std::time::Instant;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use utoipa::ToSchema;

use crate::channels::browser_push::is_public_key;
use crate::domain::push_renewal::Renewal;
use crate::http::auth::authorized::SecretInBody;
use crate::http::auth::throttle::Peer;
use crate::http::openapi::refusals::Missing;
use crate::http::request::body::{BodyTimeout, parse_json, read_json};
use crate::http::request::parameters::NoParameters;
use crate::http::request::problem::{Problem, ProblemCode};
use crate::http::resources::push_subscriptions::{SubscriptionRequest, sender};
use crate::http::state::ApiState;
use crate::store::{SealedError, push_renewal};

/// Maximum size of a body, in bytes. It is enough for two endpoints of 2 KiB, keys and labels.
const MAX_BODY_BYTES: usize = 8 * 1024;

/// The old and the new subscription, each in the JSON form of the browser's `PushSubscription`.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "documents the body, which the domain reads field by field to report every fault")]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "old": {
        "endpoint": "https://updates.push.services.mozilla.com/wpush/v2/gAAAAA",
        "keys": {
            "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
            "auth": "BTBZMqHH6r4Tts7J_aSIgg",
        },
    },
    "new": {
        "endpoint": "https://updates.push.services.mozilla.com/wpush/v2/gBBBBB",
        "keys": {
            "p256dh": "BMjQIp55pdbU8pfCBKyXcZjlmER_mXt5LqNrN1hrXbdBS5EnhIbMu3Au-RV53iIpztzNXkGI56BFB1udQ8Bq_H4",
            "auth": "8eDyX_uCN0XRhSbY5hs7Hg",
        },
    },
}))]
pub(crate) struct RenewalRequest {
    /// The subscription that was registered.
    old: SubscriptionRequest,
    /// The browser's current subscription.
    new: SubscriptionRequest,
}

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
    let renewal = Renewal::parse(body, sender(&state)?.hosts(), is_public_key).map_err(Problem::invalid)?;
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
