//! Tests that a failed background task stops its process gracefully and with an error, and that health checks fail until the
//! process exits.

use std::time::Duration;

use flametree_notify::domain::delivery::Outcome;
use flametree_notify::telemetry::metrics::TaskName;
use futures_util::{StreamExt as _, stream};
use http::Method;
use serde_json::json;

use crate::support::answer::Answer;
use crate::support::client::Client;
use crate::support::collector::{Collector, Mood};
use crate::support::deployment::{Database, Deployment, TENANT, agents};
use crate::support::jwt::{Signer, published};
use crate::support::misbehaving::{Behaviour, Receiver};
use crate::support::receiver::Mode;
use crate::support::service::{EACH_SECOND, Part, Service, Settings};
use crate::support::task_failure::{HeldRequest, Trigger};
use crate::support::waiting::{eventually, within};

const PATIENCE: Duration = Duration::from_mins(1);
/// The maximum number of concurrent processes, which is small because each process uses database connections.
const AT_ONCE: usize = 4;

/// The response of the liveness check at the metrics address. `None` if no server listens at this address.
async fn liveness(service: &Service) -> Option<Answer> {
    Client::new(service.metrics_address(), "").request(Method::GET, "/livez", None).await.ok()
}

async fn is_alive(service: &Service) -> bool {
    liveness(service).await.is_some_and(|answer| answer.status == 200)
}

/// A deployment whose processes run every task.
struct Complete {
    deployment: Deployment,
    settings: Settings,
    _keys: Receiver,
    _collector: Collector,
}

impl Complete {
    async fn new() -> Self {
        let deployment = Deployment::new().await;
        let Database::Shared(database) = &deployment.database else { panic!("another database") };
        let keys = Receiver::start(Behaviour::Answers(published(&[Signer::ed25519().jwk("a")]))).await;
        let collector = Collector::start(Mood::Takes).await;
        let settings = deployment
            .settings
            .clone()
            .with("DATABASE_LISTEN_URL", &database.url())
            .with("FLAMETREE_JWKS_URL", &keys.url())
            .with("FLAMETREE_JWT_ISSUER", "the provider")
            .with("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url());
        Self { deployment, settings, _keys: keys, _collector: collector }
    }

    /// Starts a process and makes one of its tasks fail.
    async fn fail(&self, task: TaskName) {
        let trigger = Trigger::of(task);
        // Only a process without a worker sends hints.
        let part = if task == TaskName::HintSender { Part::Api } else { Part::Run };
        let service = trigger.set(&self.settings).start(part).await;
        assert!(is_alive(&service).await);
        let series = format!("flametree_task_failures_total{{task=\"{}\"}}", task.as_str());
        assert!(service.metrics().await.contains(&format!("{series} 0\n")), "{series}");

        let held = Held::of(&self.deployment, &service, task).await;
        trigger.pull().await;
        within(PATIENCE, "/livez fails", async || !is_alive(&service).await).await;
        if task != TaskName::MetricsServer {
            let answer = liveness(&service).await.expect("the metrics are available until the process exits");
            let reason = format!("the background task `{}` failed; the process is stopping", task.as_str());
            assert_eq!((answer.status, &answer.json()["detail"]), (500, &json!(reason)));
            assert!(service.metrics().await.contains(&format!("{series} 1\n")), "{series}");
        }
        // The metrics server stops shortly before the process detects that its task failed.
        within(PATIENCE, "/readyz fails", async || service.readiness().await != Some(200)).await;
        held.release(&self.deployment).await;
        let output = service.failed().await;
        let logged = format!("a background task failed; the process stops task=\"{}\"", task.as_str());
        assert!(output.contains(&logged), "{output}");
        assert!(output.contains("the service has stopped"), "{output}");
        let exit = format!("the background task `{0}` failed: it panicked: the failpoint task::{0} ", task.as_str());
        assert!(output.contains(&exit), "{output}");
    }
}

/// Delays the stop of the process until the test has read the health and the metrics of the process.
enum Held {
    Request(HeldRequest),
    /// A delivery attempt. A request cannot delay the stop if the API server fails, because this failure aborts requests.
    Attempt,
}

impl Held {
    async fn of(deployment: &Deployment, service: &Service, failing: TaskName) -> Self {
        if failing != TaskName::ApiServer {
            return Self::Request(HeldRequest::open(deployment, service).await);
        }
        hang(deployment, service, 1).await;
        Self::Attempt
    }

