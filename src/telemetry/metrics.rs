//! Every metric of the service, each a typed function whose doc comment is its HELP text.
//!
//! `Metrics` is a cheap handle that is cloned to whoever records something; there is no global registry, so that
//! two services in one test do not count together. Names are prefixed with `flametree_`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use prometheus::{Registry, TextEncoder};

use super::http_labels::HttpAnswer;
use super::instruments::{Action, Counter, Gauge, Histogram, Wait, register_info};
use super::labels::PoolState;
pub use super::labels::{
    BlockReason, ClaimStep, OperationResult, PoolName, RefusalReason, RejectReason, RemovalReason, SpanResult, TaskName,
};
use crate::domain::delivery::Outcome;
use crate::domain::endpoint::Channel;
use crate::domain::event::EventType;
use crate::domain::operation::OperationKind;

/// The handle to all metrics; clones record into the same series.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    instruments: Instruments,
}

impl Metrics {
    /// All series, at 0. `revision` is the commit that the binary was built from.
    #[expect(clippy::expect_used, reason = "names and labels are constants of this file; a unit test builds them all")]
    pub fn new(version: &str, revision: &str) -> Self {
        let registry = Registry::new();
        let instruments = Instruments::register(&registry).expect("each metric has its own valid name");
        let build = [("version", version), ("revision", revision)];
        register_info(&registry, "flametree_build_info", "Which build runs; always 1.", build)
            .expect("the name and the labels are valid");
        Self(Arc::new(Inner { registry, instruments }))
    }

