//! Tests which secrets an endpoint test may use, who may run it and how often, and that no response shows a secret.

use flametree_notify::domain::role::Role;
use flametree_notify::store::endpoint_tests;
use reqwest::Method;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::endpoint_tests::{path, save, started, test_draft, test_saved};
use crate::support::app::{Answer, Names, Options};
use crate::support::misbehaving::{Behaviour, Receiver};
use crate::support::wire::{Seen, answer, signed_headers};

const SECRET: &str = "Bearer hunter2-\"quoted\"";

async fn ok() -> Receiver {
    Receiver::start(Behaviour::Answers(answer("200 OK", "", b""))).await
}

fn config(url: &str) -> Value {
    json!({"enabled": true, "url": url, "events": ["user_message"], "headers": [
        {"name": "Authorization", "value": SECRET}, {"name": "X-Env", "value": "prod"},
    ]})
}

fn keeping(url: &str) -> Value {
    let mut config = config(url);
    config["headers"][0]["value"].take();
    config
}

#[tokio::test]
async fn an_endpoint_test_of_a_draft_with_the_stored_origin_uses_the_stored_secret() {
    let (api, admin) = started().await;
    let receiver = ok().await;
    save(&api, &admin, "agent-1", &config(&receiver.url())).await;
    let elsewhere = format!("http://{}/elsewhere", receiver.address);
    let tested = test_draft(&api, &admin, "agent-1", keeping(&elsewhere)).await;
    assert_eq!((tested.status, &tested.json()["outcome"]), (200, &json!("delivered")), "{tested:?}");
    let seen = receiver.seen();
    assert_eq!((seen.len(), seen[0].header("authorization")), (1, SECRET));
    assert!(seen[0].head.starts_with("POST /elsewhere "), "{}", seen[0].head);
    // The stored signing secret also signs the request of a draft. The endpoint test does not save the draft.
    assert_eq!(seen[0].headers("webhook-signature").count(), 1);
    let read = api.call(&admin, Method::GET, "/v1/agents/agent-1/push-config", &[], None).await.json();
    assert_eq!(read["url"], receiver.url());
}

#[tokio::test]
async fn a_stored_secret_is_not_sent_if_the_draft_has_another_origin() {
    let (api, admin) = started().await;
    let (receiver, stranger) = (ok().await, ok().await);
    save(&api, &admin, "agent-1", &config(&receiver.url())).await;
    let refused = test_draft(&api, &admin, "agent-1", keeping(&stranger.url())).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (422, Some("secret_reentry_required")));
    let place = ("/config/headers/0/value".to_owned(), "secret_reentry_required".to_owned());
    assert_eq!(refused.faults_of("secret_reentry_required"), [place]);
    assert_eq!(stranger.connections(), 0);
    // If the user enters the secret again, the test may send the secret to the other origin.
    let mut draft = config(&stranger.url());
    draft["headers"][0]["value"] = json!("Bearer another");
    assert_eq!(test_draft(&api, &admin, "agent-1", draft).await.status, 200);
    assert_eq!(stranger.seen()[0].header("authorization"), "Bearer another");
}

#[tokio::test]
async fn a_draft_with_another_origin_is_signed_by_a_temporary_secret() {
    let (api, admin) = started().await;
    let (receiver, stranger) = (ok().await, ok().await);
    let saved = save(&api, &admin, "agent-1", &config(&receiver.url())).await.json();
    let saved_secret = saved["signing_secret"].as_str().unwrap();
    let test = test_draft(&api, &admin, "agent-1", config(&stranger.url())).await.json();
    let seen = &stranger.seen()[0];
    let verify = |secret: &str, seen: &Seen| Webhook::new(secret).unwrap().verify(&seen.body, &signed_headers(seen));
    assert!(
        verify(saved_secret, seen).is_err(),
        "the stored secret signed a request that the other origin could forward to the receiver"
    );
    verify(test["signing_secret"].as_str().unwrap(), seen).unwrap();
    // A draft with the saved origin is signed with the stored secret, and the response contains no secret.
    let test = test_draft(&api, &admin, "agent-1", config(&receiver.url())).await.json();
    assert_eq!(test.get("signing_secret"), None);
    verify(saved_secret, &receiver.seen()[0]).unwrap();
}

#[tokio::test]
async fn a_draft_of_an_agent_without_config_is_sent_unsigned() {
    let (api, admin) = started().await;
    let receiver = ok().await;
    assert_eq!(test_draft(&api, &admin, "agent-1", config(&receiver.url())).await.status, 200);
    assert_eq!(receiver.seen()[0].headers("webhook-signature").count(), 0);
    let missing = test_draft(&api, &admin, "agent-1", keeping(&receiver.url())).await;
    assert_eq!(missing.faults(), [("/config/headers/0/value".to_owned(), "required".to_owned())]);
}

#[tokio::test]
async fn no_response_contains_a_secret_even_if_the_endpoint_repeats_it() {
    let (api, admin) = started().await;
    // The endpoint returns the secret at the position where the service cuts the body. The secret is unchanged, JSON-encoded, or
    // without `Bearer`.
    let padding = "x".repeat(4_090);
    let body = format!("{padding}{SECRET} {} hunter2-\"quoted\"", json!(SECRET));
    let headers = format!("x-echo: {SECRET}\r\nset-cookie: session=c00kie\r\n");
    let receiver = Receiver::start(Behaviour::Answers(answer("200 OK", &headers, body.as_bytes()))).await;
    let saved = save(&api, &admin, "agent-1", &config(&receiver.url())).await.json();
    let tested = test_saved(&api, &admin, "agent-1").await;
    assert_eq!(tested.status, 200);
    for secret in ["hunter2", "quoted", "c00kie", saved["signing_secret"].as_str().unwrap()] {
        assert!(!tested.text().contains(secret), "{secret} in {}", tested.text());
    }
    let test = tested.json();
    let expected = json!({"name": "authorization", "secret": true, "value": null});
    assert!(test["request"]["headers"].as_array().unwrap().contains(&expected), "{test}");
    assert!(
        test["response"]["headers"].as_array().unwrap().contains(&json!({"name": "x-echo", "value": "[redacted]"}))
    );
    assert_eq!(test["response"]["body"], format!("{padding}[redac"));
    assert_eq!(receiver.seen()[0].header("authorization"), SECRET);
}

