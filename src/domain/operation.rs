//! Operations: work besides deliveries, by a schedule or asked for by a person.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::ids::OperationId;
use super::names::{AgentId, TenantId};
use super::replay::ReplayRequest;

/// What an operation does. The name is how it is stored, shown and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// Makes partitions ahead, drops old ones, forgets what is older than it is kept.
    Retention,
    /// Takes sessions out of the operator workspace that nothing was heard of for as long as events are kept.
    WorkspaceRepair,
    /// Removes browser push subscriptions that no browser has used for long.
    SubscriptionPruning,
    /// Adds finished deliveries to the counts that statistics are read from.
    Rollup,
    /// Encrypts anew what is encrypted with another key than the active one.
    Reencryption,
    /// Delivers old events of an agent again.
    Replay,
}

impl OperationKind {
    pub const ALL: [Self; 6] = [
        Self::Retention,
        Self::WorkspaceRepair,
        Self::SubscriptionPruning,
        Self::Rollup,
        Self::Reencryption,
        Self::Replay,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::WorkspaceRepair => "workspace_repair",
            Self::SubscriptionPruning => "subscription_pruning",
            Self::Rollup => "rollup",
            Self::Reencryption => "reencryption",
            Self::Replay => "replay",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Where an operation is; the last three are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// For its time, for a worker, or to be tried again.
    Waiting,
    Running,
    Succeeded,
    /// It failed as often as it may.
    Failed,
    /// A person has ended it; what it did before remains.
    Canceled,
}

impl OperationState {
    pub const ALL: [Self; 5] = [Self::Waiting, Self::Running, Self::Succeeded, Self::Failed, Self::Canceled];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// An operation as a worker holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldOperation {
    pub id: OperationId,
    pub kind: OperationKind,
    /// How often it was started, this time included.
    pub attempts: u32,
    /// The database's clock when it was taken.
    pub now: DateTime<Utc>,
}

/// What a replay has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplayProgress {
    /// Deliveries of the tenant that were looked at.
    pub examined: u64,
    /// Of these, the agent's with one of the outcomes.
    pub matched: u64,
    /// Of these, not replayed: in flight already, or today's settings do not want them.
    pub skipped: u64,
    pub replayed: u64,
}

/// An operation as users see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    pub id: OperationId,
    pub kind: OperationKind,
    /// Which time of its schedule it stands for; `None`: it was asked for.
    pub tick: Option<DateTime<Utc>>,
    pub agent_id: Option<AgentId>,
    pub state: OperationState,
    pub attempts: u32,
    /// What went wrong last, in words.
    pub note: Option<String>,
    pub replay: Option<(ReplayRequest, ReplayProgress)>,
    /// The time in the last id that was looked at.
    pub reached: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
}

/// A replay to be entered.
#[derive(Debug, Clone, PartialEq)]
pub struct NewReplay {
    pub tenant_id: TenantId,
    pub agent_id: AgentId,
    pub requested_by: String,
    /// The same key again is the same operation.
    pub key: Option<String>,
    pub request: ReplayRequest,
}

/// How often an operation is started before it counts as failed.
pub const MAX_ATTEMPTS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// How long to wait after the `attempts`-th failure; `None`: it was the last.
pub fn retry_after(attempts: u32) -> Option<Duration> {
    let doublings = attempts.saturating_sub(1).min(16);
    (attempts < MAX_ATTEMPTS).then(|| (FIRST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let pauses: Vec<_> = (1..=9).map(|attempts| retry_after(attempts).map(|pause| pause.as_secs())).collect();
        let expected = [Some(2), Some(4), Some(8), Some(16), Some(32), Some(64), Some(128), None, None];
        assert_eq!(pauses, expected);
    }

    #[test]
    fn names_read_back() {
        assert!(OperationKind::ALL.into_iter().all(|kind| OperationKind::from_name(kind.as_str()) == Some(kind)));
        assert!(OperationState::ALL.into_iter().all(|state| OperationState::from_name(state.as_str()) == Some(state)));
    }
}
