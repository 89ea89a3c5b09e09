//! Tests that the API shows each signing secret once, and that old secrets still sign during the grace period after a rotation.

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use crate::push_config_secrets::webhook;
use crate::push_configs::{PATH, full_body, get, patch, put, started};
use crate::support::app::{Answer, TestApp};

async fn rotate(api: &TestApp, token: &str, body: &Value) -> Answer {
    api.call(token, Method::POST, &format!("{PATH}/signing-secret/rotate"), &[], Some(body)).await
}

async fn listed(api: &TestApp, token: &str) -> Answer {
    api.call(token, Method::GET, &format!("{PATH}/signing-secret"), &[], None).await
}

fn secret(answer: &Answer) -> String {
    answer.json()["signing_secret"].as_str().unwrap().to_owned()
}

/// The secrets with which the webhook sender signs now.
async fn live(api: &TestApp) -> Vec<String> {
    webhook(api).await.secrets.iter().map(|stored| stored.secret.expose().to_owned()).collect()
}

fn time(value: &Value) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(value.as_str().unwrap()).unwrap().to_utc()
}

#[tokio::test]
async fn shows_a_secret_once_and_later_only_its_description() {
    let (api, admin) = started().await;
    assert_eq!(listed(&api, &admin).await.status, 404);
    assert_eq!(rotate(&api, &admin, &json!({})).await.status, 404);
    let created = put(&api, &admin, &full_body()).await;
    assert_eq!(live(&api).await, [secret(&created)]);
    let answer = listed(&api, &admin).await;
    let secrets = &answer.json()["secrets"];
    assert_eq!(secrets.as_array().unwrap().len(), 1);
    assert!(secrets[0]["id"].as_str().unwrap().starts_with("sec_"));
    assert_eq!(secrets[0]["expires_at"], Value::Null);
    let again = put(&api, &admin, &full_body()).await;
    let read = get(&api, &admin).await;
    for answer in [&answer, &again, &read] {
        assert!(!answer.text().contains("whsec_"), "{}", answer.text());
    }
    assert_eq!(live(&api).await, [secret(&created)]);
}

#[tokio::test]
async fn during_the_grace_period_all_secrets_sign_and_the_newest_is_first() {
    let (api, admin) = started().await;
    let first = put(&api, &admin, &full_body()).await;
    let second = rotate(&api, &admin, &json!({"grace_seconds": 3600})).await;
    assert_eq!(second.status, 200, "{second:?}");
    assert_ne!(second.etag(), first.etag());
    let third = rotate(&api, &admin, &json!({"grace_seconds": 600_000})).await;
    assert_eq!(live(&api).await, [secret(&third), secret(&second), secret(&first)]);
    let read = webhook(&api).await;
    assert_eq!(read.version, 3);
    assert_eq!(get(&api, &admin).await.etag(), third.etag());

    // A later rotation does not extend an earlier grace period. When a secret expires, a sender that has cached the secret stops
    // using it.
    let secrets = listed(&api, &admin).await.json()["secrets"].clone();
    let rotated_at = time(&secrets[0]["created_at"]);
    assert_eq!(secrets[0]["id"], third.json()["id"]);
    assert!(time(&secrets[2]["expires_at"]) <= rotated_at + TimeDelta::seconds(3600));
    assert!(time(&secrets[1]["expires_at"]) > rotated_at + TimeDelta::seconds(599_000));
    let later = rotated_at + TimeDelta::seconds(3601);
    let still: Vec<_> = read.live_secrets(later).map(|secret| secret.expose().to_owned()).collect();
    assert_eq!(still, [secret(&third), secret(&second)]);

    assert_eq!(patch(&api, &admin, &json!({"signing": false})).await.status, 200);
    assert_eq!(webhook(&api).await.live_secrets(rotated_at).count(), 0);
}

#[tokio::test]
async fn a_rotation_without_a_grace_period_expires_the_old_secrets_at_once() {
    let (api, admin) = started().await;
    put(&api, &admin, &full_body()).await;
    rotate(&api, &admin, &json!({})).await;
    let last = rotate(&api, &admin, &json!({"grace_seconds": 0})).await;
    assert_eq!(live(&api).await, [secret(&last)]);
    assert_eq!(listed(&api, &admin).await.json()["secrets"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_url_of_another_origin_gets_a_new_secret_and_the_old_secrets_expire_at_once() {
    let (api, admin) = started().await;
    let first = secret(&put(&api, &admin, &full_body()).await);
    rotate(&api, &admin, &json!({"grace_seconds": 3_600})).await;
    let path = json!({"url": format!("{}/elsewhere", origin(&full_body()))});
    assert_eq!(patch(&api, &admin, &path).await.json().get("signing_secret"), None);
    assert_eq!(live(&api).await.len(), 2);

    let headers = json!([{"name": "Authorization", "value": "Bearer another"}]);
    let elsewhere = json!({"url": "https://other.test/webhook", "headers": headers});
    let second = secret(&patch(&api, &admin, &elsewhere).await);
    assert_eq!(live(&api).await, [second.as_str()]);
    // Clearing the URL creates a new secret. The next URL keeps this secret, because the user may already have configured the
    // secret at the next receiver.
    let third = secret(&patch(&api, &admin, &json!({"enabled": false, "url": null})).await);
    let first_url = json!({"url": "https://third.test/webhook", "headers": headers});
    assert_eq!(patch(&api, &admin, &first_url).await.json().get("signing_secret"), None);
    assert_eq!(live(&api).await, [third.as_str()]);
    assert!(first != second && second != third);
    // The history records the new secret with the change that clears the URL, not with the change that sets the next URL.
    let history = api.call(&admin, Method::GET, &format!("{PATH}/history"), &[], None).await.json();
    let fields = |number: usize| history["data"][number]["fields"].as_array().unwrap().clone();
    assert!(fields(1).contains(&json!("signing_secret")) && !fields(0).contains(&json!("signing_secret")), "{history}");
}

fn origin(config: &Value) -> String {
    let url: reqwest::Url = config["url"].as_str().unwrap().parse().unwrap();
    url.origin().ascii_serialization()
}

#[tokio::test]
async fn rejects_an_invalid_grace_period_and_too_many_secrets() {
    let (api, admin) = started().await;
    put(&api, &admin, &full_body()).await;
    for grace in [json!(-1), json!(604_801), json!("1"), json!(1.5)] {
        let answer = rotate(&api, &admin, &json!({"grace_seconds": grace})).await;
        assert_eq!((answer.status, answer.faults()[0].0.as_str()), (422, "/grace_seconds"), "{grace}");
    }
    assert_eq!(rotate(&api, &admin, &json!({"grace": 1})).await.status, 422);
    for _ in 0..4 {
        assert_eq!(rotate(&api, &admin, &json!({"grace_seconds": 604_800})).await.status, 200);
    }
    let before = live(&api).await;
    assert_eq!((before.len(), rotate(&api, &admin, &json!({})).await.status), (5, 409));
    assert_eq!(live(&api).await, before);
    assert_eq!(rotate(&api, &admin, &json!({"grace_seconds": 0})).await.status, 200);
}

#[tokio::test]
async fn removing_a_config_removes_its_secrets() {
    let (api, admin) = started().await;
    let first = put(&api, &admin, &full_body()).await;
    api.call(&admin, Method::DELETE, PATH, &[], None).await;
    let second = put(&api, &admin, &full_body()).await;
    assert_ne!(secret(&first), secret(&second));
    assert_eq!(live(&api).await, [secret(&second)]);
}
