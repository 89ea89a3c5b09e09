//! Requests with the same idempotency key create one event, across any number of processes.

use flametree_notify::domain::event::NewEvent;
use flametree_notify::domain::ids::EventId;
use flametree_notify::store::Db;
use flametree_notify::store::accept::{self, Acceptance};
use serde_json::json;

use crate::support::answer::Answer;
use crate::support::deployment::{Deployment, agents, message};
use crate::support::queue;
use crate::support::seed;
use crate::support::service::Part;
use crate::support::waiting::{all, within};

#[tokio::test]
async fn concurrent_posts_with_one_key_through_two_processes_create_one_event() {
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

/// Sets the database's clock to this UTC time on the day that is this number of days later.
async fn clock_at(db: &Db, days: i32, time: &str) {
    let to = "SELECT ((date_trunc('day', now(), 'UTC') + make_interval(days => $1) + $2::text::interval) - clock_timestamp())::text";
    let by: String = sqlx::query_scalar(to).bind(days).bind(time).fetch_one(db).await.unwrap();
    seed::move_clock(db, &by).await;
    sqlx::query("SELECT flametree.prepare_partitions(30)").execute(db).await.unwrap();
}

fn keyed(text: &str) -> NewEvent {
    let mut event = queue::message("agent-1", text.to_owned());
    event.idempotency_key = Some("m-1".to_owned());
    event
}

#[tokio::test]
async fn an_idempotency_key_is_kept_for_at_least_a_day_across_midnight() {
    let db = queue::prepared().await;
    queue::agent_with_webhook(&db, "agent-1").await;
    let event = keyed("once");
    let post = async || accept::accept(&db, &[&event], 60, accept::LOCK_TIMEOUT).await.unwrap().answers[0].clone();
    clock_at(&db, 0, "23:59:59.9").await;
    let Acceptance::Accepted { id, deliveries: 1 } = post().await else { panic!("not accepted") };
    for (days, time) in [(1, "00:00:00.1"), (1, "23:59:59"), (2, "00:00:01"), (2, "23:59:59"), (0, "23:00:00")] {
        clock_at(&db, days, time).await;
        assert_eq!(post().await, Acceptance::Duplicate { id, deliveries: 1 }, "on day {days} at {time}");
        let other = accept::accept(&db, &[&keyed("other")], 60, accept::LOCK_TIMEOUT).await.unwrap();
        assert_eq!(other.answers[0], Acceptance::Conflict, "on day {days} at {time}");
    }
    clock_at(&db, 4, "12:00:00").await;
    assert!(
        matches!(post().await, Acceptance::Accepted { .. }),
        "the key was last used two days before, so it must be free again"
    );
}

#[tokio::test]
async fn requests_with_one_key_before_and_after_midnight_create_one_event() {
    let db = queue::prepared().await;
    queue::agent_with_webhook(&db, "agent-1").await;
    clock_at(&db, 0, "23:59:59.9").await;
    let mut before = db.begin().await.unwrap();
    let event = r#"{"tenant_id":"acme","type":"user_message","agent_id":"agent-1","session_id":"session-1","text":"once","idempotency_key":"m-1"}"#;
    let statement = "SELECT id FROM flametree.enqueue_event($1::text::jsonb)";
    let id: String = sqlx::query_scalar(statement).bind(event).fetch_one(&mut *before).await.unwrap();
    let pool = db.pool.clone();
    clock_at(&db, 1, "00:00:00.1").await;
    let after = tokio::spawn(async move {
        sqlx::query_as::<_, (String, bool)>("SELECT id, duplicate FROM flametree.enqueue_event($1::text::jsonb)")
            .bind(event)
            .fetch_one(&pool)
            .await
            .unwrap()
    });
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    let waits = async || sqlx::query_scalar::<_, i64>(waits).fetch_one(&*db).await.unwrap() > 0;
    within(std::time::Duration::from_secs(30), "the second request waits for the first", waits).await;
    before.commit().await.unwrap();
    assert_eq!(after.await.unwrap(), (id, true));
}

#[tokio::test]
async fn an_event_stays_unchanged_when_the_default_expiry_changes() {
    let db = queue::prepared().await;
    queue::agent_with_webhook(&db, "agent-1").await;
    let mut event = queue::message("agent-1", "once".to_owned());
    event.idempotency_key = Some("m-1".to_owned());
    let first = accept::accept(&db, &[&event], 60, accept::LOCK_TIMEOUT).await.unwrap();
    let again = accept::accept(&db, &[&event], 3_600, accept::LOCK_TIMEOUT).await.unwrap();
    let Acceptance::Accepted { id, deliveries } = first.answers[0] else { panic!("{first:?}") };
    assert_eq!(again.answers[0], Acceptance::Duplicate { id, deliveries });

    event.idempotency_key = None;
    accept::accept(&db, &[&event], 3_600, accept::LOCK_TIMEOUT).await.unwrap();
    event.expires_in_seconds = Some(7_200);
    accept::accept(&db, &[&event], 3_600, accept::LOCK_TIMEOUT).await.unwrap();
    let waits = "SELECT round(extract(epoch FROM expires_at - to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint
                 / 1000.0)))::bigint FROM flametree.ready_deliveries ORDER BY position";
    let waits: Vec<i64> = sqlx::query_scalar(waits).fetch_all(&*db).await.unwrap();
    assert_eq!(waits, [60, 3_600, 7_200]);
}
