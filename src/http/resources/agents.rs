//! Lists the agents that have a push config, for the portal's start page.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::endpoint::WebhookEvent;
use crate::domain::page::{NameCursor, PageRows};
use crate::domain::push_config::DisabledReason;
use crate::domain::role::Permission;
use crate::domain::role::permissions::ReadConfigs;
use crate::domain::webhook_url::without_query;
use crate::http::auth::authorized::Authorized;
use crate::http::auth::caller::Caller;
use crate::http::openapi::parameter_docs::OfTenant;
use crate::http::request::parameters::Parameters;
use crate::http::request::problem::Problem;
use crate::http::state::ApiState;
use crate::store::agents::{self, ListedAgent};

/// An agent and a summary of its push config.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AgentView {
    agent_id: String,
    enabled: bool,
    /// The reason why the service disabled the config; null if the service did not disable it.
    disabled_reason: Option<DisabledReason>,
    /// The URL. Roles that may not change the config get the URL without its query.
    url: Option<String>,
    events: Vec<WebhookEvent>,
    updated_at: DateTime<Utc>,
}

/// A page of agents, ordered by name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AgentPage {
    data: Vec<AgentView>,
    /// Cursor of the next page; null on the last page.
    next_cursor: Option<String>,
}

impl AgentView {
    fn new(listed: ListedAgent, caller: &Caller) -> Self {
        let ListedAgent { agent_id, enabled, disabled_reason, url, events, updated_at } = listed;
        let url = if caller.may(Permission::EditConfigs) { url } else { url.map(without_query) };
        Self { agent_id: agent_id.into_string(), enabled, disabled_reason, url, events, updated_at }
    }
}

/// Lists the agents that have a push config, ordered by name. The platform manages agents, so this service has no data about
/// agents without a push config.
#[utoipa::path(
    get,
    path = "/v1/agents",
    operation_id = "list_agents",
    tag = "Push configs",
    params(
        ("limit" = Option<u16>, Query, description = "Maximum number of rows.", minimum = 1, maximum = 250, example = 50),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page.",
            pattern = "^[A-Za-z0-9_-]{2,171}$", example = "YWdlbnQtMQ"),
        OfTenant,
    ),
    responses(
        (status = 200, description = "A page of agents", body = AgentPage),
    ),
)]
pub(crate) async fn list(
    caller: Authorized<ReadConfigs>,
    State(state): State<ApiState>,
    mut parameters: Parameters,
) -> Result<Json<AgentPage>, Problem> {
    let rows = parameters.parsed("limit", |text| PageRows::parse(&text)).unwrap_or_default();
    let cursor = parameters.parsed("cursor", |text| NameCursor::parse(&text));
    parameters.finish()?;
    let (agents, next) = agents::list(&state.db, caller.own_tenant()?, cursor.as_ref(), rows).await?;
    Ok(Json(AgentPage {
        data: agents.into_iter().map(|agent| AgentView::new(agent, &caller)).collect(),
        next_cursor: next.map(|cursor| cursor.to_string()),
    }))
}
