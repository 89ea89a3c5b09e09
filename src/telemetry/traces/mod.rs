//! Traces: spans of requests, accepted events and attempts, exported to a collector by OTLP if one is configured.
//!
//! Without a collector no spans are created. With a collector, each ended span is added to a bounded queue. If the queue is
//! full, the span is dropped and counted, so that a slow or unreachable collector never delays deliveries.
//!
//! The crates opentelemetry-otlp and `opentelemetry_sdk` 0.33 do not replace the 200 lines of the exporter, although they would
//! add only 2 crates to the 348 of the binary: they only log how many spans they dropped or the collector rejected, so
//! `flametree_trace_spans_total` could not count them, and they send headers from the environment that bypass the settings.
//! Only the request and its retries, 60 lines, could be replaced, and the client that limits responses would need half as many.

mod exporter;
mod span;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::sync::mpsc;

pub use self::exporter::{Exporter, Settings};
use self::span::{Kind, Step, span};
use super::metrics::{Metrics, SpanResult};
use crate::domain::delivery::{Attempt, Delivery, Outcome};
use crate::domain::event::EventType;
use crate::domain::ids::EventId;
use crate::domain::trace::{CallerSpan, SpanId, Trace, TraceId};

/// Maximum number of spans that wait to be exported. A span has about 500 bytes.
const QUEUE: usize = 16_384;

/// The fraction of this service's own traces that is exported, from 0 to 1. The trace id decides whether a trace is
/// exported, so all processes make the same decision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(f64);

impl Share {
    /// `None` if `share` is not from 0 to 1.
    pub fn new(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then_some(Self(share))
    }

    #[expect(clippy::cast_precision_loss, reason = "the lowest of the 56 random bits do not matter")]
    fn has(self, trace: TraceId) -> bool {
        let all = (1_u64 << 56) as f64;
        self.0 >= 1.0 || (trace.random_bits() as f64) < self.0 * all
    }
}

/// Creates spans and passes them to the exporter. Cheap to clone. The default tracer creates no spans.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<Active>>);

#[derive(Debug)]
struct Active {
    share: Share,
    ended: mpsc::Sender<Span>,
    metrics: Metrics,
}

/// The trace of a request.
#[derive(Debug, Clone, Default)]
pub struct RequestTrace {
    caller: Option<CallerSpan>,
    /// The request's span; `None` if it is not recorded.
    step: Option<(Trace, SpanId)>,
}

impl RequestTrace {
    /// The trace id for the logs; `None` if the caller sent no trace and the request is not recorded.
    pub fn id(&self) -> Option<TraceId> {
        let caller = self.caller.as_ref().map(|caller| &caller.trace);
        caller.or(self.step.as_ref().map(|(trace, _)| trace)).map(Trace::id)
    }

    /// The trace of the request's events; `None` if each event starts its own trace.
    pub fn of_events(&self) -> Option<Trace> {
        self.caller.as_ref().map(|caller| caller.trace.clone())
    }
}

/// The response to a request.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    pub method: &'a str,
    /// The route template, never the path.
    pub route: &'a str,
    pub request_id: &'a str,
    pub status: u16,
    pub began: DateTime<Utc>,
    pub duration: Duration,
}

/// An event that was just accepted.
#[derive(Debug, Clone, Copy)]
pub struct AcceptedEvent<'a> {
    pub id: EventId,
    pub event_type: EventType,
    pub tenant: &'a str,
    pub deliveries: u16,
    pub began: DateTime<Utc>,
    pub duration: Duration,
}

/// The span of a running attempt.
#[derive(Debug)]
pub struct AttemptStep {
    step: Step,
    began: Instant,
}

impl Tracer {
    /// Returns the tracer and its exporter, which the caller must run.
    pub fn new(client: reqwest::Client, settings: Settings, metrics: &Metrics) -> (Self, Exporter) {
        let (ended, waiting) = mpsc::channel(QUEUE);
        let share = settings.share;
        let exporter = Exporter::new(client, settings, metrics.clone(), waiting);
        (Self(Some(Arc::new(Active { share, ended, metrics: metrics.clone() }))), exporter)
    }

    /// Starts a request's span. If the caller sent a trace, the span is recorded only if that trace is sampled.
    pub fn request(&self, caller: Option<CallerSpan>) -> RequestTrace {
        let step = self.0.as_ref().and_then(|active| active.begin(caller.as_ref()));
        RequestTrace { caller, step }
    }

    pub fn request_answered(&self, request: &RequestTrace, answered: Answered<'_>) {
        let (Some(active), Some((trace, id))) = (&self.0, &request.step) else { return };
        let Answered { method, route, request_id, status, began, duration } = answered;
        let mut step = Step::new(Kind::Server, format!("{method} {route}"), trace, *id, began);
        step.parent = request.caller.as_ref().map(|caller| caller.span);
        step.parent_is_remote = true;
        step.attribute("http.request.method", method);
        step.attribute("http.route", route);
        step.number("http.response.status_code", status.into());
        step.attribute("flametree.request.id", request_id);
        active.end(step, duration, (status >= 500).then_some("the request failed"));
    }

