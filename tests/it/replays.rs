//! Tests the responses to requests for replays, and the ready deliveries that these requests create.

use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::endpoint::Channel;
use flametree_notify::domain::ids::EventId;
use flametree_notify::domain::role::Role;
use flametree_notify::store::accept::{self, Acceptance};
use flametree_notify::store::queue::finish;
use http::{Method, Request};
use hyper::body::Bytes;
use serde_json::{Value, json};
use sqlx::Row as _;
use uuid::Uuid;

use crate::support::app::{ACME, Answer, TestApp};
use crate::support::queue;
use crate::support::seed::{self, SeededDelivery, SeededEvent, yesterday_noon};
use crate::support::waiting::all;

/// The current endpoint of the agent's webhook. Seeded deliveries went to a previous endpoint.
const TODAY: Uuid = Uuid::from_u128(9);

/// Inserts an event of yesterday with a failed delivery.
async fn failed(api: &TestApp, milliseconds: i64) -> EventId {
    let event = seed::event(&api.db, milliseconds, &SeededEvent::default()).await;
    let failed = SeededDelivery { outcome: "http_error", http_status: Some(500), ..SeededDelivery::default() };
    seed::delivery(&api.db, ACME, event, 1, &failed).await;
    event
}

async fn replay(api: &TestApp, token: &str, event: EventId, ordinal: u16) -> Answer {
    let path = format!("/v1/deliveries/{}/replay", event.delivery(ordinal));
    api.request(Method::POST, &path, token, None).await
}

#[tokio::test]
async fn a_replay_creates_the_next_delivery_of_the_event_for_the_current_endpoint() {
    let api = TestApp::start().await;
    let token = api.token(Role::Admin, Some(ACME)).await;
    let event = failed(&api, yesterday_noon(&api.db).await).await;
    seed::push_config(&api.db, ACME, "agent-1", TODAY, "https://example.com/today").await;

    let delivery = replay(&api, &token, event, 1).await.expect(202);
    assert_eq!(delivery["id"], event.delivery(2).to_string());
    assert_eq!((&delivery["event_id"], &delivery["outcome"]), (&json!(event.to_string()), &Value::Null));
    let ready = "SELECT id, endpoint_id, event_id, position, expires_at > now() FROM flametree.ready_deliveries";
    let rows = sqlx::raw_sql(ready).fetch_all(&api.db.pool).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get::<Uuid, _>(0), event.delivery(2).uuid());
    assert_eq!((rows[0].get::<Uuid, _>(1), rows[0].get::<Uuid, _>(2)), (TODAY, event.uuid()));
    assert!(rows[0].get::<i64, _>(3) > 0 && rows[0].get::<bool, _>(4));

    // While a replay has no outcome, the event cannot be replayed again. Afterwards, the first delivery or the replay can be
    // replayed.
    replay(&api, &token, event, 1).await.problem(409, "conflict");
    replay(&api, &token, event, 2).await.problem(409, "conflict");
    seed::delivery(&api.db, ACME, event, 2, &SeededDelivery { endpoint: TODAY, ..SeededDelivery::default() }).await;
    assert_eq!(replay(&api, &token, event, 2).await.expect(202)["id"], event.delivery(3).to_string());
    let shown = api.get(&format!("/v1/events/{event}"), &token).await.expect(200);
    assert_eq!(shown["deliveries"].as_array().unwrap().len(), 3);
}

/// Before a fix, the response to a repeated event also counted the deliveries of replays.
#[tokio::test]
async fn the_response_to_a_repeated_event_does_not_count_replays() {
    let db = queue::prepared().await;
    let endpoint = queue::agent_with_webhook(&db, "agent-1").await;
    let mut message = queue::message("agent-1", "once".to_owned());
    message.idempotency_key = Some("m-1".to_owned());
    let first = accept::accept(&db, &[&message], 60, accept::LOCK_TIMEOUT).await.unwrap();
    let Acceptance::Accepted { id, deliveries: 1 } = first.answers[0] else { panic!("{first:?}") };
    let by = queue::worker(&db).await;
    let (claim, taken) = queue::claim_of(&db, by, endpoint, 1).await;
    finish::finish(&db, Channel::Webhook, &[claim], &[queue::finished(&taken[0], Outcome::Timeout)]).await.unwrap();
    let replay = "SELECT result FROM flametree.replay('acme', $1, '00000000-0000-0000-0000-000000000000', 60, NULL, 'test', false)";
    let result: String = sqlx::query_scalar(replay).bind(id.delivery(1).uuid()).fetch_one(&*db).await.unwrap();
    assert_eq!(result, "ready");
    let again = accept::accept(&db, &[&message], 60, accept::LOCK_TIMEOUT).await.unwrap();
    assert_eq!(again.answers[0], Acceptance::Duplicate { id, deliveries: 1 });
}

