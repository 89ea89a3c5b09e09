//! Lets admins list and remove the browsers of any user of their tenant, for example after the user has left.

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;

use crate::domain::ids::PushSubscriptionId;
use crate::domain::names::UserId;
use crate::domain::role::permissions::ManageBrowsers;
use crate::http::auth::authorized::Authorized;
use crate::http::openapi::parameter_docs::{OfTenant, OfUser};
use crate::http::request::parameters::NoParameters;
use crate::http::request::path::PathName;
use crate::http::request::problem::{Problem, ProblemCode};
use crate::http::resources::push_subscriptions::SubscriptionList;
use crate::http::state::ApiState;
use crate::store::push_subscriptions;
use crate::telemetry::metrics::RemovalReason;

/// The path parameters that name a browser and its user. Returns 404 for an invalid name.
#[derive(Debug)]
pub(crate) struct BrowserPath {
    user: UserId,
    id: PushSubscriptionId,
}

impl<S: Send + Sync> FromRequestParts<S> for BrowserPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((user, id)) = path.map_err(|_no_text| Problem::new(ProblemCode::NotFound))?;
        Ok(Self { user: named(user)?, id: PathName(id).id()? })
    }
}

fn named(user: String) -> Result<UserId, Problem> {
    UserId::parse(user).map_err(|_no_name| Problem::new(ProblemCode::NotFound))
}

/// Lists the browsers of a user of the tenant, last registered first. The service has no list of users, so the list of an
/// unknown user is empty.
#[utoipa::path(
    get,
    path = "/v1/users/{user_id}/push-subscriptions",
    operation_id = "list_push_subscriptions_of_user",
    tag = "Browser push",
    params(OfUser, OfTenant),
    responses(
        (status = 200, description = "The user's browsers", body = SubscriptionList),
    ),
)]
pub(crate) async fn list(
    caller: Authorized<ManageBrowsers>,
    State(state): State<ApiState>,
    _: NoParameters,
    PathName(user): PathName,
) -> Result<Json<SubscriptionList>, Problem> {
    let listed = push_subscriptions::list(&state.db, caller.own_tenant()?, &named(user)?).await?;
    Ok(Json(listed.into()))
}

/// Removes a browser of a user of the tenant. Nothing more is sent to the browser, not even queued deliveries. A user who
/// can still sign in can register the browser again.
#[utoipa::path(
    delete,
    path = "/v1/users/{user_id}/push-subscriptions/{id}",
    operation_id = "remove_push_subscription_of_user",
    tag = "Browser push",
    params(OfUser, ("id" = PushSubscriptionId, Path), OfTenant),
    responses(
        (status = 204, description = "Removed"),
    ),
)]
pub(crate) async fn remove(
    caller: Authorized<ManageBrowsers>,
    State(state): State<ApiState>,
    _: NoParameters,
    BrowserPath { user, id }: BrowserPath,
) -> Result<StatusCode, Problem> {
    if !push_subscriptions::remove(&state.db, caller.own_tenant()?, &user, id).await? {
        return Err(Problem::new(ProblemCode::NotFound));
    }
    state.metrics.push_subscription_removed(RemovalReason::Deleted);
    tracing::info!(subscription.id = %id, actor = caller.actor(), "an admin removed a user's browser");
    Ok(StatusCode::NO_CONTENT)
}
