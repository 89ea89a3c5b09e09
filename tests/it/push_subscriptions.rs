//! Tests how users register, renew, list, test and remove browsers, and what happens if another user signs in. The service
//! encrypts subscriptions.

use ::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flametree_notify::domain::role::Role;
use serde_json::{Value, json};
use sqlx::Row as _;

use crate::support::app::{ACME, Answer, Options, TestApp};
use crate::support::jwt::{self, SECRET, Signer, claims, with};
use crate::support::misbehaving::{Behaviour, Receiver};
use crate::support::push::{Browser, KEY};
use crate::support::seed;
use crate::support::waiting::all;
use crate::support::wire::answer;

const PATH: &str = "/v1/me/push-subscriptions";
const VENDOR: &str = "https://updates.push.services.mozilla.com";

async fn api(hosts: Vec<String>) -> TestApp {
    TestApp::with(Options { users: Some(jwt::by_secret()), push_hosts: Some(hosts), ..Options::default() }).await
}

fn person(user: &str, tenant: &str) -> String {
    Signer::secret(SECRET).token(&with(claims(Role::Operator, tenant), "sub", json!(user)))
}

async fn put(api: &TestApp, token: &str, body: &Value) -> Answer {
    api.request(Method::PUT, PATH, token, Some(body)).await
}

