//! Push configs over HTTP: which configs are saved or rejected, conflicts, and permissions.

use flametree_notify::domain::role::Role;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{Answer, TestApp};

pub const PATH: &str = "/v1/agents/agent-1/push-config";

/// A complete config with one secret and one plain header.
pub fn full_body() -> Value {
    json!({
        "enabled": true, "url": "https://hooks.test/webhook", "timeout_ms": 5000, "signing": true,
        "headers": [
            {"name": "Authorization", "value": "Bearer hunter2-first", "secret": true},
            {"name": "X-Env", "value": "prod", "secret": false},
        ],
        "events": ["new_session_started", "user_message"],
    })
}

/// An API and an admin of the tenant acme.
pub async fn started() -> (TestApp, String) {
    let api = TestApp::of_test_names().await;
    let admin = api.token(Role::Admin, Some("acme")).await;
    (api, admin)
}

pub async fn get(api: &TestApp, token: &str) -> Answer {
    api.call(token, Method::GET, PATH, &[], None).await
}

pub async fn put(api: &TestApp, token: &str, body: &Value) -> Answer {
    api.call(token, Method::PUT, PATH, &[], Some(body)).await
}

pub async fn patch(api: &TestApp, token: &str, body: &Value) -> Answer {
    api.call(token, Method::PATCH, PATH, &[("content-type", "application/merge-patch+json")], Some(body)).await
}

pub async fn put_if_match(api: &TestApp, token: &str, tag: &str, body: &Value) -> Answer {
    api.call(token, Method::PUT, PATH, &[("if-match", tag)], Some(body)).await
}

fn unset() -> Value {
    json!({"enabled": false, "url": null, "headers": [], "events": []})
}

#[tokio::test]
async fn saves_headers_of_the_maximum_length_however_long_their_json_encoding_is() {
    let (api, admin) = started().await;
    let name = |number: usize| format!("X-{number:0>126}");
    // JSON escapes each quote, which doubles the length of these values.
    let headers: Vec<_> = (0..20).map(|number| json!({"name": name(number), "value": "\"".repeat(4_096)})).collect();
    let body = json!({"headers": headers});
    assert!(body.to_string().len() > 160 * 1_024);
    assert_eq!(put(&api, &admin, &body).await.status, 200);
    let patched = patch(&api, &admin, &body).await;
    assert_eq!((patched.status, patched.json()["headers"].as_array().unwrap().len()), (200, 20));
    let too_large = put(&api, &admin, &json!({"headers": "x".repeat(256 * 1_024)})).await;
    assert_eq!((too_large.status, too_large.json()["code"].as_str()), (413, Some("payload_too_large")));
}

#[tokio::test]
async fn a_config_can_be_set_read_patched_and_removed() {
    let (api, admin) = started().await;
    let answer = get(&api, &admin).await;
    assert_eq!((answer.status, answer.json(), answer.etag()), (200, unset(), "\"unset\""));

    let created = put(&api, &admin, &full_body()).await;
    assert_eq!(created.status, 200, "{created:?}");
    assert!(created.json()["signing_secret"].as_str().unwrap().starts_with("whsec_"));
    assert_eq!(created.json()["warnings"], json!([]));
    assert_eq!(created.headers["cache-control"], "no-store");

    let mut expected = full_body();
    expected["headers"] = json!([
        {"name": "Authorization", "secret": true, "value": null, "value_set": true},
        {"name": "X-Env", "secret": false, "value": "prod", "value_set": true},
    ]);
    expected["disabled_reason"] = Value::Null;
    let read = get(&api, &admin).await;
    assert_eq!((read.json(), read.etag()), (expected.clone(), created.etag()));

    let patched = patch(&api, &admin, &json!({"enabled": false, "timeout_ms": null})).await;
    assert_eq!(patched.status, 200, "{patched:?}");
    assert_eq!(patched.json().get("signing_secret"), None);
    assert_ne!(patched.etag(), read.etag());
    expected["enabled"] = json!(false);
    expected["timeout_ms"] = Value::Null;
    assert_eq!(get(&api, &admin).await.json(), expected);

    for _ in 0..2 {
        assert_eq!(api.call(&admin, Method::DELETE, PATH, &[], None).await.status, 204);
        assert_eq!(get(&api, &admin).await.json(), unset());
    }
}

