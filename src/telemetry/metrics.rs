//! Every metric of the service, as a typed function whose doc comment is the HELP text.
//!
//! Each recorder has a clone of `Metrics`. There is no global registry, so that two services in one test count
//! separately. Names have the prefix `flametree_`.

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
    /// Creates all series at 0. `revision` is the commit that the binary was built from.
    #[expect(clippy::expect_used, reason = "names and labels are constants, and a unit test creates every metric")]
    pub fn new(version: &str, revision: &str) -> Self {
        let registry = Registry::new();
        let instruments = Instruments::register(&registry).expect("each metric has its own valid name");
        let build = [("version", version), ("revision", revision)];
        register_info(&registry, "flametree_build_info", "The running build; always 1.", build)
            .expect("the name and the labels are valid");
        Self(Arc::new(Inner { registry, instruments }))
    }

    /// All metrics in Prometheus' text format, version 0.0.4.
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.0.registry.gather()).unwrap_or_else(|error| {
            tracing::error!(%error, "the metrics could not be written as text");
            String::new()
        })
    }

    /// Records a response of the API. `route` is the template of the matched route, never the requested path.
    pub fn http_request(&self, route: &str, method: &str, status: u16, duration: Duration) {
        let answer = HttpAnswer::new(route, method, status);
        self.http_answered(answer);
        self.http_answer_observed(answer, duration);
    }

    /// Creates the series of a route at 0, so that an alert on a rate includes the first failure.
    pub fn http_route(&self, route: &str, method: &str) {
        for status in [200, 400, 500] {
            self.0.instruments.http_requests_total.add(HttpAnswer::new(route, method, status), 0);
        }
    }

    /// Sets the number of a pool's connections by state.
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

