//! Tests the history of push configs: each change has an entry with the author and the changed fields but no values.

use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::endpoint::Channel;
use flametree_notify::domain::role::Role;
use flametree_notify::store::push_config_history;
use flametree_notify::store::queue::finish;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Row as _;

use crate::push_configs::{PATH, full_body, patch, put, put_if_match, started};
use crate::support::app::{Answer, TestApp};
use crate::support::deployment::Deployment;
use crate::support::misbehaving::{Behaviour, Receiver};
use crate::support::queue::{accept_messages, agent_with_webhook, claim_of, finished, prepared, worker};
use crate::support::service::Part;
use crate::support::waiting::within;
use crate::support::wire::answer;

async fn history(api: &TestApp, token: &str, query: &str) -> Answer {
    api.call(token, Method::GET, &format!("{PATH}/history{query}"), &[], None).await
}

async fn rotate(api: &TestApp, token: &str, grace_seconds: u64) -> Answer {
    let rotate = format!("{PATH}/signing-secret/rotate");
    api.call(token, Method::POST, &rotate, &[], Some(&json!({"grace_seconds": grace_seconds}))).await
}

/// The action and fields of each change, newest first.
async fn changes(api: &TestApp, token: &str) -> Vec<(String, Value)> {
    let answer = history(api, token, "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let data = answer.json()["data"].clone();
    data.as_array()
        .unwrap()
        .iter()
        .map(|change| (change["action"].as_str().unwrap().to_owned(), change["fields"].clone()))
        .collect()
}

fn change(action: &str, fields: Value) -> (String, Value) {
    (action.to_owned(), fields)
}

#[tokio::test]
async fn records_the_author_and_time_of_each_change_but_no_value() {
    let (api, admin) = started().await;
    let second = api.token(Role::Admin, Some("acme")).await;
    let created = put(&api, &admin, &full_body()).await.json();
    let mut body = full_body();
    body["url"] = json!("https://hooks.test/elsewhere");
    body["headers"] = json!([
        {"name": "Authorization", "value": "Bearer hunter2-second"}, {"name": "X-New", "value": "hunter2-third"},
    ]);
    assert_eq!(put(&api, &second, &body).await.status, 200);
    assert_eq!(patch(&api, &admin, &json!({"enabled": false, "timeout_ms": null})).await.status, 200);
    let rotated = rotate(&api, &admin, 60).await.json();
    assert_eq!(api.call(&admin, Method::DELETE, PATH, &[], None).await.status, 204);

    let expected = [
        change("deleted", json!([])),
        change("signing_secret_rotated", json!(["signing_secret"])),
        change("changed", json!(["enabled", "timeout_ms"])),
        change("changed", json!(["url", "headers/X-Env", "headers/Authorization", "headers/X-New"])),
        change(
            "created",
            json!(["enabled", "url", "timeout_ms", "signing", "headers/Authorization", "headers/X-Env", "events"]),
        ),
    ];
    assert_eq!(changes(&api, &admin).await, expected);
    let answer = history(&api, &admin, "").await;
    for secret in [
        "hunter2",
        "prod",
        "hooks.test",
        created["signing_secret"].as_str().unwrap(),
        rotated["signing_secret"].as_str().unwrap(),
    ] {
        assert!(!answer.text().contains(secret), "{secret} in {}", answer.text());
    }
    let data = answer.json()["data"].as_array().unwrap().clone();
    let actors: Vec<&str> = data.iter().map(|change| change["actor"].as_str().unwrap()).collect();
    assert!(actors.iter().all(|actor| actor.starts_with("tok_")));
    assert!(actors[3] != actors[4] && actors[0] == actors[4], "{actors:?}");
    let times: Vec<&str> = data.iter().map(|change| change["changed_at"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:?}");
}

#[tokio::test]
async fn a_change_without_effect_is_not_in_the_history() {
    let (api, admin) = started().await;
    let created = put(&api, &admin, &full_body()).await;
    assert_eq!(put(&api, &admin, &full_body()).await.status, 200);
    assert_eq!(put(&api, &admin, &json!({"enabled": true})).await.status, 422);
    assert_eq!(put_if_match(&api, &admin, created.etag(), &json!({})).await.status, 412);
    for _ in 0..4 {
        assert_eq!(rotate(&api, &admin, 600).await.status, 200);
    }
    assert_eq!(rotate(&api, &admin, 600).await.status, 409);
    assert_eq!(changes(&api, &admin).await.len(), 5);
    for _ in 0..2 {
        assert_eq!(api.call(&admin, Method::DELETE, PATH, &[], None).await.status, 204);
    }
    assert_eq!(changes(&api, &admin).await.len(), 6);
}

#[tokio::test]
async fn the_outcome_gone_and_the_disabled_config_are_recorded_together() {
    let db = prepared().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 2).await;
    let (id, taken) = claim_of(&db, worker(&db).await, endpoint, 2).await;
    let count = async || -> i64 {
        let query = "SELECT count(*) FROM flametree.push_config_changes WHERE actor IS NULL AND action = 'disabled'";
        sqlx::raw_sql(query).fetch_one(&*db).await.unwrap().get(0)
    };
    // The service records the outcome and the change in one transaction: if one fails, neither is recorded.
    let break_it = "ALTER TABLE flametree.push_config_changes ADD CONSTRAINT broken CHECK (false) NOT VALID";
    sqlx::raw_sql(break_it).execute(&*db).await.unwrap();
    let gone = [finished(&taken[0], Outcome::Gone), finished(&taken[1], Outcome::Gone)];
    finish::finish(&db, Channel::Webhook, &[id], &gone).await.unwrap_err();
    let enabled = "SELECT enabled, (SELECT count(*) FROM flametree.deliveries) FROM flametree.push_configs";
    let row = sqlx::raw_sql(enabled).fetch_one(&*db).await.unwrap();
    assert_eq!((row.get::<bool, _>(0), row.get::<i64, _>(1)), (true, 0));
    sqlx::raw_sql("ALTER TABLE flametree.push_config_changes DROP CONSTRAINT broken").execute(&*db).await.unwrap();
    // The history has one entry, even if the outcome `gone` is recorded repeatedly.
    for _ in 0..2 {
        finish::finish(&db, Channel::Webhook, &[id], &gone).await.unwrap();
    }
    assert_eq!(count().await, 1);
}

#[tokio::test]
async fn the_history_shows_that_the_service_disabled_a_config() {
    let deployment = Deployment::new().await;
    let service = deployment.settings.start(Part::Run).await;
    let client = deployment.client(&service);
    let gone = Receiver::start(Behaviour::Answers(answer("410 Gone", "", b""))).await;
    let config = json!({"enabled": true, "url": gone.url(), "events": ["user_message"]});
    let path = "/v1/agents/agent-1/push-config";
    assert_eq!(client.put(&format!("{path}?tenant_id=acme"), &config).await.status, 200);
    deployment.post(std::slice::from_ref(&client), &["agent-1".to_owned()], 1).await;
    let history = format!("{path}/history?tenant_id=acme");
    within(std::time::Duration::from_secs(20), "the config is disabled", async || {
        client.get(&history).await.json()["data"][0]["action"] == "disabled"
    })
    .await;
    let newest = client.get(&history).await.json()["data"][0].clone();
    assert_eq!((&newest["actor"], &newest["fields"]), (&Value::Null, &json!(["enabled", "disabled_reason"])));
    // A user enables the config again. The history does not list the cleared field `disabled_reason`.
    let patched = client.put(&format!("{path}?tenant_id=acme"), &config).await;
    assert_eq!(patched.status, 200, "{}", patched.text());
    assert_eq!(client.get(&history).await.json()["data"][0]["fields"], json!(["enabled"]));
    service.stop().await;
}

#[tokio::test]
async fn the_history_is_paginated() {
    let (api, admin) = started().await;
    put(&api, &admin, &full_body()).await;
    for timeout in 2..=5 {
        assert_eq!(patch(&api, &admin, &json!({"timeout_ms": timeout * 1_000})).await.status, 200);
    }
    patch(&api, &admin, &json!({"events": ["user_message"]})).await;
    let (mut actions, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let page = history(&api, &admin, &query).await.json();
        let data = page["data"].as_array().unwrap();
        assert!((1..=2).contains(&data.len()), "{page}");
        actions.extend(data.iter().map(|change| change["fields"][0].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("?limit=2&cursor={cursor}");
    }
    assert_eq!(actions, ["events", "timeout_ms", "timeout_ms", "timeout_ms", "timeout_ms", "enabled"]);
    assert_eq!(history(&api, &admin, "?limit=0&cursor=x&page=2").await.status, 422);
}

#[tokio::test]
async fn keeps_the_newest_500_changes_of_an_agent_for_400_days() {
    let (api, admin) = started().await;
    put(&api, &admin, &full_body()).await;
    let many = "SELECT flametree.record_push_config_change('acme', agent, 'changed', 'somebody', ARRAY[n::text])
        FROM generate_series(1, 502) AS n CROSS JOIN (VALUES ('agent-1'), ('agent-2')) AS a (agent)";
    sqlx::raw_sql(many).execute(&api.db.pool).await.unwrap();
    let rows = async || -> (i64, String) {
        let query = "SELECT count(*), min(fields[1]::integer)::text FROM flametree.push_config_changes WHERE agent_id = 'agent-1'";
        let row = sqlx::raw_sql(query).fetch_one(&api.db.pool).await.unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!(rows().await, (500, "3".to_owned()));
    let age = "UPDATE flametree.push_config_changes SET changed_at = now() - interval '401 days'
        WHERE agent_id = 'agent-1' AND fields[1]::integer < 10";
    sqlx::raw_sql(age).execute(&api.db.pool).await.unwrap();
    let days = std::time::Duration::from_hours(400 * 24);
    assert_eq!(push_config_history::forget(&api.db, days, 5).await.unwrap(), 5);
    assert_eq!(push_config_history::forget(&api.db, days, 5).await.unwrap(), 2);
    assert_eq!(rows().await, (493, "10".to_owned()));
}

#[tokio::test]
async fn a_tenant_sees_only_the_history_of_its_own_configs() {
    let (api, admin) = started().await;
    assert_eq!(history(&api, &admin, "").await.status, 404);
    put(&api, &admin, &full_body()).await;
    let viewer = api.token(Role::Viewer, Some("acme")).await;
    assert_eq!(changes(&api, &viewer).await, changes(&api, &admin).await);
    let service = api.token(Role::Service, Some("acme")).await;
    assert_eq!(history(&api, &service, "").await.status, 403);
    let other = api.token(Role::Admin, Some("other")).await;
    assert_eq!(history(&api, &other, "").await.status, 404);
    // Another tenant's agent with the same name has a separate history.
    put(&api, &other, &json!({})).await;
    assert_eq!(changes(&api, &other).await.len(), 1);
    assert_eq!(changes(&api, &admin).await.len(), 1);
    // A config that is older than the history has no entries.
    sqlx::raw_sql("DELETE FROM flametree.push_config_changes").execute(&api.db.pool).await.unwrap();
    assert_eq!(history(&api, &admin, "").await.json(), json!({"data": [], "next_cursor": null}));
}
