//! The operator workspace, read from the table `sessions`. Only `accept` inserts rows.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::Error;

use super::Db;
use crate::domain::names::{AgentId, SessionId, TenantId, UserId};
use crate::domain::workspace::{ActiveConversation, ActiveConversations, MAX_LISTED};

/// A transaction snapshot in the text form of `pg_snapshot`. Valid on one server and its standbys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(String);

/// The tenants with changes, and the snapshot to pass to the next call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    pub tenants: Vec<TenantId>,
    pub until: Snapshot,
}

/// The tenants whose workspace may have changed since the snapshot. If `since` is `None`, returns only the current snapshot.
/// Never misses a change, even if a transaction commits late.
pub async fn changes(db: &Db, since: Option<&Snapshot>) -> Result<Changes, Error> {
    let row = sqlx::query!(
        r#"-- workspace::changes
        SELECT tenants AS "tenants!", until AS "until!"
        FROM flametree.workspace_changes($1)"#,
        since.map(|snapshot| snapshot.0.as_str()),
    )
    .fetch_one(db)
    .await?;
    let tenants = row.tenants.into_iter().map(TenantId::from_stored).collect();
    Ok(Changes { tenants, until: Snapshot(row.until) })
}

/// The workspaces of these tenants, read in one snapshot.
pub async fn active(db: &Db, tenants: &[TenantId]) -> Result<HashMap<TenantId, ActiveConversations>, Error> {
    let names: Vec<&str> = tenants.iter().map(TenantId::as_str).collect();
    let rows = sqlx::query!(
        r#"-- workspace::active
        SELECT tenant AS "tenant!", as_of AS "as_of!", total AS "total!", sessions AS "sessions!", agents AS "agents!",
               assignees AS "assignees!: Vec<Option<String>>", since AS "since!"
        FROM flametree.active_conversations($1, $2)"#,
        &names as &[&str],
        i64::try_from(MAX_LISTED).unwrap_or(i64::MAX),
    )
    .fetch_all(db)
    .await?;
    let workspaces = rows.into_iter().map(|row| {
        let listed = listed(row.sessions, row.agents, row.assignees, row.since);
        let active = ActiveConversations { count: row.total.unsigned_abs(), listed, as_of: row.as_of };
        (TenantId::from_stored(row.tenant), active)
    });
    Ok(workspaces.collect())
}

/// The workspace of a tenant.
pub async fn active_of(db: &Db, tenant: &TenantId) -> Result<ActiveConversations, Error> {
    active(db, std::slice::from_ref(tenant)).await?.remove(tenant).ok_or(Error::RowNotFound)
}

fn listed(
    sessions: Vec<String>,
    agents: Vec<String>,
    assignees: Vec<Option<String>>,
    since: Vec<DateTime<Utc>>,
) -> Vec<ActiveConversation> {
    let rows = sessions.into_iter().zip(agents).zip(assignees).zip(since);
    let conversations = rows.map(|(((session, agent), assignee), since)| ActiveConversation {
        session_id: SessionId::from_stored(session),
        agent_id: AgentId::from_stored(agent),
        assignee_id: assignee.map(UserId::from_stored),
        since,
    });
    conversations.collect()
}

/// The number of conversations in the workspaces of all tenants together.
pub async fn count_of_all(db: &Db) -> Result<i64, Error> {
    sqlx::query_scalar!(
        r#"-- workspace::count_of_all
        SELECT flametree.active_conversations_of_all() AS "count!""#
    )
    .fetch_one(db)
    .await
}