#[tokio::test]
async fn concurrent_requests_create_one_replay() {
    let api = TestApp::start().await;
    let token = api.token(Role::Admin, Some(ACME)).await;
    let event = failed(&api, yesterday_noon(&api.db).await).await;
    seed::push_config(&api.db, ACME, "agent-1", TODAY, "https://example.com/today").await;
    let path = format!("/v1/deliveries/{}/replay", event.delivery(1));
    let (address, authorization) = (api.address, format!("Bearer {token}"));
    let ask = || {
        let request = Request::builder().method(Method::POST).uri(&path).header("authorization", &authorization);
        crate::support::answer::send(address, request.body(Vec::new().into()).unwrap())
    };
    let answers = all((0..16).map(|_| ask())).await;
    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(202), count(409)), (1, 15), "{answers:?}");
}

/// A request for a replay with an idempotency key.
fn keyed(token: &str, event: EventId, ordinal: u16, key: &str) -> Request<Bytes> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/v1/deliveries/{}/replay", event.delivery(ordinal)))
        .header("authorization", format!("Bearer {token}"))
        .header("idempotency-key", key);
    request.body(Bytes::new()).unwrap()
}

async fn ready_deliveries(api: &TestApp) -> i64 {
    let query = "SELECT count(*) FROM flametree.ready_deliveries";
    sqlx::raw_sql(query).fetch_one(&api.db.pool).await.unwrap().get(0)
}

#[tokio::test]
async fn a_repeated_request_with_the_same_key_returns_the_first_replay() {
    let api = TestApp::start().await;
    let token = api.token(Role::Admin, Some(ACME)).await;
    let noon = yesterday_noon(&api.db).await;
    let (event, other_event) = (failed(&api, noon).await, failed(&api, noon + 1).await);
    seed::push_config(&api.db, ACME, "agent-1", TODAY, "https://example.com/today").await;
    let replay = async |event, ordinal, key: &str| api.send(keyed(&token, event, ordinal, key)).await;

    let first = replay(event, 1, "again-1").await.expect(202);
    assert_eq!(first["id"], event.delivery(2).to_string());
    assert_eq!(replay(event, 1, "again-1").await.expect(200), first, "while the replay waits");
    seed::delivery(&api.db, ACME, event, 2, &SeededDelivery { endpoint: TODAY, ..SeededDelivery::default() }).await;
    let finished = replay(event, 1, "again-1").await.expect(200);
    assert_eq!((&finished["id"], &finished["outcome"]), (&first["id"], &json!("delivered")));

    // The key belongs to the replay of this delivery. Requests for replays of other deliveries cannot use the key, even for the
    // same event.
    replay(event, 2, "again-1").await.problem(409, "idempotency_conflict");
    replay(other_event, 1, "again-1").await.problem(409, "idempotency_conflict");
    assert_eq!(ready_deliveries(&api).await, 1);
    for key in ["", &"k".repeat(256)] {
        let faults = replay(other_event, 1, key).await.faults();
        assert_eq!(faults, [("Idempotency-Key".to_owned(), "too_long".to_owned())]);
    }
    assert_eq!(replay(event, 2, "again-2").await.expect(202)["id"], event.delivery(3).to_string());
    // After a request is rejected, another request may use the key.
    replay(event, 1, "again-3").await.problem(409, "conflict");
    assert_eq!(replay(other_event, 1, "again-3").await.expect(202)["id"], other_event.delivery(2).to_string());
}