#[tokio::test]
async fn accepts_a_config_that_the_api_returned() {
    let (api, admin) = started().await;
    put(&api, &admin, &full_body()).await;
    let read = get(&api, &admin).await;
    let answer = put(&api, &admin, &read.json()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(get(&api, &admin).await.json(), read.json());
}

#[tokio::test]
async fn reports_every_fault_with_its_json_pointer_and_saves_nothing() {
    let (api, admin) = started().await;
    let body = json!({
        "enabled": true, "url": "https://user:hunter2@hooks.test/", "events": ["user_message", "user_message"],
        "timeout_ms": 10, "retries": 3,
        "headers": [{"name": "Host", "value": "a"}, {"name": "X-A", "value": "é"}, {"name": "x-a", "value": "b"}],
    });
    let answer = put(&api, &admin, &body).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (422, Some("invalid")));
    let expected = [
        ("/events/1", "duplicate"),
        ("/headers/0/name", "not_allowed"),
        ("/headers/1/value", "invalid_value"),
        ("/headers/2/name", "duplicate"),
        ("/retries", "unknown_field"),
        ("/timeout_ms", "invalid_value"),
        ("/url", "not_allowed"),
    ];
    let mut faults = answer.faults();
    faults.sort();
    assert_eq!(faults, expected.map(|(pointer, code)| (pointer.to_owned(), code.to_owned())));
    assert_eq!(get(&api, &admin).await.json(), unset());
}

#[tokio::test]
async fn rejects_each_forbidden_header_and_url() {
    let (api, admin) = started().await;
    let names = [
        "host",
        "content-type",
        "Content-Length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "user-agent",
        "accept-encoding",
        "date",
        "via",
        "forwarded",
        "x-forwarded-for",
        "proxy-authorization",
        "webhook-id",
        "webhook-signature",
        "x-flametree-event",
        "metadata",
        "metadata-flavor",
        "x-aws-ec2-metadata-token",
        "x-aws-ec2-metadata-token-ttl-seconds",
        "x-metadata-token",
        "x-google-metadata-request",
        "X Key",
        "X-Key:",
        "",
        "X-\u{e9}",
    ];
    let headers: Vec<_> = names.iter().map(|name| json!({"name": name, "value": "a"})).collect();
    // A config may have at most 20 headers. The API does not check the headers after the twentieth.
    for (start, headers) in headers.chunks(20).enumerate() {
        let answer = put(&api, &admin, &json!({"headers": headers})).await;
        assert_eq!(answer.status, 422, "{start}");
        assert_eq!(answer.faults().len(), headers.len(), "{answer:?}");
    }
    let too_long = format!("https://hooks.test/{}", "x".repeat(2_048));
    for url in ["http://hooks.test/", "ftp://hooks.test/", "https://u@hooks.test/", "https://hooks.test/#a", &too_long]
    {
        let answer = put(&api, &admin, &json!({"url": url})).await;
        assert_eq!((answer.status, answer.faults()[0].0.as_str()), (422, "/url"), "{url}");
    }
}

#[tokio::test]
async fn accepts_only_json_objects_of_the_documented_content_type() {
    let (api, admin) = started().await;
    let merge_patch = [("content-type", "application/merge-patch+json")];
    let body = json!({"events": ["user_message"]});
    assert_eq!(api.call(&admin, Method::PUT, PATH, &merge_patch, Some(&body)).await.status, 415);
    assert_eq!(api.call(&admin, Method::PATCH, PATH, &[("content-type", "text/plain")], Some(&body)).await.status, 415);
    assert_eq!(api.call(&admin, Method::PATCH, PATH, &[], Some(&body)).await.status, 200);
    assert_eq!(api.call(&admin, Method::PATCH, PATH, &merge_patch, Some(&json!([]))).await.status, 422);
    assert_eq!(api.call(&admin, Method::PUT, PATH, &[], None).await.status, 400);
}

#[tokio::test]
async fn a_tenant_neither_sees_nor_changes_the_config_of_another_tenant() {
    let (api, acme) = started().await;
    let other = api.token(Role::Admin, Some("other")).await;
    let created = put(&api, &acme, &full_body()).await;
    assert_eq!(get(&api, &other).await.json(), unset());
    assert_eq!(put_if_match(&api, &other, created.etag(), &full_body()).await.status, 412);
    assert_eq!(api.call(&other, Method::DELETE, PATH, &[], None).await.status, 204);
    let secret = format!("{PATH}/signing-secret");
    assert_eq!(api.call(&other, Method::GET, &secret, &[], None).await.status, 404);
    let rotate = format!("{secret}/rotate");
    assert_eq!(api.call(&other, Method::POST, &rotate, &[], Some(&json!({}))).await.status, 404);
    // A tenant that omits a header's value does not get the value that another tenant stored.
    let keep = json!({"url": "https://hooks.test/", "headers": [{"name": "Authorization"}]});
    assert_eq!(put(&api, &other, &keep).await.faults(), [("/headers/0/value".into(), "required".into())]);
    assert_eq!(get(&api, &acme).await.etag(), created.etag());

    let all = api.token(Role::Admin, None).await;
    assert_eq!(get(&api, &all).await.json()["code"], "tenant_required");
    let named = format!("{PATH}?tenant_id=acme");
    assert_eq!(api.call(&all, Method::GET, &named, &[], None).await.etag(), created.etag());
}

