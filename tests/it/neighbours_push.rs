//! Isolation of tenants in browser push: rejections caused by one user or tenant affect no other user or tenant.

use ::http::Method;
use flametree_notify::domain::role::Role;
use flametree_notify::store::push_pauses::paused_services;
use serde_json::{Value, json};
use sqlx::Row as _;

use crate::support::deployment::TENANT;
use crate::support::jwt::{SECRET, Signer, claims, with};
use crate::support::misbehaving::{Behaviour, Receiver};
use crate::support::push::{Browser, KEY};
use crate::support::push_deployment::{PATIENCE, Push, got, origin, push_service, with_key};
use crate::support::waiting::within;
use crate::support::wire::answer;

const OTHER: &str = "other";
const REFUSALS: [(&str, &str); 3] =
    [("401 Unauthorized", ""), ("403 Forbidden", ""), ("429 Too Many Requests", "retry-after: 900\r\n")];

fn behave(receiver: &Receiver, (status, headers): (&str, &str)) {
    receiver.behave(Behaviour::Answers(answer(status, headers, b"")));
}

const ACCEPTS: (&str, &str) = ("201 Created", "");

async fn start() -> (Push, Receiver) {
    let receiver = push_service("201 Created", "", "").await;
    (Push::start(&[&receiver], |settings| settings).await, receiver)
}

/// Registers a browser for a user of the given tenant.
async fn register(push: &Push, tenant: &str, user: &str, receiver: &Receiver) -> Browser {
    let browser = Browser::new(&format!("{tenant}-{user}"));
    let token = Signer::secret(SECRET).token(&with(claims(Role::Operator, tenant), "sub", json!(user)));
    let client = push.service.client(&token);
    let body = browser.subscription(&origin(receiver));
    let made = client.request(Method::PUT, "/v1/me/push-subscriptions", Some(&body)).await.unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
    browser
}

/// Assigns a new session to the user. Returns the outcomes of the deliveries to the user's browsers.
async fn assign(push: &Push, tenant: &str, user: &str) -> Vec<String> {
    let seen = push.outcomes().await.len();
    let session = format!("{tenant}-{user}");
    let event: Value =
        json!({"tenant_id": tenant, "session_id": session, "type": "session_assigned", "assignee_id": user});
    push.post(&event).await;
    push.outcomes().await.split_off(seen)
}

#[tokio::test]
async fn rejections_of_one_users_browsers_affect_no_message_of_other_users() {
    for refusal in REFUSALS {
        let (push, receiver) = start().await;
        for name in ["a", "b", "c", "d", "e"] {
            push.browser("mallory", name, &receiver).await;
        }
        let colleague = register(&push, TENANT, "colleague", &receiver).await;
        let stranger = register(&push, OTHER, "stranger", &receiver).await;
        behave(&receiver, refusal);
        assert_eq!(assign(&push, TENANT, "mallory").await.len(), 5);
        assert_eq!(assign(&push, TENANT, "mallory").await, ["throttled"; 5], "{refusal:?}: the browsers are paused");
        behave(&receiver, ACCEPTS);
        assert_eq!(assign(&push, TENANT, "colleague").await, ["delivered"], "{refusal:?}");
        assert_eq!(assign(&push, OTHER, "stranger").await, ["delivered"], "{refusal:?}");
        assert_eq!((got(&colleague, &receiver).len(), got(&stranger, &receiver).len()), (1, 1));
    }
}

#[tokio::test]
async fn a_pause_of_a_browser_applies_in_every_process() {
    let (push, receiver) = start().await;
    push.browser("user-1", "a", &receiver).await;
    behave(&receiver, ("429 Too Many Requests", "retry-after: 900\r\n"));
    assert_eq!(assign(&push, TENANT, "user-1").await, ["throttled"]);
    let settings = with_key(&push.deployment.settings, KEY[0]);
    let push = push.restart(&settings).await;
    behave(&receiver, ACCEPTS);
    assert_eq!(assign(&push, TENANT, "user-1").await, ["throttled"]);
    assert_eq!(receiver.seen().len(), 1, "the second message was not sent");
    let over = "UPDATE flametree.push_subscriptions SET paused_until = now(), version = version + 1";
    sqlx::raw_sql(over).execute(&push.deployment.pool).await.unwrap();
    assert_eq!(assign(&push, TENANT, "user-1").await, ["delivered"]);
}

