//! Attacks by what A posts: about a session that a transaction of its own has locked, or without end.

use std::time::Duration;

use serde_json::json;

use super::Bench;
use super::comparison::Comparison;
use super::scene::Scene;
use crate::http;
use crate::load;
use crate::prepare::TENANT;
use crate::receiver::Receiver;

/// The conversation that A's transaction is about.
const SESSION: &str = "locked";

/// A transaction of A that stays open, and `callers` that repeat events about its session without a pause.
pub(crate) async fn open_transaction(bench: &Bench<'_>, callers: usize) -> Comparison {
    let mut scene = Scene::start(bench, "run", &[]).await;
    let quiet = scene.quiet().await;
    // A user takes the conversation over: the session's row is locked until the transaction ends.
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

/// A posts on 64 connections, each event as soon as the one before is answered, refusals included.
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