    /// Records the acceptance of the request's event. The recorded span is the parent of the event's attempt spans.
    pub fn event_accepted(&self, request: &RequestTrace, accepted: AcceptedEvent<'_>) {
        let Some(active) = &self.0 else { return };
        let AcceptedEvent { id, event_type, tenant, deliveries, began, duration } = accepted;
        let trace = request.of_events().unwrap_or_else(|| active.trace_of(id));
        if !trace.is_sampled() {
            return;
        }
        let mut step = Step::new(Kind::Internal, "accept".to_owned(), &trace, SpanId::of_acceptance(id), began);
        match &request.step {
            Some((of_request, span)) if of_request.id() == trace.id() => step.parent = Some(*span),
            // The event has its own trace, so link it to the request's trace.
            Some((of_request, span)) => step.link = Some((of_request.id(), *span)),
            None => {}
        }
        step.attribute("flametree.event.id", id);
        step.attribute("flametree.event.type", event_type.as_str());
        step.attribute("flametree.tenant.id", tenant);
        step.number("flametree.deliveries", deliveries.into());
        active.end(step, duration, None);
    }

    /// Starts an attempt's span; `None` if the attempt is not recorded. If the event started the trace, the trace id
    /// decides whether the attempt is recorded. Takes and returns the delivery by value, because a borrowed delivery would
    /// be in memory twice while the attempt waits.
    pub fn attempt(&self, mut delivery: Delivery, now: DateTime<Utc>) -> (Delivery, Option<Box<AttemptStep>>) {
        let Some(active) = &self.0 else { return (delivery, None) };
        if delivery.trace.is_none() {
            let began = active.trace_of(delivery.event.id);
            delivery.trace = (!began.is_sampled()).then(|| Arc::new(began));
        }
        let step = delivery.trace().is_sampled().then(|| Box::new(attempt_step(&delivery, now)));
        (delivery, step)
    }

    pub fn attempted(&self, attempt: AttemptStep, ended: &Attempt) {
        let Some(active) = &self.0 else { return };
        let AttemptStep { mut step, began } = attempt;
        step.attribute("flametree.outcome", ended.outcome.as_str());
        if let Some(status) = ended.http_status {
            step.number("http.response.status_code", status.into());
        }
        let failure = (ended.outcome != Outcome::Delivered).then_some(ended.outcome.as_str());
        active.end(step, began.elapsed(), failure);
    }
}

fn attempt_step(delivery: &Delivery, now: DateTime<Utc>) -> AttemptStep {
    let event = delivery.event.id;
    let name = format!("deliver {}", delivery.channel.as_str());
    let mut step = Step::new(Kind::Client, name, &delivery.trace(), SpanId::of_attempt(delivery.id), now);
    step.parent = Some(SpanId::of_acceptance(event));
    step.claimed_at = Some(delivery.claimed_at);
    step.attribute("flametree.delivery.id", delivery.id);
    step.attribute("flametree.event.id", event);
    step.attribute("flametree.tenant.id", &delivery.event.tenant_id);
    AttemptStep { step, began: Instant::now() }
}

impl Active {
    /// Starts the span of a request; `None` if the request is not recorded.
    fn begin(&self, caller: Option<&CallerSpan>) -> Option<(Trace, SpanId)> {
        if caller.is_some_and(|caller| !caller.trace.is_sampled()) {
            return None;
        }
        let mut random = [0; 24];
        getrandom::fill(&mut random).ok()?;
        let (trace, span) = random.split_first_chunk()?;
        let trace = match caller {
            Some(caller) => caller.trace.clone(),
            None => Trace::started(TraceId::new(u128::from_be_bytes(*trace)).filter(|id| self.share.has(*id))?),
        };
        Some((trace, SpanId::new(u64::from_be_bytes(*span.first_chunk()?))?))
    }

    /// The trace that an event started.
    fn trace_of(&self, event: EventId) -> Trace {
        let mut trace = Trace::of_event(event);
        trace.set_sampled(self.share.has(trace.id()));
        trace
    }

    fn end(&self, step: Step, duration: Duration, failure: Option<&'static str>) {
        if self.ended.try_send(span(step, duration, failure)).is_err() {
            self.metrics.spans_ended(SpanResult::Dropped, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_id_decides_whether_a_trace_is_exported() {
        let has = |share: f64, digits: u128| Share::new(share).unwrap().has(TraceId::new(digits).unwrap());
        // Event ids start with the same digits, so the decision must not depend on the first digits.
        let (low, middle, high) =
            (0x0af7_6519_16cd_43dd_ff00_0000_0000_0000, 0xff7f_0000_0000_0000, 0x00ff_ffff_ffff_ffff);
        assert_eq!([low, middle, high].map(|id| has(0.0, id)), [false; 3]);
        assert_eq!([low, middle, high].map(|id| has(0.000_001, id)), [true, false, false]);
        assert_eq!([low, middle, high].map(|id| has(0.5, id)), [true, true, false]);
        assert_eq!([low, middle, high].map(|id| has(1.0, id)), [true; 3]);
        assert!(Share::new(-0.1).is_none() && Share::new(1.1).is_none() && Share::new(f64::NAN).is_none());
    }

    #[test]
    fn without_a_collector_no_span_is_recorded_and_the_callers_trace_id_is_kept() {
        let caller = CallerSpan::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None).unwrap();
        let request = Tracer::default().request(Some(caller.clone()));
        assert!(request.step.is_none());
        assert_eq!((request.id(), request.of_events()), (Some(caller.trace.id()), Some(caller.trace)));
        assert_eq!(Tracer::default().request(None).id(), None);
    }
}
