//! Tests API tokens and the isolation of tenants. The file `access_walk.rs` tests which roles may use which route.

use std::time::Duration;

use ::http::{Method, Request};
use flametree_notify::domain::role::Role;
use flametree_notify::domain::token::TokenSecret;
use hyper::body::Bytes;
use serde_json::{Value, json};
use sqlx::Row;
use tokio::time::{Instant, sleep};

use crate::api_events::message;
use crate::support::app::{ACME, TestApp};
use crate::support::seed::{self, SeededDelivery, SeededEvent, yesterday_noon};

#[tokio::test]
async fn rejects_invalid_tokens() {
    let api = TestApp::start().await;
    let good = api.token(Role::Viewer, Some(ACME)).await;
    let unknown = TokenSecret::from_random([1; 32]).expose();
    let (one_short, doubled) = (good[..good.len() - 1].to_owned(), format!("{good}{good}"));
    for value in [
        String::new(),
        "Bearer".into(),
        "Bearer ".into(),
        format!("Basic {good}"),
        good.clone(),
        format!("Bearer {one_short}"),
        format!("Bearer {doubled}"),
        format!("Bearer {unknown}"),
    ] {
        let request = Request::builder().uri("/v1/deliveries").header("authorization", &value);
        let document = api.send(request.body(Bytes::new()).unwrap()).await.problem(401, "unauthorized");
        assert!(!document.to_string().contains("ftn_"), "the response repeats the token: {document}");
    }
    let two = Request::builder()
        .uri("/v1/deliveries")
        .header("authorization", format!("Bearer {good}"))
        .header("authorization", format!("Bearer {good}"));
    api.send(two.body(Bytes::new()).unwrap()).await.problem(401, "unauthorized");
    let request = Request::builder().uri("/v1/deliveries").header("authorization", format!("bEARER {good}"));
    api.send(request.body(Bytes::new()).unwrap()).await.expect(200);
}

#[tokio::test]
async fn rejects_an_expired_token() {
    let api = TestApp::start().await;
    let (id, token) = api.token_with_id(Role::Viewer, Some(ACME)).await;
    let expire = format!("UPDATE flametree.tokens SET expires_at = now() WHERE id = '{}'", id.uuid());
    seed::run(&api.db, expire).await;
    api.get("/v1/deliveries", &token).await.problem(401, "unauthorized");
}

