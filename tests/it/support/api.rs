//! A running API with a separate port and database, and a client that returns complete responses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, Method, Request, StatusCode};
use flametree_notify::channels::browser_push::{PushSender, Settings, VapidKey, VapidKeys};
use flametree_notify::channels::{self, HttpClient, LookupLimits};
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
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::postgres::TestDatabase;
use super::push;

/// The tenant of most tests.
pub const ACME: &str = "acme";

/// A running API server. Dropping this value stops the server.
pub struct TestApi {
    pub address: SocketAddr,
    pub metrics: Metrics,
    /// Makes the process report that it is not ready, which is the first step of a stop.
    pub draining: CancellationToken,
    pub shutdown: CancellationToken,
    pub stage: Stage,
    /// The database. Another API node can share it.
    pub db: Arc<TestDatabase>,
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
}

impl Default for Options {
    fn default() -> Self {
        Self { http: http::Settings::default(), queue_events: 10_000, users: None, push_hosts: None }
    }
}

impl TestApi {
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        let db = Arc::new(TestDatabase::new().await);
        super::seed::run(&db, "SELECT flametree.ensure_partitions(current_date - 2, current_date + 2)".into()).await;
        Self::on(db, options).await
    }

    pub async fn beside(&self, options: Options) -> Self {
        Self::on(Arc::clone(&self.db), options).await
    }

    async fn on(db: Arc<TestDatabase>, options: Options) -> Self {
        let metrics = Metrics::new("test", "test");
        let (draining, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let supervisor = Supervisor::new(&metrics, draining.clone());
        let api_stage = supervisor.first_stage();
        let ingest = ingest::Settings { queue_events: options.queue_events, default_expiry: Duration::from_hours(24) };
        let client = channels::Settings {
            allowed_networks: options.push_hosts.iter().map(|_| "127.0.0.0/8".parse().unwrap()).collect(),
            denied_networks: Vec::new(),
            name_servers: Vec::new(),
            lookups: LookupLimits::API,
            allow_http: options.push_hosts.is_some(),
            default_timeout: Duration::from_secs(5),
            extra_roots: Vec::new(),
        };
        let client = HttpClient::new(&client, &metrics).unwrap();
        let push = options.push_hosts.map(|hosts| push_sender(&hosts, client.clone(), metrics.clone()));
        let users = options.users.map(|users| UserAuthenticator::start(users, &supervisor.stage()).unwrap());
        let state = ApiState::new(Dependencies {
            db: db.pool.clone(),
            ingest: Ingest::start(&db.pool, &ingest, &Wakeup::default(), &metrics, &supervisor.stage()),
            keyring: Arc::new(Keyring::generate().0),
            client,
            push_config_rules: Rules { allow_http: false },
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
        Self { address, metrics, draining, shutdown, stage: api_stage, db }
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

    /// Sends exactly these bytes on a new connection.
    pub async fn send(&self, request: Request<Bytes>) -> Answer {
        send(self.address, request).await
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

impl Drop for TestApi {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn push_sender(hosts: &[String], client: HttpClient, metrics: Metrics) -> PushSender {
    let keys = VapidKeys::new(VapidKey::from_base64(push::KEY[0]).unwrap(), Vec::new(), push::SUBJECT.to_owned());
    let hosts = hosts.iter().map(|host| PushHost::parse(host).unwrap()).collect();
    let settings = Settings { keys, hosts: PushHosts::new(hosts, true), ttl: Duration::from_hours(1) };
    PushSender::new(settings, client, metrics)
}

/// Sends one request on a new connection.
pub async fn send(address: SocketAddr, mut request: Request<Bytes>) -> Answer {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    request.headers_mut().entry("host").or_insert("test".parse().unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    let exchange = async {
        let response = sender.send_request(request.map(Full::new)).await.unwrap();
        let (head, body) = response.into_parts();
        Answer { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // The server can close the connection after its response.
        _closed = connection => exchange.await,
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// Checks a problem document and the fields that all problems have. Returns the document.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let document = self.json();
        assert_eq!(document["code"], code, "{document}");
        assert_eq!(document["status"], status);
        assert_eq!(document["type"], format!("urn:flametree:problem:{code}"));
        assert!(document["title"].as_str().is_some_and(|title| !title.is_empty()));
        assert_eq!(document["request_id"], self.header("x-request-id").unwrap());
        assert!(document["errors"].is_array());
        document
    }

    /// The JSON pointers and codes of the faults in a 422 response.
    #[track_caller]
    pub fn faults(&self) -> Vec<(String, String)> {
        let document = self.problem(422, "invalid");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let errors = document["errors"].as_array().unwrap().iter();
        errors.map(|fault| (text(&fault["pointer"]), text(&fault["code"]))).collect()
    }
}
