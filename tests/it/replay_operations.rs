//! Tests replays of many deliveries with real processes and a real receiver.

use std::time::Duration;

use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::ids::EventId;
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::deployment::{Deployment, TENANT, agents, message};
use crate::support::misbehaving::{Behaviour, Receiver};
use crate::support::service::{Part, Service};
use crate::support::waiting::within;
use crate::support::wire::answer;

const PATIENCE: Duration = Duration::from_mins(1);
/// No server listens there.
const NOWHERE: &str = "http://127.0.0.1:1/nowhere";

/// Sets the URL of the agent's webhook.
pub async fn point(api: &Client, agent: &str, url: &str, headers: &Value) {
    let config = json!({"enabled": true, "url": url, "events": ["user_message"], "headers": headers});
    let answer = api.put(&format!("/v1/agents/{agent}/push-config?tenant_id={TENANT}"), &config).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Requests a replay of all failed deliveries, and returns its path.
pub async fn ask(api: &Client, agent: &str, request: &Value) -> String {
    let mut body = json!({"from": "2026-01-01T00:00:00Z"});
    body.as_object_mut().unwrap().extend(request.as_object().unwrap().clone());
    let answer = api.post(&format!("/v1/agents/{agent}/replays?tenant_id={TENANT}"), &body).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    format!("/v1/operations/{}?tenant_id={TENANT}", answer.json()["id"].as_str().unwrap())
}

/// Waits until the operation has ended, and returns it.
pub async fn ended(api: &Client, path: &str) -> Value {
    let mut operation = Value::Null;
    within(PATIENCE, "the operation ends", async || {
        operation = api.get(path).await.json();
        !["waiting", "running"].contains(&operation["state"].as_str().unwrap())
    })
    .await;
    operation
}

/// Posts events of each agent. All deliveries of these events fail because they cannot connect.
pub async fn failures(deployment: &Deployment, service: &Service, agents: &[String], count: usize) -> Vec<EventId> {
    let api = deployment.client(service);
    for agent in agents {
        point(&api, agent, NOWHERE, &json!([])).await;
    }
    let events = deployment.post(&[api], agents, count).await;
    deployment.drained(PATIENCE).await;
    let tally = deployment.tally().await;
    assert_eq!(tally.count(Outcome::ConnectError), count, "{:?}", tally.summary());
    events
}

#[tokio::test]
async fn a_replay_keeps_the_webhook_id_and_uses_the_current_settings() {
    let deployment = Deployment::new().await;
    let service = deployment.settings.start(Part::Run).await;
    let api = deployment.client(&service);
    let receiver = Receiver::start(Behaviour::Answers(answer("500 Oops", "", b"no"))).await;
    let header = |value: &str| json!([{"name": "X-Generation", "value": value, "secret": true}]);
    point(&api, "agent-1", &receiver.url(), &header("first")).await;
    let event = api.post("/v1/events", &message("agent-1", 1)).await.json();
    let event_path = format!("/v1/events/{}?tenant_id={TENANT}", event["id"].as_str().unwrap());
    let outcomes = async || -> Vec<Value> {
        let event = api.get(&event_path).await.json();
        event["deliveries"].as_array().unwrap().iter().map(|delivery| delivery["outcome"].clone()).collect()
    };
    within(PATIENCE, "the delivery fails", async || outcomes().await == ["http_error"]).await;

    receiver.behave(Behaviour::Answers(answer("200 OK", "", b"")));
    point(&api, "agent-1", &receiver.url(), &header("second")).await;
    let first = api.get(&event_path).await.json()["deliveries"][0]["id"].as_str().unwrap().to_owned();
    let replayed = api.post(&format!("/v1/deliveries/{first}/replay?tenant_id={TENANT}"), &Value::Null).await;
    assert_eq!(replayed.status, 202, "{}", replayed.text());
    within(PATIENCE, "the replay is delivered", async || outcomes().await == ["http_error", "delivered"]).await;

    let seen = receiver.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].header("webhook-id"), seen[1].header("webhook-id"));
    assert_eq!(seen[1].header("webhook-id"), event["id"].as_str().unwrap());
    assert_eq!(seen[0].body, seen[1].body);
    assert_eq!((seen[0].header("x-generation"), seen[1].header("x-generation")), ("first", "second"));
    assert_eq!(seen[0].header("x-flametree-delivery"), first);
    let both = async || service.metric("flametree_deliveries_total").await >= 2.0;
    within(PATIENCE, "both deliveries are counted", both).await;
    // The latency metric does not count the replay, because the event was accepted long before the replay was requested.
    assert!(service.metric("flametree_delivery_latency_seconds_count").await < 1.5);
    assert_eq!(seen[1].header("x-flametree-delivery"), replayed.json()["id"].as_str().unwrap());
}

