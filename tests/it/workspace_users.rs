//! Tests that a user's stream ends when the token that opened the stream, or created the stream's ticket, is no longer valid.

use ::http::Method;
use flametree_notify::domain::role::Role;
use serde_json::{Value, json};

use crate::support::app::{ACME, Answer, Options, TestApp};
use crate::support::jwt::{self, SECRET, Signer, claims, in_seconds, with};
use crate::support::seed;
use crate::support::sse::{EventStream, try_open};
use crate::workspace_stream::{assigned, enqueue};

async fn api_for_users() -> TestApp {
    TestApp::with(Options { users: Some(jwt::by_secret()), ..Options::default() }).await
}

/// An operator of ACME with these additional claims.
fn operator(changed: &[(&str, Value)]) -> String {
    let all = claims(Role::Operator, ACME);
    let all = changed.iter().fold(all, |all, (name, value)| with(all, name, value.clone()));
    Signer::secret(SECRET).token(&all)
}

async fn ask_for_ticket(api: &TestApp, token: &str) -> Answer {
    api.request(Method::POST, "/v1/workspace/stream-tickets", token, None).await
}

async fn open_by_ticket(api: &TestApp, token: &str) -> EventStream {
    let made = ask_for_ticket(api, token).await.expect(201);
    let path = format!("/v1/workspace/stream?ticket={}", made["ticket"].as_str().unwrap());
    try_open(api.address, &path, &[]).await.unwrap()
}

#[tokio::test]
async fn a_stream_ends_when_its_token_expires() {
    let api = api_for_users().await;
    let (id, service) = api.token_with_id(Role::Operator, Some(ACME)).await;
    let soon = "now() + interval '3 seconds'";
    seed::run(&api.db, format!("UPDATE flametree.tokens SET expires_at = {soon} WHERE id = '{}'", id.uuid())).await;
    let person = operator(&[("exp", json!(in_seconds(4)))]);
    let lasting = operator(&[]);
    let mut stays = [EventStream::open(api.address, &lasting, None).await, open_by_ticket(&api, &lasting).await];
    let mut ends = [
        EventStream::open(api.address, &person, None).await,
        open_by_ticket(&api, &person).await,
        EventStream::open(api.address, &service, None).await,
        open_by_ticket(&api, &service).await,
    ];
    for stream in ends.iter_mut().chain(&mut stays) {
        assert_eq!(stream.expect("snapshot").await.1, 0);
    }
    for stream in ends {
        stream.ended().await;
    }
    seed::run(&api.db, enqueue(ACME, assigned("s-1", "user-7"))).await;
    for stream in &mut stays {
        assert_eq!(stream.expect("badge").await.1, 1);
    }
}

#[tokio::test]
async fn a_ticket_expires_no_later_than_the_token_that_created_it() {
    let api = api_for_users().await;
    let made = ask_for_ticket(&api, &operator(&[("exp", json!(in_seconds(30)))])).await.expect(201);
    let ends_at: chrono::DateTime<chrono::Utc> = made["expires_at"].as_str().unwrap().parse().unwrap();
    assert!(ends_at.timestamp() <= in_seconds(30), "{made}");
}

#[tokio::test]
async fn a_token_that_is_valid_only_because_of_the_leeway_opens_no_stream() {
    let api = api_for_users().await;
    let late = operator(&[("exp", json!(in_seconds(-30)))]);
    api.get("/v1/workspace/active-conversations", &late).await.expect(200);
    for answer in [api.get("/v1/workspace/stream", &late).await, ask_for_ticket(&api, &late).await] {
        assert_eq!(answer.problem(401, "unauthorized")["detail"], "the token has expired");
    }
}

#[tokio::test]
async fn revoking_a_token_does_not_end_the_stream_of_a_user_whose_id_equals_the_token_id() {
    let api = api_for_users().await;
    let (id, token) = api.token_with_id(Role::Operator, Some(ACME)).await;
    let namesake = operator(&[("sub", json!(id.to_string()))]);
    let mut ends = EventStream::open(api.address, &token, None).await;
    ends.expect("snapshot").await;
    let mut stays = [EventStream::open(api.address, &namesake, None).await, open_by_ticket(&api, &namesake).await];
    for stream in &mut stays {
        stream.expect("snapshot").await;
    }
    seed::run(&api.db, format!("UPDATE flametree.tokens SET revoked_at = now() WHERE id = '{}'", id.uuid())).await;
    ends.ended().await;
    open_by_ticket(&api, &namesake).await;
    seed::run(&api.db, enqueue(ACME, assigned("s-1", "user-7"))).await;
    for stream in &mut stays {
        assert_eq!(stream.expect("badge").await.1, 1);
    }
}
