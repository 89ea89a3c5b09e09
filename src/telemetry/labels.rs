//! The labels of metrics. Each label has a closed set of values, so that the number of series is bounded.
//!
//! An id, a URL or an error's text is never a label.

use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::domain::closed_set::closed_set;
use crate::domain::delivery::Outcome;
use crate::domain::endpoint::Channel;
use crate::domain::event::EventType;
use crate::domain::operation::OperationKind;

/// The label values of one series.
pub(super) trait Labels: Copy {
    const NAMES: &'static [&'static str];

    /// The values in the order of `NAMES`.
    fn values(&self) -> impl AsRef<[&str]>;

    /// All combinations of values; their series are created at the start. Empty for HTTP labels, whose series the router creates.
    fn all() -> Vec<Self>;
}

impl Labels for () {
    const NAMES: &'static [&'static str] = &[];

    fn values(&self) -> impl AsRef<[&str]> {
        [""; 0]
    }

    fn all() -> Vec<Self> {
        vec![()]
    }
}

/// An enum whose variants are the values of one label.
trait Label: VariantArray + Into<&'static str> + Copy {
    const NAME: &'static str;
}

impl<A: Label> Labels for A {
    const NAMES: &'static [&'static str] = &[A::NAME];

    fn values(&self) -> impl AsRef<[&str]> {
        [(*self).into()]
    }

    fn all() -> Vec<Self> {
        A::VARIANTS.to_vec()
    }
}

impl<A: Label, B: Label> Labels for (A, B) {
    const NAMES: &'static [&'static str] = &[A::NAME, B::NAME];

    fn values(&self) -> impl AsRef<[&str]> {
        [self.0.into(), self.1.into()]
    }

    fn all() -> Vec<Self> {
        A::VARIANTS.iter().flat_map(|a| B::VARIANTS.iter().map(|b| (*a, *b))).collect()
    }
}

macro_rules! labels {
    ($($type:ty: $name:literal,)+) => {
        $(impl Label for $type {
            const NAME: &'static str = $name;
        })+
    };
}

labels! {
    EventType: "type",
    Channel: "channel",
    Outcome: "outcome",
    OperationKind: "operation",
    OperationResult: "result",
    ClaimStep: "step",
    RejectReason: "reason",
    BlockReason: "reason",
    RemovalReason: "reason",
    RefusalReason: "reason",
    PoolName: "pool",
    PoolState: "state",
    SpanResult: "result",
    TaskName: "task",
}

/// What happened to a span after it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum SpanResult {
    /// The collector accepted the span.
    Exported,
    /// The export queue was full, because the collector is too slow.
    Dropped,
    /// The collector did not accept the span.
    Failed,
}

/// Why an event was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum RejectReason {
    /// The event or its body violated a rule.
    Invalid,
    /// The idempotency key was used with another body.
    Conflict,
    /// The ingest queue is full.
    Overload,
    /// The body or the batch is larger than its limit.
    TooLarge,
    /// The tenant posts faster than its limit.
    RateLimited,
    /// The database did not respond.
    Unavailable,
}

/// Where the service found an address that the operator does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum BlockReason {
    /// The URL contains the address.
    Literal,
    /// The host name resolved to the address.
    Resolved,
    /// The connection's peer has the address.
    Peer,
}

/// Why a browser's push subscription was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum RemovalReason {
    /// The push service reported that the subscription no longer exists.
    Gone,
    /// The user had too many subscriptions, and this subscription was the least recently registered.
    Evicted,
    /// The user or an admin removed the subscription.
    Deleted,
    /// The browser has not registered the subscription again for a long time.
    Unseen,
    /// Another user signed in with the same browser.
    Moved,
}

/// The result of an operation's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum OperationResult {
    Succeeded,
    /// The last allowed attempt failed.
    Failed,
    /// The run failed and will be retried.
    Retried,
    /// The process stopped during the run, and another process continues the operation.
    HandedOver,
    /// The operation was canceled, or another process has taken over the operation.
    Lost,
}

/// The operation that the database rejects for a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ClaimStep {
    /// The service writes the claim, or reads it back.
    Claim,
    /// The service records the started deliveries of a dead worker as interrupted.
    Reap,
}

/// The pools of database connections, named after their purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum PoolName {
    Api,
    Claims,
    Outcomes,
    Heartbeat,
    Operations,
}

/// Why a push service rejected a message. The browser is never the cause, so an operator must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum RefusalReason {
    /// The browser subscribed with another VAPID key.
    KeyMismatch,
    /// The push service rejects the VAPID token.
    NotBelieved,
    /// The request is malformed.
    Malformed,
}

/// The long-lived tasks of a process. No task may end while the process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum TaskName {
    ApiServer,
    Claimer,
    Completer,
    DatabaseObserver,
    Heartbeat,
    HintListener,
    HintSender,
    IngestCommitter,
    IngestRetrier,
    MetricsServer,
    OperationWorker,
    PublishedKeys,
    PushPauseReader,
    Reaper,
    SetAsideClaims,
    StreamSlots,
    SubscriptionCounter,
    TailScan,
    TraceExporter,
    WorkerPool,
    WorkspaceHub,
}

closed_set!(TaskName);

/// The states of a pool's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(super) enum PoolState {
    Idle,
    InUse,
}
