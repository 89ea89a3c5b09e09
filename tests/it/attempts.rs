//! Attempts of deliveries share Tokio tasks, but a panic in one attempt does not affect the other attempts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flametree_notify::domain::delivery::{Attempt, Outcome};
use flametree_notify::queue::{self, Queue};
use flametree_notify::supervision::Supervisor;
use flametree_notify::telemetry::metrics::Metrics;
use flametree_notify::worker::{AttemptResult, Attempts, Pool, Workers};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::queue::{accept_messages, agent_with_webhook, count, outcomes, prepared};

#[tokio::test]
async fn a_panic_in_an_attempt_interrupts_only_one_delivery() {
    let db = prepared().await;
    agent_with_webhook(&db, "agent-1").await;
    accept_messages(&db, "agent-1", 40).await;
    let settings = queue::Settings {
        max_in_flight: 100,
        endpoint_max_in_flight: Some(100),
        lease: Duration::from_secs(30),
        description: "test".to_owned(),
    };
    let metrics = Metrics::new("1", "a");
    let supervisor = Supervisor::new(&metrics, CancellationToken::new());
    let queue = Queue::start(&db.clone().into(), &settings, &metrics, &supervisor).await.unwrap();
    let (stage, tasks, started) = (supervisor.stage(), TaskTracker::new(), Arc::new(AtomicUsize::new(0)));
    let attempt = move |_| {
        let started = Arc::clone(&started);
        async move {
            assert_ne!(started.fetch_add(1, Ordering::SeqCst), 3, "the fourth attempt panics, as the test requires");
            tokio::task::yield_now().await;
            AttemptResult::Outcome(Attempt { http_status: Some(200), ..Attempt::not_sent(Outcome::Delivered, None) })
        }
    };
    let mut workers = Workers::default();
    for (channel, claimed) in queue.pools() {
        let attempts = Attempts::new(attempt.clone(), tasks.clone(), CancellationToken::new());
        workers = workers.with(Pool { channel, claimed, attempts });
    }
    workers.start(&stage);
    let all_ended = async {
        while count(&db, "deliveries").await < 40 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), all_ended).await.unwrap();
    assert_eq!(outcomes(&db).await, [("delivered".to_owned(), 39), ("interrupted".to_owned(), 1)]);
    queue.stop_claiming().await;
    queue.drained().await;
    assert_eq!(count(&db, "claims").await, 0);
    stage.end().await;
    queue.close().await;
    assert_eq!(supervisor.failure(), None);
}
