//! The browsers in which a user gets notifications. Pages register the browsers, and the user lists and removes them.
//!
//! Responses show only an endpoint's host and hash, because anyone who has the full URL can send to the browser.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::channels::browser_push::PushSender;
use crate::domain::ids::PushSubscriptionId;
use crate::domain::names::{TenantId, UserId};
use crate::domain::role::permissions::SubscribeBrowsers;
use crate::http::auth::authorized::{Authenticated, Authorized};
use crate::http::auth::caller::Caller;
use crate::http::openapi::refusals::{DoesNotFit, NoBrowserPush};
use crate::http::request::body::JsonBody;
use crate::http::request::parameters::NoParameters;
use crate::http::request::path::PathName;
use crate::http::request::problem::{Problem, ProblemCode};
use crate::http::resources::subscription_request::SubscriptionRequest;
use crate::http::state::ApiState;
use crate::store::push_registration::{self, Registered, Registrant, RegistrationError};
use crate::store::push_subscriptions::{self, ListedSubscription};
use crate::telemetry::metrics::RemovalReason;

/// The public key that browsers subscribe with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VapidPublicKey {
    /// The key for the browser's call `PushManager.subscribe()`: an uncompressed P-256 point as base64url.
    #[schema(example = "BMjQIp55pdbU8pfCBKyXcZjlmER_mXt5LqNrN1hrXbdBS5EnhIbMu3Au-RV53iIpztzNXkGI56BFB1udQ8Bq_H4")]
    public_key: String,
}

/// A browser of a user.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SubscriptionView {
    id: PushSubscriptionId,
    /// The push service.
    host: String,
    /// SHA-256 of the endpoint in hexadecimal, so that a page can recognize its browser.
    endpoint_sha256: String,
    label: Option<String>,
    /// Whether notifications are sent to the browser.
    active: bool,
    /// The reason why no notifications are sent. `vapid_key_mismatch`: the browser has subscribed with another key and must
    /// subscribe again.
    disabled_reason: Option<String>,
    created_at: DateTime<Utc>,
    /// When the browser was last registered.
    last_seen_at: DateTime<Utc>,
}

/// The browsers of one user, on one page.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SubscriptionList {
    data: Vec<SubscriptionView>,
    /// Always null, because a user has at most 20 browsers.
    next_cursor: Option<String>,
}

impl From<Vec<ListedSubscription>> for SubscriptionList {
    fn from(listed: Vec<ListedSubscription>) -> Self {
        Self { data: listed.into_iter().map(SubscriptionView::from).collect(), next_cursor: None }
    }
}

impl From<ListedSubscription> for SubscriptionView {
    fn from(listed: ListedSubscription) -> Self {
        let ListedSubscription { id, host, endpoint_hash, label, disabled_reason, created_at, last_seen_at } = listed;
        let digits = endpoint_hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let endpoint_sha256 = digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect();
        let active = disabled_reason.is_none();
        Self { id, host, endpoint_sha256, label, active, disabled_reason, created_at, last_seen_at }
    }
}

/// The calling user, whose browsers the request is about.
pub(crate) fn person(caller: &Caller) -> Result<(&TenantId, &UserId), Problem> {
    let no_person =
        || Problem::new(ProblemCode::Forbidden).detail("this route requires a user token (JWT), not an API token");
    Ok((caller.own_tenant()?, caller.user().ok_or_else(no_person)?))
}

pub(crate) fn sender(state: &ApiState) -> Result<&PushSender, Problem> {
    state.push.as_ref().ok_or_else(|| Problem::new(ProblemCode::BrowserPushNotConfigured))
}

/// Returns the public key that browsers subscribe with. After the key has changed, browsers must subscribe again.
#[utoipa::path(
    get,
    path = "/v1/push/vapid-public-key",
    operation_id = "get_vapid_public_key",
    tag = "Browser push",
    responses(
        (status = 200, description = "The key", body = VapidPublicKey),
        NoBrowserPush,
    ),
)]
pub(crate) async fn vapid_public_key(
    _: Authenticated,
    State(state): State<ApiState>,
    _: NoParameters,
) -> Result<Json<VapidPublicKey>, Problem> {
    Ok(Json(VapidPublicKey { public_key: sender(&state)?.keys().current().public_key().to_owned() }))
}

