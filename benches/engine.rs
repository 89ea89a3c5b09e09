//! Runs the queue and its workers as the service does, but with any function as the attempt.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flametree_notify::domain::delivery::{Attempt, Delivery, Outcome};
use flametree_notify::queue::{self, Queue};
use flametree_notify::store::Db;
use flametree_notify::supervision::{Stage, Supervisor};
use flametree_notify::telemetry::metrics::Metrics;
use flametree_notify::worker::{AttemptResult, Attempts, Pool, Workers};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The service's defaults.
const MAX_IN_FLIGHT: u32 = 1_000;
const ENDPOINT_MAX_IN_FLIGHT: u32 = 100;

pub(crate) struct Engine {
    queue: Queue,
    workers: Stage,
    attempts: TaskTracker,
    attempted: Arc<AtomicUsize>,
}

impl Engine {
    /// Starts the workers, which call `attempt` for each delivery. Raises the limit per endpoint if the
    /// default limit does not let `endpoints` endpoints use all permits.
    pub(crate) async fn start<F, Fut>(db: &Db, endpoints: u32, attempt: F) -> Self
    where
        F: Fn(Delivery) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Attempt> + Send + 'static,
    {
        let settings = queue::Settings {
            max_in_flight: MAX_IN_FLIGHT,
            endpoint_max_in_flight: Some(ENDPOINT_MAX_IN_FLIGHT.max(MAX_IN_FLIGHT / endpoints)),
            lease: Duration::from_secs(30),
            description: "bench".to_owned(),
        };
        let metrics = Metrics::new("bench", "bench");
        let supervisor = Supervisor::new(&metrics, CancellationToken::new());
        let queue = Queue::start(&db.clone().into(), &settings, &metrics, &supervisor).await.unwrap();
        let (stage, tasks) = (supervisor.stage(), TaskTracker::new());
        let attempted = Arc::new(AtomicUsize::new(0));
        let mut workers = Workers::default();
        for (channel, claimed) in queue.pools() {
            let attempted = Arc::clone(&attempted);
            let attempt = attempt.clone();
            let counted = move |delivery| {
                let attempting = attempt(delivery);
                let attempted = Arc::clone(&attempted);
                async move {
                    let attempt = attempting.await;
                    attempted.fetch_add(1, Ordering::Relaxed);
                    AttemptResult::Outcome(attempt)
                }
            };
            let attempts = Attempts::new(counted, tasks.clone(), CancellationToken::new());
            workers = workers.with(Pool { channel, claimed, attempts });
        }
        workers.start(&stage);
        Self { queue, workers: stage, attempts: tasks, attempted }
    }

    pub(crate) fn attempted(&self) -> usize {
        self.attempted.load(Ordering::Relaxed)
    }

    pub(crate) async fn wait_attempted(&self, count: usize) {
        while self.attempted() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until `count` deliveries were attempted and all outcomes are recorded.
    pub(crate) async fn wait_recorded(&self, db: &Db, count: usize) {
        self.wait_attempted(count).await;
        let open = "SELECT EXISTS (SELECT 1 FROM flametree.claims WHERE cardinality(delivery_ids) > 0)";
        while sqlx::query_scalar::<_, bool>(open).fetch_one(db).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Stops the claims, the attempts, the workers and the queue, in the order in which the service stops them.
    pub(crate) async fn stop(self) {
        self.queue.stop_claiming().await;
        self.queue.drained().await;
        self.attempts.close();
        self.attempts.wait().await;
        self.workers.end().await;
        self.queue.close().await;
    }
}

/// An attempt that does nothing.
pub(crate) fn delivered() -> Attempt {
    Attempt { outcome: Outcome::Delivered, http_status: Some(200), duration: Duration::from_micros(1), detail: None }
}
