//! A running API with a separate port and database, and requests to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderValue, Method, Request};
use flametree_notify::channels::browser_push::{PushSender, Settings, VapidKey, VapidKeys};
use flametree_notify::channels::{self, HttpClient, Lookup, LookupError, LookupLimits};
use flametree_notify::domain::ids::TokenId;
use flametree_notify::domain::names::TenantId;
use flametree_notify::domain::push_config::Rules;
use flametree_notify::domain::push_hosts::{PushHost, PushHosts};
use flametree_notify::domain::role::Role;
use flametree_notify::domain::token::{NewToken, TokenName, TokenScope};
use flametree_notify::http::{self, state::ApiState, state::Dependencies};
use flametree_notify::ingest::{self, Ingest};
use flametree_notify::queue::Wakeup;
use flametree_notify::secrets::Keyring;
use flametree_notify::store::tokens;
use flametree_notify::supervision::{Stage, Supervisor};
use flametree_notify::telemetry::metrics::Metrics;
use flametree_notify::telemetry::traces::Tracer;
use flametree_notify::users::{self, UserAuthenticator};
use hyper::body::Bytes;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

pub use super::answer::{Answer, send};
use super::names::{Addresses, names, slow_names};
use super::postgres::TestDatabase;
use super::{messages, push};

/// The tenant of most tests.
pub const ACME: &str = "acme";

/// A running API server. Dropping this value stops the server.
pub struct TestApp {
    pub address: SocketAddr,
    pub metrics: Metrics,
    /// Makes the process report that it is not ready, which is the first step of a stop.
    pub draining: CancellationToken,
    pub shutdown: CancellationToken,
    pub stage: Stage,
    /// The database. Another API node can share it.
    pub db: Arc<TestDatabase>,
    pub keyring: Arc<Keyring>,
}

#[derive(Debug, Clone)]
pub struct Options {
    pub http: http::Settings,
    /// The maximum number of events that wait to be committed.
    pub queue_events: usize,
    /// The keys that verify user tokens.
    pub users: Option<users::Settings>,
    /// The hosts and ports of the allowed push services. If this list is missing, browser push is off.
    pub push_hosts: Option<Vec<String>>,
    pub names: Names,
}

/// How the API resolves host names, and where it may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// By DNS. Browser push may send to this machine.
    Dns,
    /// Names under .test have a public address, and private.test has a private address. Other names do not exist.
    Test,
    /// Names under .test belong to this machine. The API may send there, also over plain http, and trusts the test certificate
    /// authority. The lookup of slow.test takes longer than an attempt may take.
    ThisMachine,
}

impl Default for Options {
    fn default() -> Self {
        Self { http: http::Settings::default(), queue_events: 10_000, users: None, push_hosts: None, names: Names::Dns }
    }
}

impl TestApp {
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    /// An API that resolves only names under .test.
    pub async fn of_test_names() -> Self {
        Self::with(Options { names: Names::Test, ..Options::default() }).await
    }

    /// An API that may send to this machine.
    pub async fn that_sends() -> Self {
        Self::with(Options { names: Names::ThisMachine, ..Options::default() }).await
    }

    pub async fn with(options: Options) -> Self {
        let db = Arc::new(TestDatabase::new().await);
        super::seed::run(&db, "SELECT flametree.ensure_partitions(current_date - 2, current_date + 2)".into()).await;
        Self::on(db, Arc::new(Keyring::generate().0), options).await
    }

    /// Another API node on the same database.
    pub async fn beside(&self, options: Options) -> Self {
        Self::on(Arc::clone(&self.db), Arc::clone(&self.keyring), options).await
    }

