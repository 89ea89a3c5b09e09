//! Tests the route for batches of events: each event has a separate result, and the size of a batch is limited.

use ::http::{Method, Request};
use flametree_notify::domain::role::Role;
use serde_json::{Value, json};

use crate::api_events::message;
use crate::support::app::{ACME, TestApp};

#[tokio::test]
async fn each_event_of_a_batch_has_a_separate_result() {
    let api = TestApp::start().await;
    let token = api.token(Role::Service, Some(ACME)).await;
    let with_key = |text: &str, key: &str| {
        let mut event = message(text);
        event["idempotency_key"] = key.into();
        event
    };
    let known = api.post("/v1/events", &token, &with_key("known", "known")).await.expect(202);
    let batch = json!({"events": [
        message("first"),
        {"type": "user_message", "agent_id": "agent-1"},
        with_key("known", "known"),
        with_key("another body", "known"),
        message(&"x".repeat(64 * 1024)),
        "no event",
        message("last"),
    ]});
    let answer = api.post("/v1/events/batch", &token, &batch).await.expect(200);
    let results = answer["results"].as_array().unwrap();
    let column = |name: &str| results.iter().map(|result| result[name].clone()).collect::<Vec<_>>();
    assert_eq!(column("index"), [0, 1, 2, 3, 4, 5, 6].map(Value::from));
    assert_eq!(column("status"), [202, 422, 200, 409, 413, 422, 202].map(Value::from));
    assert_eq!(results[2]["id"], known["id"]);
    assert_eq!(results[2]["duplicate"], true);
    assert_eq!(results[3], json!({"index": 3, "status": 409, "code": "idempotency_conflict"}));
    let pointers: Vec<_> = results[1]["errors"].as_array().unwrap().iter().map(|fault| &fault["pointer"]).collect();
    assert_eq!(pointers, ["/events/1/session_id", "/events/1/text"]);
    assert_eq!(results[4]["code"], "payload_too_large");
    assert_eq!(results[5]["errors"][0]["pointer"], "/events/5");

    let admin = api.token(Role::Admin, Some(ACME)).await;
    for (index, text) in [(0, "first"), (6, "last")] {
        let id = results[index]["id"].as_str().unwrap();
        assert_eq!(api.get(&format!("/v1/events/{id}"), &admin).await.expect(200)["text"], text);
    }
}

#[tokio::test]
async fn the_same_idempotency_key_twice_in_a_batch_creates_one_event() {
    let api = TestApp::start().await;
    let token = api.token(Role::Service, Some(ACME)).await;
    let mut event = message("once");
    event["idempotency_key"] = "m-1".into();
    let answer = api.post("/v1/events/batch", &token, &json!({"events": [event, event]})).await.expect(200);
    let results = &answer["results"];
    assert_eq!((&results[0]["status"], &results[1]["status"]), (&json!(202), &json!(200)));
    assert_eq!(results[0]["id"], results[1]["id"]);
}

#[tokio::test]
async fn a_batch_is_limited() {
    let api = TestApp::start().await;
    let token = api.token(Role::Service, Some(ACME)).await;
    let post = async |batch: &Value| api.post("/v1/events/batch", &token, batch).await;
    let answer = post(&json!({"events": vec![message("x"); 500]})).await.expect(200);
    assert_eq!(answer["results"].as_array().unwrap().len(), 500);
    assert!(answer["results"].as_array().unwrap().iter().all(|result| result["status"] == 202));
    assert_eq!(
        post(&json!({"events": vec![message("x"); 501]})).await.faults(),
        [("/events".into(), "too_long".into())]
    );
    let large = json!({"events": vec![message(&"x".repeat(60_000)); 18]});
    post(&large).await.problem(413, "payload_too_large");
}

#[tokio::test]
async fn rejects_a_malformed_batch_and_reports_every_fault() {
    let api = TestApp::start().await;
    let token = api.token(Role::Service, Some(ACME)).await;
    let fault = |pointer: &str, code: &str| (pointer.to_owned(), code.to_owned());
    for (batch, faults) in [
        (json!([]), vec![fault("", "invalid_type")]),
        (json!({}), vec![fault("/events", "required")]),
        (json!({"events": []}), vec![fault("/events", "required")]),
        (json!({"events": {}}), vec![fault("/events", "invalid_type")]),
        (
            json!({"event": [], "a/b": 1}),
            vec![fault("/events", "required"), fault("/a~1b", "unknown_field"), fault("/event", "unknown_field")],
        ),
    ] {
        assert_eq!(api.post("/v1/events/batch", &token, &batch).await.faults(), faults, "{batch}");
    }
    let request = Request::builder()
        .method(Method::POST)
        .uri("/v1/events/batch")
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .header("idempotency-key", "k")
        .body(json!({"events": [message("x")]}).to_string().into())
        .unwrap();
    assert_eq!(api.send(request).await.faults(), [fault("Idempotency-Key", "not_allowed")]);
}