#[tokio::test]
async fn a_viewer_reads_configs_without_secrets_and_cannot_change_them() {
    let (api, admin) = started().await;
    let created = put(&api, &admin, &full_body()).await;
    let viewer = api.token(Role::Viewer, Some("acme")).await;
    let read = get(&api, &viewer).await;
    assert_eq!(read.status, 200);
    assert!(!read.text().contains("hunter2") && !read.text().contains("whsec_"), "{}", read.text());
    assert_eq!(put(&api, &viewer, &full_body()).await.status, 403);
    assert_eq!(patch(&api, &viewer, &json!({"enabled": false})).await.status, 403);
    assert_eq!(api.call(&viewer, Method::DELETE, PATH, &[], None).await.status, 403);
    let rotate = format!("{PATH}/signing-secret/rotate");
    assert_eq!(api.call(&viewer, Method::POST, &rotate, &[], Some(&json!({}))).await.status, 403);
    let service = api.token(Role::Service, Some("acme")).await;
    assert_eq!(get(&api, &service).await.status, 403);
    assert_eq!(api.call("ftn_none", Method::GET, PATH, &[], None).await.status, 401);
    assert_eq!(get(&api, &admin).await.etag(), created.etag());
}

#[tokio::test]
async fn a_viewer_does_not_see_the_query_of_a_url() {
    let (api, admin) = started().await;
    let mut body = full_body();
    body["url"] = json!("https://hooks.test/webhook?token=hunter2-query");
    put(&api, &admin, &body).await;
    for (role, url) in [
        (Role::Viewer, "https://hooks.test/webhook"),
        (Role::AgentEditor, "https://hooks.test/webhook?token=hunter2-query"),
    ] {
        let token = api.token(role, Some("acme")).await;
        assert_eq!(get(&api, &token).await.json()["url"], url);
        let listed = api.call(&token, Method::GET, "/v1/agents", &[], None).await;
        assert_eq!(listed.json()["data"][0]["url"], url);
    }
}

#[tokio::test]
async fn saves_a_plain_header_that_looks_like_a_credential_and_returns_a_warning() {
    let (api, admin) = started().await;
    let header = |name: &str, secret: bool| json!({"name": name, "value": "hunter2", "secret": secret});
    let headers = json!([header("X-Env", false), header("X-Api-Key", false), header("X-Token", true)]);
    let answer = put(&api, &admin, &json!({"url": "https://hooks.test/", "headers": headers})).await;
    let warnings = &answer.json()["warnings"];
    assert_eq!(warnings.as_array().unwrap().len(), 1, "{warnings}");
    assert_eq!(
        (&warnings[0]["pointer"], &warnings[0]["code"]),
        (&json!("/headers/1"), &json!("credential_not_secret"))
    );
    assert_eq!(get(&api, &admin).await.json().get("warnings"), None);
}

#[tokio::test]
async fn saves_a_url_with_an_unreachable_host_and_returns_a_warning() {
    let (api, admin) = started().await;
    let table = [
        ("https://hooks.test/", None),
        ("https://private.test/", Some("unresolved_host")),
        ("https://127.0.0.1/", Some("blocked_address")),
        ("https://0x7f.1/", Some("blocked_address")),
        ("https://nowhere.invalid/", Some("unresolved_host")),
    ];
    for (url, code) in table {
        let answer = put(&api, &admin, &json!({"url": url})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let warnings = &answer.json()["warnings"];
        assert_eq!(warnings.as_array().unwrap().len(), usize::from(code.is_some()), "{url}: {warnings}");
        assert_eq!(warnings[0]["code"].as_str(), code, "{url}");
        assert!(!warnings.to_string().contains("10.0.0.1"));
    }
}

#[tokio::test]
async fn shows_why_a_config_is_disabled_until_it_is_enabled_again() {
    let (api, admin) = started().await;
    put(&api, &admin, &full_body()).await;
    let statement = "UPDATE flametree.push_configs SET enabled = false, disabled_reason = 'gone'";
    sqlx::raw_sql(statement).execute(&api.db.pool).await.unwrap();
    assert_eq!(get(&api, &admin).await.json()["disabled_reason"], "gone");
    let answer = patch(&api, &admin, &json!({"enabled": true})).await;
    assert_eq!((answer.status, &answer.json()["disabled_reason"]), (200, &Value::Null));
}
