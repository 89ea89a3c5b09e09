//! Sends valid, repeated and invalid requests to the route that accepts events.

use ::http::{Method, Request};
use flametree_notify::domain::role::Role;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::app::{ACME, Answer, Options, TestApp};
use crate::support::seed;

pub fn message(text: &str) -> Value {
    json!({"type": "user_message", "agent_id": "agent-1", "session_id": "s-1", "text": text, "metadata": {"order": 7}})
}

async fn post_raw(api: &TestApp, token: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    let mut request =
        Request::builder().method(Method::POST).uri("/v1/events").header("authorization", format!("Bearer {token}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    api.send(request.body(body.into()).unwrap()).await
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn stores_an_accepted_event_with_its_deliveries() {
    let api = TestApp::start().await;
    seed::push_config(&api.db, ACME, "agent-1", uuid::Uuid::from_u128(7), "https://example.com/hook").await;
    let token = api.token(Role::Service, Some(ACME)).await;
    let accepted = api.post("/v1/events", &token, &message("Where is my order? 📦")).await.expect(202);
    assert_eq!((&accepted["duplicate"], &accepted["deliveries"]), (&json!(false), &json!(1)));

    let admin = api.token(Role::Admin, Some(ACME)).await;
    let event = api.get(&format!("/v1/events/{}", accepted["id"].as_str().unwrap()), &admin).await.expect(200);
    assert_eq!(event["text"], "Where is my order? 📦");
    assert_eq!(event["metadata"], json!({"order": 7}));
    assert_eq!(event["deliveries"].as_array().unwrap().len(), 1);
    assert_eq!(event["deliveries"][0]["outcome"], Value::Null);

    let delivery = event["deliveries"][0]["id"].as_str().unwrap();
    let delivery = api.get(&format!("/v1/deliveries/{delivery}"), &admin).await.expect(200);
    assert_eq!((&delivery["outcome"], &delivery["event_id"]), (&Value::Null, &accepted["id"]));
}

#[tokio::test]
async fn a_repeated_request_with_the_same_key_returns_the_same_event() {
    let api = TestApp::start().await;
    let token = api.token(Role::Service, Some(ACME)).await;
    let mut event = message("once");
    event["idempotency_key"] = "m-1".into();
    let first = api.post("/v1/events", &token, &event).await.expect(202);
    let again = api.post("/v1/events", &token, &event).await.expect(200);
    assert_eq!((&again["id"], &again["duplicate"]), (&first["id"], &json!(true)));

    // A request may set the idempotency key in the header `Idempotency-Key`, in the body, or in both.
    let key = ("idempotency-key", "m-1");
    post_raw(&api, &token, &[JSON, key], message("once").to_string()).await.expect(200);
    post_raw(&api, &token, &[JSON, key], event.to_string()).await.expect(200);
    post_raw(&api, &token, &[JSON, key], message("twice").to_string()).await.problem(409, "idempotency_conflict");

    // Each tenant has separate idempotency keys.
    let other = api.token(Role::Service, Some("other")).await;
    api.post("/v1/events", &other, &event).await.expect(202);
}

#[tokio::test]
async fn reports_all_faults_including_a_header_that_contradicts_the_body() {
    let api = TestApp::start().await;
    let token = api.token(Role::Service, Some(ACME)).await;
    let event = json!({"type": "user_message", "agent_id": "a", "session_id": "s", "idempotency_key": "body"});
    let answer = post_raw(&api, &token, &[JSON, ("idempotency-key", "header")], event.to_string()).await;
    let fault = |pointer: &str, code: &str| (pointer.to_owned(), code.to_owned());
    assert_eq!(answer.faults(), [fault("/text", "required"), fault("/idempotency_key", "not_allowed")]);

    let twice = [JSON, ("idempotency-key", "a"), ("idempotency-key", "b")];
    let answer = post_raw(&api, &token, &twice, message("x").to_string()).await;
    assert_eq!(answer.faults(), [fault("Idempotency-Key", "invalid_value")]);
}

#[tokio::test]
async fn reports_every_fault_of_an_event_at_once() {
    let api = TestApp::start().await;
    let token = api.token(Role::Service, Some(ACME)).await;
    let event = json!({"type": "letter", "session_id": 7, "tenant_id": "other", "colour": "red", "metadata": []});
    let faults = api.post("/v1/events", &token, &event).await.faults();
    for expected in [
        ("/type", "invalid_value"),
        ("/agent_id", "required"),
        ("/session_id", "invalid_type"),
        ("/tenant_id", "not_allowed"),
        ("/colour", "unknown_field"),
        ("/metadata", "invalid_type"),
    ] {
        assert!(faults.contains(&(expected.0.into(), expected.1.into())), "{expected:?} in {faults:?}");
    }
    assert_eq!(faults.len(), 6);
    assert_eq!(api.post("/v1/events", &token, &json!([])).await.faults(), [(String::new(), "invalid_type".into())]);
    let answer = api.post("/v1/events?colour=red", &token, &message("x")).await;
    assert_eq!(answer.faults(), [("colour".into(), "unknown_field".into())]);
}

#[tokio::test]
async fn reports_the_position_of_invalid_json_but_not_its_content() {
    let api = TestApp::start().await;
    let token = api.token(Role::Service, Some(ACME)).await;
    for body in ["", "{\n \"secret\": hush}", "{} {}", "\u{0}", &"[".repeat(10_000)] {
        let document = post_raw(&api, &token, &[JSON], body.to_owned()).await.problem(400, "invalid_json");
        let detail = document["detail"].as_str().unwrap();
        assert!(detail.starts_with("syntax error at line "), "{detail}");
        assert!(!document.to_string().contains("hush"));
    }
    post_raw(&api, &token, &[JSON], vec![b'"', 0xff, b'"']).await.problem(400, "invalid_json");
}

#[tokio::test]
async fn accepts_only_plain_json() {
    let api = TestApp::start().await;
    let token = api.token(Role::Service, Some(ACME)).await;
    let body = message("x").to_string();
    for headers in [
        vec![],
        vec![("content-type", "text/plain")],
        vec![("content-type", "application/jsonp")],
        vec![JSON, ("content-encoding", "gzip")],
    ] {
        post_raw(&api, &token, &headers, body.clone()).await.problem(415, "unsupported_media_type");
    }
    post_raw(&api, &token, &[("content-type", "Application/JSON; charset=utf-8")], body).await.expect(202);
}

#[tokio::test]
async fn limits_the_size_of_a_body_with_and_without_a_declared_length() {
    let api = TestApp::start().await;
    let token = api.token(Role::Service, Some(ACME)).await;
    let empty = message("").to_string().len();
    let fits = message(&"x".repeat(64 * 1024 - empty)).to_string();
    assert_eq!(fits.len(), 64 * 1024);
    post_raw(&api, &token, &[JSON], fits).await.expect(202);
    let too_large = message(&"x".repeat(64 * 1024 - empty + 1)).to_string();
    post_raw(&api, &token, &[JSON], too_large).await.problem(413, "payload_too_large");
    let much_too_large = message(&"x".repeat(3 * 1024 * 1024)).to_string();
    post_raw(&api, &token, &[JSON], much_too_large).await.problem(413, "payload_too_large");

    // A chunked request does not declare its length.
    let mut stream = api.connect().await;
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let piece = format!("4000\r\n{}\r\n", " ".repeat(0x4000));
    for _ in 0..5 {
        stream.write_all(piece.as_bytes()).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_request_with_a_token_for_all_tenants_must_name_a_tenant() {
    let api = TestApp::start().await;
    let token = api.token(Role::Service, None).await;
    let answer = api.post("/v1/events", &token, &message("x")).await;
    assert_eq!(answer.faults(), [("/tenant_id".into(), "required".into())]);
    let mut event = message("x");
    event["tenant_id"] = ACME.into();
    let by_body = api.post("/v1/events", &token, &event).await.expect(202);
    let by_parameter = api.post("/v1/events?tenant_id=acme", &token, &message("x")).await.expect(202);
    let admin = api.token(Role::Admin, Some(ACME)).await;
    for accepted in [by_body, by_parameter] {
        api.get(&format!("/v1/events/{}", accepted["id"].as_str().unwrap()), &admin).await.expect(200);
    }
    let answer = api.post("/v1/events?tenant_id=", &token, &message("x")).await;
    assert_eq!(answer.faults(), [("tenant_id".into(), "invalid_value".into())]);
}

#[tokio::test]
async fn a_full_queue_returns_503_with_retry_after() {
    let options = Options { queue_events: 1, ..Options::default() };
    let api = TestApp::with(options).await;
    let token = api.token(Role::Service, Some(ACME)).await;
    let batch = json!({"events": [message("1"), message("2")]});
    let answer = api.post("/v1/events/batch", &token, &batch).await;
    answer.problem(503, "overloaded");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(api.metrics.render().contains("events_rejected_total{reason=\"overload\"} 2\n"));
    api.post("/v1/events", &token, &message("1")).await.expect(202);
}

#[tokio::test]
async fn hides_internal_details_if_the_database_is_unavailable() {
    let api = TestApp::start().await;
    let token = api.token(Role::Service, Some(ACME)).await;
    api.db.pool.close().await;
    let answer = api.post("/v1/events", &token, &message("x")).await;
    let document = answer.problem(503, "unavailable");
    assert!(answer.header("retry-after").is_some());
    assert!(!document.to_string().to_lowercase().contains("pool"), "{document}");
}

#[tokio::test]
async fn counts_accepted_and_rejected_events_by_type_and_reason() {
    let api = TestApp::start().await;
    let token = api.token(Role::Service, Some(ACME)).await;
    let mut event = message("once");
    event["idempotency_key"] = "m-1".into();
    api.post("/v1/events", &token, &event).await.expect(202);
    api.post("/v1/events", &token, &event).await.expect(200);
    event["text"] = "other".into();
    api.post("/v1/events", &token, &event).await.problem(409, "idempotency_conflict");
    api.post("/v1/events", &token, &json!({})).await.problem(422, "invalid");
    post_raw(&api, &token, &[JSON], "x").await.problem(400, "invalid_json");
    post_raw(&api, &token, &[JSON], vec![b' '; 70_000]).await.problem(413, "payload_too_large");
    let metrics = api.metrics.render();
    for line in [
        "flametree_events_accepted_total{type=\"user_message\"} 1\n",
        "flametree_events_rejected_total{reason=\"conflict\"} 1\n",
        "flametree_events_rejected_total{reason=\"invalid\"} 2\n",
        "flametree_events_rejected_total{reason=\"too_large\"} 1\n",
        "flametree_http_requests_total{method=\"POST\",route=\"/v1/events\",status_class=\"2xx\"} 2\n",
        "flametree_http_requests_total{method=\"POST\",route=\"/v1/events\",status_class=\"4xx\"} 4\n",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}
