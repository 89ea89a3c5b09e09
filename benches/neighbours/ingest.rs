//! Attacks through tenant A's events: events about a session that tenant A itself has locked, and events posted without a pause.

use std::time::Duration;

use serde_json::json;

use super::Bench;
use super::comparison::Comparison;
use super::scene::Scene;
use crate::http;
use crate::load;
use crate::prepare::TENANT;
use crate::receiver::Receiver;

/// The session that A's transaction locks.
const SESSION: &str = "locked";

/// A transaction of tenant A locks a session, while `callers` callers post events about this session without a pause.
pub(crate) async fn open_transaction(bench: &Bench<'_>, callers: usize) -> Comparison {
    let mut scene = Scene::start(bench, "run", &[]).await;
    let quiet = scene.quiet().await;
    // The assignment to a user locks the session's row until the transaction ends.
    let event = json!({
        "type": "session_assigned", "agent_id": "agent", "session_id": SESSION, "assignee_id": "user-1",
    });
    let mut by_sql = event.clone();
    by_sql["tenant_id"] = TENANT.into();
    let mut transaction = scene.db.begin().await.unwrap();
    sqlx::query("SELECT * FROM flametree.enqueue_event($1::text::jsonb)")
        .bind(by_sql.to_string())
        .execute(&mut *transaction)
        .await
        .unwrap();
    let text = scene.service.request("POST", "/v1/events", &event.to_string());
    let attack = scene.flood(callers, Duration::ZERO, move |_| text.clone());
    let attacked = scene.attacked().await;
    drop(attack);
    transaction.rollback().await.unwrap();
    scene.end(quiet, attacked, "").await
}

/// Tenant A posts on 64 connections. Each connection posts the next event as soon as a response arrives, even after a refusal.
pub(crate) async fn endless_events(bench: &Bench<'_>) -> Comparison {
    let mut scene = Scene::start(bench, "run", &[]).await;
    scene.agents("agent", 1, &Receiver::url("/hook")).await;
    let quiet = scene.quiet().await;
    let token = scene.service.token().to_owned();
    let text = move |number| http::json("POST", "/v1/events", &token, &load::event("agent-0", number).to_string());
    let attack = scene.flood(load::CONNECTIONS, Duration::ZERO, text);
    let attacked = scene.attacked().await;
    drop(attack);
    scene.end(quiet, attacked, "").await
}