#[tokio::test]
async fn a_push_service_that_rejects_known_browsers_of_a_tenant_is_paused_only_for_that_tenant() {
    let (push, receiver) = start().await;
    for user in ["one", "two", "three", "four"] {
        register(&push, TENANT, user, &receiver).await;
        assert_eq!(assign(&push, TENANT, user).await, ["delivered"]);
    }
    register(&push, OTHER, "stranger", &receiver).await;
    behave(&receiver, ("403 Forbidden", ""));
    for user in ["one", "two", "three"] {
        assert_eq!(assign(&push, TENANT, user).await, ["config_error"]);
    }
    behave(&receiver, ACCEPTS);
    // The push service never rejected the fourth user's browser.
    let paused = async || assign(&push, TENANT, "four").await == ["throttled"];
    within(PATIENCE, "the push service is paused for the tenant", paused).await;
    assert_eq!(assign(&push, OTHER, "stranger").await, ["delivered"]);
    // Test messages from the portal also fail during this pause.
    let token = Signer::secret(SECRET).token(&with(claims(Role::Operator, TENANT), "sub", json!("four")));
    let four = push.service.client(&token);
    let listed = four.get("/v1/me/push-subscriptions").await.json();
    let path = format!("/v1/me/push-subscriptions/{}/test", listed["data"][0]["id"].as_str().unwrap());
    let tested = four.request(Method::POST, &path, None).await.unwrap();
    assert_eq!(tested.json()["outcome"], "throttled", "{}", tested.text());
}

#[tokio::test]
async fn a_rejection_of_a_browser_that_was_never_accepted_pauses_only_that_browser() {
    let (push, receiver) = start().await;
    behave(&receiver, ("401 Unauthorized", ""));
    let users = ["one", "two", "three", "four", "five"];
    for user in users {
        register(&push, TENANT, user, &receiver).await;
        assert_eq!(assign(&push, TENANT, user).await, ["config_error"]);
    }
    let query = "SELECT count(*) FROM flametree.push_subscriptions WHERE paused_until > now() AND NOT was_accepted";
    let paused: i64 = sqlx::raw_sql(query).fetch_one(&push.deployment.pool).await.unwrap().get(0);
    assert_eq!(paused, 5);
    behave(&receiver, ACCEPTS);
    register(&push, TENANT, "six", &receiver).await;
    assert_eq!(paused_services(&push.deployment.pool, None).await.unwrap(), []);
    assert_eq!(assign(&push, TENANT, "six").await, ["delivered"]);
}

#[tokio::test]
async fn a_user_who_knows_only_the_endpoint_of_a_browser_cannot_take_over_the_browser() {
    let (push, receiver) = start().await;
    let owned = register(&push, TENANT, "owner", &receiver).await;
    let row = "SELECT p::text FROM flametree.push_subscriptions AS p";
    let rows = async || -> Vec<String> {
        let rows = sqlx::raw_sql(row).fetch_all(&push.deployment.pool).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    let before = rows().await;
    let mut stolen = Browser::new("thief").subscription(&origin(&receiver));
    stolen["endpoint"] = json!(owned.endpoint(&origin(&receiver)));
    for (tenant, user) in [(TENANT, "colleague"), (OTHER, "stranger"), (OTHER, "owner")] {
        let token = Signer::secret(SECRET).token(&with(claims(Role::Operator, tenant), "sub", json!(user)));
        let client = push.service.client(&token);
        let refused = client.request(Method::PUT, "/v1/me/push-subscriptions", Some(&stolen)).await.unwrap();
        assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("conflict")), "{}", refused.text());
        assert_eq!(rows().await, before, "nothing changed");
    }
    assert_eq!(assign(&push, TENANT, "owner").await, ["delivered"]);
    assert_eq!(got(&owned, &receiver).len(), 1);
}
