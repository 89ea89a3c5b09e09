//! A running API with a real listener and a separate database, and a client with tokens that parses responses.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use flametree_notify::channels::{self, HttpClient, Lookup, LookupError, LookupLimits};
use flametree_notify::domain::names::TenantId;
use flametree_notify::domain::push_config::Rules;
use flametree_notify::domain::role::Role;
use flametree_notify::domain::token::{NewToken, TokenName, TokenScope};
use flametree_notify::http::state::{ApiState, Dependencies};
use flametree_notify::ingest::{self, Ingest};
use flametree_notify::queue::Wakeup;
use flametree_notify::secrets::Keyring;
use flametree_notify::store::tokens;
use flametree_notify::supervision::Supervisor;
use flametree_notify::telemetry::metrics::Metrics;
use flametree_notify::telemetry::traces::Tracer;
use flametree_notify::{http, store};
use reqwest::Method;
use reqwest::header::{ETAG, HeaderMap};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::messages;
use super::names::{Addresses, names, slow_names};
use super::postgres::TestDatabase;

/// An API node and its database. Dropping the node stops it. Dropping the last node drops the database.
pub struct TestApi {
    pub database: Arc<TestDatabase>,
    pub keyring: Arc<Keyring>,
    origin: String,
    client: reqwest::Client,
    _stop: DropGuard,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn etag(&self) -> &str {
        self.headers[ETAG].to_str().unwrap()
    }

    /// The JSON pointers and codes of a problem's faults, sorted.
    pub fn faults(&self) -> Vec<(String, String)> {
        let json = self.json();
        let text = |fault: &Value, name: &str| fault[name].as_str().unwrap().to_owned();
        let faults = json["errors"].as_array().unwrap();
        let mut faults: Vec<_> = faults.iter().map(|fault| (text(fault, "pointer"), text(fault, "code"))).collect();
        faults.sort();
        faults
    }
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

impl TestApi {
    pub async fn start() -> Self {
        let channels = channels::Settings {
            allowed_networks: Vec::new(),
            denied_networks: Vec::new(),
            name_servers: Vec::new(),
            lookups: LookupLimits::API,
            allow_http: false,
            default_timeout: Duration::from_secs(5),
            extra_roots: Vec::new(),
        };
        Self::with(&channels, names(resolve)).await
    }

    /// An API that may send to this machine, also over plain http, and that trusts the test certificate authority.
    pub async fn that_sends() -> Self {
        Self::with(&messages::settings(), lookup_here()).await
    }

    async fn with(channels: &channels::Settings, lookup: Lookup) -> Self {
        let database = Arc::new(TestDatabase::new().await);
        Self::on(database, Arc::new(Keyring::generate().0), channels, lookup).await
    }

    /// Another node on the same database, which may send to this machine.
    pub async fn another_that_sends(&self) -> Self {
        let (database, keyring) = (Arc::clone(&self.database), Arc::clone(&self.keyring));
        Self::on(database, keyring, &messages::settings(), lookup_here()).await
    }

    async fn on(
        database: Arc<TestDatabase>,
        keyring: Arc<Keyring>,
        channels: &channels::Settings,
        lookup: Lookup,
    ) -> Self {
        let stop = CancellationToken::new();
        let client = HttpClient::with_lookup(channels, &messages::metrics(), lookup).unwrap();
        let rules = Rules { allow_http: channels.allow_http };
        let state = state(database.pool.clone(), Arc::clone(&keyring), client, rules, &stop);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let (router, settings, shutdown) = (http::router(state), http::Settings::default(), stop.clone());
        // The server stops when the guard `_stop` is dropped, or when the runtime of the test stops.
        TaskTracker::new().spawn(async move { http::serve(listener, router, &settings, shutdown).await });
        Self { database, keyring, origin, client: plain_client(), _stop: stop.drop_guard() }
    }

    /// Creates a token for a tenant, or for all tenants if `tenant` is `None`. Returns the token's text.
    pub async fn token(&self, role: Role, tenant: Option<&str>) -> String {
        let scope = tenant.map_or(TokenScope::AllTenants, |name| TokenScope::Tenant(TenantId::parse(name).unwrap()));
        let new = NewToken { name: TokenName::parse("test").unwrap(), role, scope, expires_at: None, created_by: None };
        tokens::create(&self.database, &new).await.unwrap().1.expose()
    }

    /// Sends a request, with a JSON body if given. The given headers add to the default headers or replace them.
    pub async fn send(
        &self,
        token: &str,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let mut all = HeaderMap::new();
        all.insert("authorization", format!("Bearer {token}").parse().unwrap());
        all.insert("content-type", "application/json".parse().unwrap());
        for (name, value) in headers {
            all.insert(*name, value.parse().unwrap());
        }
        let mut request = self.client.request(method, format!("{}{path}", self.origin)).headers(all);
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    }
}

fn state(
    db: store::Db,
    keyring: Arc<Keyring>,
    client: HttpClient,
    push_config_rules: Rules,
    stop: &CancellationToken,
) -> ApiState {
    let metrics = Metrics::new("test", "test");
    let stage = Supervisor::new(&metrics, stop.clone()).first_stage();
    let ingest = ingest::Settings { queue_events: 1_000, default_expiry: Duration::from_hours(1) };
    ApiState::new(Dependencies {
        ingest: Ingest::start(&db, &ingest, &Wakeup::default(), &metrics, &stage),
        db,
        keyring,
        client,
        push_config_rules,
        push: None,
        users: None,
        tracer: Tracer::default(),
        metrics,
        settings: http::Settings::default(),
        stage,
    })
}

#[expect(clippy::disallowed_methods, reason = "the service's client does not connect to loopback addresses")]
pub fn plain_client() -> reqwest::Client {
    // Ignores the error, because another test may have installed the provider.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap()
}
