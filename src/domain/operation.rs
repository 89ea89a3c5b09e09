//! Operations: scheduled or requested work other than deliveries.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::closed_set::closed_set;
use super::ids::OperationId;
use super::names::{AgentId, TenantId};
use super::replay::ReplayRequest;

/// What an operation does. The database, the API and metrics use the names of these kinds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum OperationKind {
    /// Creates future partitions, and drops expired partitions and rows.
    Retention,
    /// Removes from the operator workspace each session that had no event during the retention period.
    WorkspaceRepair,
    /// Removes browser push subscriptions that have been unused for a long time.
    SubscriptionPruning,
    /// Adds finished deliveries to the counts for statistics.
    Rollup,
    /// Re-encrypts values that are encrypted with a key other than the active one.
    Reencryption,
    /// Delivers past events of an agent again.
    Replay,
}

closed_set!(OperationKind);

/// The state of an operation; the last three are final.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum OperationState {
    /// Waits for its scheduled time, for a worker, or for a retry.
    Waiting,
    Running,
    Succeeded,
    /// The last permitted run of the operation failed.
    Failed,
    /// A user canceled the operation. Its completed steps are not undone.
    Canceled,
}

closed_set!(OperationState);

/// An operation that a worker has leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldOperation {
    pub id: OperationId,
    pub kind: OperationKind,
    /// How many times the operation was started, including this start.
    pub attempts: u32,
    /// The database's time when the worker leased the operation.
    pub now: DateTime<Utc>,
}

/// The progress of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplayProgress {
    /// Number of the tenant's deliveries that were examined.
    pub examined: u64,
    /// Number of examined deliveries that belong to the agent and have a selected outcome.
    pub matched: u64,
    /// Number of matched deliveries that were not replayed because they are in flight, or because the current settings exclude
    /// their events.
    pub skipped: u64,
    pub replayed: u64,
}

/// An operation as shown to users.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    pub id: OperationId,
    pub kind: OperationKind,
    /// The scheduled time; `None` if a user requested the operation.
    pub tick: Option<DateTime<Utc>>,
    pub agent_id: Option<AgentId>,
    pub state: OperationState,
    pub attempts: u32,
    /// The last error, as text.
    pub note: Option<String>,
    pub replay: Option<(ReplayRequest, ReplayProgress)>,
    /// When the last examined delivery was accepted.
    pub reached: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
}

/// A requested replay that is not stored yet.
#[derive(Debug, Clone, PartialEq)]
pub struct NewReplay {
    pub tenant_id: TenantId,
    pub agent_id: AgentId,
    pub requested_by: String,
    /// The idempotency key. A second request with this key returns the operation that the first request created.
    pub key: Option<String>,
    pub request: ReplayRequest,
}

/// How many times an operation is started before it fails.
pub const MAX_ATTEMPTS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// The pause after this number of failures; `None` if the operation is not retried.
pub fn retry_after(attempts: u32) -> Option<Duration> {
    let doublings = attempts.saturating_sub(1).min(16);
    (attempts < MAX_ATTEMPTS).then(|| (FIRST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_until_the_last_attempt() {
        let pauses: Vec<_> = (1..=9).map(|attempts| retry_after(attempts).map(|pause| pause.as_secs())).collect();
        let expected = [Some(2), Some(4), Some(8), Some(16), Some(32), Some(64), Some(128), None, None];
        assert_eq!(pauses, expected);
    }

    #[test]
    fn names_round_trip() {
        assert!(OperationKind::ALL.into_iter().all(|kind| OperationKind::from_name(kind.as_str()) == Some(kind)));
        assert!(OperationState::ALL.into_iter().all(|state| OperationState::from_name(state.as_str()) == Some(state)));
    }
}
