//! Tests the traces that a receiver and a collector get for an event, from the API request through the queue to the webhook.

use std::time::Duration;

use flametree_notify::domain::ids::EventId;
use http::{Method, StatusCode};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;
use sqlx::Row as _;

use crate::support::collector::{Collector, Mood, attributes, hex};
use crate::support::deployment::{Deployment, TENANT, message};
use crate::support::misbehaving::{Behaviour, Receiver};
use crate::support::service::{Part, Service, Settings};
use crate::support::waiting::within;
use crate::support::wire::{Seen, answer};

const PATIENCE: Duration = Duration::from_secs(30);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// A service, and a receiver that records the webhook requests.
struct Traced {
    deployment: Deployment,
    service: Service,
    receiver: Receiver,
}

impl Traced {
    async fn start(more: impl FnOnce(Settings) -> Settings) -> Self {
        let deployment = Deployment::new().await;
        let receiver = Receiver::start(Behaviour::Answers(answer("200 OK", "", b""))).await;
        let service = more(deployment.settings.clone()).start(Part::Run).await;
        let config = json!({"enabled": true, "url": receiver.url(), "events": ["user_message"]});
        let path = format!("/v1/agents/agent-1/push-config?tenant_id={TENANT}");
        let saved = deployment.client(&service).put(&path, &config).await;
        assert_eq!(saved.status, 200, "{}", saved.text());
        Self { deployment, service, receiver }
    }

