//! A deployment under test: a database, an independent receiver, agents with webhooks, and a stream of events.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flametree_notify::domain::ids::EventId;
use flametree_notify::domain::role::Role;
use flametree_notify::domain::token::{NewToken, TokenName, TokenScope};
use flametree_notify::store::Db;
use flametree_notify::store::tokens;
use http::Method;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::client::Client;
use super::own_server::OwnServer;
use super::postgres::TestDatabase;
use super::receiver::Receiver;
use super::service::{Service, Settings};

pub const TENANT: &str = "acme";
/// The maximum time for which a client retries its events.
const POST_DEADLINE: Duration = Duration::from_mins(1);

/// The database of a deployment. It exists until this value is dropped.
pub enum Database {
    Shared(Box<TestDatabase>),
    Own(OwnServer),
    /// An external database.
    Foreign,
}

pub struct Deployment {
    /// The connection pool of the test.
    pub pool: Db,
    pub receiver: Receiver,
    pub settings: Settings,
    /// An admin token for all tenants.
    pub token: String,
    posted: AtomicUsize,
    pub database: Database,
}

impl Deployment {
    /// Uses the server that all tests share.
    pub async fn new() -> Self {
        let database = TestDatabase::new().await;
        let (options, settings) = (database.direct_options(), Settings::on(&database.url()));
        Self::on(options, settings, Database::Shared(Box::new(database))).await
    }

    /// On a separate server.
    pub async fn with_own_server() -> Self {
        Self::on_server(OwnServer::start().await).await
    }

    /// Uses a separate server behind a pooler.
    pub async fn with_own_pooler() -> Self {
        Self::on_server(OwnServer::start_pooled().await).await
    }

    /// On an external database.
    pub async fn of_foreign(options: PgConnectOptions, settings: Settings) -> Self {
        Self::on(options, settings, Database::Foreign).await
    }

    async fn on_server(server: OwnServer) -> Self {
        let (options, settings) = (server.connect_options(), Settings::on(&server.url()));
        Self::on(options, settings, Database::Own(server)).await
    }

    async fn on(options: PgConnectOptions, settings: Settings, database: Database) -> Self {
        let pool = pool(options);
        let token = token(&pool).await;
        Self { pool, receiver: Receiver::start(), settings, token, posted: AtomicUsize::new(0), database }
    }

    /// Uses the embedded server of a running process.
    pub fn of_embedded(options: PgConnectOptions, settings: Settings, token: String) -> Self {
        let (pool, receiver) = (pool(options), Receiver::start());
        Self { pool, receiver, settings, token, posted: AtomicUsize::new(0), database: Database::Foreign }
    }

    pub fn server(&self) -> &OwnServer {
        match &self.database {
            Database::Own(server) => server,
            Database::Shared(_) | Database::Foreign => panic!("the test has no separate server"),
        }
    }

    pub fn client(&self, service: &Service) -> Client {
        service.client(&self.token)
    }

    /// Configures an enabled webhook at the path `/{agent}` for each agent.
    pub async fn configure(&self, api: &Service, agents: &[String]) {
        let admin = self.client(api);
        for agent in agents {
            let config = json!({
                "enabled": true, "url": self.receiver.url(&format!("/{agent}")), "timeout_ms": 10_000,
                "events": ["new_session_started", "ai_assistant_message", "user_message", "transferred_to_live_agent"],
            });
            let answer = admin.put(&format!("/v1/agents/{agent}/push-config?tenant_id={TENANT}"), &config).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }

    /// Posts this many events in batches, round-robin over the agents and APIs. Repeats a batch that got no response,
    /// with the same idempotency keys.
    pub async fn post(&self, apis: &[Client], agents: &[String], count: usize) -> Vec<EventId> {
        let mut accepted = Vec::with_capacity(count);
        let first = self.posted.fetch_add(count, Ordering::Relaxed);
        let numbers: Vec<usize> = (first..first + count).collect();
        for (turn, numbers) in numbers.chunks(250).enumerate() {
            let events: Vec<Value> =
                numbers.iter().map(|number| message(&agents[number % agents.len()], *number)).collect();
            accepted.extend(post_until_accepted(apis, turn, &json!({"events": events})).await);
        }
        assert_eq!(accepted.len(), count);
        accepted
    }
}

/// A customer's message, different for each number.
pub fn message(agent: &str, number: usize) -> Value {
    json!({
        "type": "user_message", "tenant_id": TENANT, "agent_id": agent, "session_id": format!("s-{}", number % 100),
        "text": format!("Where is my order {number}? 📦"), "idempotency_key": format!("message-{number}"),
    })
}

pub fn agents(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("agent-{number}")).collect()
}

async fn token(pool: &Db) -> String {
    let new = NewToken {
        name: TokenName::parse("test").unwrap(),
        role: Role::Admin,
        scope: TokenScope::from_tenant(None),
        expires_at: None,
        created_by: None,
    };
    tokens::create(pool, &new).await.unwrap().1.expose()
}

/// A pool that reconnects after a server restart.
fn pool(options: PgConnectOptions) -> Db {
    PgPoolOptions::new().max_connections(4).acquire_timeout(Duration::from_secs(30)).connect_lazy_with(options).into()
}

async fn post_until_accepted(apis: &[Client], turn: usize, batch: &Value) -> Vec<EventId> {
    let deadline = tokio::time::Instant::now() + POST_DEADLINE;
    for api in apis.iter().cycle().skip(turn % apis.len()) {
        let refusal = match api.request(Method::POST, "/v1/events/batch", Some(batch)).await {
            Ok(answer) if answer.status == 200 => return ids(&answer.json()),
            Ok(answer) if answer.status == 503 => answer.text().to_owned(),
            Ok(answer) => panic!("{} {}", answer.status, answer.text()),
            Err(error) => error,
        };
        assert!(tokio::time::Instant::now() < deadline, "events are not accepted: {refusal}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Vec::new()
}

fn ids(answer: &Value) -> Vec<EventId> {
    let results = answer["results"].as_array().unwrap();
    let id = |result: &Value| result["id"].as_str().unwrap_or_else(|| panic!("{result}")).parse().unwrap();
    results.iter().map(id).collect()
}
