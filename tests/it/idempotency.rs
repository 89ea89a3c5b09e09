//! One event per idempotency key, whoever asks, and through however many processes.

use flametree_notify::domain::ids::EventId;
use flametree_notify::store::accept::{self, Acceptance};
use serde_json::json;

use crate::support::client::Answer;
use crate::support::deployment::{Deployment, agents, message};
use crate::support::queue;
use crate::support::service::Part;
use crate::support::waiting::all;

#[tokio::test]
async fn posts_with_one_key_through_two_processes_at_once_are_one_event() {
    const POSTS: usize = 64;
    let deployment = Deployment::new().await;
    let agents = agents(1);
    let processes = [deployment.settings.start(Part::Api).await, deployment.settings.start(Part::Api).await];
    deployment.configure(&processes[0], &agents).await;
    let apis = processes.each_ref().map(|api| deployment.client(api));

    let post = |number: usize| {
        let api = apis[number % 2].clone();
        async move { api.post("/v1/events", &message("agent-1", 1)).await }
    };
    let answers = all((0..POSTS).map(post)).await;
    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(202), count(200)), (1, POSTS - 1), "{answers:?}");
    let id = |answer: &Answer| -> EventId { answer.json()["id"].as_str().unwrap().parse().unwrap() };
    assert!(answers.iter().all(|answer| id(answer) == id(&answers[0])));

    let mut other = message("agent-1", 1);
    other["text"] = json!("Something else");
    for api in &apis {
        let answer = api.post("/v1/events", &other).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (409, Some("idempotency_conflict")));
    }
    let _worker = deployment.settings.start(Part::Worker).await;
    deployment.drained(std::time::Duration::from_secs(30)).await;
    let tally = deployment.assert_drained(&apis[0], &[id(&answers[0])]).await;
    assert_eq!(tally.outcomes.len(), 1);
}

#[tokio::test]
async fn an_event_stays_the_same_when_the_default_expiry_changes() {
    let db = queue::prepared().await;
    queue::agent_with_webhook(&db, "agent-1").await;
    let mut event = queue::message("agent-1", "once".to_owned());
    event.idempotency_key = Some("m-1".to_owned());
    let first = accept::accept(&db, &[&event], 60).await.unwrap();
    let again = accept::accept(&db, &[&event], 3_600).await.unwrap();
    let Acceptance::Accepted { id, deliveries } = first.answers[0] else { panic!("{first:?}") };
    assert_eq!(again.answers[0], Acceptance::Duplicate { id, deliveries });

    event.idempotency_key = None;
    accept::accept(&db, &[&event], 3_600).await.unwrap();
    event.expires_in_seconds = Some(7_200);
    accept::accept(&db, &[&event], 3_600).await.unwrap();
    let waits = "SELECT round(extract(epoch FROM expires_at - to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint
                 / 1000.0)))::bigint FROM flametree.ready_deliveries ORDER BY position";
    let waits: Vec<i64> = sqlx::query_scalar(waits).fetch_all(&*db).await.unwrap();
    assert_eq!(waits, [60, 3_600, 7_200]);
}