#[tokio::test]
async fn rejects_a_token_soon_after_another_process_revoked_it() {
    let api = TestApp::start().await;
    let (id, token) = api.token_with_id(Role::Viewer, Some(ACME)).await;
    api.get("/v1/deliveries", &token).await.expect(200);
    let revoke = format!("UPDATE flametree.tokens SET revoked_at = now() WHERE id = '{}'", id.uuid());
    seed::run(&api.db, revoke).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while api.get("/v1/deliveries", &token).await.status != 401 {
        assert!(Instant::now() < deadline, "the token is still valid");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_admin_manages_the_tokens_of_its_tenant() {
    let api = TestApp::start().await;
    let admin = api.token(Role::Admin, Some(ACME)).await;
    let request = json!({"name": "billing", "role": "viewer", "expires_in_seconds": 3600});
    let made = api.post("/v1/tokens", &admin, &request).await.expect(201);
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    api.get("/v1/deliveries", token).await.expect(200);

    let answer = api.get("/v1/tokens", &admin).await;
    let list = answer.expect(200);
    assert_eq!(list["data"].as_array().unwrap().len(), 2);
    let row = &list["data"][0];
    assert_eq!((&row["id"], &row["name"], &row["role"]), (&made["id"], &json!("billing"), &json!("viewer")));
    assert_eq!((&row["tenant_id"], &row["revoked_at"]), (&json!(ACME), &Value::Null));
    assert!(row["expires_at"].is_string());
    assert!(!String::from_utf8_lossy(&answer.body).contains("ftn_"));

    let path = format!("/v1/tokens/{id}");
    api.request(Method::DELETE, &path, &admin, None).await.expect(204);
    api.get("/v1/deliveries", token).await.problem(401, "unauthorized");
    let revoked_at = api.get("/v1/tokens", &admin).await.expect(200)["data"][0]["revoked_at"].clone();
    api.request(Method::DELETE, &path, &admin, None).await.expect(204);
    assert_eq!(api.get("/v1/tokens", &admin).await.expect(200)["data"][0]["revoked_at"], revoked_at);

    let faults =
        api.post("/v1/tokens", &admin, &json!({"role": "king", "expires_in_seconds": 0, "x": 1})).await.faults();
    let pointers: Vec<_> = faults.iter().map(|(pointer, _)| pointer.as_str()).collect();
    assert_eq!(pointers, ["/name", "/role", "/expires_in_seconds", "/x"]);
}

#[tokio::test]
async fn stores_a_token_as_a_hash_and_records_its_use() {
    let api = TestApp::start().await;
    let (id, token) = api.token_with_id(Role::Viewer, Some(ACME)).await;
    api.get("/v1/deliveries", &token).await.expect(200);
    let query =
        format!("SELECT last_used_at IS NOT NULL, t::text FROM flametree.tokens AS t WHERE id = '{}'", id.uuid());
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let row = sqlx::raw_sql(sqlx::AssertSqlSafe(query.clone())).fetch_one(&api.db.pool).await.unwrap();
        assert!(!row.get::<String, _>(1).contains(&token["ftn_".len()..]));
        if row.get(0) {
            break;
        }
        assert!(Instant::now() < deadline, "the use was not recorded");
        sleep(Duration::from_millis(10)).await;
    }
    let noted = format!("UPDATE flametree.tokens SET last_used_at = 'epoch' WHERE id = '{}' RETURNING 1", id.uuid());
    seed::run(&api.db, noted).await;
    for _ in 0..20 {
        api.get("/v1/deliveries", &token).await.expect(200);
    }
    let row = sqlx::raw_sql(sqlx::AssertSqlSafe(query.replace("IS NOT NULL", "= 'epoch'")));
    assert!(
        row.fetch_one(&api.db.pool).await.unwrap().get::<bool, _>(0),
        "the use was recorded more than once a minute"
    );
}

#[tokio::test]
async fn data_of_another_tenant_is_reported_as_not_found() {
    let api = TestApp::start().await;
    let noon = yesterday_noon(&api.db).await;
    let event = seed::event(&api.db, noon, &SeededEvent { deliveries: 2, ..SeededEvent::default() }).await;
    let delivery = seed::delivery(&api.db, ACME, event, 1, &SeededDelivery::default()).await;
    seed::push_config(&api.db, ACME, "agent-1", uuid::Uuid::from_u128(7), "https://example.com/hook").await;
    let (token_id, _) = api.token_with_id(Role::Viewer, Some(ACME)).await;
    let unfinished = event.delivery(2);

    let other = api.token(Role::Admin, Some("other")).await;
    for path in
        [format!("/v1/events/{event}"), format!("/v1/deliveries/{delivery}"), format!("/v1/deliveries/{unfinished}")]
    {
        api.get(&path, &other).await.problem(404, "not_found");
        // A token for all tenants finds the resource only if the request names the tenant of the resource.
        let all = api.token(Role::Admin, None).await;
        api.get(&path, &all).await.problem(403, "tenant_required");
        api.get(&format!("{path}?tenant_id=other"), &all).await.problem(404, "not_found");
        api.get(&format!("{path}?tenant_id={ACME}"), &all).await.expect(200);
    }
    api.request(Method::DELETE, &format!("/v1/tokens/{token_id}"), &other, None).await.problem(404, "not_found");
    assert_eq!(api.get("/v1/deliveries", &other).await.expect(200)["data"], json!([]));
    let tokens = api.get("/v1/tokens", &other).await.expect(200);
    assert!(tokens["data"].as_array().unwrap().iter().all(|token| token["tenant_id"] == "other"), "{tokens}");
    let config = api.get("/v1/agents/agent-1/push-config", &other).await.expect(200);
    assert_eq!(config["url"], Value::Null);

    // An event of the other tenant with the same agent id creates no delivery to this tenant's endpoint.
    let accepted = api.post("/v1/events", &other, &message("x")).await.expect(202);
    assert_eq!(accepted["deliveries"], 0);
}
