//! A tenant whose SQL transactions lock sessions or idempotency keys, or that posts without pause, delays no other tenant.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::sql_events::enqueue;
use crate::support::client::Client;
use crate::support::deployment::{Deployment, TENANT};
use crate::support::service::{Part, Service};
use crate::support::waiting::{eventually, within};

/// The tenant whose events must not be delayed by the tenant [`TENANT`].
const OTHER: &str = "other";
/// The time limit for the other tenant's events. Without isolation, the events take much longer than this limit.
const DEADLINE: Duration = Duration::from_secs(30);
const CALLERS: usize = 30;
/// The pause before a caller repeats a rejected request. It is a twentieth of the time that the API requests, so that
/// this process is not overloaded.
const PAUSE: Duration = Duration::from_millis(50);
const EVENTS_OF_OTHER: usize = 200;

/// An event that assigns the session to a user. The transaction that accepts this event locks the session's row.
fn assignment(session: usize, key: &str) -> Value {
    json!({
        "type": "session_assigned", "tenant_id": TENANT, "agent_id": "agent-1", "session_id": format!("s-{session}"),
        "assignee_id": "u-1", "idempotency_key": key,
    })
}

/// A customer's message in a session that no other event uses.
fn message(tenant: &str, session: usize, key: &str) -> Value {
    json!({
        "type": "user_message", "tenant_id": tenant, "agent_id": "agent-1", "session_id": format!("s-{session}"),
        "text": "hi", "idempotency_key": key,
    })
}

/// A running API, and callers of [`TENANT`] that repeat rejected requests.
struct Scene {
    deployment: Deployment,
    _service: Service,
    api: Client,
    callers: JoinSet<u16>,
    refused: Arc<AtomicUsize>,
}

impl Scene {
    async fn new(settings: &[(&str, &str)]) -> Self {
        let mut deployment = Deployment::new().await;
        for (name, value) in settings {
            deployment.settings = deployment.settings.with(name, value);
        }
        let service = deployment.settings.start(Part::Api).await;
        let api = deployment.client(&service);
        Self { deployment, _service: service, api, callers: JoinSet::new(), refused: Arc::default() }
    }

    /// Starts a caller that repeats the event while the API returns 503.
    fn call(&mut self, event: Value) {
        let (api, refused) = (self.api.clone(), Arc::clone(&self.refused));
        self.callers.spawn(async move {
            loop {
                let answer = api.post("/v1/events", &event).await;
                if answer.status != 503 {
                    return answer.status;
                }
                refused.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
        });
    }

    /// Waits until the API rejects a caller because of a held lock.
    async fn is_blocked(&self) {
        eventually("callers are refused", || self.refused.load(Ordering::Relaxed) >= 1).await;
    }

    /// Posts the other tenant's events while all callers are blocked. The API accepts each event at the first attempt.
    async fn other_is_not_delayed(&mut self) {
        let api = self.api.clone();
        let post = async || {
            for number in 0..EVENTS_OF_OTHER {
                let mut event = assignment(1, &format!("k-{number}"));
                if number % 2 == 0 {
                    event = message(OTHER, 1, &format!("k-{number}"));
                }
                event["tenant_id"] = OTHER.into();
                let answer = api.post("/v1/events", &event).await;
                assert_eq!(answer.status, 202, "event {number}: {}", answer.text());
            }
            true
        };
        within(DEADLINE, "the other tenant's events are accepted", post).await;
        assert!(
            self.callers.try_join_next().is_none(),
            "an event was accepted although another transaction holds the lock"
        );
        assert_eq!(self.stored(OTHER).await, EVENTS_OF_OTHER);
    }

    async fn stored(&self, tenant: &str) -> usize {
        let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM flametree.events WHERE tenant_id = $1");
        count.bind(tenant).fetch_one(&self.deployment.pool).await.unwrap().try_into().unwrap()
    }

    /// Waits for all callers after the locks are released. Returns their response statuses.
    async fn answers(&mut self) -> Vec<u16> {
        std::mem::take(&mut self.callers).join_all().await
    }
}

#[tokio::test]
async fn an_open_transaction_on_a_session_delays_no_event_of_another_tenant() {
    let mut scene = Scene::new(&[]).await;
    let mut open = scene.deployment.pool.begin().await.unwrap();
    enqueue(&mut open, &assignment(1, "sql")).await;
    for number in 0..CALLERS {
        scene.call(assignment(1, &format!("k-{number}")));
    }
    scene.is_blocked().await;
    scene.other_is_not_delayed().await;

    // The open transaction does not delay events of the tenant's other sessions either.
    let own = async || scene.api.post("/v1/events", &message(TENANT, 2, "own")).await.status == 202;
    within(DEADLINE, "another event of the tenant is accepted", own).await;
    open.commit().await.unwrap();
    assert_eq!(scene.answers().await, [202; CALLERS]);
    assert_eq!(scene.stored(TENANT).await, CALLERS + 2, "each event is accepted once");
}

#[tokio::test]
async fn an_open_transaction_with_an_idempotency_key_delays_no_event_of_another_tenant() {
    let mut scene = Scene::new(&[]).await;
    let mut open = scene.deployment.pool.begin().await.unwrap();
    enqueue(&mut open, &message(TENANT, 1, "k")).await;
    for _ in 0..CALLERS {
        scene.call(message(TENANT, 1, "k"));
    }
    scene.is_blocked().await;
    scene.other_is_not_delayed().await;
    open.commit().await.unwrap();
    assert_eq!(scene.answers().await, [200; CALLERS], "each caller gets the event that the transaction created");
    assert_eq!(scene.stored(TENANT).await, 1);
}

#[tokio::test]
async fn an_open_transaction_on_many_sessions_delays_no_event_of_another_tenant() {
    let mut scene = Scene::new(&[]).await;
    let mut open = scene.deployment.pool.begin().await.unwrap();
    for session in 0..CALLERS {
        enqueue(&mut open, &assignment(session, &format!("sql-{session}"))).await;
        scene.call(assignment(session, &format!("k-{session}")));
    }
    scene.is_blocked().await;
    scene.other_is_not_delayed().await;
    open.rollback().await.unwrap();
    assert_eq!(scene.answers().await, [202; CALLERS]);
    assert_eq!(scene.stored(TENANT).await, CALLERS);
}

#[tokio::test]
async fn a_tenant_that_exceeds_its_share_of_the_queue_does_not_block_another_tenant() {
    let mut scene = Scene::new(&[("FLAMETREE_INGEST_QUEUE_EVENTS", "16")]).await;
    let mut open = scene.deployment.pool.begin().await.unwrap();
    enqueue(&mut open, &assignment(1, "sql")).await;
    for number in 0..CALLERS {
        scene.call(assignment(1, &format!("k-{number}")));
    }
    scene.is_blocked().await;
    let answer = async || scene.api.post("/v1/events", &assignment(1, "k")).await.text().contains("\"overloaded\"");
    within(DEADLINE, "the tenant has reached its share of the queue", answer).await;
    scene.other_is_not_delayed().await;
    open.commit().await.unwrap();
    assert_eq!(scene.answers().await, [202; CALLERS]);
    assert_eq!(scene.stored(TENANT).await, CALLERS + 1, "each event is accepted once");
}
