//! Tests the limits of the API on connections, request sizes and event rates. Each rejection has a reason and a retry time.

use std::num::NonZeroU32;
use std::time::Duration;

use ::http::Request;
use flametree_notify::domain::role::Role;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::api_events::message;
use crate::support::app::{ACME, Answer, Options, TestApp};
use crate::support::waiting::within;

/// An API that allows each tenant one event per second, with a burst of one batch.
async fn limited() -> TestApp {
    let mut options = Options::default();
    options.http.tenant_events_per_second = NonZeroU32::new(1);
    options.http.batch_events = 100;
    TestApp::with(options).await
}

fn of_tenant(mut event: Value, tenant: &str) -> Value {
    event["tenant_id"] = tenant.into();
    event
}

fn batch(events: &[Value]) -> Value {
    json!({"events": events})
}

#[track_caller]
fn seconds_to_wait(answer: &Answer) -> u64 {
    answer.header("retry-after").expect("the time to retry").parse().unwrap()
}

#[tokio::test]
async fn a_tenant_over_its_rate_limit_gets_a_retry_time_and_other_tenants_are_unaffected() {
    let api = limited().await;
    let token = api.token(Role::Service, Some(ACME)).await;
    let full: Vec<Value> = (0..100).map(|number| message(&format!("message {number}"))).collect();
    let full = batch(&full);
    api.post("/v1/events/batch", &token, &full).await.expect(200);

    // Time has passed since the last request, so the rate limit can allow a few more events.
    let mut answer = api.post("/v1/events", &token, &message("one more")).await;
    for _ in 0..50 {
        if answer.status == 202 {
            answer = api.post("/v1/events", &token, &message("one more")).await;
        }
    }
    answer.problem(429, "rate_limited");
    assert_eq!(seconds_to_wait(&answer), 1);
    let answer = api.post("/v1/events/batch", &token, &full).await;
    answer.problem(429, "rate_limited");
    assert!((90..=100).contains(&seconds_to_wait(&answer)), "{answer:?}");
    let rejected = "flametree_events_rejected_total{reason=\"rate_limited\"} 101\n";
    assert!(api.metrics.render().contains(rejected), "the metric counts each rejected event");

    let other = api.token(Role::Service, Some("other")).await;
    api.post("/v1/events", &other, &message("another tenant's")).await.expect(202);
    // After a pause, the rate limit allows events again.
    let accepted = async || api.post("/v1/events", &token, &message("later")).await.status == 202;
    within(Duration::from_secs(20), "an event is accepted again", accepted).await;
}

#[tokio::test]
async fn only_events_of_the_tenant_over_its_rate_limit_are_rejected_in_a_batch() {
    let api = limited().await;
    let token = api.token(Role::Service, None).await;
    let full: Vec<Value> = (0..100).map(|number| of_tenant(message(&format!("message {number}")), ACME)).collect();
    api.post("/v1/events/batch", &token, &batch(&full)).await.expect(200);

    let mixed: Vec<Value> = (0..60).map(|_| of_tenant(message("x"), ACME)).collect();
    let mixed = batch(&[mixed, vec![of_tenant(message("y"), "other"), json!({"type": "no such"})]].concat());
    let answer = api.post("/v1/events/batch", &token, &mixed).await.expect(200);
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 62);
    for refused in &results[..60] {
        assert_eq!((&refused["status"], &refused["code"]), (&json!(429), &json!("rate_limited")));
        assert!((40..=60).contains(&refused["retry_after_seconds"].as_u64().unwrap()), "{refused}");
    }
    assert_eq!(results[60]["status"], 202);
    assert!(results[60].get("retry_after_seconds").is_none());
    assert_eq!(results[61]["status"], 422);
}

#[tokio::test]
async fn rejects_request_headers_that_are_too_large() {
    let api = TestApp::start().await;
    let token = api.token(Role::Viewer, Some(ACME)).await;
    let with_header = |bytes: usize| {
        let request = Request::builder().uri("/v1/deliveries").header("authorization", format!("Bearer {token}"));
        request.header("x-padding", "x".repeat(bytes)).body(Bytes::new()).unwrap()
    };
    api.send(with_header(15 * 1024)).await.expect(200);
    api.send(with_header(17 * 1024)).await.problem(431, "headers_too_large");
    let path = format!("/v1/deliveries?agent_id={}", "x".repeat(17 * 1024));
    api.get(&path, &token).await.problem(431, "headers_too_large");

    // The server rejects 40 KiB of headers before it has read all of them.
    let mut stream = api.connect().await;
    let head = format!("GET /livez HTTP/1.1\r\nhost: test\r\nx-padding: {}", "x".repeat(40 * 1024));
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
}

#[tokio::test]
async fn rejects_a_connection_over_the_limit() {
    let mut options = Options::default();
    options.http.max_connections = 1;
    let api = TestApp::with(options).await;
    let mut first = api.connect().await;
    // A connection that has received a response is certainly counted against the limit.
    first.write_all(b"GET /livez HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    let mut beginning = [0; 12];
    first.read_exact(&mut beginning).await.unwrap();
    assert_eq!(&beginning, b"HTTP/1.1 200");

    let answer = api.get("/livez", "").await;
    let document = answer.problem(503, "overloaded");
    assert_eq!(document["detail"], "too many connections");
    assert_eq!(seconds_to_wait(&answer), 1);
    assert_eq!(answer.header("connection"), Some("close"));
    drop(first);
    let served = async || api.get("/livez", "").await.status == 200;
    within(Duration::from_secs(10), "the server accepts a connection again", served).await;
}
