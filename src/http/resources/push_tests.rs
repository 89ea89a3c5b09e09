//! Tests a user's browser: sends one notification at once. A test is not a delivery, and only its time is stored. The push
//! service's response changes the subscription in the same way as the response to a delivery.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::channels::browser_push::{Notice, Recipient, Sent};
use crate::domain::delivery::{Attempt, Outcome};
use crate::domain::ids::{EndpointId, PushSubscriptionId};
use crate::domain::names::TenantId;
use crate::domain::role::permissions::SubscribeBrowsers;
use crate::http::auth::authorized::Authorized;
use crate::http::clock::now;
use crate::http::openapi::refusals::MissingOrNoBrowserPush;
use crate::http::request::parameters::NoParameters;
use crate::http::request::path::PathName;
use crate::http::request::problem::{Problem, ProblemCode};
use crate::http::resources::push_subscriptions::{person, sender};
use crate::http::state::ApiState;
use crate::store::push_subscriptions::{self, DisabledReason};
use crate::store::{SealedError, push_pauses};
use crate::telemetry::metrics::RemovalReason;

/// Minimum time between two tests of a browser.
const PAUSE: Duration = Duration::from_secs(5);

/// The result of the test.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PushTestView {
    /// The outcome `delivered` means that the push service accepted the notification, not that the browser shows it.
    #[schema(value_type = String, example = "delivered")]
    outcome: Outcome,
    /// The push service's status, if it responded.
    http_status: Option<u16>,
    /// The reason for a failure, as text.
    note: Option<String>,
    /// The start of the push service's response.
    response_body: Option<String>,
}

impl From<Attempt> for PushTestView {
    fn from(attempt: Attempt) -> Self {
        let detail = attempt.detail.unwrap_or_default();
        Self {
            outcome: attempt.outcome,
            http_status: attempt.http_status,
            note: detail.note,
            response_body: detail.response_body,
        }
    }
}

/// Sends one test notification to one of the calling user's browsers, at most every five seconds. Removes the browser if
/// its subscription no longer exists, and disables the browser if it has subscribed with another key.
#[utoipa::path(
    post,
    path = "/v1/me/push-subscriptions/{id}/test",
    operation_id = "test_push_subscription",
    tag = "Browser push",
    params(("id" = PushSubscriptionId, Path)),
    responses(
        (status = 200, description = "The test ran; `outcome` shows whether the notification was sent", body = PushTestView),
        MissingOrNoBrowserPush,
    ),
)]
pub(crate) async fn test(
    caller: Authorized<SubscribeBrowsers>,
    State(state): State<ApiState>,
    _: NoParameters,
    name: PathName,
) -> Result<Json<PushTestView>, Problem> {
    let (tenant, user) = person(&caller)?;
    let sender = sender(&state)?;
    let id: PushSubscriptionId = name.id()?;
    let endpoint = EndpointId::from_uuid(id.uuid());
    let stored = match push_subscriptions::find(&state.db, &state.keyring, tenant, Some(user), endpoint).await {
        Ok(Some(stored)) => stored,
        Ok(None) => return Err(Problem::new(ProblemCode::NotFound)),
        Err(SealedError::Database(error)) => return Err(error.into()),
        Err(error) => {
            tracing::error!(%error, tenant.id = %tenant, subscription.id = %id, "could not decrypt a push subscription");
            let note = "The stored subscription of this browser cannot be decrypted.".to_owned();
            return Ok(Json(Attempt::not_sent(Outcome::ConfigError, Some(note)).into()));
        }
    };
    let _place = state.endpoint_tests.take(tenant).map_err(|reason| reason.problem("tests"))?;
    if !push_subscriptions::note_test(&state.db, tenant, user, id).await? {
        let detail = format!("a browser can be tested at most every {} seconds", PAUSE.as_secs());
        return Err(Problem::new(ProblemCode::RateLimited).detail(detail).retry_after(PAUSE));
    }
    let (version, is_paused) = (stored.version, stored.pause_left.is_some());
    let recipient = Recipient::new(tenant.clone(), stored.user, stored.subscription, stored.vapid_key_id);
    let services = push_pauses::paused_services(&state.db, Some(tenant)).await?;
    if is_paused || services.iter().any(|service| service.host == recipient.host()) {
        let note = "The push service has rejected messages or asked for a pause; nothing was sent.".to_owned();
        return Ok(Json(Attempt::not_sent(Outcome::Throttled, Some(note)).into()));
    }
    let sent = sender.send(&Arc::new(recipient), &Notice::test(), now()).await;
    follow(&state, tenant, endpoint, version, &sent).await?;
    tracing::info!(subscription.id = %id, outcome = sent.attempt.outcome.as_str(), "tested a browser");
    Ok(Json(sent.attempt.into()))
}

/// Applies the push service's response to the subscription.
async fn follow(
    state: &ApiState,
    tenant: &TenantId,
    endpoint: EndpointId,
    version: i32,
    sent: &Sent,
) -> Result<(), Problem> {
    if sent.attempt.outcome == Outcome::Gone
        && push_subscriptions::remove_gone(&state.db, tenant, endpoint, version).await?
    {
        state.metrics.push_subscription_removed(RemovalReason::Gone);
    }
    if sent.key_mismatch {
        let reason = DisabledReason::VapidKeyMismatch;
        push_subscriptions::disable(&state.db, tenant, endpoint, version, reason).await?;
    }
    if sent.attempt.outcome == Outcome::Delivered {
        push_pauses::note_accepted(&state.db, tenant, endpoint, version).await?;
    }
    if let Some(pause) = sent.pause {
        push_pauses::pause(&state.db, tenant, endpoint, version, pause).await?;
    }
    Ok(())
}
