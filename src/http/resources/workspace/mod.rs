//! The operator workspace of a tenant: its current contents, and a stream of changes.

mod stream;
mod tickets;

use axum::Json;
use axum::extract::State;

use crate::domain::role::permissions::UseWorkspace;
use crate::http::auth::authorized::Authorized;
use crate::http::openapi::parameter_docs::OfTenant;
use crate::http::request::parameters::NoParameters;
use crate::http::request::problem::Problem;
use crate::http::state::ApiState;
use crate::http::workspace::documents::ActiveConversationsDocument;
use crate::store::workspace;

pub(crate) use self::stream::{__path_stream, stream};
pub(crate) use self::tickets::{__path_create_ticket, create_ticket};

/// Returns the conversations that wait for an operator or that an operator handles: their number and the latest 100.
#[utoipa::path(
    get,
    path = "/v1/workspace/active-conversations",
    operation_id = "list_active_conversations",
    tag = "Operator workspace",
    params(OfTenant),
    responses(
        (status = 200, description = "The workspace", body = ActiveConversationsDocument),
    ),
)]
pub(crate) async fn active_conversations(
    caller: Authorized<UseWorkspace>,
    State(state): State<ApiState>,
    _: NoParameters,
) -> Result<Json<ActiveConversationsDocument>, Problem> {
    let active = workspace::active_of(&state.db, caller.own_tenant()?).await?;
    Ok(Json(active.into()))
}
