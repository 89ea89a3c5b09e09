//! A fresh database and service with two tenants: tenant B is measured while tenant A attacks.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flametree_notify::store::Db;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Bench;
use super::comparison::{Comparison, Measured, Spread};
use crate::http::{self, Message, request, try_request};
use crate::load::{self, Posted};
use crate::prepare::{self, Agent};
use crate::receiver::OTHER_ADDRESS;
use crate::service::{self, Service};

const DATABASE: &str = "neighbours";
pub(crate) const B: &str = "tenant-b";
/// B's only agent.
pub(crate) const AGENT_OF_B: &str = "agent-of-b";
const EVENTS_PER_SECOND: u32 = 50;
/// How long B posts before a measurement. In this time, connections open, caches fill and queries are planned.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long an attack lasts before B is measured. This exceeds the default timeout of an attempt, 5 s.
const SETTLING: Duration = Duration::from_secs(6);
/// How long a delivery of B may take before it counts as lost.
const PATIENCE: Duration = Duration::from_mins(1);
/// How many connections set push configs concurrently.
const SETTERS: usize = 16;
/// The default limit of a tenant's events per second. The other measurements raise this limit.
const RATE_LIMIT: (&str, &str) = ("FLAMETREE_TENANT_EVENTS_PER_SECOND", "1000");

/// How many responses A received, by status.
pub(crate) type Tally = Arc<Mutex<BTreeMap<u16, usize>>>;

pub(crate) struct Scene<'a> {
    pub(crate) bench: &'a Bench<'a>,
    pub(crate) service: Arc<Service>,
    pub(crate) db: Db,
    pub(crate) url: String,
    pub(crate) token_of_b: String,
    /// The worker, if the API runs in a separate process.
    pub(crate) worker: Option<Service>,
    pub(crate) tally: Tally,
    accepted: usize,
}

impl<'a> Scene<'a> {
    /// Starts the service with the subcommand `part` and additional `settings`, and creates an endpoint for B.
    pub(crate) async fn start(bench: &'a Bench<'a>, part: &str, settings: &[(&str, &str)]) -> Self {
        bench.receiver.reset().await;
        bench.receiver.hang().await;
        bench.other_receiver.reset().await;
        let db = bench.server.create_migrated(DATABASE).await;
        let url = bench.server.url(DATABASE);
        // An API needs this setting to notify workers in other processes.
        let listen = (part == "api").then_some(("DATABASE_LISTEN_URL", url.as_str()));
        let settings: Vec<_> = settings.iter().copied().chain([RATE_LIMIT]).chain(listen).collect();
        let service = Arc::new(Service::start_unheard(part, &url, &settings).await);
        let token_of_b = service::create_token(&url, B);
        let tally = Tally::default();
        let scene = Self { bench, service, db, url, token_of_b, worker: None, tally, accepted: 0 };
        scene.configure_b(&format!("http://{OTHER_ADDRESS}/timed")).await;
        scene
    }

    pub(crate) async fn configure_b(&self, url: &str) {
        self.configure(&self.token_of_b, AGENT_OF_B, &config(url)).await;
    }

    pub(crate) async fn configure(&self, token: &str, agent: &str, config: &Value) {
        let text = http::json("PUT", &format!("/v1/agents/{agent}/push-config"), token, &config.to_string());
        let answer = request(&mut self.service.connect().await, &text).await;
        assert_eq!(answer.status(), 200, "{}", String::from_utf8_lossy(&answer.body));
    }

    /// Creates agents of A whose push configs have the same URL.
    pub(crate) async fn agents(&self, prefix: &str, count: usize, url: &str) -> Arc<[Agent]> {
        let names: Vec<String> = (0..count).map(|number| format!("{prefix}-{number}")).collect();
        let config = config(url);
        let set = async |name: &String| self.configure(self.service.token(), name, &config).await;
        stream::iter(&names).for_each_concurrent(SETTERS, set).await;
        names.into_iter().map(prepare::agent).collect()
    }

    /// Measures B without an attack.
    pub(crate) async fn quiet(&mut self) -> Measured {
        self.post(WARM_UP).await;
        self.measure().await
    }

    /// Measures B under an attack that has already lasted for `SETTLING`.
    pub(crate) async fn attacked(&mut self) -> Measured {
        tokio::time::sleep(SETTLING).await;
        self.measure().await
    }

    pub(crate) async fn measure(&mut self) -> Measured {
        let posted = self.post(self.bench.duration).await;
        let accepted: HashMap<String, i64> =
            posted.iter().filter_map(|one| Some((one.id.clone()?, one.answered_at))).collect();
        let arrivals = self.arrivals(&accepted).await;
        let wait = |(id, at): (&String, &i64)| Some((arrivals.get(id)? - at).max(0) as f64 / 1_000.0);
        Measured {
            accept: Spread::of(posted.iter().map(|one| one.took.as_secs_f64() * 1_000.0).collect()),
            receive: Spread::of(accepted.iter().filter_map(wait).collect()),
            lost: posted.len() - accepted.keys().filter(|id| arrivals.contains_key(*id)).count(),
        }
    }

    /// B posts from a separate thread, so that A's clients in this process do not delay B's posts.
    async fn post(&mut self, duration: Duration) -> Vec<Posted> {
        let (service, token) = (Arc::clone(&self.service), self.token_of_b.clone());
        let posting = tokio::task::spawn_blocking(move || {
            let agents: Arc<[Agent]> = Arc::new([prepare::agent(AGENT_OF_B)]);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(load::post_evenly(&service, &token, &agents, EVENTS_PER_SECOND, duration))
        });
        let posted = posting.await.unwrap();
        self.accepted += posted.iter().filter(|one| one.id.is_some()).count();
        posted
    }

