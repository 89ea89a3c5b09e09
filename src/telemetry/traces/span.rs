//! A span of a trace, encoded for OTLP.

use std::fmt::Display;
use std::time::Duration;

use chrono::{DateTime, Utc};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, SpanFlags, Status};

use crate::domain::trace::{SpanId, Trace, TraceId};

/// OpenTelemetry's span kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Handles a request.
    Server,
    Internal,
    /// Sends a request.
    Client,
}

/// A span that has not ended. Its attributes are ids, enum values and numbers, but never message contents.
#[derive(Debug)]
pub(super) struct Step {
    kind: Kind,
    name: String,
    trace: Trace,
    id: SpanId,
    began: DateTime<Utc>,
    pub(super) parent: Option<SpanId>,
    /// True if another service recorded the parent.
    pub(super) parent_is_remote: bool,
    /// The span of another trace that caused this span.
    pub(super) link: Option<(TraceId, SpanId)>,
    /// When the delivery was claimed; `Some` only for the span of an attempt.
    pub(super) claimed_at: Option<DateTime<Utc>>,
    attributes: Vec<KeyValue>,
}

impl Step {
    pub(super) fn new(kind: Kind, name: String, trace: &Trace, id: SpanId, began: DateTime<Utc>) -> Self {
        Self {
            kind,
            name,
            trace: trace.clone(),
            id,
            began,
            parent: None,
            parent_is_remote: false,
            link: None,
            claimed_at: None,
            attributes: Vec::with_capacity(6),
        }
    }

    pub(super) fn attribute(&mut self, name: &'static str, value: impl Display) {
        self.attributes.push(text(name, value.to_string()));
    }

    pub(super) fn number(&mut self, name: &'static str, value: i64) {
        let value = AnyValue { value: Some(any_value::Value::IntValue(value)) };
        self.attributes.push(KeyValue { key: name.to_owned(), value: Some(value), ..KeyValue::default() });
    }
}

pub(super) fn text(name: impl Into<String>, value: String) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value)) };
    KeyValue { key: name.into(), value: Some(value), ..KeyValue::default() }
}

/// Ends the span after `duration`. `failure` is the error message, if the request or attempt failed.
pub(super) fn span(step: Step, duration: Duration, failure: Option<&str>) -> Span {
    let began = nanoseconds(step.began);
    let kind = match step.kind {
        Kind::Server => SpanKind::Server,
        Kind::Internal => SpanKind::Internal,
        Kind::Client => SpanKind::Client,
    };
    let event = step.claimed_at.map(|at| Event {
        time_unix_nano: nanoseconds(at),
        name: "claimed".to_owned(),
        ..Event::default()
    });
    let link = step.link.map(|(trace, span)| Link {
        trace_id: trace.to_bytes().to_vec(),
        span_id: span.to_bytes().to_vec(),
        ..Link::default()
    });
    let status = failure.map(|why| Status { message: why.to_owned(), code: StatusCode::Error.into() });
    Span {
        trace_id: step.trace.id().to_bytes().to_vec(),
        span_id: step.id.to_bytes().to_vec(),
        trace_state: step.trace.state().unwrap_or_default().to_owned(),
        parent_span_id: step.parent.map(|parent| parent.to_bytes().to_vec()).unwrap_or_default(),
        flags: flags(&step.trace, step.parent_is_remote),
        name: step.name,
        kind: kind.into(),
        start_time_unix_nano: began,
        end_time_unix_nano: began.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)),
        attributes: step.attributes,
        events: event.into_iter().collect(),
        links: link.into_iter().collect(),
        status,
        ..Span::default()
    }
}

/// The trace's flags, and OTLP's flag for a remote parent.
fn flags(trace: &Trace, parent_is_remote: bool) -> u32 {
    let remote = if parent_is_remote { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
    u32::from(trace.is_sampled()) | SpanFlags::ContextHasIsRemoteMask as u32 | remote
}

fn nanoseconds(at: DateTime<Utc>) -> u64 {
    at.timestamp_nanos_opt().and_then(|nanoseconds| u64::try_from(nanoseconds).ok()).unwrap_or(0)
}
