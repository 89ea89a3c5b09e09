//! An admin lists and removes the browsers of the tenant's users, but never browsers of another tenant.

use ::http::Method;
use flametree_notify::domain::role::Role;
use serde_json::{Value, json};

use crate::support::app::{ACME, Options, TestApp};
use crate::support::jwt::{self, SECRET, Signer, claims, with};
use crate::support::push::Browser;

const VENDOR: &str = "https://updates.push.services.mozilla.com";

fn person(user: &str, role: Role, tenant: &str) -> String {
    Signer::secret(SECRET).token(&with(claims(role, tenant), "sub", json!(user)))
}

/// The path of a user's browsers.
fn path(user: &str) -> String {
    format!("/v1/users/{user}/push-subscriptions")
}

async fn api() -> TestApp {
    TestApp::with(Options { users: Some(jwt::by_secret()), push_hosts: Some(Vec::new()), ..Options::default() }).await
}

/// Registers a browser for the user. Returns the browser as the API shows it.
async fn registered(api: &TestApp, user: &str, tenant: &str, browser: &str) -> Value {
    let body = Browser::new(browser).subscription(VENDOR);
    let token = person(user, Role::Operator, tenant);
    api.request(Method::PUT, "/v1/me/push-subscriptions", &token, Some(&body)).await.expect(201)
}

async fn listed(api: &TestApp, path: &str, token: &str) -> Vec<Value> {
    let list = api.get(path, token).await.expect(200);
    assert_eq!(list["next_cursor"], Value::Null);
    list["data"].as_array().unwrap().clone()
}

#[tokio::test]
async fn an_admin_lists_and_removes_the_browsers_of_a_user_who_has_left() {
    let api = api().await;
    let laptop = registered(&api, "gone user/1", ACME, "laptop").await;
    let colleague = registered(&api, "user-2", ACME, "other").await;
    let path_of_user = path("gone%20user%2F1");
    let one = format!("{path_of_user}/{}", laptop["id"].as_str().unwrap());
    let by_token = api.token(Role::Admin, Some(ACME)).await;
    let in_person = person("boss", Role::Admin, ACME);
    for admin in [&by_token, &in_person] {
        assert_eq!(listed(&api, &path_of_user, admin).await, std::slice::from_ref(&laptop));
        assert_eq!(listed(&api, &path("stranger"), admin).await, Vec::<Value>::new());
    }
    let of_colleague = format!("{}/{}", path("user-2"), laptop["id"].as_str().unwrap());
    api.request(Method::DELETE, &of_colleague, &by_token, None).await.problem(404, "not_found");
    api.request(Method::DELETE, &one, &in_person, None).await.expect(204);
    api.request(Method::DELETE, &one, &by_token, None).await.problem(404, "not_found");
    assert_eq!(listed(&api, &path_of_user, &by_token).await, Vec::<Value>::new());
    assert_eq!(listed(&api, &path("user-2"), &by_token).await, [colleague]);
    assert!(api.metrics.render().contains("push_subscriptions_removed_total{reason=\"deleted\"} 1\n"));
}

#[tokio::test]
async fn a_request_with_a_token_for_all_tenants_must_name_the_tenant_of_the_user() {
    let api = api().await;
    let made = registered(&api, "user-1", ACME, "a").await;
    let operator = api.token(Role::Admin, None).await;
    api.get(&path("user-1"), &operator).await.problem(403, "tenant_required");
    assert_eq!(listed(&api, &(path("user-1") + "?tenant_id=acme"), &operator).await, std::slice::from_ref(&made));
    assert_eq!(listed(&api, &(path("user-1") + "?tenant_id=other"), &operator).await, Vec::<Value>::new());
    let one = format!("{}/{}", path("user-1"), made["id"].as_str().unwrap());
    api.request(Method::DELETE, &format!("{one}?tenant_id=other"), &operator, None).await.problem(404, "not_found");
    api.request(Method::DELETE, &format!("{one}?tenant_id=acme"), &operator, None).await.expect(204);
}

#[tokio::test]
async fn an_admin_of_another_tenant_neither_sees_nor_removes_a_browser() {
    let api = api().await;
    let made = registered(&api, "user-1", ACME, "a").await;
    let stranger = api.token(Role::Admin, Some("other")).await;
    assert_eq!(listed(&api, &path("user-1"), &stranger).await, Vec::<Value>::new());
    let one = format!("{}/{}", path("user-1"), made["id"].as_str().unwrap());
    api.request(Method::DELETE, &one, &stranger, None).await.problem(404, "not_found");
    let admin = api.token(Role::Admin, Some(ACME)).await;
    assert_eq!(listed(&api, &path("user-1"), &admin).await, [made]);
    for role in [Role::Service, Role::AgentEditor, Role::Operator, Role::Viewer] {
        let colleague = person("user-2", role, ACME);
        api.get(&path("user-1"), &colleague).await.problem(403, "forbidden");
        api.request(Method::DELETE, &one, &colleague, None).await.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn an_invalid_user_id_is_not_found() {
    let api = api().await;
    let admin = api.token(Role::Admin, Some(ACME)).await;
    for name in ["a%00", "%ff", &"x".repeat(129)] {
        api.get(&path(name), &admin).await.problem(404, "not_found");
        let one = format!("{}/sub_00000000000000000000000000000007", path(name));
        api.request(Method::DELETE, &one, &admin, None).await.problem(404, "not_found");
    }
}
