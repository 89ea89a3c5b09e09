//! The operator workspace after crashes of the process that accepts events, and of the database while a stream is open.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::support::deployment::{Deployment, TENANT};
use crate::support::own_server::Stop;
use crate::support::service::Part;
use crate::support::sse::try_open;
use crate::workspace_stream::{assigned, enqueue};

const SESSIONS: usize = 60;

/// All changes of a session, in reverse order.
fn events(session: usize) -> Vec<Value> {
    let at = |second: u8| format!("2026-01-01T12:00:0{second}Z");
    let name = format!("s-{session}");
    let mut events = vec![
        json!({"type": "transferred_to_live_agent", "occurred_at": at(1)}),
        json!({"type": "session_assigned", "assignee_id": "user-1", "occurred_at": at(2)}),
        json!({"type": "session_assigned", "assignee_id": "user-2", "occurred_at": at(3)}),
    ];
    if session.is_multiple_of(3) {
        events.push(json!({"type": "session_resolved", "occurred_at": at(4)}));
    }
    for (number, event) in events.iter_mut().enumerate() {
        event["tenant_id"] = TENANT.into();
        event["agent_id"] = "agent-1".into();
        event["session_id"] = name.clone().into();
        event["idempotency_key"] = format!("{name}-{number}").into();
    }
    events.reverse();
    events
}

#[tokio::test]
async fn counts_are_exact_after_processes_were_killed_while_accepting_events() {
    let deployment = Deployment::new().await;
    let mut api = deployment.settings.start(Part::Api).await;
    let all: Vec<Value> = (0..SESSIONS).flat_map(events).collect();
    let mut killed = 0;
    for (number, batch) in all.chunks(7).enumerate() {
        let body = json!({ "events": batch });
        let client = deployment.client(&api);
        let posting = tokio::spawn(async move { client.request(Method::POST, "/v1/events/batch", Some(&body)).await });
        if number.is_multiple_of(8) {
            // The process dies before, while or after it accepts the events. The sender gets no response and sends the events
            // again.
            tokio::time::sleep(Duration::from_millis(number as u64 % 5)).await;
            api.kill();
            killed += 1;
            api = deployment.settings.start(Part::Api).await;
        }
        drop(posting.await.unwrap());
        let again = deployment.client(&api).post("/v1/events/batch", &json!({ "events": batch })).await;
        assert_eq!(again.status, 200, "{}", again.text());
    }
    assert!(killed > 3);
    let path = format!("/v1/workspace/active-conversations?tenant_id={TENANT}");
    let document = deployment.client(&api).get(&path).await.json();
    let conversations = document["conversations"].as_array().unwrap();
    let found: BTreeSet<&str> = conversations.iter().map(|found| found["session_id"].as_str().unwrap()).collect();
    let expected: BTreeSet<String> =
        (0..SESSIONS).filter(|session| !session.is_multiple_of(3)).map(|session| format!("s-{session}")).collect();
    assert_eq!(found, expected.iter().map(String::as_str).collect());
    assert_eq!(document["count"], expected.len());
    assert!(conversations.iter().all(|found| found["assignee_id"] == "user-2"), "{document}");
}

#[tokio::test]
async fn a_stream_continues_when_the_database_is_back() {
    let deployment = Deployment::with_own_server().await;
    let api = deployment.settings.start(Part::Api).await;
    let authorization = format!("Bearer {}", deployment.token);
    let path = format!("/v1/workspace/stream?tenant_id={TENANT}");
    let address = deployment.client(&api).address();
    let mut stream = try_open(address, &path, &[("authorization", &authorization)]).await.unwrap();
    assert_eq!(stream.expect("snapshot").await.1, 0);
    deployment.server().stop(Stop::Immediate);
    deployment.server().start_again();
    let statement = sqlx::AssertSqlSafe(enqueue(TENANT, assigned("s-1", "user-7")));
    sqlx::raw_sql(statement).execute(&deployment.pool).await.unwrap();
    assert_eq!(stream.expect("badge").await.1, 1);
}