/// Registers this browser for the calling user, or refreshes it; pages send this request on every load. If another user has
/// registered the browser with the same `auth` secret, the browser moves to the caller. If the secret differs, the response
/// is 409, and the page must unsubscribe and subscribe again. If the user then has more than 20 browsers, the least recently
/// registered browser is removed. The endpoint's host must be a push service that the deployment allows.
#[utoipa::path(
    put,
    path = "/v1/me/push-subscriptions",
    operation_id = "register_push_subscription",
    tag = "Browser push",
    request_body = SubscriptionRequest,
    responses(
        (status = 200, description = "The browser was already registered for the user", body = SubscriptionView),
        (status = 201, description = "Registered", body = SubscriptionView),
        NoBrowserPush,
        DoesNotFit,
    ),
)]
pub(crate) async fn register(
    caller: Authorized<SubscribeBrowsers>,
    State(state): State<ApiState>,
    _: NoParameters,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<SubscriptionView>), Problem> {
    let (tenant, user) = person(&caller)?;
    let sender = sender(&state)?;
    let new = SubscriptionRequest::parse(body, sender.hosts()).map_err(Problem::invalid)?;
    let registrant = Registrant { tenant, user, vapid_key_id: sender.keys().current().id() };
    let Registered { subscription, is_new, moved, evicted } =
        push_registration::register(&state.db, &state.keyring, registrant, &new).await.map_err(not_registered)?;
    if moved {
        state.metrics.push_subscription_removed(RemovalReason::Moved);
    }
    (0..evicted).for_each(|_| state.metrics.push_subscription_removed(RemovalReason::Evicted));
    if is_new {
        let endpoint = &new.subscription.endpoint;
        tracing::info!(subscription.id = %subscription.id, endpoint = %endpoint, moved, "registered a browser");
    }
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(subscription.into())))
}

fn not_registered(error: RegistrationError) -> Problem {
    match error {
        RegistrationError::OwnedByOther => {
            let detail = "another user has registered this endpoint with another secret";
            Problem::new(ProblemCode::Conflict).detail(detail)
        }
        RegistrationError::Sealed(error) => error.into(),
    }
}

/// Lists the calling user's browsers, last registered first.
#[utoipa::path(
    get,
    path = "/v1/me/push-subscriptions",
    operation_id = "list_push_subscriptions",
    tag = "Browser push",
    responses(
        (status = 200, description = "The user's browsers", body = SubscriptionList),
    ),
)]
pub(crate) async fn list(
    caller: Authorized<SubscribeBrowsers>,
    State(state): State<ApiState>,
    _: NoParameters,
) -> Result<Json<SubscriptionList>, Problem> {
    let (tenant, user) = person(&caller)?;
    Ok(Json(push_subscriptions::list(&state.db, tenant, user).await?.into()))
}

/// Removes one of the calling user's browsers. Nothing more is sent to the browser, not even queued deliveries.
#[utoipa::path(
    delete,
    path = "/v1/me/push-subscriptions/{id}",
    operation_id = "remove_push_subscription",
    tag = "Browser push",
    params(("id" = PushSubscriptionId, Path)),
    responses(
        (status = 204, description = "Removed"),
    ),
)]
pub(crate) async fn remove(
    caller: Authorized<SubscribeBrowsers>,
    State(state): State<ApiState>,
    _: NoParameters,
    name: PathName,
) -> Result<StatusCode, Problem> {
    let (tenant, user) = person(&caller)?;
    let id: PushSubscriptionId = name.id()?;
    if !push_subscriptions::remove(&state.db, tenant, user, id).await? {
        return Err(Problem::new(ProblemCode::NotFound));
    }
    state.metrics.push_subscription_removed(RemovalReason::Deleted);
    tracing::info!(subscription.id = %id, "removed a browser");
    Ok(StatusCode::NO_CONTENT)
}
