//! Tests the routes that read events and their deliveries.

use std::collections::HashSet;

use flametree_notify::domain::role::Role;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::app::{ACME, TestApp};
use crate::support::seed::{self, SeededDelivery, SeededEvent, yesterday_noon};

fn ids(page: &Value) -> Vec<String> {
    page["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

/// Inserts deliveries that succeeded, one for each millisecond.
async fn many(api: &TestApp, from: i64, count: i64) {
    let id = format!("(lpad(to_hex({from} + n), 12, '0') || '7000800000000000000");
    for statement in [
        format!(
            "INSERT INTO flametree.events (tenant_id, id, type, deliveries, occurred_at, agent_id, session_id, text)
             SELECT '{ACME}', {id}0')::uuid, 'user_message', 1, now(), 'agent-1', 's-1', 'x'
             FROM generate_series(0, {count} - 1) AS n"
        ),
        format!(
            "INSERT INTO flametree.deliveries (tenant_id, id, endpoint_id, event_id, claimed_at, finished_at, channel,
                 outcome, duration_us, http_status, batch)
             SELECT '{ACME}', {id}1')::uuid, gen_random_uuid(), {id}0')::uuid, now(), now(), 'webhook', 'delivered', 1, 200, 0
             FROM generate_series(0, {count} - 1) AS n"
        ),
    ] {
        seed::run(&api.db, statement).await;
    }
}

#[tokio::test]
async fn pagination_returns_each_row_once_while_rows_are_added() {
    let api = TestApp::start().await;
    let token = api.token(Role::Viewer, Some(ACME)).await;
    let noon = yesterday_noon(&api.db).await;
    many(&api, noon, 35).await;
    let mut seen = Vec::new();
    let mut path = "/v1/deliveries?limit=10".to_owned();
    for newer in 0.. {
        let page = api.get(&path, &token).await.expect(200);
        seen.extend(ids(&page));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/deliveries?limit=10&cursor={cursor}");
        many(&api, noon + 1_000 + newer * 10, 10).await;
    }
    let distinct: HashSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (35, 35));
    assert!(seen.is_sorted_by(|newer, older| newer > older));
}

#[tokio::test]
async fn a_full_page_can_be_the_last_page() {
    let api = TestApp::start().await;
    let token = api.token(Role::Viewer, Some(ACME)).await;
    many(&api, yesterday_noon(&api.db).await, 50).await;
    let page = api.get("/v1/deliveries", &token).await.expect(200);
    assert_eq!((ids(&page).len(), &page["next_cursor"]), (50, &Value::Null));
    let page = api.get("/v1/deliveries?limit=49", &token).await.expect(200);
    assert_eq!(ids(&page).len(), 49);
    assert!(page["next_cursor"].is_string());
}

#[tokio::test]
async fn a_selective_filter_scans_a_bounded_number_of_rows_per_page() {
    let api = TestApp::start().await;
    let token = api.token(Role::Viewer, Some(ACME)).await;
    let noon = yesterday_noon(&api.db).await;
    let rare = seed::event(&api.db, noon - 1, &SeededEvent { session: "rare", ..SeededEvent::default() }).await;
    let rare = seed::delivery(&api.db, ACME, rare, 1, &SeededDelivery::default()).await;
    many(&api, noon, 10_050).await;
    let page = api.get("/v1/deliveries?session_id=rare", &token).await.expect(200);
    assert_eq!(ids(&page).len(), 0);
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = api.get(&format!("/v1/deliveries?session_id=rare&cursor={cursor}"), &token).await.expect(200);
    assert_eq!((ids(&page), &page["next_cursor"]), (vec![rare.to_string()], &Value::Null));
}