#[tokio::test]
async fn concurrent_requests_with_one_key_create_and_return_the_same_replay() {
    let api = TestApp::start().await;
    let token = api.token(Role::Admin, Some(ACME)).await;
    let event = failed(&api, yesterday_noon(&api.db).await).await;
    seed::push_config(&api.db, ACME, "agent-1", TODAY, "https://example.com/today").await;
    let requests = (0..8).map(|_| crate::support::answer::send(api.address, keyed(&token, event, 1, "at-once")));
    let answers = all(requests).await;
    let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 202], "{answers:?}");
    assert!(answers.iter().all(|answer| answer.json()["id"] == event.delivery(2).to_string()), "{answers:?}");
    assert_eq!(ready_deliveries(&api).await, 1);
}

#[tokio::test]
async fn concurrent_requests_for_different_events_with_one_key_create_one_replay() {
    let api = TestApp::start().await;
    let token = api.token(Role::Admin, Some(ACME)).await;
    let noon = yesterday_noon(&api.db).await;
    let mut events = Vec::new();
    for number in 0..8 {
        events.push(failed(&api, noon + number).await);
    }
    seed::push_config(&api.db, ACME, "agent-1", TODAY, "https://example.com/today").await;
    let requests =
        events.iter().map(|event| crate::support::answer::send(api.address, keyed(&token, *event, 1, "one")));
    let answers = all(requests.collect::<Vec<_>>()).await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 202);
    assert_eq!((made.len(), ready_deliveries(&api).await), (1, 1), "{answers:?}");
    for answer in refused {
        answer.problem(409, "idempotency_conflict");
    }
    // Tenants do not share keys.
    let other_tenant = api.token(Role::Admin, Some("globex")).await;
    api.send(keyed(&other_tenant, events[0], 1, "one")).await.problem(404, "not_found");
}

#[tokio::test]
async fn rejects_deliveries_that_cannot_be_replayed_and_changes_nothing() {
    let api = TestApp::start().await;
    let token = api.token(Role::Admin, Some(ACME)).await;
    let noon = yesterday_noon(&api.db).await;
    let event = failed(&api, noon).await;
    let no_webhook = replay(&api, &token, event, 1).await.problem(409, "conflict");
    assert!(no_webhook["detail"].as_str().unwrap().contains("the current settings"), "{no_webhook}");
    seed::push_config(&api.db, ACME, "agent-1", TODAY, "https://example.com/today").await;

    for ordinal in [0, 2, u16::MAX] {
        replay(&api, &token, event, ordinal).await.problem(404, "not_found");
    }
    replay(&api, &token, seed::event_id(noon + 1), 1).await.problem(404, "not_found");
    let other_tenant = api.token(Role::Admin, Some("globex")).await;
    replay(&api, &other_tenant, event, 1).await.problem(404, "not_found");
    let viewer = api.token(Role::Viewer, Some(ACME)).await;
    replay(&api, &viewer, event, 1).await.problem(403, "forbidden");
    let service = api.token(Role::Service, Some(ACME)).await;
    replay(&api, &service, event, 1).await.problem(403, "forbidden");

    let waiting = seed::event(&api.db, noon + 2, &SeededEvent::default()).await;
    replay(&api, &token, waiting, 1).await.problem(409, "conflict");

    for settings in ["events = '{new_session_started}'", "enabled = false, events = '{user_message}'"] {
        seed::run(&api.db, format!("UPDATE flametree.push_configs SET {settings}")).await;
        replay(&api, &token, event, 1).await.problem(409, "conflict");
    }

    seed::run(&api.db, "UPDATE flametree.push_configs SET enabled = true".into()).await;
    seed::run(&api.db, "SELECT flametree.ensure_partitions(current_date - 29, current_date - 28)".into()).await;
    let old = failed(&api, noon - 27 * 86_400_000).await;
    let too_old = replay(&api, &token, old, 1).await.problem(409, "conflict");
    assert!(too_old["detail"].as_str().unwrap().contains("too old"), "{too_old}");

    let left = "SELECT (SELECT count(*) FROM flametree.ready_deliveries) + (SELECT count(*) FROM flametree.replays)
                + (SELECT sum(deliveries)::bigint - count(*) FROM flametree.events)";
    assert_eq!(sqlx::raw_sql(left).fetch_one(&api.db.pool).await.unwrap().get::<i64, _>(0), 0);
}

/// Requests a replay of an agent's deliveries with an idempotency key.
async fn ask(api: &TestApp, token: &str, agent: &str, key: &str, body: &Value) -> Answer {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/v1/agents/{agent}/replays"))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .header("idempotency-key", key);
    api.send(request.body(serde_json::to_vec(body).unwrap().into()).unwrap()).await
}