    /// Everything in Prometheus' text format, version 0.0.4.
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.0.registry.gather()).unwrap_or_else(|error| {
            tracing::error!(%error, "the metrics cannot be written as text");
            String::new()
        })
    }

    /// Records one answer of the API. `route` is the matched route's template, never the path that was asked for.
    pub fn http_request(&self, route: &str, method: &str, status: u16, duration: Duration) {
        let answer = HttpAnswer::new(route, method, status);
        self.http_answered(answer);
        self.http_answer_observed(answer, duration);
    }

    /// Makes the series that count a route's answers, at 0, so that an alert on a rate sees the first failure.
    pub fn http_route(&self, route: &str, method: &str) {
        for status in [200, 400, 500] {
            self.0.instruments.http_requests_total.add(HttpAnswer::new(route, method, status), 0);
        }
    }

    /// Sets how many connections a pool holds, by what they are doing.
    pub fn set_pool_connections(&self, pool: PoolName, idle: i64, in_use: i64) {
        self.set_pool_state(pool, PoolState::Idle, idle);
        self.set_pool_state(pool, PoolState::InUse, in_use);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Makes, of lines like functions, the struct of all instruments and the methods that record:
/// `/// HELP` then `fn method(arguments) { name: Instrument by Labels => operation(labels, value) }`.
macro_rules! metrics {
    ($(
        $(#[doc = $help:literal])+
        $visibility:vis fn $method:ident($($argument:ident: $type:ty),*) {
            $name:ident: $instrument:ty, by $labels:ty => $operation:ident($($value:expr),+)
        }
    )+) => {
        struct Instruments {
            $($name: $instrument,)+
        }

        impl Instruments {
            fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
                Ok(Self {
                    $($name: <$instrument>::register::<$labels>(
                        registry,
                        concat!("flametree_", stringify!($name)),
                        concat!($($help),+).trim_start(),
                    )?,)+
                })
            }
        }

        impl Metrics {
            $(
                $(#[doc = $help])+
                $visibility fn $method(&self $(, $argument: $type)*) {
                    self.0.instruments.$name.$operation($($value),+);
                }
            )+
        }
    };
}

metrics! {
    /// Events that were accepted: stored with their deliveries.
    pub fn event_accepted(event_type: EventType) {
        events_accepted_total: Counter, by EventType => add(event_type, 1)
    }
    /// Events that were refused.
    pub fn event_rejected(reason: RejectReason) {
        events_rejected_total: Counter, by RejectReason => add(reason, 1)
    }
    /// From an event's arrival to the commit of its transaction.
    pub fn ingest_observed(duration: Duration) {
        ingest_duration_seconds: Histogram<Action>, by () => observe((), duration)
    }

    /// Deliveries that ended, by outcome.
    pub fn delivery_recorded(channel: Channel, outcome: Outcome) {
        deliveries_total: Counter, by (Channel, Outcome) => add((channel, outcome), 1)
    }
    /// How long attempts took, from the first action to the end of the answer.
    pub fn attempt_observed(channel: Channel, duration: Duration) {
        delivery_duration_seconds: Histogram<Action>, by Channel => observe(channel, duration)
    }
    /// From an event's acceptance to the outcome of a delivery of it, but for replays of webhooks.
    pub fn latency_observed(channel: Channel, duration: Duration) {
        delivery_latency_seconds: Histogram<Wait>, by Channel => observe(channel, duration)
    }

    /// Deliveries that wait to be claimed, as last seen by this process.
    pub fn set_ready(channel: Channel, deliveries: i64) {
        queue_ready_deliveries: Gauge, by Channel => set(channel, deliveries)
    }
    /// Age of the delivery that has waited longest; 0 when none waits. The one to alert on.
    pub fn set_oldest_ready(channel: Channel, age: Duration) {
        queue_oldest_ready_seconds: Gauge, by Channel => set_duration(channel, age)
    }
    /// Attempts that this process has started and not ended.
    pub fn set_in_flight(channel: Channel, deliveries: i64) {
        deliveries_in_flight: Gauge, by Channel => set(channel, deliveries)
    }
    /// Attempts that this process may have in flight at once.
    pub fn set_permits(channel: Channel, permits: i64) {
        delivery_permits: Gauge, by Channel => set(channel, permits)
    }
    /// How long one claim of a batch took in the database.
    pub fn claim_observed(duration: Duration) {
        claim_duration_seconds: Histogram<Action>, by () => observe((), duration)
    }
    /// How long recording one batch of outcomes took in the database.
    pub fn finish_observed(duration: Duration) {
        finish_duration_seconds: Histogram<Action>, by () => observe((), duration)
    }
    /// Deliveries that this process claimed.
    pub fn deliveries_claimed(deliveries: u64) {
        claimed_deliveries_total: Counter, by () => add((), deliveries)
    }
    /// Outcomes that came after the reaper had recorded the delivery as interrupted; the reaper's stands.
    pub fn late_outcome() {
        late_outcomes_total: Counter, by () => add((), 1)
    }
    /// Deliveries whose outcome or release the database refuses. Each keeps its permit and is tried again every 10 s.
    pub fn change_outcomes_set_aside(channel: Channel, by: i64) {
        outcomes_set_aside: Gauge, by Channel => change(channel, by)
    }
    /// Claims that the database refuses to write or to read back, and claims of dead workers that it refuses to record as
    /// interrupted. Each is tried again until it succeeds.
    pub fn change_claims_set_aside(channel: Channel, step: ClaimStep, by: i64) {
        claims_set_aside: Gauge, by (Channel, ClaimStep) => change((channel, step), by)
    }
    /// Endpoints whose attempts time out, or have given no answer for a second.
    pub fn set_slow_endpoints(channel: Channel, endpoints: i64) {
        endpoints_slow: Gauge, by Channel => set(channel, endpoints)
    }
    /// Addresses that were refused, of messages, of tests, and of URLs that were saved; each is in the log.
    pub fn address_blocked(reason: BlockReason) {
        blocked_addresses_total: Counter, by BlockReason => add(reason, 1)
    }

    /// Browser push subscriptions that are in use.
    pub fn set_push_subscriptions(subscriptions: i64) {
        push_subscriptions: Gauge, by () => set((), subscriptions)
    }
    /// Browser push subscriptions that were removed.
    pub fn push_subscription_removed(reason: RemovalReason) {
        push_subscriptions_removed_total: Counter, by RemovalReason => add(reason, 1)
    }
    /// Messages that push services refused as wrong or as not ours to send. To alert on.
    pub fn push_refused(reason: RefusalReason) {
        push_refusals_total: Counter, by RefusalReason => add(reason, 1)
    }
    /// Sessions of all tenants that wait for, or are with, human operators, as last seen by this process.
    pub fn set_active_conversations(sessions: i64) {
        workspace_active_conversations: Gauge, by () => set((), sessions)
    }
    /// Streams of the operator workspace that are open at this process.
    pub fn set_stream_clients(streams: i64) {
        workspace_stream_clients: Gauge, by () => set((), streams)
    }

    /// Worker processes whose heartbeat is fresh, on all nodes.
    pub fn set_workers_alive(workers: i64) {
        workers_alive: Gauge, by () => set((), workers)
    }
    /// Runs of operations that this process ended.
    pub fn operation_ended(kind: OperationKind, result: OperationResult) {
        operations_total: Counter, by (OperationKind, OperationResult) => add((kind, result), 1)
    }
    /// Failed attempts since the last success of a schedule; of replays, the most of one that has not succeeded. To alert on.
    pub fn set_operation_failed_attempts(kind: OperationKind, attempts: i64) {
        operation_failed_attempts: Gauge, by OperationKind => set(kind, attempts)
    }
    /// How long a run of a schedule has been due without a success of its kind; 0 when none is due. To alert on.
    pub fn set_operation_overdue(kind: OperationKind, age: Duration) {
        operation_overdue_seconds: Gauge, by OperationKind => set_duration(kind, age)
    }
    /// Answers of the API.
    fn http_answered(answer: HttpAnswer<'_>) {
        http_requests_total: Counter, by HttpAnswer<'_> => add(answer, 1)
    }
    /// How long the API took to answer.
    fn http_answer_observed(answer: HttpAnswer<'_>, duration: Duration) {
        http_request_duration_seconds: Histogram<Action>, by HttpAnswer<'_> => observe(answer, duration)
    }
    /// Database connections of a pool.
    fn set_pool_state(pool: PoolName, state: PoolState, connections: i64) {
        db_pool_connections: Gauge, by (PoolName, PoolState) => set((pool, state), connections)
    }
    /// Database connections that a pool may hold.
    pub fn set_pool_size(pool: PoolName, connections: i64) {
        db_pool_max_connections: Gauge, by PoolName => set(pool, connections)
    }
    /// When the first day begins, from today on, that has no partition: events are not accepted then.
    pub fn set_partitions_end(time: DateTime<Utc>) {
        partitions_end_timestamp_seconds: Gauge, by () => set((), time.timestamp())
    }
    /// When the oldest partition is due to be dropped. Long in the past: retention is late.
    pub fn set_retention_due(time: DateTime<Utc>) {
        retention_due_timestamp_seconds: Gauge, by () => set((), time.timestamp())
    }
    /// Steps of traces that ended, by what became of them; none where no collector is set.
    pub fn spans_ended(result: SpanResult, spans: u64) {
        trace_spans_total: Counter, by SpanResult => add(result, spans)
    }
    /// Background tasks of this process that failed; it stops at the first one. To alert on.
    pub fn task_failed(task: TaskName) {
        task_failures_total: Counter, by TaskName => add(task, 1)
    }
    /// When this process began.
    pub fn set_started(time: DateTime<Utc>) {
        started_timestamp_seconds: Gauge, by () => set((), time.timestamp())
    }
}