#[tokio::test]
async fn every_filter_returns_the_matching_deliveries() {
    let api = TestApp::start().await;
    let token = api.token(Role::Viewer, Some(ACME)).await;
    let noon = yesterday_noon(&api.db).await;
    let base = SeededEvent::default();
    let mut expected = Vec::new();
    for (offset, event, delivery) in [
        (0, base.clone(), SeededDelivery::default()),
        (1, SeededEvent { agent: "agent-2", ..base.clone() }, SeededDelivery::default()),
        (2, SeededEvent { session: "s-2", ..base.clone() }, SeededDelivery::default()),
        (3, SeededEvent { event_type: "session_assigned", ..base.clone() }, SeededDelivery::default()),
        (4, base.clone(), SeededDelivery { channel: "browser_push", ..SeededDelivery::default() }),
        (5, base, SeededDelivery { outcome: "timeout", http_status: None, ..SeededDelivery::default() }),
    ] {
        let event = seed::event(&api.db, noon + offset * 1_000, &event).await;
        expected.push(seed::delivery(&api.db, ACME, event, 1, &delivery).await.to_string());
    }
    let at = |offset: i64| {
        let at = chrono::DateTime::from_timestamp_millis(noon + offset * 1_000).unwrap();
        at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
    };
    for (query, fits) in [
        (String::new(), vec![5, 4, 3, 2, 1, 0]),
        ("agent_id=agent-2".into(), vec![1]),
        ("session_id=s-2".into(), vec![2]),
        ("event_type=session_assigned".into(), vec![3]),
        ("channel=browser_push".into(), vec![4]),
        ("outcome=timeout".into(), vec![5]),
        ("outcome=timeout&channel=browser_push".into(), vec![]),
        (format!("from={}", at(4)), vec![5, 4]),
        (format!("to={}", at(1)), vec![0]),
        (format!("from={}&to={}", at(1), at(3)), vec![2, 1]),
        ("agent_id=agent-9".into(), vec![]),
    ] {
        let page = api.get(&format!("/v1/deliveries?{query}"), &token).await.expect(200);
        let expected: Vec<_> = fits.iter().map(|index: &usize| expected[*index].clone()).collect();
        assert_eq!(ids(&page), expected, "{query}");
    }
}

#[tokio::test]
async fn a_list_shows_the_outcome_of_each_delivery() {
    let api = TestApp::start().await;
    let token = api.token(Role::Viewer, Some(ACME)).await;
    let noon = yesterday_noon(&api.db).await;
    let event = seed::event(&api.db, noon, &SeededEvent::default()).await;
    let id = seed::delivery(&api.db, ACME, event, 1, &SeededDelivery::default()).await;
    let page = api.get("/v1/deliveries", &token).await.expect(200);
    let row = &page["data"][0];
    for (field, value) in [
        ("id", json!(id.to_string())),
        ("event_id", json!(event.to_string())),
        ("event_type", json!("user_message")),
        ("agent_id", json!("agent-1")),
        ("session_id", json!("s-1")),
        ("channel", json!("webhook")),
        ("outcome", json!("delivered")),
        ("http_status", json!(200)),
        ("duration_ms", json!(12.345)),
    ] {
        assert_eq!(row[field], value, "{field}");
    }
    let accepted_at = chrono::DateTime::parse_from_rfc3339(row["accepted_at"].as_str().unwrap()).unwrap();
    assert_eq!(accepted_at.timestamp_millis(), noon);
}

