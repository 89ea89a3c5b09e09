//! The operator workspace of a tenant: the conversations that wait for a human operator or that an operator handles.

use chrono::{DateTime, Utc};

use super::names::{AgentId, SessionId, TenantId, UserId};
use super::role::Role;

/// Maximum number of listed conversations. All conversations are counted.
pub const MAX_LISTED: usize = 100;

/// A snapshot of a tenant's workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveConversations {
    /// The number of all conversations.
    pub count: u64,
    /// The listed conversations, the latest first, at most 100.
    pub listed: Vec<ActiveConversation>,
    /// The database's time when the snapshot was taken.
    pub as_of: DateTime<Utc>,
}

/// One conversation in the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveConversation {
    pub session_id: SessionId,
    pub agent_id: AgentId,
    /// The operator who handles the conversation; `None` if the conversation waits for an operator.
    pub assignee_id: Option<UserId>,
    /// The time of the latest event that put the conversation into the workspace: the transfer, or the assignment to the
    /// operator.
    pub since: DateTime<Utc>,
}

/// A caller who watches the workspace of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watcher {
    pub tenant: TenantId,
    pub role: Role,
    /// The name under which histories show the watcher.
    pub actor: String,
    /// When the watcher's permission expires, unless it is revoked earlier; `None` if it does not expire.
    pub until: Option<DateTime<Utc>>,
}
