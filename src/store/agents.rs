//! Lists the agents of a tenant that have a push config. Reads no secret, so it needs no keyring.

use chrono::{DateTime, Utc};
use sqlx::Error;

use super::Db;
use super::push_configs::{disabled_reason, webhook_event};
use crate::domain::endpoint::WebhookEvent;
use crate::domain::names::{AgentId, TenantId};
use crate::domain::page::{NameCursor, PageRows};
use crate::domain::push_config::DisabledReason;

/// An agent and its push config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedAgent {
    pub agent_id: AgentId,
    pub enabled: bool,
    /// Why the service disabled the push config; `None` if the service did not disable it.
    pub disabled_reason: Option<DisabledReason>,
    pub url: Option<String>,
    pub events: Vec<WebhookEvent>,
    pub updated_at: DateTime<Utc>,
}

/// A page of agents after the cursor, sorted by name, and the cursor of the next page.
pub async fn list(
    db: &Db,
    tenant: &TenantId,
    behind: Option<&NameCursor>,
    page_rows: PageRows,
) -> Result<(Vec<ListedAgent>, Option<NameCursor>), Error> {
    let mut rows = sqlx::query!(
        r#"-- agents::list
        SELECT agent_id, enabled, disabled_reason, url, events::text[] AS "events!", updated_at
        FROM flametree.push_configs
        WHERE tenant_id = $1
          AND agent_id > $2
        ORDER BY agent_id
        LIMIT $3"#,
        tenant.as_str(),
        behind.map_or("", NameCursor::name),
        i64::from(page_rows.get()) + 1,
    )
    .fetch_all(db)
    .await?;
    let page_rows = usize::from(page_rows.get());
    let goes_on = rows.len() > page_rows;
    rows.truncate(page_rows);
    let next = rows.last().filter(|_| goes_on).map(|row| NameCursor::behind(&row.agent_id));
    let agents = rows.into_iter().map(|row| {
        Ok(ListedAgent {
            agent_id: AgentId::from_stored(row.agent_id),
            enabled: row.enabled,
            disabled_reason: row.disabled_reason.map(|name| disabled_reason(&name)).transpose()?,
            url: row.url,
            events: row.events.iter().map(|name| webhook_event(name)).collect::<Result<_, Error>>()?,
            updated_at: row.updated_at,
        })
    });
    Ok((agents.collect::<Result<_, Error>>()?, next))
}