async fn ids(api: &TestApp, token: &str) -> Vec<String> {
    let list = api.get(PATH, token).await.expect(200);
    let data = list["data"].as_array().unwrap();
    data.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

async fn number(api: &TestApp, query: &'static str) -> i64 {
    sqlx::raw_sql(query).fetch_one(&api.db.pool).await.unwrap().get(0)
}

/// Registers a browser at a push service that returns this response. Also returns the path of the browser's test route.
async fn tested(status: &str, body: &str) -> (TestApp, Receiver, Browser, String) {
    let receiver = Receiver::start(Behaviour::Answers(answer(status, "", body.as_bytes()))).await;
    let api = api(vec![receiver.address.to_string()]).await;
    let browser = Browser::new("a");
    let origin = format!("http://{}", receiver.address);
    let made = put(&api, &person("user-1", ACME), &browser.subscription(&origin)).await.expect(201);
    let path = format!("{PATH}/{}/test", made["id"].as_str().unwrap());
    (api, receiver, browser, path)
}

#[tokio::test]
async fn browser_push_requires_vapid_keys() {
    let api = TestApp::with(Options { users: Some(jwt::by_secret()), ..Options::default() }).await;
    let me = person("user-1", ACME);
    api.get("/v1/push/vapid-public-key", &me).await.problem(404, "browser_push_not_configured");
    put(&api, &me, &Browser::new("a").subscription(VENDOR)).await.problem(404, "browser_push_not_configured");
    assert_eq!(ids(&api, &me).await, Vec::<String>::new());
}

#[tokio::test]
async fn browsers_subscribe_with_the_public_key() {
    let api = api(Vec::new()).await;
    let key = api.get("/v1/push/vapid-public-key", &person("user-1", ACME)).await.expect(200);
    assert_eq!(key, json!({"public_key": KEY[1]}));
}

#[tokio::test]
async fn registers_a_browser_once_and_recognizes_it_later() {
    let api = api(Vec::new()).await;
    let (me, browser) = (person("user-1", ACME), Browser::new("a"));
    let mut body = browser.subscription(VENDOR);
    body["label"] = json!("Firefox at work");
    let made = put(&api, &me, &body).await.expect(201);
    assert_eq!(made["host"], "updates.push.services.mozilla.com");
    assert_eq!((&made["active"], &made["label"]), (&json!(true), &json!("Firefox at work")));
    let again = put(&api, &me, &browser.subscription(VENDOR)).await.expect(200);
    assert_eq!(
        (&again["id"], &again["label"], &again["created_at"]),
        (&made["id"], &made["label"], &made["created_at"])
    );
    let seen = |one: &Value| one["last_seen_at"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    assert!(seen(&again) > seen(&made));
    assert_eq!(number(&api, "SELECT max(version)::bigint FROM flametree.push_subscriptions").await, 1);

    let list = api.get(PATH, &me).await.expect(200);
    assert_eq!(list, json!({"data": [again], "next_cursor": null}));
    let hash = ring::digest::digest(&ring::digest::SHA256, browser.endpoint(VENDOR).as_bytes());
    let hash: Vec<String> = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(list["data"][0]["endpoint_sha256"], hash.concat());
}

#[tokio::test]
async fn reports_every_fault_of_a_rejected_subscription() {
    let api = api(Vec::new()).await;
    let me = person("user-1", ACME);
    let mut off_curve = Browser::new("a").subscription(VENDOR);
    off_curve["keys"]["p256dh"] = json!(URL_SAFE_NO_PAD.encode([vec![4], vec![0; 64]].concat()));
    off_curve["keys"]["auth"] = json!("AAAA");
    let places = |faults: Vec<(String, String)>| faults.into_iter().map(|(place, _)| place).collect::<Vec<_>>();
    assert_eq!(places(put(&api, &me, &off_curve).await.faults()), ["/keys/p256dh", "/keys/auth"]);
    for origin in ["https://push.example.net", "http://updates.push.services.mozilla.com", "https://127.0.0.1"] {
        let answer = put(&api, &me, &Browser::new("a").subscription(origin)).await;
        assert!(!String::from_utf8_lossy(&answer.body).contains("5ecret"), "the response repeats the secret endpoint");
        assert_eq!(places(answer.faults()), ["/endpoint"], "{origin}");
    }
    assert_eq!(places(put(&api, &me, &json!({"more": 1})).await.faults()), ["/endpoint", "/keys", "/more"]);
    assert_eq!(number(&api, "SELECT count(*) FROM flametree.push_subscriptions").await, 0);
}

#[tokio::test]
async fn users_see_and_remove_only_their_browsers() {
    let api = api(Vec::new()).await;
    let (me, colleague, stranger) = (person("user-1", ACME), person("user-2", ACME), person("user-1", "other"));
    let made = put(&api, &me, &Browser::new("a").subscription(VENDOR)).await.expect(201);
    let path = format!("{PATH}/{}", made["id"].as_str().unwrap());
    for other in [&colleague, &stranger] {
        assert_eq!(ids(&api, other).await, Vec::<String>::new());
        api.request(Method::DELETE, &path, other, None).await.problem(404, "not_found");
        api.request(Method::POST, &format!("{path}/test"), other, None).await.problem(404, "not_found");
    }
    let service = api.token(Role::Admin, Some(ACME)).await;
    api.get(PATH, &service).await.problem(403, "forbidden");
    api.request(Method::DELETE, &path, &me, None).await.expect(204);
    api.request(Method::DELETE, &path, &me, None).await.problem(404, "not_found");
    assert_eq!(ids(&api, &me).await, Vec::<String>::new());
    assert!(api.metrics.render().contains("push_subscriptions_removed_total{reason=\"deleted\"} 1\n"));
}

#[tokio::test]
async fn a_browser_belongs_to_the_user_who_signed_in_last() {
    let api = api(Vec::new()).await;
    let browser = Browser::new("shared");
    let users = [person("user-1", ACME), person("user-2", ACME), person("user-1", "other")];
    let mut seen = Vec::new();
    for (turn, me) in users.iter().enumerate() {
        put(&api, me, &browser.subscription(VENDOR)).await.expect(201);
        for (other, token) in users.iter().enumerate() {
            assert_eq!(ids(&api, token).await.len(), usize::from(other == turn), "turn {turn}");
        }
        // The browser gets a new id, so deliveries for the previous user do not reach the browser.
        seen.extend(ids(&api, me).await);
    }
    seen.dedup();
    assert_eq!(seen.len(), 3);
    assert!(api.metrics.render().contains("push_subscriptions_removed_total{reason=\"moved\"} 2\n"));
}

#[tokio::test]
async fn if_several_users_register_a_browser_at_once_the_browser_belongs_to_one_of_them() {
    let api = std::sync::Arc::new(api(Vec::new()).await);
    let body = Browser::new("shared").subscription(VENDOR);
    let turns = (0..64).map(|number| {
        let (api, body) = (std::sync::Arc::clone(&api), body.clone());
        async move { put(&api, &person(&format!("user-{}", number % 8), ACME), &body).await.status }
    });
    let statuses = all(turns).await;
    assert!(statuses.iter().all(|status| [200, 201].contains(status)), "{statuses:?}");
    assert_eq!(number(&api, "SELECT count(*) FROM flametree.push_subscriptions").await, 1);
}

#[tokio::test]
async fn registering_more_than_twenty_browsers_removes_the_browser_with_the_oldest_last_seen_time() {
    let api = std::sync::Arc::new(api(Vec::new()).await);
    let me = person("user-1", ACME);
    let first = Browser::new("first");
    let first_id = put(&api, &me, &first.subscription(VENDOR)).await.expect(201)["id"].clone();
    let second_id = put(&api, &me, &Browser::new("second").subscription(VENDOR)).await.expect(201)["id"].clone();
    put(&api, &me, &first.subscription(VENDOR)).await.expect(200);
    let more = (0..19).map(|number| {
        let (api, me) = (std::sync::Arc::clone(&api), me.clone());
        async move { put(&api, &me, &Browser::new(&format!("b{number}")).subscription(VENDOR)).await.expect(201) }
    });
    all(more).await;
    let kept = ids(&api, &me).await;
    assert_eq!(kept.len(), 20);
    assert!(kept.iter().any(|id| first_id == **id), "the first browser was seen after the second");
    assert!(!kept.iter().any(|id| second_id == **id));
    assert!(api.metrics.render().contains("push_subscriptions_removed_total{reason=\"evicted\"} 1\n"));
}

#[tokio::test]
async fn a_test_message_is_sent_at_once_but_cannot_be_repeated_immediately() {
    let (api, receiver, browser, path) = tested("201 Created", "").await;
    let me = person("user-1", ACME);
    let told = api.request(Method::POST, &path, &me, None).await.expect(200);
    assert_eq!(told, json!({"outcome": "delivered", "http_status": 201, "note": null, "response_body": null}));
    let refused = api.request(Method::POST, &path, &me, None).await;
    refused.problem(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), Some("5"));
    let seen = receiver.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!((&browser.read(&seen[0])["kind"], seen[0].header("ttl")), (&json!("test"), "60"));
}

#[tokio::test]
async fn a_test_message_removes_a_browser_that_is_gone() {
    for status in ["404 Not Found", "410 Gone"] {
        let (api, _receiver, _, path) = tested(status, "").await;
        let me = person("user-1", ACME);
        let told = api.request(Method::POST, &path, &me, None).await.expect(200);
        assert_eq!(told["outcome"], "gone", "{status}");
        assert_eq!(ids(&api, &me).await, Vec::<String>::new(), "{status}");
        assert!(api.metrics.render().contains("push_subscriptions_removed_total{reason=\"gone\"} 1\n"));
    }
}

#[tokio::test]
async fn a_key_mismatch_disables_the_browser_until_it_registers_again() {
    let (api, receiver, browser, path) = tested("401 Unauthorized", r#"{"message":"VAPID public key mismatch"}"#).await;
    let me = person("user-1", ACME);
    let told = api.request(Method::POST, &path, &me, None).await.expect(200);
    assert_eq!(told["outcome"], "config_error");
    assert!(told["response_body"].as_str().unwrap().contains("key mismatch"), "{told}");
    let list = api.get(PATH, &me).await.expect(200);
    let one = &list["data"][0];
    assert_eq!((&one["active"], &one["disabled_reason"]), (&json!(false), &json!("vapid_key_mismatch")));
    let origin = format!("http://{}", receiver.address);
    let again = put(&api, &me, &browser.subscription(&origin)).await.expect(200);
    assert_eq!((&again["id"], &again["active"], &again["disabled_reason"]), (&one["id"], &json!(true), &Value::Null));
}

#[tokio::test]
async fn a_subscription_is_stored_encrypted_and_bound_to_its_user() {
    let api = api(Vec::new()).await;
    let (me, browser) = (person("user-1", ACME), Browser::new("a"));
    let made = put(&api, &me, &browser.subscription(VENDOR)).await.expect(201);
    let query = "SELECT p::text || encode(ciphertext, 'escape') FROM flametree.push_subscriptions AS p";
    let row: String = sqlx::raw_sql(query).fetch_one(&api.db.pool).await.unwrap().get(0);
    for secret in [browser.path.as_str(), "5ecret", &browser.p256dh(), &browser.auth()] {
        assert!(!row.contains(secret), "{secret} in {row}");
    }
    // An attacker with write access to the database assigns the row to another user.
    let moved = "UPDATE flametree.push_subscriptions SET user_id = 'user-2'".to_owned();
    seed::run(&api.db, moved).await;
    let path = format!("{PATH}/{}/test", made["id"].as_str().unwrap());
    let told = api.request(Method::POST, &path, &person("user-2", ACME), None).await.expect(200);
    assert_eq!((&told["outcome"], &told["http_status"]), (&json!("config_error"), &Value::Null));
}