    async fn on(db: Arc<TestDatabase>, keyring: Arc<Keyring>, options: Options) -> Self {
        let metrics = Metrics::new("test", "test");
        let (draining, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let supervisor = Supervisor::new(&metrics, draining.clone());
        let api_stage = supervisor.first_stage();
        let ingest = ingest::Settings { queue_events: options.queue_events, default_expiry: Duration::from_hours(24) };
        let (client, push_config_rules) = client(&options, &metrics);
        let push = options.push_hosts.map(|hosts| push_sender(&hosts, client.clone(), metrics.clone()));
        let users = options.users.map(|users| UserAuthenticator::start(users, &supervisor.stage()).unwrap());
        let state = ApiState::new(Dependencies {
            db: db.pool.clone(),
            ingest: Ingest::start(&db.pool, &ingest, &Wakeup::default(), &metrics, &supervisor.stage()),
            keyring: Arc::clone(&keyring),
            client,
            push_config_rules,
            push,
            users: users.map(Arc::new),
            tracer: Tracer::default(),
            metrics: metrics.clone(),
            settings: options.http.clone(),
            stage: api_stage.clone(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (settings, stop) = (options.http, shutdown.clone());
        api_stage.tasks.spawn(async move { http::serve(listener, http::router(state), &settings, stop).await });
        Self { address, metrics, draining, shutdown, stage: api_stage, db, keyring }
    }

    /// A token that is valid for an hour. Without a given tenant, the token is valid for all tenants.
    pub async fn token(&self, role: Role, tenant: Option<&str>) -> String {
        self.token_with_id(role, tenant).await.1
    }

    pub async fn token_with_id(&self, role: Role, tenant: Option<&str>) -> (TokenId, String) {
        let new = NewToken {
            name: TokenName::parse("test").unwrap(),
            role,
            scope: TokenScope::from_tenant(tenant.map(|tenant| TenantId::parse(tenant).unwrap())),
            expires_at: None,
            created_by: None,
        };
        let (id, secret) = tokens::create(&self.db.pool, &new).await.unwrap();
        (id, secret.expose())
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.request(Method::GET, path, token, None).await
    }

    pub async fn post(&self, path: &str, token: &str, body: &Value) -> Answer {
        self.request(Method::POST, path, token, Some(body)).await
    }

    pub async fn request(&self, method: Method, path: &str, token: &str, body: Option<&Value>) -> Answer {
        let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {token}"));
        let request = if body.is_some() { request.header("content-type", "application/json") } else { request };
        let bytes = body.map(|body| serde_json::to_vec(body).unwrap()).unwrap_or_default();
        self.send(request.body(bytes.into()).unwrap()).await
    }

    /// Sends a request, with a JSON body if given. The given headers add to the default headers or replace them.
    pub async fn call(
        &self,
        token: &str,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let bytes = body.map(Value::to_string).unwrap_or_default();
        let mut request = Request::builder().method(method).uri(path).body(Bytes::from(bytes)).unwrap();
        let bearer = format!("Bearer {token}");
        for (name, value) in
            [("authorization", bearer.as_str()), ("content-type", "application/json")].iter().chain(headers)
        {
            request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
        }
        self.send(request).await
    }

    /// Sends exactly these bytes on a new connection.
    pub async fn send(&self, request: Request<Bytes>) -> Answer {
        send(self.address, request).await
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// The client for endpoints, and the rules of their URLs.
fn client(options: &Options, metrics: &Metrics) -> (HttpClient, Rules) {
    let settings = channels::Settings {
        allowed_networks: options.push_hosts.iter().map(|_| "127.0.0.0/8".parse().unwrap()).collect(),
        denied_networks: Vec::new(),
        name_servers: Vec::new(),
        lookups: LookupLimits::API,
        allow_http: options.push_hosts.is_some(),
        default_timeout: Duration::from_secs(5),
        extra_roots: Vec::new(),
    };
    let here = messages::settings();
    let client = match options.names {
        Names::Dns => HttpClient::new(&settings, metrics),
        Names::Test => HttpClient::with_lookup(&settings, metrics, names(resolve)),
        Names::ThisMachine => HttpClient::with_lookup(&here, metrics, lookup_here()),
    };
    (client.unwrap(), Rules { allow_http: options.names == Names::ThisMachine && here.allow_http })
}

/// Resolves names under .test to a public address and private.test to a private address, without DNS. Other names do not exist.
fn resolve(host: &str) -> Addresses {
    match host {
        "private.test" => Ok(vec![Ipv4Addr::new(10, 0, 0, 1).into()]),
        host if host.split('.').next_back() == Some("test") => Ok(vec![Ipv4Addr::new(1, 1, 1, 1).into()]),
        _ => Err(LookupError::Unresolved),
    }
}

/// Resolves names under .test to this machine. The lookup of slow.test takes longer than an attempt may take.
fn lookup_here() -> Lookup {
    slow_names(|host| {
        let delay = Duration::from_secs(if host == "slow.test" { 3 } else { 0 });
        let here = |found| if host == "private.test" { found } else { vec![Ipv4Addr::LOCALHOST.into()] };
        (delay, resolve(host).map(here))
    })
}

fn push_sender(hosts: &[String], client: HttpClient, metrics: Metrics) -> PushSender {
    let keys = VapidKeys::new(VapidKey::from_base64(push::KEY[0]).unwrap(), Vec::new(), push::SUBJECT.to_owned());
    let hosts = hosts.iter().map(|host| PushHost::parse(host).unwrap()).collect();
    let settings = Settings { keys, hosts: PushHosts::new(hosts, true), ttl: Duration::from_hours(1) };
    PushSender::new(settings, client, metrics)
}