#[tokio::test]
async fn repeated_requests_with_one_key_create_one_operation() {
    let api = TestApp::start().await;
    let token = api.token(Role::Admin, Some(ACME)).await;
    let body = json!({"from": "2026-01-01T00:00:00Z", "outcomes": ["failed", "interrupted"], "dry_run": false});
    let first = ask(&api, &token, "agent-1", "again-1", &body).await.expect(202);
    assert_eq!(
        (&first["state"], &first["kind"], &first["agent_id"]),
        (&json!("waiting"), &json!("replay"), &json!("agent-1"))
    );
    assert_eq!(first["replay"]["limit"], 10_000);
    assert_eq!(first["replay"]["outcomes"].as_array().unwrap().len(), 15);
    assert_eq!(ask(&api, &token, "agent-1", "again-1", &body).await.expect(200)["id"], first["id"]);

    let other_body = json!({"from": "2026-01-01T00:00:00Z", "outcomes": ["timeout"]});
    ask(&api, &token, "agent-1", "again-1", &other_body).await.problem(409, "idempotency_conflict");
    ask(&api, &token, "agent-2", "again-1", &body).await.problem(409, "idempotency_conflict");
    ask(&api, &token, "agent-1", &"k".repeat(256), &body).await.faults();
    let other_tenant = api.token(Role::Admin, Some("globex")).await;
    assert_ne!(ask(&api, &other_tenant, "agent-1", "again-1", &body).await.expect(202)["id"], first["id"]);
    // Without a key each request creates an operation.
    let (one, other) = (
        api.post("/v1/agents/agent-1/replays", &token, &body).await.expect(202),
        api.post("/v1/agents/agent-1/replays", &token, &body).await.expect(202),
    );
    assert_ne!(one["id"], other["id"]);
}

#[tokio::test]
async fn reports_every_fault_of_a_request() {
    let api = TestApp::start().await;
    let token = api.token(Role::Admin, Some(ACME)).await;
    let body = json!({"from": 1, "outcomes": ["lost"], "limit": 100_001, "since": "yesterday"});
    let faults = api.post("/v1/agents/agent-1/replays", &token, &body).await.faults();
    let pointers: Vec<_> = faults.iter().map(|(pointer, _)| pointer.as_str()).collect();
    assert_eq!(pointers, ["/from", "/outcomes/0", "/limit", "/since"]);
    let viewer = api.token(Role::Viewer, Some(ACME)).await;
    api.post("/v1/agents/agent-1/replays", &viewer, &json!({})).await.problem(403, "forbidden");
}

#[tokio::test]
async fn an_operation_belongs_to_its_tenant_and_can_be_canceled_once() {
    let api = TestApp::start().await;
    let token = api.token(Role::Admin, Some(ACME)).await;
    let body = json!({"from": "2026-01-01T00:00:00Z"});
    let entered = api.post("/v1/agents/agent-1/replays", &token, &body).await.expect(202);
    let path = format!("/v1/operations/{}", entered["id"].as_str().unwrap());
    let cancel = format!("{path}/cancel");

    let other_tenant = api.token(Role::Admin, Some("globex")).await;
    api.get(&path, &other_tenant).await.problem(404, "not_found");
    api.request(Method::POST, &cancel, &other_tenant, None).await.problem(404, "not_found");
    assert_eq!(api.get("/v1/operations", &other_tenant).await.expect(200)["data"], json!([]));
    let viewer = api.token(Role::Viewer, Some(ACME)).await;
    api.get(&path, &viewer).await.problem(403, "forbidden");

    assert_eq!(api.get(&path, &token).await.expect(200)["state"], "waiting");
    assert_eq!(api.get("/v1/operations", &token).await.expect(200)["data"][0]["id"], entered["id"]);
    for _ in 0..2 {
        let canceled = api.request(Method::POST, &cancel, &token, None).await.expect(200);
        assert_eq!(canceled["state"], "canceled");
    }
    let ended = "UPDATE flametree.operations SET state = 'succeeded'";
    seed::run(&api.db, ended.into()).await;
    api.request(Method::POST, &cancel, &token, None).await.problem(409, "conflict");
}