#[tokio::test]
async fn a_replay_selects_deliveries_by_time_and_outcome_and_replays_each_once() {
    const FAILED: usize = 1_200;
    let deployment = Deployment::new().await;
    let service = deployment.settings.start(Part::Run).await;
    let (agents, api) = (agents(2), deployment.client(&service));
    let mut events = failures(&deployment, &service, &agents, FAILED).await;
    deployment.configure(&service, &agents).await;
    events.extend(deployment.post(std::slice::from_ref(&api), &agents, 400).await);
    deployment.drained(PATIENCE).await;

    let dry = ended(&api, &ask(&api, "agent-1", &json!({"dry_run": true})).await).await;
    let counts = |operation: &Value| -> Vec<u64> {
        ["matched", "skipped", "replayed"].map(|name| operation["replay"][name].as_u64().unwrap()).to_vec()
    };
    assert_eq!((&dry["state"], counts(&dry)), (&json!("succeeded"), vec![600, 0, 0]), "{dry}");
    assert_eq!((&dry["replay"]["examined"], &dry["replay"]["progress"]), (&json!(1_600), &json!(1.0)));
    assert_eq!(deployment.tally().await.outcomes.len(), FAILED + 400, "a dry run delivers nothing");

    let none = ended(&api, &ask(&api, "agent-1", &json!({"outcomes": ["timeout", "interrupted"]})).await).await;
    assert_eq!(counts(&none), [0, 0, 0], "{none}");
    let part = ended(&api, &ask(&api, "agent-1", &json!({"limit": 150})).await).await;
    assert_eq!(counts(&part), [150, 0, 150], "{part}");
    deployment.drained(PATIENCE).await;
    let rest = ended(&api, &ask(&api, "agent-1", &json!({"outcomes": ["failed", "interrupted"]})).await).await;
    assert_eq!(
        counts(&rest),
        [450, 0, 450],
        "deliveries that the first replay delivered are not replayed again: {rest}"
    );
    deployment.drained(PATIENCE).await;
    let nothing = ended(&api, &ask(&api, "agent-1", &json!({})).await).await;
    assert_eq!(counts(&nothing), [0, 0, 0], "{nothing}");

    let tally = deployment.assert_drained(&api, &events).await;
    assert_eq!(tally.count(Outcome::Delivered), 400 + 600, "{:?}", tally.summary());
    assert_eq!(deployment.receiver.count_at("/agent-2"), 200, "the other agent's failed deliveries are not replayed");
    let counted = service.metric("flametree_operations_total{operation=\"replay\",result=\"succeeded\"}").await;
    assert!(counted >= 5.0, "{counted}");
}

#[tokio::test]
async fn a_canceled_replay_creates_no_more_deliveries() {
    let deployment = Deployment::new().await;
    let settings = deployment.settings.clone().with("FAILPOINTS", "replay::step=sleep(1000)");
    let service = settings.start(Part::Run).await;
    let (agents, api) = (agents(1), deployment.client(&service));
    let events = failures(&deployment, &service, &agents, 2_500).await;
    deployment.configure(&service, &agents).await;

    let path = ask(&api, "agent-1", &json!({})).await;
    let replayed = async || api.get(&path).await.json()["replay"]["replayed"].as_u64().unwrap();
    within(PATIENCE, "the replay has started", async || replayed().await > 0).await;
    let (operation, _) = path.split_once('?').unwrap();
    let canceled = api.post(&format!("{operation}/cancel?tenant_id={TENANT}"), &Value::Null).await;
    assert_eq!((canceled.status, &canceled.json()["state"]), (200, &json!("canceled")), "{}", canceled.text());
    let done = canceled.json()["replay"]["replayed"].as_u64().unwrap();
    assert!((1..2_500).contains(&done), "{done}");

    within(PATIENCE, "the worker stops the replay", async || service.has_logged("lost the lease of an operation"))
        .await;
    deployment.drained(PATIENCE).await;
    assert_eq!(replayed().await, done, "the replay creates no delivery after the cancellation");
    let tally = deployment.assert_drained(&api, &events).await;
    assert_eq!(tally.count(Outcome::Delivered) as u64, done, "{:?}", tally.summary());
}

#[tokio::test]
async fn a_replay_continues_on_another_worker_after_the_first_worker_stops() {
    const FAILED: usize = 1_800;
    let deployment = Deployment::new().await;
    let api = deployment.settings.start(Part::Api).await;
    let slow = deployment.settings.clone().with("FAILPOINTS", "replay::step=sleep(500)");
    let worker = slow.start(Part::Worker).await;
    let (agents, client) = (agents(1), deployment.client(&api));
    let events = failures(&deployment, &api, &agents, FAILED).await;
    deployment.configure(&api, &agents).await;
    let path = ask(&client, "agent-1", &json!({})).await;
    let replayed = async || client.get(&path).await.json()["replay"]["replayed"].as_u64().unwrap();
    within(PATIENCE, "the replay has started", async || replayed().await > 0).await;
    worker.stop().await;
    let left = client.get(&path).await.json();
    assert_eq!((&left["state"], &left["attempts"]), (&json!("waiting"), &json!(0)), "{left}");

    let _next = deployment.settings.start(Part::Worker).await;
    let operation = ended(&client, &path).await;
    assert_eq!((&operation["state"], &operation["attempts"]), (&json!("succeeded"), &json!(1)), "{operation}");
    deployment.drained(PATIENCE).await;
    let tally = deployment.assert_drained(&client, &events).await;
    assert_eq!(tally.outcomes.len(), 2 * FAILED, "{:?}", tally.summary());
}