    async fn exporting(collector: &Collector) -> Self {
        Self::start(|settings| settings.with("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())).await
    }

    async fn post(&self, number: usize, headers: &[(&'static str, &str)]) -> EventId {
        let client = self.deployment.client(&self.service);
        let body = message("agent-1", number);
        let answer = client.request_with(Method::POST, "/v1/events", headers, Some(&body)).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().parse().unwrap()
    }

    async fn webhook(&self, event: EventId) -> Seen {
        let id = event.to_string();
        let find = || self.receiver.seen().into_iter().find(|seen| seen.header("webhook-id") == id);
        within(PATIENCE, "the webhook has arrived", async || find().is_some()).await;
        find().unwrap()
    }
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

/// Trace, step and parent.
fn ids(span: &Span) -> [String; 3] {
    [&span.trace_id, &span.span_id, &span.parent_span_id].map(|id| hex(id))
}

fn end_of(id: uuid::Uuid) -> String {
    id.simple().to_string()[16..].to_owned()
}

#[tokio::test]
async fn a_callers_trace_continues_through_the_queue_to_the_webhook_and_the_collector() {
    let collector = Collector::start(Mood::Takes).await;
    let settings = |settings: Settings| {
        settings
            .with("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())
            .with("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20key")
            .with("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
            // The service keeps the caller's sampling decision.
            .with("OTEL_TRACES_SAMPLER_ARG", "0")
    };
    let traced = Traced::start(settings).await;
    let headers = [("traceparent", &*traceparent("01")), ("tracestate", "rojo=1, congo=2"), ("x-request-id", "r-1")];
    let event = traced.post(1, &headers).await;
    let (accepted, attempted) = (end_of(event.uuid()), end_of(event.delivery(1).uuid()));
    let seen = traced.webhook(event).await;
    assert_eq!(seen.header("traceparent"), format!("00-{TRACE}-{attempted}-01"));
    assert_eq!(seen.header("tracestate"), "rojo=1,congo=2");

    let attempt = collector.named("deliver webhook", 1).await.remove(0);
    let acceptance = collector.named("accept", 1).await.remove(0);
    let request = collector.named("POST /v1/events", 1).await.remove(0);
    let [trace, step, parent] = ids(&request);
    assert_eq!([&*trace, &*parent], [TRACE, CALLER]);
    assert_eq!(ids(&acceptance), [TRACE, &*accepted, &*step]);
    assert_eq!(ids(&attempt), [TRACE, &*attempted, &*accepted]);
    let kinds = [&request, &acceptance, &attempt].map(Span::kind);
    assert_eq!(kinds, [SpanKind::Server, SpanKind::Internal, SpanKind::Client]);
    for span in [&request, &acceptance, &attempt] {
        assert!(span.start_time_unix_nano > 0 && span.end_time_unix_nano >= span.start_time_unix_nano);
        assert_eq!(span.trace_state, "rojo=1,congo=2");
        assert!(span.status.is_none(), "{:?}", span.status);
    }
    let said = attributes(&request.attributes);
    assert_eq!((&*said["http.route"], &*said["http.response.status_code"]), ("/v1/events", "202"));
    assert_eq!(said["flametree.request.id"], "r-1");
    let said = attributes(&attempt.attributes);
    assert_eq!(said["flametree.delivery.id"], event.delivery(1).to_string());
    assert_eq!((&*said["flametree.outcome"], &*said["http.response.status_code"]), ("delivered", "200"));
    assert_eq!(attempt.events.iter().map(|event| &*event.name).collect::<Vec<_>>(), ["claimed"]);

    let export = collector.exports().remove(0);
    assert_eq!(
        (&export.headers["content-type"], &export.headers["x-key"]),
        (&"application/x-protobuf".parse().unwrap(), &"a key".parse().unwrap())
    );
    assert_eq!(export.resource["service.name"], "flametree-notify");
    assert_eq!(export.resource["deployment.environment.name"], "test");
    assert!(export.resource.contains_key("service.instance.id"));
    // The service counts spans as exported after it has read the collector's response.
    let counted = async || traced.service.metric("flametree_trace_spans_total{result=\"exported\"}").await >= 3.0;
    within(Duration::from_secs(30), "the spans are counted", counted).await;
    assert!(traced.service.metric("flametree_trace_spans_total{result=\"failed\"}").await < 1.0);
}

#[tokio::test]
async fn an_event_without_a_trace_starts_a_trace_that_is_not_stored() {
    let collector = Collector::start(Mood::Takes).await;
    let traced = Traced::exporting(&collector).await;
    let event = traced.post(1, &[]).await;
    let trace = event.uuid().simple().to_string();
    let (accepted, attempted) = (end_of(event.uuid()), end_of(event.delivery(1).uuid()));
    let seen = traced.webhook(event).await;
    assert_eq!(seen.header("traceparent"), format!("00-{trace}-{attempted}-01"));
    assert_eq!(seen.headers("tracestate").count(), 0);

    let attempt = collector.named("deliver webhook", 1).await.remove(0);
    let acceptance = collector.named("accept", 1).await.remove(0);
    let request = collector.named("POST /v1/events", 1).await.remove(0);
    assert_eq!(ids(&attempt), [&*trace, &*attempted, &*accepted]);
    assert_eq!(ids(&acceptance), [&*trace, &*accepted, ""]);
    // The request has a separate trace, with a link to the event's trace.
    let link = &acceptance.links[0];
    assert_eq!([hex(&link.trace_id), hex(&link.span_id)], ids(&request)[..2]);
    assert_ne!(hex(&request.trace_id), trace);

    let batch = json!({"events": [message("agent-1", 2), message("agent-1", 3)]});
    let posted = traced.deployment.client(&traced.service).post("/v1/events/batch", &batch).await;
    assert_eq!(posted.status, 200, "{}", posted.text());
    let acceptances = collector.named("accept", 3).await;
    assert_eq!(collector.named("deliver webhook", 3).await.len(), acceptances.len());
    let row = sqlx::raw_sql("SELECT count(*), count(trace) FROM flametree.events")
        .fetch_one(&traced.deployment.pool)
        .await
        .unwrap();
    assert_eq!((row.get::<i64, _>(0), row.get::<i64, _>(1)), (3, 0));
}

#[tokio::test]
async fn an_unsampled_trace_reaches_the_webhook_as_unsampled_and_reaches_no_collector() {
    let collector = Collector::start(Mood::Takes).await;
    let traced = Traced::exporting(&collector).await;
    let events = json!({"events": [message("agent-1", 1), message("agent-1", 2)]});
    let client = traced.deployment.client(&traced.service);
    let headers = [("traceparent", &*traceparent("00"))];
    let posted = client.request_with(Method::POST, "/v1/events/batch", &headers, Some(&events)).await.unwrap();
    assert_eq!(posted.status, 200, "{}", posted.text());
    for result in posted.json()["results"].as_array().unwrap() {
        let event: EventId = result["id"].as_str().unwrap().parse().unwrap();
        let attempted = end_of(event.delivery(1).uuid());
        assert_eq!(traced.webhook(event).await.header("traceparent"), format!("00-{TRACE}-{attempted}-00"));
    }
    // The trace context of an untrusted caller is ignored.
    let headers = [("traceparent", &*traceparent("01"))];
    let stranger = traced.service.client("ftn_stranger");
    let refused =
        stranger.request_with(Method::POST, "/v1/events", &headers, Some(&message("agent-1", 3))).await.unwrap();
    assert_eq!(refused.status, 401, "{}", refused.text());
    traced.deployment.drained(PATIENCE).await;
    traced.service.stop().await;
    assert!(collector.spans().iter().all(|span| hex(&span.trace_id) != TRACE));
}

#[tokio::test]
async fn the_sampling_rate_applies_to_traces_that_start_in_the_service() {
    let collector = Collector::start(Mood::Takes).await;
    let traced = Traced::start(|settings| {
        settings.with("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()).with("OTEL_TRACES_SAMPLER_ARG", "0.5")
    })
    .await;
    let mut kept = Vec::new();
    let mut number = 0;
    // The event id decides if a trace is sampled. Post events until there is a sampled and an unsampled trace.
    while kept.is_empty() || kept.len() == number {
        number += 1;
        assert!(number < 64, "{} of {number} traces are sampled", kept.len());
        let event = traced.post(number, &[]).await;
        let sent = traced.webhook(event).await;
        let is_sampled = sent.header("traceparent").ends_with("-01");
        kept.extend(is_sampled.then(|| event.uuid().simple().to_string()));
    }
    traced.deployment.drained(PATIENCE).await;
    traced.service.stop().await;
    for name in ["accept", "deliver webhook"] {
        let named = collector.spans().into_iter().filter(|span| span.name == name);
        let mut exported: Vec<String> = named.map(|span| hex(&span.trace_id)).collect();
        exported.sort();
        // When the service stops, it can export pending spans a second time.
        exported.dedup();
        assert_eq!(exported, kept, "{name}");
    }
}

#[tokio::test]
async fn without_a_collector_a_callers_trace_continues_and_is_logged() {
    let traced = Traced::start(|settings| settings.with("FLAMETREE_LOG", "info,flametree_notify=debug")).await;
    let event = traced.post(1, &[("traceparent", &traceparent("01")), ("x-request-id", "r-7")]).await;
    let attempted = end_of(event.delivery(1).uuid());
    assert_eq!(traced.webhook(event).await.header("traceparent"), format!("00-{TRACE}-{attempted}-01"));
    // The service accepts an event although its trace context is invalid.
    let other = traced.post(2, &[("traceparent", "00-zz"), ("tracestate", "a=1")]).await;
    assert!(traced.webhook(other).await.header("traceparent").contains(&other.uuid().simple().to_string()));
    traced.deployment.drained(PATIENCE).await;
    let log = traced.service.stop().await;
    let of_event: Vec<&str> = log.lines().filter(|line| line.contains(&event.to_string())).collect();
    let [accepted, ended] = of_event[..] else { panic!("{of_event:#?}") };
    for part in ["accepted an event", "r-7", TRACE] {
        assert!(accepted.contains(part), "{part} in {accepted}");
    }
    for part in ["a delivery ended", "delivered", &event.delivery(1).to_string()] {
        assert!(ended.contains(part), "{part} in {ended}");
    }
}

#[tokio::test]
async fn a_failing_or_unreachable_collector_affects_no_delivery() {
    let collector = Collector::start(Mood::Refuses(StatusCode::BAD_REQUEST)).await;
    let traced = Traced::exporting(&collector).await;
    let failed = async || traced.service.metric("flametree_trace_spans_total{result=\"failed\"}").await >= 3.0;
    traced.webhook(traced.post(1, &[]).await).await;
    within(PATIENCE, "rejected spans are dropped", failed).await;
    assert!(traced.service.has_logged("traces cannot be exported"));

    collector.be(Mood::Hangs);
    let before = collector.asked();
    traced.webhook(traced.post(2, &[]).await).await;
    within(PATIENCE, "an export hangs", async || collector.asked() > before).await;
    traced.webhook(traced.post(3, &[]).await).await;
    traced.deployment.drained(PATIENCE).await;
    // The stop does not wait for the exporter's timeout of a minute.
    traced.service.stop().await;

    let away = Traced::start(|settings| settings.with("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")).await;
    away.webhook(away.post(1, &[]).await).await;
    within(PATIENCE, "the failure is logged", async || away.service.has_logged("traces cannot be exported")).await;
    away.webhook(away.post(2, &[]).await).await;
    away.service.stop().await;
}

#[tokio::test]
async fn exports_spans_again_after_a_temporary_rejection() {
    let collector = Collector::start(Mood::Refuses(StatusCode::SERVICE_UNAVAILABLE)).await;
    let traced = Traced::exporting(&collector).await;
    traced.webhook(traced.post(1, &[]).await).await;
    within(PATIENCE, "an export is refused", async || collector.asked() > 0).await;
    collector.be(Mood::Takes);
    collector.named("deliver webhook", 1).await;
    within(PATIENCE, "the recovery is logged", async || traced.service.has_logged("traces are exported again")).await;
}
