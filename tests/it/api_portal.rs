//! Tests the routes that the portal's pages request first: the identity of the caller, and the list of agents.

use flametree_notify::domain::role::{Permission, Role};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::app::{ACME, Options, TestApp};
use crate::support::{jwt, seed};

#[tokio::test]
async fn shows_callers_their_identity_and_permissions() {
    let options = Options { users: Some(jwt::by_secret()), push_hosts: Some(Vec::new()), ..Options::default() };
    let api = TestApp::with(options).await;
    let me = api.get("/v1/me", &jwt::person(Role::Operator, ACME)).await.expect(200);
    assert_eq!((&me["role"], &me["tenant_id"]), (&json!("operator"), &json!(ACME)));
    assert!(me["user_id"].is_string() && me["valid_until"].is_string(), "{me}");
    assert_eq!(me["permissions"], json!(["use_workspace", "subscribe_browsers"]));
    assert_eq!(me["browser_push"], json!(true));

    let me = api.get("/v1/me", &api.token(Role::Admin, None).await).await.expect(200);
    assert_eq!((&me["tenant_id"], &me["user_id"]), (&Value::Null, &Value::Null));
    assert_eq!(me["permissions"].as_array().unwrap().len(), Permission::ALL.len());
}

#[tokio::test]
async fn reports_that_a_deployment_has_no_browser_push() {
    let api = TestApp::start().await;
    let me = api.get("/v1/me", &api.token(Role::Viewer, Some(ACME)).await).await.expect(200);
    assert_eq!(me["browser_push"], json!(false));
    api.get("/v1/me?limit=1", &api.token(Role::Viewer, Some(ACME)).await).await.problem(422, "invalid");
}

#[tokio::test]
async fn pagination_returns_each_agent_of_the_tenant_once_in_order_of_name() {
    let api = TestApp::start().await;
    let token = api.token(Role::Viewer, Some(ACME)).await;
    assert_eq!(api.get("/v1/agents", &token).await.expect(200), json!({"data": [], "next_cursor": null}));
    for (number, agent) in (1..).zip(["zebra", "Agent", "agent-ü", "agent-10", "agent-2"]) {
        let url = format!("https://example.com/{number}");
        seed::push_config(&api.db, ACME, agent, Uuid::from_u128(number), &url).await;
    }
    seed::push_config(&api.db, "other", "agent-of-others", Uuid::from_u128(9), "https://example.com/9").await;

    let mut seen = Vec::new();
    let mut path = "/v1/agents?limit=2".to_owned();
    loop {
        let page = api.get(&path, &token).await.expect(200);
        seen.extend(page["data"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/agents?limit=2&cursor={cursor}");
    }
    let names: Vec<_> = seen.iter().map(|agent| agent["agent_id"].as_str().unwrap()).collect();
    assert_eq!(names, ["Agent", "agent-10", "agent-2", "agent-ü", "zebra"]);
    assert_eq!(seen[4]["url"], json!("https://example.com/1"));
    assert_eq!((&seen[4]["enabled"], &seen[4]["disabled_reason"]), (&json!(true), &Value::Null));
    assert!(seen.iter().all(|agent| agent["updated_at"].is_string() && agent.get("headers").is_none()), "{seen:?}");
}

#[tokio::test]
async fn reports_every_invalid_parameter_of_the_list_of_agents() {
    let api = TestApp::start().await;
    let token = api.token(Role::Viewer, Some(ACME)).await;
    let problem = api.get("/v1/agents?limit=0&cursor=%21&sort=name", &token).await.problem(422, "invalid");
    let faults = problem["errors"].as_array().unwrap().iter().map(|fault| fault["pointer"].as_str().unwrap());
    assert_eq!(faults.collect::<Vec<_>>(), ["limit", "cursor", "sort"]);
}
