//! The operator workspace of a tenant: the conversations that wait for, or are with, human operators.

use chrono::{DateTime, Utc};

use super::names::{AgentId, SessionId, TenantId, UserId};
use super::role::Role;

/// Most conversations that are listed; all are counted.
pub const MAX_LISTED: usize = 100;

/// A tenant's workspace at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveConversations {
    /// Exact, however many are listed.
    pub count: u64,
    /// The latest `MAX_LISTED`, the latest first.
    pub listed: Vec<ActiveConversation>,
    /// By the database's clock.
    pub as_of: DateTime<Utc>,
}

/// One conversation in the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveConversation {
    pub session_id: SessionId,
    pub agent_id: AgentId,
    /// `None`: it waits for an operator.
    pub assignee_id: Option<UserId>,
    /// When the latest event that put it here happened: its transfer, or its assignment to whom it is with now.
    pub since: DateTime<Utc>,
}

/// Who watches a workspace, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watcher {
    pub tenant: TenantId,
    pub role: Role,
    /// Who it is, as in histories.
    pub actor: String,
    /// When its right to watch ends, if nobody ends it before; `None`: only then.
    pub until: Option<DateTime<Utc>>,
}
