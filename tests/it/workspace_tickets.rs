//! Tests the tickets for streams. A ticket opens one stream on any node, is valid once and for a short time, and is never logged.

use std::net::SocketAddr;

use flametree_notify::domain::role::Role;
use serde_json::Value;

use crate::support::app::{ACME, Options, TestApp};
use crate::support::deployment::Deployment;
use crate::support::seed;
use crate::support::service::Part;
use crate::support::sse::{EventStream, try_open};
use crate::workspace_stream::{assigned, enqueue};

async fn ticket(api: &TestApp, token: &str) -> String {
    let made = api.request(::http::Method::POST, "/v1/workspace/stream-tickets", token, None).await.expect(201);
    assert!(made["expires_at"].is_string());
    made["ticket"].as_str().unwrap().to_owned()
}

async fn open(address: SocketAddr, ticket: &str) -> Result<EventStream, (u16, Value)> {
    try_open(address, &format!("/v1/workspace/stream?ticket={ticket}"), &[]).await
}

async fn refused(address: SocketAddr, ticket: &str) {
    let (status, problem) = open(address, ticket).await.unwrap_err();
    assert_eq!((status, problem["code"].as_str()), (401, Some("unauthorized")));
    assert!(!problem.to_string().contains("ftt_"), "the response repeats the ticket: {problem}");
}

#[tokio::test]
async fn a_ticket_opens_one_stream_once_on_any_node() {
    let near = TestApp::start().await;
    let far = near.beside(Options::default()).await;
    seed::run(&near.db, enqueue(ACME, assigned("s-1", "user-7"))).await;
    seed::run(&near.db, enqueue("other", assigned("s-2", "user-7"))).await;
    seed::run(&near.db, enqueue("other", assigned("s-3", "user-7"))).await;

    let operator = near.token(Role::Operator, Some(ACME)).await;
    let text = ticket(&near, &operator).await;
    let mut stream = open(far.address, &text).await.unwrap();
    assert_eq!(stream.expect("snapshot").await.1, 1, "a ticket is bound to its tenant");
    refused(far.address, &text).await;
    refused(near.address, &text).await;
    seed::run(&near.db, enqueue(ACME, assigned("s-4", "user-7"))).await;
    assert_eq!(stream.expect("badge").await.1, 2);

    // A caller with a token for all tenants must name a tenant when the caller creates the ticket.
    let all = near.token(Role::Admin, None).await;
    let path = "/v1/workspace/stream-tickets?tenant_id=other";
    let made = near.request(::http::Method::POST, path, &all, None).await.expect(201);
    let mut stream = open(near.address, made["ticket"].as_str().unwrap()).await.unwrap();
    assert_eq!(stream.expect("snapshot").await.1, 2);
}

#[tokio::test]
async fn only_one_of_many_concurrent_users_of_a_ticket_gets_the_stream() {
    let near = TestApp::start().await;
    let far = near.beside(Options::default()).await;
    let operator = near.token(Role::Operator, Some(ACME)).await;
    let text = ticket(&near, &operator).await;
    let attempts = (0..20).map(|number| {
        let address = if number % 2 == 0 { near.address } else { far.address };
        let text = text.clone();
        async move { open(address, &text).await.is_ok() }
    });
    let opened = crate::support::waiting::all(attempts).await;
    assert_eq!(opened.iter().filter(|opened| **opened).count(), 1);
}

#[tokio::test]
async fn a_ticket_is_valid_only_for_the_stream() {
    let api = TestApp::start().await;
    let admin = api.token(Role::Admin, Some(ACME)).await;
    let text = ticket(&api, &admin).await;
    for path in ["/v1/deliveries", "/v1/tokens", "/v1/workspace/active-conversations"] {
        let asked = try_open(api.address, &format!("{path}?ticket={text}"), &[]).await;
        assert_eq!(asked.unwrap_err().0, 401, "{path}");
        api.get(path, &text).await.problem(401, "unauthorized");
    }
    let bearer = format!("Bearer {text}");
    let asked = try_open(api.address, "/v1/workspace/stream", &[("authorization", &bearer)]).await;
    assert_eq!(asked.unwrap_err().0, 401);
    // A ticket is not valid together with a token or for another tenant. These failed attempts do not use up the ticket.
    let bearer = format!("Bearer {admin}");
    let path = format!("/v1/workspace/stream?ticket={text}");
    assert_eq!(try_open(api.address, &path, &[("authorization", &bearer)]).await.unwrap_err().0, 401);
    assert_eq!(try_open(api.address, &format!("{path}&tenant_id=other"), &[]).await.unwrap_err().0, 401);
    open(api.address, &text).await.unwrap();
}

#[tokio::test]
async fn rejects_invalid_tickets() {
    let api = TestApp::start().await;
    let (id, operator) = api.token_with_id(Role::Operator, Some(ACME)).await;
    for unknown in ["", "x", &format!("ftt_{}", "A".repeat(43)), &operator] {
        refused(api.address, unknown).await;
    }
    let expired = ticket(&api, &operator).await;
    seed::run(&api.db, "UPDATE flametree.stream_tickets SET expires_at = now()".into()).await;
    refused(api.address, &expired).await;

    let orphaned = ticket(&api, &operator).await;
    seed::run(&api.db, format!("UPDATE flametree.tokens SET revoked_at = now() WHERE id = '{}'", id.uuid())).await;
    refused(api.address, &orphaned).await;
    for role in [Role::Service, Role::Viewer] {
        let token = api.token(role, Some(ACME)).await;
        let answer = api.request(::http::Method::POST, "/v1/workspace/stream-tickets", &token, None).await;
        answer.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn deletes_unused_tickets_and_stores_no_ticket_in_plaintext() {
    let api = TestApp::start().await;
    let operator = api.token(Role::Operator, Some(ACME)).await;
    let mut texts = Vec::new();
    for _ in 0..10 {
        texts.push(ticket(&api, &operator).await);
    }
    let dump = "SELECT coalesce(string_agg(t::text, ' '), ''), count(*) FROM flametree.stream_tickets AS t";
    let (stored, count): (String, i64) = sqlx::query_as(dump).fetch_one(&api.db.pool).await.unwrap();
    assert_eq!(count, 10);
    assert!(texts.iter().all(|text| !stored.contains(&text[4..])), "{stored}");
    seed::run(&api.db, "UPDATE flametree.stream_tickets SET expires_at = now() - interval '1 second'".into()).await;
    for _ in 0..5 {
        ticket(&api, &operator).await;
    }
    let (_, count): (String, i64) = sqlx::query_as(dump).fetch_one(&api.db.pool).await.unwrap();
    assert_eq!(count, 5);
}

#[tokio::test]
async fn no_log_at_any_level_contains_a_ticket_or_a_query() {
    let deployment = Deployment::new().await;
    let service = deployment.settings.clone().with("FLAMETREE_LOG", "trace").start(Part::Api).await;
    let client = deployment.client(&service);
    let path = "/v1/workspace/stream-tickets?tenant_id=named-in-a-query";
    let made = client.post(path, &Value::Null).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let text = made.json()["ticket"].as_str().unwrap().to_owned();
    let mut stream = open(client.address(), &text).await.unwrap();
    stream.expect("snapshot").await;
    drop(stream);
    let (status, _) = open(client.address(), &text).await.unwrap_err();
    assert_eq!(status, 401);
    let output = service.stop().await;
    assert!(output.contains("/v1/workspace/stream"), "requests are logged at this level:\n{output}");
    assert!(!output.contains(&text[4..]) && !output.contains("ticket=ftt") && !output.contains("named-in-a-query"));
}
