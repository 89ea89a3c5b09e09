//! The composition root: builds the service from its settings, runs it until shutdown, and stops it in order.

mod data;
mod keys;
mod observation;
mod pools;
mod portal;
mod push;
mod server_settings;
mod traces;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::Utc;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use data::Data;
pub use keys::{Rotated, keyring, rotate};
pub use server_settings::look;

use crate::channels::browser_push::PushSender;
use crate::channels::{HttpClient, LookupLimits};
use crate::config::Config;
use crate::domain::push_config::Rules;
use crate::ingest::Ingest;
use crate::queue::{Queue, Wakeup};
use crate::secrets::Keyring;
use crate::store::partitions;
use crate::supervision::{Stage, Supervisor};
use crate::telemetry::metrics::{Metrics, TaskName};
use crate::telemetry::traces::Tracer;
use crate::users::UserAuthenticator;
use crate::worker::{self, BrowserPush, Operations, PausedServices, Webhooks};
use crate::{channels, http};

/// How long a shutdown waits for the last events to be accepted. No caller waits, because all requests have ended by then.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a shutdown waits for the last outcomes to be recorded.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a shutdown waits for the database. The embedded server first writes a checkpoint.
const CLOSE_TIMEOUT: Duration = Duration::from_mins(1);

/// Which parts of the service a process runs: the API, the workers, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The API and the workers.
    All,
    Api,
    Worker,
}

impl Part {
    fn has_api(self) -> bool {
        matches!(self, Self::All | Self::Api)
    }

    fn has_workers(self) -> bool {
        matches!(self, Self::All | Self::Worker)
    }
}

/// The listening sockets of a process. A process without the API does not bind the API's address.
#[derive(Debug)]
pub struct Listeners {
    pub api: Option<TcpListener>,
    pub metrics: TcpListener,
}

impl Listeners {
    pub async fn bind(config: &Config, part: Part) -> anyhow::Result<Self> {
        let api = if part.has_api() { Some(bind(config.listen_addr, "the API").await?) } else { None };
        Ok(Self { api, metrics: bind(config.metrics_addr, "the metrics").await? })
    }
}

async fn bind(address: std::net::SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{what} cannot listen on {address}"))
}

/// Creates an HTTP client with its own limits on DNS look-ups, so that the API and the workers do not wait for each other.
fn client(config: &Config, lookups: LookupLimits, metrics: &Metrics) -> anyhow::Result<HttpClient> {
    let settings = channels::Settings { lookups, ..config.channels.clone() };
    HttpClient::new(&settings, metrics).context("the HTTP client cannot be built")
}

/// The running service.
struct Service {
    data: Data,
    queue: Option<Queue>,
    supervisor: Supervisor,
    api: Stage,
    ingest: Stage,
    workers: Stage,
    attempts: TaskTracker,
    abort: CancellationToken,
    traces: Stage,
    metrics: Stage,
    grace: Duration,
}

/// Runs the process until the token `shutdown` is canceled, then stops it in order. Returns an error if the process could not
/// start, or if a background task failed. A failed task cancels the token.
pub async fn run(config: Config, part: Part, listeners: Listeners, shutdown: CancellationToken) -> anyhow::Result<()> {
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), option_env!("FLAMETREE_REVISION").unwrap_or("unknown"));
    metrics.set_started(now());
    let data = Data::open(&config).await?;
    server_settings::check(&data.db).await?;
    let supervisor = Supervisor::new(&metrics, shutdown.clone());
    let service = Service::start(&config, part, listeners, data, &metrics, &supervisor).await?;
    tracing::info!(part = ?part, "the service runs");
    shutdown.cancelled().await;
    service.stop().await;
    supervisor.failure().map_or(Ok(()), |failure| Err(failure.clone().into()))
}