#[tokio::test]
async fn reports_every_invalid_parameter_at_once() {
    let api = TestApp::start().await;
    let token = api.token(Role::Viewer, Some(ACME)).await;
    let query = "channel=fax&outcome=fine&event_type=&agent_id=&from=today&limit=251&cursor=x&order=asc&tenant_id=";
    let token_for_all = api.token(Role::Viewer, None).await;
    let query_without_tenant = query.rsplit_once('&').unwrap().0;
    let faults = api.get(&format!("/v1/deliveries?{query_without_tenant}"), &token).await.faults();
    let pointers: Vec<_> = faults.iter().map(|(pointer, _)| pointer.as_str()).collect();
    assert_eq!(pointers, ["agent_id", "event_type", "channel", "outcome", "from", "limit", "cursor", "order"]);
    for (query, pointer, code) in [
        ("limit=0", "limit", "invalid_value"),
        ("limit=5&limit=5", "limit", "duplicate"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-02T00:00:00Z", "to", "invalid_value"),
        ("tenant_id=acme", "tenant_id", "not_allowed"),
    ] {
        let faults = api.get(&format!("/v1/deliveries?{query}"), &token).await.faults();
        assert_eq!(faults, [(pointer.to_owned(), code.to_owned())], "{query}");
    }
    let faults = api.get("/v1/deliveries?tenant_id=a&tenant_id=b", &token_for_all).await.faults();
    assert_eq!(faults, [("tenant_id".into(), "duplicate".into())]);
}

/// Inserts a push config and a failed webhook delivery. Returns the API paths of the delivery and of its event.
async fn failed_delivery(api: &TestApp) -> (String, String) {
    let noon = yesterday_noon(&api.db).await;
    let endpoint = Uuid::from_u128(7);
    seed::push_config(&api.db, ACME, "agent-1", endpoint, "https://example.com/hook?token=s3cret").await;
    let event = seed::event(&api.db, noon, &SeededEvent { deliveries: 2, ..SeededEvent::default() }).await;
    let failed = SeededDelivery {
        outcome: "http_error",
        http_status: Some(500),
        detail: Some(r#"{"note":"It failed.","response_body":"a secret answer","response_truncated":true}"#),
        endpoint,
        ..SeededDelivery::default()
    };
    let id = seed::delivery(&api.db, ACME, event, 1, &failed).await;
    (format!("/v1/deliveries/{id}"), format!("/v1/events/{event}"))
}

#[tokio::test]
async fn a_delivery_shows_request_and_response_without_secrets() {
    let api = TestApp::start().await;
    let (path, _) = failed_delivery(&api).await;
    let admin = api.token(Role::Admin, Some(ACME)).await;
    let answer = api.get(&path, &admin).await;
    let delivery = answer.expect(200);
    assert_eq!(delivery["note"], "It failed.");
    assert_eq!(delivery["request"]["url"], "https://example.com/hook");
    assert_eq!(delivery["request"]["header_names"], json!(["X-Env"]));
    assert_eq!(delivery["request"]["settings_unchanged"], true);
    let body: Value = serde_json::from_str(delivery["request"]["body"].as_str().unwrap()).unwrap();
    assert_eq!((&body["type"], &body["data"]["text"]), (&json!("user_message"), &json!("a secret text")));
    assert_eq!(delivery["response"], json!({"status": 500, "body": "a secret answer", "truncated": true}));
    assert!(!String::from_utf8_lossy(&answer.body).contains("s3cret"));
}

#[tokio::test]
async fn a_viewer_sees_neither_event_texts_nor_http_bodies() {
    let api = TestApp::start().await;
    let (delivery_path, event_path) = failed_delivery(&api).await;
    let viewer = api.token(Role::Viewer, Some(ACME)).await;
    for path in [delivery_path.as_str(), &event_path, "/v1/deliveries"] {
        let answer = api.get(path, &viewer).await;
        answer.expect(200);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(!text.contains("secret") && !text.contains("\"order\""), "{path}: {text}");
    }
    let delivery = api.get(&delivery_path, &viewer).await.expect(200);
    assert_eq!(delivery["response"]["status"], 500);
    assert_eq!(delivery["request"]["body"], Value::Null);
}

#[tokio::test]
async fn an_event_shows_finished_and_unfinished_deliveries() {
    let api = TestApp::start().await;
    let (_, event_path) = failed_delivery(&api).await;
    let admin = api.token(Role::Admin, Some(ACME)).await;
    let event = api.get(&event_path, &admin).await.expect(200);
    assert_eq!((&event["text"], &event["metadata"]), (&json!("a secret text"), &json!({"order": 7})));
    let outcomes: Vec<_> = event["deliveries"].as_array().unwrap().iter().map(|row| row["outcome"].clone()).collect();
    assert_eq!(outcomes, [json!("http_error"), Value::Null]);

    let unfinished = event["deliveries"][1]["id"].as_str().unwrap();
    let delivery = api.get(&format!("/v1/deliveries/{unfinished}"), &admin).await.expect(200);
    assert_eq!((&delivery["outcome"], &delivery["response"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn unknown_events_and_deliveries_are_not_found() {
    let api = TestApp::start().await;
    let (delivery_path, event_path) = failed_delivery(&api).await;
    let admin = api.token(Role::Admin, Some(ACME)).await;
    let event = event_path.rsplit_once('_').unwrap().1;
    let unknown = [
        // The event has the deliveries 1 and 2, so delivery 3 and delivery 0 do not exist.
        format!("/v1/deliveries/dlv_{}0003", &event[..28]),
        format!("/v1/deliveries/dlv_{}0000", &event[..28]),
        format!("/v1/deliveries/evt_{event}"),
        format!("/v1/events/dlv_{event}"),
        "/v1/events/evt_00000000000000000000000000000000".into(),
        "/v1/events/%ff".into(),
        "/v1/deliveries/".into(),
    ];
    for path in unknown {
        api.get(&path, &admin).await.problem(404, "not_found");
    }
    api.get(&delivery_path, &admin).await.expect(200);
}