#[tokio::test]
async fn reports_every_invalid_field_of_an_endpoint_test() {
    let (api, admin) = started().await;
    let faults = async |body: Value| {
        let mut faults = api.call(&admin, Method::POST, &path("agent-1"), &[], Some(&body)).await.faults();
        faults.sort();
        faults
    };
    let fault = |pointer: &str, code: &str| (pointer.to_owned(), code.to_owned());
    let body =
        json!({"event": "session_resolved", "config": {"url": "ftp://hooks.test/", "retries": 1}, "when": "now"});
    let expected = [
        fault("/config/retries", "unknown_field"),
        fault("/config/url", "invalid_value"),
        fault("/event", "invalid_value"),
        fault("/when", "unknown_field"),
    ];
    assert_eq!(faults(body).await, expected);
    assert_eq!(faults(json!({"config": {}})).await, [fault("/config/url", "required"), fault("/event", "required")]);
    save(&api, &admin, "agent-1", &json!({"enabled": false})).await;
    assert_eq!(test_saved(&api, &admin, "agent-1").await.status, 409);
}

#[tokio::test]
async fn only_admins_of_the_tenant_may_run_an_endpoint_test() {
    let (api, admin) = started().await;
    let receiver = ok().await;
    save(&api, &admin, "agent-1", &config(&receiver.url())).await;
    for role in [Role::Viewer, Role::Service] {
        let token = api.token(role, Some("acme")).await;
        assert_eq!(test_saved(&api, &token, "agent-1").await.status, 403);
    }
    let other = api.token(Role::Admin, Some("other")).await;
    assert_eq!(test_saved(&api, &other, "agent-1").await.status, 404);
    let borrowed = test_draft(&api, &other, "agent-1", keeping(&receiver.url())).await;
    assert_eq!(borrowed.faults(), [("/config/headers/0/value".to_owned(), "required".to_owned())]);
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn an_agent_is_tested_at_most_ten_times_a_minute_across_all_nodes() {
    let (api, admin) = started().await;
    let another = api.beside(Options { names: Names::ThisMachine, ..Options::default() }).await;
    let receiver = ok().await;
    save(&api, &admin, "agent-1", &config(&receiver.url())).await;
    // A test that is rejected for another reason does not count towards the limit.
    assert_eq!(test_draft(&api, &admin, "agent-1", json!({})).await.status, 422);
    for _ in 0..5 {
        assert_eq!(test_saved(&api, &admin, "agent-1").await.status, 200);
        assert_eq!(test_saved(&another, &admin, "agent-1").await.status, 200);
    }
    for node in [&api, &another] {
        let refused: Answer = test_saved(node, &admin, "agent-1").await;
        assert_eq!((refused.status, refused.json()["code"].as_str()), (429, Some("rate_limited")));
        let after: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&after), "{after}");
    }
    assert_eq!(receiver.seen().len(), 10);
    // Each agent has a separate limit, even if another tenant uses the same agent id.
    assert_eq!(test_draft(&api, &admin, "agent-2", config(&receiver.url())).await.status, 200);
    let other = api.token(Role::Admin, Some("other")).await;
    assert_eq!(test_draft(&api, &other, "agent-1", config(&receiver.url())).await.status, 200);
    // One more test is allowed for each earlier test that is more than a minute old.
    let statement = "UPDATE flametree.endpoint_tests
        SET tested_at = ARRAY(SELECT at - interval '59 s' FROM unnest(tested_at) AS at ORDER BY at)
        WHERE tenant_id = 'acme' AND agent_id = 'agent-1'";
    sqlx::raw_sql(statement).execute(&api.db.pool).await.unwrap();
    let statement = "UPDATE flametree.endpoint_tests SET tested_at[1] = tested_at[1] - interval '2 s'
        WHERE tenant_id = 'acme' AND agent_id = 'agent-1'";
    sqlx::raw_sql(statement).execute(&api.db.pool).await.unwrap();
    assert_eq!(test_saved(&api, &admin, "agent-1").await.status, 200);
}

#[tokio::test]
async fn deletes_old_tests() {
    let (api, admin) = started().await;
    let receiver = ok().await;
    for agent in ["agent-1", "agent-2"] {
        assert_eq!(test_draft(&api, &admin, agent, config(&receiver.url())).await.status, 200);
    }
    let age = "UPDATE flametree.endpoint_tests SET tested_at = ARRAY[tested_at[1] - interval '1 hour']
        WHERE agent_id = 'agent-1'";
    sqlx::raw_sql(age).execute(&api.db.pool).await.unwrap();
    let minutes = std::time::Duration::from_mins(10);
    assert_eq!(endpoint_tests::forget(&api.db, minutes, 10).await.unwrap(), 1);
    assert_eq!(endpoint_tests::forget(&api.db, minutes, 10).await.unwrap(), 0);
}
