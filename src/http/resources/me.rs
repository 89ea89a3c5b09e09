//! Returns the caller's identity and permissions, so that a page can show only the actions that its user may perform.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::role::{Permission, Role};
use crate::http::auth::authorized::Authenticated;
use crate::http::openapi::parameter_docs::OfTenant;
use crate::http::request::parameters::NoParameters;
use crate::http::request::problem::Problem;
use crate::http::state::ApiState;

/// The caller.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MeView {
    role: Role,
    /// Null if the token is valid for all tenants and the request names no tenant.
    tenant_id: Option<String>,
    /// The user's claim `sub`; null for a service with an API token.
    user_id: Option<String>,
    /// The permissions of the role.
    #[schema(value_type = Vec<String>, example = json!(["use_workspace", "subscribe_browsers"]))]
    permissions: Vec<Permission>,
    /// Whether the deployment supports browser push.
    browser_push: bool,
    /// The expiry time of the caller's token; null if the token does not expire.
    valid_until: Option<DateTime<Utc>>,
}

/// Returns the caller and the permissions of its role.
#[utoipa::path(
    get,
    path = "/v1/me",
    operation_id = "get_me",
    tag = "Service",
    params(OfTenant),
    responses(
        (status = 200, description = "The caller", body = MeView),
    ),
)]
pub(crate) async fn read(
    caller: Authenticated,
    State(state): State<ApiState>,
    _: NoParameters,
) -> Result<Json<MeView>, Problem> {
    let permissions = Permission::ALL.iter().copied().filter(|permission| caller.may(*permission));
    Ok(Json(MeView {
        role: caller.role(),
        tenant_id: caller.tenant().map(|tenant| tenant.as_str().to_owned()),
        user_id: caller.user().map(|user| user.as_str().to_owned()),
        permissions: permissions.collect(),
        browser_push: state.push.is_some(),
        valid_until: caller.valid_until(),
    }))
}
