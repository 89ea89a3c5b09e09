//! A browser renews its subscription without a token. The complete old subscription proves the browser's identity.

use ::http::{Method, Request};
use hyper::body::Bytes;
use serde_json::{Value, json};
use sqlx::Row as _;

use crate::support::client::Client;
use crate::support::misbehaving::Receiver;
use crate::support::push::Browser;
use crate::support::push_deployment::{Push, got, origin, push_service};

const RENEWALS: &str = "/v1/push/renewals";

async fn start() -> (Push, Receiver) {
    let receiver = push_service("201 Created", "", "").await;
    (Push::start(&[&receiver], |settings| settings).await, receiver)
}

/// The status and error code of the response to a renewal without a token.
async fn renew(push: &Push, old: &Value, new: &Value) -> (u16, String) {
    let answer = anonymous(&push.service.client(""), &json!({"old": old, "new": new})).await;
    let code = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default()["code"].clone();
    (answer.status, code.as_str().unwrap_or_default().to_owned())
}

async fn anonymous(client: &Client, body: &Value) -> crate::support::answer::Answer {
    let request = Request::builder().method(Method::POST).uri(RENEWALS).header("content-type", "application/json");
    let body = Bytes::from(serde_json::to_vec(body).unwrap());
    crate::support::answer::send(client.address(), request.body(body).unwrap()).await
}

#[tokio::test]
async fn messages_go_to_the_new_subscription_after_a_renewal() {
    let (push, receiver) = start().await;
    let old = push.browser("user-1", "old", &receiver).await;
    let new = Browser::new("new");
    push.assign("user-1").await;
    push.outcomes().await;
    let answer = renew(&push, &old.subscription(&origin(&receiver)), &new.subscription(&origin(&receiver))).await;
    assert_eq!(answer, (204, String::new()));
    push.say("hello").await;
    assert_eq!(push.outcomes().await, ["delivered"; 2]);
    assert_eq!(got(&old, &receiver).len(), 1);
    assert_eq!(got(&new, &receiver), [("user_message".to_owned(), "New message: hello".to_owned())]);
    assert_eq!(push.fates("user-1").await, ["active"]);
    // The old subscription is no longer valid.
    let again = renew(&push, &old.subscription(&origin(&receiver)), &new.subscription(&origin(&receiver))).await;
    assert_eq!(again, (401, "unauthorized".to_owned()));
}

#[tokio::test]
async fn a_renewal_without_a_token_does_not_change_the_last_seen_time() {
    let (push, receiver) = start().await;
    let old = push.browser("user-1", "old", &receiver).await;
    let seen = async || -> chrono::DateTime<chrono::Utc> {
        let query = "SELECT last_seen_at FROM flametree.push_subscriptions";
        sqlx::raw_sql(query).fetch_one(&push.deployment.pool).await.unwrap().get(0)
    };
    let registered = seen().await;
    let new = Browser::new("new").subscription(&origin(&receiver));
    assert_eq!(renew(&push, &old.subscription(&origin(&receiver)), &new).await, (204, String::new()));
    assert_eq!(seen().await, registered);
}

#[tokio::test]
async fn rejects_a_renewal_that_does_not_contain_the_whole_old_subscription() {
    let (push, receiver) = start().await;
    let old = push.browser("user-1", "old", &receiver).await;
    let thief = Browser::new("thief");
    let (known, new) = (old.subscription(&origin(&receiver)), thief.subscription(&origin(&receiver)));
    // A caller that does not know the secret, such as the push service.
    let mut guessed = thief.subscription(&origin(&receiver));
    guessed["endpoint"] = known["endpoint"].clone();
    guessed["keys"]["p256dh"] = known["keys"]["p256dh"].clone();
    // A caller that knows only the secret.
    let mut elsewhere = known.clone();
    elsewhere["endpoint"] = json!(thief.endpoint(&origin(&receiver)));
    for wrong in [&guessed, &elsewhere, &new] {
        assert_eq!(renew(&push, wrong, &new).await, (401, "unauthorized".to_owned()));
    }
    let mut far = new.clone();
    far["endpoint"] = json!("https://push.thief.example/x");
    assert_eq!(renew(&push, &known, &far).await, (422, "invalid".to_owned()));
    push.assign("user-1").await;
    assert_eq!(push.outcomes().await, ["delivered"]);
    assert_eq!((got(&old, &receiver).len(), got(&thief, &receiver).len()), (1, 0));
}

#[tokio::test]
async fn rate_limits_slow_down_attempts_to_guess_a_secret() {
    let (push, receiver) = start().await;
    let stranger = |name: &str| Browser::new(name).subscription(&origin(&receiver));
    let mut last = (0, String::new());
    for number in 0..=100 {
        last = renew(&push, &stranger(&format!("a{number}")), &stranger(&format!("b{number}"))).await;
    }
    assert_eq!(last, (429, "rate_limited".to_owned()));
}

#[tokio::test]
async fn one_row_remains_if_a_page_registers_the_new_subscription_before_the_renewal() {
    let (push, receiver) = start().await;
    let old = push.browser("user-1", "old", &receiver).await;
    let new = push.browser("user-1", "new", &receiver).await;
    let answer = renew(&push, &old.subscription(&origin(&receiver)), &new.subscription(&origin(&receiver))).await;
    assert_eq!(answer, (204, String::new()));
    assert_eq!(push.assign("user-1").await, 1);
    assert_eq!(push.outcomes().await, ["delivered"]);
    assert_eq!((got(&old, &receiver).len(), got(&new, &receiver).len()), (0, 1));
}
