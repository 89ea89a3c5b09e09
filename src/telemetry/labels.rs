//! The labels of metrics. Each label has a closed set of values, so that the number of series is bounded.
//!
//! An id, a URL or an error's text is never a label.

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

macro_rules! label {
    ($type:ty, $name:literal) => {
        impl Labels for $type {
            const NAMES: &'static [&'static str] = &[$name];

            fn values(&self) -> impl AsRef<[&str]> {
                [self.as_str()]
            }

            fn all() -> Vec<Self> {
                Self::ALL.to_vec()
            }
        }
    };
}

label!(EventType, "type");
label!(Channel, "channel");
label!(OperationKind, "operation");
label!(RejectReason, "reason");
label!(BlockReason, "reason");
label!(RemovalReason, "reason");
label!(RefusalReason, "reason");
label!(PoolName, "pool");
label!(SpanResult, "result");
label!(TaskName, "task");

impl Labels for (PoolName, PoolState) {
    const NAMES: &'static [&'static str] = &["pool", "state"];

    fn values(&self) -> impl AsRef<[&str]> {
        [self.0.as_str(), self.1.as_str()]
    }

    fn all() -> Vec<Self> {
        let pools = PoolName::ALL.iter();
        pools.flat_map(|pool| PoolState::ALL.iter().map(|state| (*pool, *state))).collect()
    }
}

impl Labels for (Channel, Outcome) {
    const NAMES: &'static [&'static str] = &["channel", "outcome"];

    fn values(&self) -> impl AsRef<[&str]> {
        [self.0.as_str(), self.1.as_str()]
    }

    fn all() -> Vec<Self> {
        Channel::ALL.into_iter().flat_map(|channel| Outcome::ALL.map(|outcome| (channel, outcome))).collect()
    }
}

impl Labels for (Channel, ClaimStep) {
    const NAMES: &'static [&'static str] = &["channel", "step"];

    fn values(&self) -> impl AsRef<[&str]> {
        [self.0.as_str(), self.1.as_str()]
    }

    fn all() -> Vec<Self> {
        Channel::ALL.into_iter().flat_map(|channel| ClaimStep::ALL.iter().map(move |step| (channel, *step))).collect()
    }
}

impl Labels for (OperationKind, OperationResult) {
    const NAMES: &'static [&'static str] = &["operation", "result"];

    fn values(&self) -> impl AsRef<[&str]> {
        [self.0.as_str(), self.1.as_str()]
    }

    fn all() -> Vec<Self> {
        OperationKind::ALL
            .into_iter()
            .flat_map(|kind| OperationResult::ALL.iter().map(move |result| (kind, *result)))
            .collect()
    }
}

/// Defines an enum whose variants are label values.
macro_rules! label_values {
    ($(#[$doc:meta])* $visibility:vis enum $type:ident { $($(#[$value_doc:meta])* $value:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $visibility enum $type {
            $($(#[$value_doc])* $value,)+
        }

        impl $type {
            $visibility const ALL: &'static [Self] = &[$(Self::$value,)+];

            $visibility const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)+
                }
            }
        }
    };
}

label_values! {
    /// What happened to a span after it ended.
    pub enum SpanResult {
        /// The collector accepted the span.
        Exported = "exported",
        /// The export queue was full, because the collector is too slow.
        Dropped = "dropped",
        /// The collector did not accept the span.
        Failed = "failed",
    }
}

label_values! {
    /// Why an event was not accepted.
    pub enum RejectReason {
        /// The event or its body violated a rule.
        Invalid = "invalid",
        /// The idempotency key was used with another body.
        Conflict = "conflict",
        /// The ingest queue is full.
        Overload = "overload",
        /// The body or the batch is larger than its limit.
        TooLarge = "too_large",
        /// The tenant posts faster than its limit.
        RateLimited = "rate_limited",
        /// The database did not respond.
        Unavailable = "unavailable",
    }
}

label_values! {
    /// Where the service found an address that the operator does not allow.
    pub enum BlockReason {
        /// The URL contains the address.
        Literal = "literal",
        /// The host name resolved to the address.
        Resolved = "resolved",
        /// The connection's peer has the address.
        Peer = "peer",
    }
}

label_values! {
    /// Why a browser's push subscription was removed.
    pub enum RemovalReason {
        /// The push service reported that the subscription no longer exists.
        Gone = "gone",
        /// The user had too many subscriptions, and this subscription was the least recently registered.
        Evicted = "evicted",
        /// The user or an admin removed the subscription.
        Deleted = "deleted",
        /// The browser has not registered the subscription again for a long time.
        Unseen = "unseen",
        /// Another user signed in with the same browser.
        Moved = "moved",
    }
}

label_values! {
    /// The result of an operation's run.
    pub enum OperationResult {
        Succeeded = "succeeded",
        /// The last allowed attempt failed.
        Failed = "failed",
        /// The run failed and will be retried.
        Retried = "retried",
        /// The process stopped during the run, and another process continues the operation.
        HandedOver = "handed_over",
        /// The operation was canceled, or another process has taken over the operation.
        Lost = "lost",
    }
}

label_values! {
    /// The operation that the database rejects for a claim.
    pub enum ClaimStep {
        /// The service writes the claim, or reads it back.
        Claim = "claim",
        /// The service records the started deliveries of a dead worker as interrupted.
        Reap = "reap",
    }
}

label_values! {
    /// The pools of database connections, named after their purpose.
    pub enum PoolName {
        Api = "api",
        Claims = "claims",
        Outcomes = "outcomes",
        Heartbeat = "heartbeat",
        Operations = "operations",
    }
}

label_values! {
    /// Why a push service rejected a message. The browser is never the cause, so an operator must act.
    pub enum RefusalReason {
        /// The browser subscribed with another VAPID key.
        KeyMismatch = "key_mismatch",
        /// The push service rejects the VAPID token.
        NotBelieved = "not_believed",
        /// The request is malformed.
        Malformed = "malformed",
    }
}

label_values! {
    /// The long-lived tasks of a process. No task may end while the process runs.
    pub enum TaskName {
        ApiServer = "api_server",
        Claimer = "claimer",
        Completer = "completer",
        DatabaseObserver = "database_observer",
        Heartbeat = "heartbeat",
        HintListener = "hint_listener",
        HintSender = "hint_sender",
        IngestCommitter = "ingest_committer",
        IngestRetrier = "ingest_retrier",
        MetricsServer = "metrics_server",
        OperationWorker = "operation_worker",
        PublishedKeys = "published_keys",
        PushPauseReader = "push_pause_reader",
        Reaper = "reaper",
        SetAsideClaims = "set_aside_claims",
        StreamSlots = "stream_slots",
        SubscriptionCounter = "subscription_counter",
        TailScan = "tail_scan",
        TraceExporter = "trace_exporter",
        WorkerPool = "worker_pool",
        WorkspaceHub = "workspace_hub",
    }
}

label_values! {
    /// The states of a pool's connections.
    pub(super) enum PoolState {
        Idle = "idle",
        InUse = "in_use",
    }
}
