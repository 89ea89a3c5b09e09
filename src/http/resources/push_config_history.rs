//! The history of an agent's push config: who changed which fields, and when.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::page::{Cursor, PageRows};
use crate::domain::push_config::{ChangeAction, PushConfigChange};
use crate::domain::role::permissions::ReadConfigs;
use crate::http::auth::authorized::Authorized;
use crate::http::openapi::parameter_docs::{OfAgent, OfPage, OfTenant};
use crate::http::request::parameters::Parameters;
use crate::http::request::path::AgentPath;
use crate::http::request::problem::{Problem, ProblemCode};
use crate::http::state::ApiState;
use crate::store::{push_config_history, push_configs};

/// One change of a push config.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PushConfigChangeView {
    changed_at: DateTime<Utc>,
    action: ChangeAction,
    /// The actor: an API token's id, or the prefix `user:` and the user's claim `sub`; null if the service made the change.
    actor: Option<String>,
    /// The names of changed fields, without values: settings, headers (prefix `headers/`) and the field `signing_secret`.
    #[schema(example = json!(["url", "headers/Authorization"]))]
    fields: Vec<String>,
}

impl From<PushConfigChange> for PushConfigChangeView {
    fn from(change: PushConfigChange) -> Self {
        let PushConfigChange { changed_at, action, actor, fields } = change;
        Self { changed_at, action, actor, fields }
    }
}

/// A page of changes, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PushConfigHistoryPage {
    data: Vec<PushConfigChangeView>,
    /// Cursor of the next page; null on the last page.
    next_cursor: Option<String>,
}

/// Lists changes of an agent's push config, newest first, even after the config was removed. The service keeps the newest
/// 500 changes for 400 days. Returns 404 if the agent has no config and no history.
#[utoipa::path(
    get,
    path = "/v1/agents/{agent_id}/push-config/history",
    operation_id = "list_push_config_changes",
    tag = "Push configs",
    params(
        OfAgent,
        OfPage,
        OfTenant,
    ),
    responses(
        (status = 200, description = "A page of changes", body = PushConfigHistoryPage),
    ),
)]
pub(crate) async fn list(
    caller: Authorized<ReadConfigs>,
    State(state): State<ApiState>,
    AgentPath(agent): AgentPath,
    mut parameters: Parameters,
) -> Result<Json<PushConfigHistoryPage>, Problem> {
    let rows = parameters.parsed("limit", |text| PageRows::parse(&text)).unwrap_or_default();
    let cursor = parameters.parsed("cursor", |text| Cursor::parse(&text));
    parameters.finish()?;
    let tenant = caller.own_tenant()?;
    let page = push_config_history::list(&state.db, tenant, &agent, cursor, rows).await?;
    // An agent without history is unknown, unless it has a config that is older than the kept history.
    let is_unknown = page.rows.is_empty() && cursor.is_none();
    if is_unknown && push_configs::revision(&state.db, tenant, &agent).await?.is_none() {
        return Err(Problem::new(ProblemCode::NotFound).detail("the agent has no push config"));
    }
    Ok(Json(PushConfigHistoryPage {
        data: page.rows.into_iter().map(Into::into).collect(),
        next_cursor: page.next.map(|cursor| cursor.to_string()),
    }))
}
