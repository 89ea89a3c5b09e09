//! The operator workspace of a tenant: the conversations that wait for a human operator or are with one.

use chrono::{DateTime, Utc};

use super::names::{AgentId, SessionId, TenantId, UserId};
use super::role::Role;

/// Maximum number of listed conversations; all are counted.
pub const MAX_LISTED: usize = 100;

/// A snapshot of a tenant's workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveConversations {
    /// Exact, even if fewer are listed.
    pub count: u64,
    /// The latest `MAX_LISTED` conversations, latest first.
    pub listed: Vec<ActiveConversation>,
    /// The database's time.
    pub as_of: DateTime<Utc>,
}

/// One conversation in the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveConversation {
    pub session_id: SessionId,
    pub agent_id: AgentId,
    /// `None`: it waits for an operator.
    pub assignee_id: Option<UserId>,
    /// The time of the latest event that put it here: its transfer, or its assignment to its operator.
    pub since: DateTime<Utc>,
}

/// A watcher of a workspace, and its tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watcher {
    pub tenant: TenantId,
    pub role: Role,
    /// The actor, as in histories.
    pub actor: String,
    /// When its permission to watch expires, unless it is revoked earlier; `None`: it does not expire.
    pub until: Option<DateTime<Utc>>,
}