impl Service {
    async fn start(
        config: &Config,
        part: Part,
        listeners: Listeners,
        data: Data,
        metrics: &Metrics,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Self> {
        prepare(&data, config).await?;
        let keyring = keyring(config)?;
        keys::check(&data.db, &keyring).await?;
        let sender = client(config, LookupLimits::WORKERS, metrics)?;
        let push = push::start(config, &data.db, &sender, metrics).await?;
        let mut service = Self {
            data,
            queue: None,
            supervisor: supervisor.clone(),
            api: supervisor.first_stage(),
            ingest: supervisor.stage(),
            workers: supervisor.stage(),
            attempts: TaskTracker::new(),
            abort: CancellationToken::new(),
            traces: supervisor.stage(),
            metrics: supervisor.stage(),
            grace: config.shutdown_grace,
        };
        service.serve_metrics(listeners.metrics, metrics);
        observation::start(config, &service.data, metrics, &service.metrics);
        let tracer = traces::start(config, metrics, &service.traces)?;
        let wakeup = if part.has_workers() {
            service.start_workers(config, &keyring, &sender, push.clone(), &tracer, metrics).await?
        } else {
            service.data.hint_others(config, &service.ingest)
        };
        if let Some(listener) = listeners.api {
            let ingest = Ingest::start(&service.data.db, &config.ingest, &wakeup, metrics, &service.ingest);
            let client = client(config, LookupLimits::API, metrics)?;
            service.serve_api(config, listener, ingest, keyring, client, push, tracer, metrics)?;
        }
        Ok(service)
    }

    async fn start_workers(
        &mut self,
        config: &Config,
        keyring: &Arc<Keyring>,
        client: &HttpClient,
        push_sender: Option<PushSender>,
        tracer: &Tracer,
        metrics: &Metrics,
    ) -> anyhow::Result<Wakeup> {
        // Claims need the settings of endpoints, so the worker reads settings over the connections for claims.
        let db = &self.data.queue.claims;
        let queue = Queue::start(&self.data.queue, &config.queue, metrics, &self.supervisor)
            .await
            .context("the worker could not be registered")?;
        let webhooks = Webhooks::new(db.clone(), Arc::clone(keyring), client.clone(), config.channels.default_timeout);
        let pauses = Arc::new(PausedServices::default());
        let services = Arc::clone(&pauses);
        let push =
            |sender| Arc::new(BrowserPush::new(db.clone(), Arc::clone(keyring), sender, services, metrics.clone()));
        let senders = pools::Senders {
            webhooks: Arc::new(webhooks),
            browser_push: push_sender.map(push),
            tracer: tracer.clone(),
        };
        let workers = pools::workers(&queue, &senders, &self.attempts, &self.abort);
        // Counting and claims use separate connections, because claims must not wait for a lock on subscriptions.
        let db = &self.data.operations_db;
        let counting = |stop| worker::count_subscriptions(db.clone(), metrics.clone(), stop);
        self.workers.spawn(TaskName::SubscriptionCounter, counting);
        self.workers.spawn(TaskName::PushPauseReader, |stop| worker::read_push_pauses(db.clone(), pauses, stop));
        workers.start(&self.workers);
        let (keyring, settings) = (Arc::clone(keyring), Arc::new(config.operations.clone()));
        let operations = Operations { db: db.clone(), keyring, settings, metrics: metrics.clone(), now };
        operations.start(&self.workers);
        let wakeup = queue.wakeup();
        self.data.listen(config, &wakeup, &self.workers);
        self.queue = Some(queue);
        Ok(wakeup)
    }

    #[expect(clippy::too_many_arguments, reason = "the composition root passes all dependencies to the API")]
    fn serve_api(
        &self,
        config: &Config,
        listener: TcpListener,
        ingest: Ingest,
        keyring: Arc<Keyring>,
        client: HttpClient,
        push: Option<PushSender>,
        tracer: Tracer,
        metrics: &Metrics,
    ) -> anyhow::Result<()> {
        let portal = portal::url(config.http.public_url.as_ref(), listener.local_addr()?);
        tracing::info!(portal, "the API is served");
        let settings = config.http.clone();
        let users = config.users.clone().map(|settings| UserAuthenticator::start(settings, &self.api)).transpose();
        let users = users.context("the tokens of portal users cannot be verified")?.map(Arc::new);
        let state = http::state::ApiState::new(http::state::Dependencies {
            db: self.data.db.clone(),
            ingest,
            keyring,
            client,
            push_config_rules: Rules { allow_http: config.channels.allow_http },
            push,
            users,
            tracer,
            metrics: metrics.clone(),
            settings: settings.clone(),
            stage: self.api.clone(),
        });
        let serve = |stop| async move { http::serve(listener, http::router(state), &settings, stop).await };
        self.api.spawn(TaskName::ApiServer, serve);
        Ok(())
    }

    fn serve_metrics(&self, listener: TcpListener, metrics: &Metrics) {
        let router = http::metrics_router(metrics.clone(), self.metrics.clone());
        let serve = |stop| async move { http::serve(listener, router, &http::Settings::default(), stop).await };
        self.metrics.spawn(TaskName::MetricsServer, serve);
    }

    /// Stops the service in this order: reject new requests; accept received events and respond; stop claiming; let attempts in
    /// flight end within the grace; record every outcome; record the remaining attempts as interrupted; export the last traces;
    /// close the database. The metrics server stops last, so that the metrics show the shutdown. Every step has a deadline, even
    /// if the database does not respond, or if the task that the step waits for has failed.
    async fn stop(self) {
        tracing::info!(grace_seconds = self.grace.as_secs(), "the service stops");
        self.api.end().await;
        if timeout(ACCEPT_TIMEOUT, self.ingest.end()).await.is_err() {
            tracing::warn!("some received events could not be accepted; their callers got no response");
        }
        if let Some(queue) = &self.queue {
            self.stop_workers(queue).await;
        }
        self.traces.end().await;
        if timeout(CLOSE_TIMEOUT, self.data.close()).await.is_err() {
            tracing::warn!("the database did not stop in time");
        }
        self.metrics.end().await;
        tracing::info!("the service has stopped");
    }
}

impl Service {
    /// Stops the workers. If an outcome is not recorded in time, the reaper later records the delivery as interrupted.
    async fn stop_workers(&self, queue: &Queue) {
        let drained = async {
            queue.stop_claiming().await;
            queue.drained().await;
        };
        if timeout(self.grace, drained).await.is_err() {
            tracing::warn!("attempts still run at the end of the grace and are recorded as interrupted");
        }
        self.abort.cancel();
        self.attempts.close();
        self.attempts.wait().await;
        if timeout(RECORD_TIMEOUT, self.workers.end()).await.is_err() {
            tracing::warn!("some operations could not be released; another worker takes them over");
        }
        if timeout(RECORD_TIMEOUT, queue.close()).await.is_err() {
            tracing::warn!("some outcomes could not be recorded; another worker records them as interrupted");
        }
    }
}

/// The current time. Lower modules get it as a parameter, because they must not read a clock.
#[expect(clippy::disallowed_methods, reason = "the composition root reads the clock for lower modules")]
pub fn now() -> chrono::DateTime<Utc> {
    Utc::now()
}

/// Creates today's partitions, without which the service cannot accept events or record outcomes.
pub async fn prepare(data: &Data, config: &Config) -> anyhow::Result<()> {
    let prepared = partitions::prepare(&data.db, config.operations.retention_days).await;
    prepared.context("today's partitions cannot be created").map(drop)
}