/// Generates the struct `Instruments` and the recording methods of `Metrics`. Each metric is written like a function:
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
    /// Events that were rejected.
    pub fn event_rejected(reason: RejectReason) {
        events_rejected_total: Counter, by RejectReason => add(reason, 1)
    }
    /// Time from an event's arrival to the commit of its transaction.
    pub fn ingest_observed(duration: Duration) {
        ingest_duration_seconds: Histogram<Action>, by () => observe((), duration)
    }

    /// Deliveries that ended, by outcome.
    pub fn delivery_recorded(channel: Channel, outcome: Outcome) {
        deliveries_total: Counter, by (Channel, Outcome) => add((channel, outcome), 1)
    }
    /// Duration of attempts to send a delivery, until the end of the response.
    pub fn attempt_observed(channel: Channel, duration: Duration) {
        delivery_duration_seconds: Histogram<Action>, by Channel => observe(channel, duration)
    }
    /// Time from an event's acceptance to the outcome of its delivery. Excludes replays to webhooks.
    pub fn latency_observed(channel: Channel, duration: Duration) {
        delivery_latency_seconds: Histogram<Wait>, by Channel => observe(channel, duration)
    }

    /// Number of ready deliveries, as this process last estimated it.
    pub fn set_ready(channel: Channel, deliveries: i64) {
        queue_ready_deliveries: Gauge, by Channel => set(channel, deliveries)
    }
    /// Age of the oldest ready delivery; 0 if no delivery is ready. Alert on this metric.
    pub fn set_oldest_ready(channel: Channel, age: Duration) {
        queue_oldest_ready_seconds: Gauge, by Channel => set_duration(channel, age)
    }
    /// Attempts of this process that are in flight.
    pub fn set_in_flight(channel: Channel, deliveries: i64) {
        deliveries_in_flight: Gauge, by Channel => set(channel, deliveries)
    }
    /// Maximum number of attempts that this process may have in flight.
    pub fn set_permits(channel: Channel, permits: i64) {
        delivery_permits: Gauge, by Channel => set(channel, permits)
    }
    /// Duration of the database statement that claims a batch.
    pub fn claim_observed(duration: Duration) {
        claim_duration_seconds: Histogram<Action>, by () => observe((), duration)
    }
    /// Duration of the database statement that records a batch of outcomes.
    pub fn finish_observed(duration: Duration) {
        finish_duration_seconds: Histogram<Action>, by () => observe((), duration)
    }
    /// Deliveries that this process claimed.
    pub fn deliveries_claimed(deliveries: u64) {
        claimed_deliveries_total: Counter, by () => add((), deliveries)
    }
    /// Outcomes that arrived after the reaper had recorded `interrupted`, which remains the delivery's outcome.
    pub fn late_outcome() {
        late_outcomes_total: Counter, by () => add((), 1)
    }
    /// Deliveries whose outcome or release the database rejects. Each of them keeps its permit, and the service tries
    /// again every 10 s.
    pub fn change_outcomes_set_aside(channel: Channel, by: i64) {
        outcomes_set_aside: Gauge, by Channel => change(channel, by)
    }
    /// Claims that cannot be written or read back, and claims of dead workers whose deliveries cannot be recorded as
    /// interrupted. The service retries each claim until it succeeds.
    pub fn change_claims_set_aside(channel: Channel, step: ClaimStep, by: i64) {
        claims_set_aside: Gauge, by (Channel, ClaimStep) => change((channel, step), by)
    }
    /// Endpoints whose attempts time out or have waited for a response for more than a second.
    pub fn set_slow_endpoints(channel: Channel, endpoints: i64) {
        endpoints_slow: Gauge, by Channel => set(channel, endpoints)
    }
    /// Addresses that were blocked for a delivery, an endpoint test or a saved URL. The log contains each address.
    pub fn address_blocked(reason: BlockReason) {
        blocked_addresses_total: Counter, by BlockReason => add(reason, 1)
    }

    /// Browser push subscriptions in use.
    pub fn set_push_subscriptions(subscriptions: i64) {
        push_subscriptions: Gauge, by () => set((), subscriptions)
    }
    /// Browser push subscriptions that were removed.
    pub fn push_subscription_removed(reason: RemovalReason) {
        push_subscriptions_removed_total: Counter, by RemovalReason => add(reason, 1)
    }
    /// Messages that push services rejected as malformed or unauthorized. Alert on this metric.
    pub fn push_refused(reason: RefusalReason) {
        push_refusals_total: Counter, by RefusalReason => add(reason, 1)
    }
    /// Sessions of all tenants that wait for, or are with, human operators, when this process last counted them.
    pub fn set_active_conversations(sessions: i64) {
        workspace_active_conversations: Gauge, by () => set((), sessions)
    }
    /// Open streams of the operator workspace in this process.
    pub fn set_stream_clients(streams: i64) {
        workspace_stream_clients: Gauge, by () => set((), streams)
    }

    /// Worker processes with a recent heartbeat, on all nodes.
    pub fn set_workers_alive(workers: i64) {
        workers_alive: Gauge, by () => set((), workers)
    }
    /// Runs of operations that ended in this process.
    pub fn operation_ended(kind: OperationKind, result: OperationResult) {
        operations_total: Counter, by (OperationKind, OperationResult) => add((kind, result), 1)
    }
    /// Failed attempts of a schedule since its last success. For replays, the maximum of all unfinished replays. Alert on
    /// this metric.
    pub fn set_operation_failed_attempts(kind: OperationKind, attempts: i64) {
        operation_failed_attempts: Gauge, by OperationKind => set(kind, attempts)
    }
    /// How long a scheduled run has been due without a success; 0 if no run is due. Alert on this metric.
    pub fn set_operation_overdue(kind: OperationKind, age: Duration) {
        operation_overdue_seconds: Gauge, by OperationKind => set_duration(kind, age)
    }
    /// Responses of the API.
    fn http_answered(answer: HttpAnswer<'_>) {
        http_requests_total: Counter, by HttpAnswer<'_> => add(answer, 1)
    }
    /// Duration of the API's responses.
    fn http_answer_observed(answer: HttpAnswer<'_>, duration: Duration) {
        http_request_duration_seconds: Histogram<Action>, by HttpAnswer<'_> => observe(answer, duration)
    }
    /// Database connections of a pool.
    fn set_pool_state(pool: PoolName, state: PoolState, connections: i64) {
        db_pool_connections: Gauge, by (PoolName, PoolState) => set((pool, state), connections)
    }
    /// Maximum number of database connections that a pool may open.
    pub fn set_pool_size(pool: PoolName, connections: i64) {
        db_pool_max_connections: Gauge, by PoolName => set(pool, connections)
    }
    /// Start of the first day, from today on, that has no partition. On that day, no events are accepted.
    pub fn set_partitions_end(time: DateTime<Utc>) {
        partitions_end_timestamp_seconds: Gauge, by () => set((), time.timestamp())
    }
    /// Time at which the next removal of a partition is due, or has started without completing. If this time is long in the past, retention is late.
    pub fn set_retention_due(time: DateTime<Utc>) {
        retention_due_timestamp_seconds: Gauge, by () => set((), time.timestamp())
    }
    /// Ended spans by result; 0 without a collector.
    pub fn spans_ended(result: SpanResult, spans: u64) {
        trace_spans_total: Counter, by SpanResult => add(result, spans)
    }
    /// Failed background tasks of this process. The first failure stops the process. Alert on this metric.
    pub fn task_failed(task: TaskName) {
        task_failures_total: Counter, by TaskName => add(task, 1)
    }
    /// When this process started.
    pub fn set_started(time: DateTime<Utc>) {
        started_timestamp_seconds: Gauge, by () => set((), time.timestamp())
    }
}