    async fn release(self, deployment: &Deployment) {
        match self {
            Self::Request(request) => {
                let response = request.finish().await;
                assert!(response.starts_with("HTTP/1.1 202 "), "{response}");
            }
            Self::Attempt => deployment.receiver.let_go(),
        }
    }
}

/// Posts this many events, and returns when the receiver holds all their attempts.
async fn hang(deployment: &Deployment, api: &Service, attempts: usize) {
    let agents = agents(1);
    deployment.configure(api, &agents).await;
    deployment.receiver.set("/agent-1", Mode::Hangs);
    deployment.post(&[deployment.client(api)], &agents, attempts).await;
    eventually("the attempts wait", || deployment.receiver.open_at("/agent-1") == attempts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_task_stops_the_process_with_an_error_that_names_the_task() {
    let complete = Complete::new().await;
    let failing = stream::iter(TaskName::ALL).map(|task| complete.fail(task));
    failing.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

/// All completers fail. So the worker records no outcome and cannot finish its deliveries.
#[tokio::test]
async fn a_worker_without_completers_is_unhealthy_and_stops_after_its_grace_period() {
    const ATTEMPTS: usize = 3;
    const COMPLETERS: u32 = 4;
    let deployment = Deployment::new().await;
    let api = deployment.settings.start(Part::Api).await;
    let trigger = Trigger::of(TaskName::Completer);
    let grace = deployment.settings.clone().with("FLAMETREE_SHUTDOWN_GRACE_SECONDS", "5");
    let worker = trigger.set(&grace).start(Part::Worker).await;
    hang(&deployment, &api, ATTEMPTS).await;
    let health = ["health", "--worker"];
    assert!(worker.is_healthy(&deployment.settings, &health));
    for _ in 0..COMPLETERS {
        trigger.pull().await;
    }
    within(PATIENCE, "all failures are counted", async || {
        worker.metric("flametree_task_failures_total").await >= f64::from(COMPLETERS)
    })
    .await;
    assert!(!worker.is_healthy(&deployment.settings, &health));
    deployment.receiver.let_go();
    let output = worker.failed().await;
    assert!(output.contains("attempts still run at the end of the grace"), "{output}");

    // The next worker records the outcome `interrupted` when this worker's lease has expired.
    let _next = deployment.settings.start(Part::Worker).await;
    deployment.drained(PATIENCE).await;
    assert_eq!(deployment.tally().await.count(Outcome::Interrupted), ATTEMPTS);
}

/// apalis catches the panics of its workers, and its monitor would wait for the other pools.
#[tokio::test]
async fn a_pool_that_fails_inside_apalis_stops_the_process() {
    let deployment = Deployment::new().await;
    let api = deployment.settings.start(Part::Api).await;
    let agents = agents(1);
    deployment.configure(&api, &agents).await;
    deployment.post(&[deployment.client(&api)], &agents, 1).await;
    let panics = "pool::call=1*panic(an internal error)";
    let worker = deployment.settings.clone().with("FAILPOINTS", panics).spawn(Part::Worker);
    let output = worker.failed().await;
    assert!(output.contains("the background task `worker_pool` failed"), "{output}");
    assert_eq!(deployment.tally().await.count(Outcome::Interrupted), 1);
}

/// A test in the module `crash_steps` covers panics in delivery attempts.
#[tokio::test]
async fn panics_in_connections_requests_or_operations_do_not_stop_the_process() {
    let deployment = Deployment::new().await;
    let panics = ["http::connection", "http::handler", "operation::before_end"];
    let failpoints = panics.map(|place| format!("{place}=1*panic(an error at {place})")).join(";");
    let settings = deployment.settings.clone().with("FAILPOINTS", &failpoints);
    let service = settings.with("FLAMETREE_ROLLUP_SCHEDULE", EACH_SECOND).start(Part::Run).await;
    let client = deployment.client(&service);
    let event = json!({"type": "user_message", "tenant_id": TENANT, "agent_id": "a", "session_id": "s-1", "text": "?"});
    assert_eq!(client.post("/v1/events", &event).await.status, 500);
    assert_eq!(client.post("/v1/events", &event).await.status, 202);
    let succeeded = "flametree_operations_total{operation=\"rollup\",result=\"succeeded\"}";
    within(PATIENCE, "an operation succeeds", async || service.metric(succeeded).await > 0.0).await;
    for place in panics {
        assert!(service.has_logged(&format!("an error at {place}")), "no panic at {place}, so nothing was tested");
    }
    assert!(is_alive(&service).await);
    service.stop().await;
}