    /// Waits at most `PATIENCE` until all expected events have arrived at B's receiver. Returns the time of each arrival.
    async fn arrivals(&self, expected: &HashMap<String, i64>) -> HashMap<String, i64> {
        let deadline = Instant::now() + PATIENCE;
        let mut arrivals = HashMap::new();
        loop {
            arrivals.extend(self.bench.other_receiver.arrivals().await);
            if expected.keys().all(|id| arrivals.contains_key(id)) || Instant::now() > deadline {
                return arrivals;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Tenant A sends requests one after another on each of `connections` connections, and pauses after a refusal. The requests
    /// end when the returned set is dropped.
    pub(crate) fn flood(
        &self,
        connections: usize,
        pause: Duration,
        text: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static,
    ) -> JoinSet<()> {
        let text = Arc::new(text);
        let mut clients = JoinSet::new();
        for client in 0..connections {
            let (service, tally, text) = (Arc::clone(&self.service), Arc::clone(&self.tally), Arc::clone(&text));
            clients.spawn(async move {
                let mut line = Line::new(service, tally);
                for number in (client..).step_by(connections) {
                    let answer = line.send(&text(number)).await;
                    if answer.is_none_or(|answer| answer.status() >= 400) {
                        tokio::time::sleep(pause).await;
                    }
                }
            });
        }
        clients
    }

    /// Tenant A posts a batch of events every tenth of a second, round-robin over the agents.
    pub(crate) fn stream(&self, agents: &Arc<[Agent]>, per_second: usize) -> JoinSet<()> {
        let (service, tally, agents) = (Arc::clone(&self.service), Arc::clone(&self.tally), Arc::clone(agents));
        let mut clients = JoinSet::new();
        clients.spawn(async move {
            let mut line = Line::new(service, tally);
            let mut ticks = tokio::time::interval(Duration::from_millis(100));
            let mut numbers = 0..;
            loop {
                ticks.tick().await;
                let events: Vec<Value> = numbers
                    .by_ref()
                    .take(per_second / 10)
                    .map(|number| load::event(agents[number % agents.len()].id.as_str(), number))
                    .collect();
                let text = line.service.request("POST", "/v1/events/batch", &json!({ "events": events }).to_string());
                line.send(&text).await;
            }
        });
        clients
    }

    /// Starts the worker of a scene that has only the API.
    pub(crate) async fn start_worker(&mut self) {
        self.worker = Some(Service::listening_worker(&self.url).await);
    }

    /// Stops the worker gracefully.
    pub(crate) fn stop_worker(&mut self) {
        self.worker.take().unwrap().stop();
    }

    /// Waits until no delivery is ready or in flight.
    pub(crate) async fn drained(&self) {
        let query = "SELECT (SELECT count(*) FROM flametree.deliveries) = (SELECT count(*) FROM flametree.events)";
        let deadline = Instant::now() + PATIENCE;
        while !sqlx::query_scalar::<_, bool>(query).fetch_one(&self.db).await.unwrap() {
            assert!(Instant::now() < deadline, "deliveries are left");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Counts B's outcomes and stops the service.
    pub(crate) async fn end(self, quiet: Measured, attacked: Measured, note: impl Into<String>) -> Comparison {
        let query = "SELECT count(*) FROM flametree.deliveries WHERE tenant_id = $1 AND outcome = 'delivered'";
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut delivered = 0;
        while delivered < self.accepted && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
            delivered =
                sqlx::query_scalar::<_, i64>(query).bind(B).fetch_one(&self.db).await.unwrap().try_into().unwrap();
        }
        let other_outcomes = self.accepted - delivered;
        let statuses: Vec<String> =
            self.tally.lock().unwrap().iter().map(|(status, count)| format!("{count} x {status}")).collect();
        let note = [note.into(), statuses.join(", ")].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
        self.stop().await;
        Comparison { quiet, attacked, other_outcomes, refused: 0, longest_goal: None, note: note.join("; ") }
    }

    pub(crate) async fn stop(self) {
        // The drop kills the processes. A graceful stop would wait for the hanging requests.
        drop((self.worker, self.service));
        self.db.close().await;
        self.bench.server.drop(DATABASE).await;
    }
}

/// A connection of tenant A. If the connection ends, the next request opens a new one.
pub(crate) struct Line {
    pub(crate) service: Arc<Service>,
    tally: Tally,
    stream: Option<TcpStream>,
}

impl Line {
    pub(crate) fn new(service: Arc<Service>, tally: Tally) -> Self {
        Self { service, tally, stream: None }
    }

    /// Sends a request and counts the status of the response, or 0 if the connection ended.
    pub(crate) async fn send(&mut self, text: &[u8]) -> Option<Message> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => TcpStream::connect(self.service.api()).await.ok()?,
        };
        let answer = try_request(&mut stream, text).await.ok();
        let status = answer.as_ref().map_or(0, Message::status);
        *self.tally.lock().unwrap().entry(status).or_default() += 1;
        if answer.is_some() {
            self.stream = Some(stream);
        }
        answer
    }
}

/// The JSON of an enabled push config for customers' messages.
pub(crate) fn config(url: &str) -> Value {
    json!({ "enabled": true, "url": url, "events": ["user_message"] })
}
