//! Unresponsive name servers of one tenant delay no lookups of another tenant's endpoints.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::deployment::Deployment;
use crate::support::misbehaving::{Behaviour, Receiver};
use crate::support::name_server::{NameServer, Reply};
use crate::support::service::{Part, Service};
use crate::support::waiting::within;
use crate::support::wire::answer;

const DEADLINE: Duration = Duration::from_mins(1);
/// More than twice the number of lookups that the workers run concurrently. If a lookup of tenant B waited for this many
/// lookups, it would miss its deadline.
const SILENT_AGENTS: usize = 600;
/// More than twice the number of lookups that the API runs concurrently.
const SILENT_CHANGES: usize = 200;

/// A deployment with a name server. After the call `silence`, the name server ignores queries for names under silent.test.
struct Scene {
    deployment: Deployment,
    service: Service,
    server: NameServer,
    receiver: Receiver,
    api: Client,
}

impl Scene {
    async fn new() -> Self {
        let server = NameServer::start(|_| Reply::Address(Ipv4Addr::LOCALHOST, 0)).await;
        let mut deployment = Deployment::new().await;
        deployment.settings = deployment.settings.with("FLAMETREE_NAME_SERVERS", &server.address.to_string());
        let service = deployment.settings.start(Part::Run).await;
        // The receiver closes each connection, so that each delivery needs a new connection and a lookup.
        let closes = Behaviour::AnswersThenCloses(answer("200 OK", "connection: close\r\n", b""));
        let (receiver, api) = (Receiver::start(closes).await, deployment.client(&service));
        Self { deployment, service, server, receiver, api }
    }

    async fn configure(&self, tenant: &str, agent: &str, host: &str, timeout_ms: u32) -> Value {
        let url = format!("http://{host}:{}/", self.receiver.address.port());
        let config = json!({"enabled": true, "url": url, "timeout_ms": timeout_ms, "events": ["user_message"]});
        let answer = self.api.put(&format!("/v1/agents/{agent}/push-config?tenant_id={tenant}"), &config).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["warnings"].clone()
    }

    fn silence(&self) {
        let is_silent = |name: &str| name.ends_with("silent.test");
        self.server.answer(
            move |name| {
                if is_silent(name) { Reply::Silence } else { Reply::Address(Ipv4Addr::LOCALHOST, 0) }
            },
        );
    }

    async fn post(&self, tenant: &str, agents: &[String], count: usize) {
        let numbers: Vec<usize> = (0..count).collect();
        for numbers in numbers.chunks(200) {
            let event = |number: &usize| {
                json!({
                    "type": "user_message", "tenant_id": tenant, "agent_id": agents[number % agents.len()],
                    "session_id": "s-1", "text": format!("message {number}"),
                })
            };
            let events: Vec<Value> = numbers.iter().map(event).collect();
            let answer = self.api.post("/v1/events/batch", &json!({"events": events})).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }

    /// The number of the tenant's deliveries by outcome.
    async fn outcomes(&self, tenant: &str) -> BTreeMap<String, i64> {
        sqlx::query_as("SELECT outcome::text, count(*) FROM flametree.deliveries WHERE tenant_id = $1 GROUP BY 1")
            .bind(tenant)
            .fetch_all(&self.deployment.pool)
            .await
            .unwrap()
            .into_iter()
            .collect()
    }

    async fn ended(&self, tenant: &str) -> i64 {
        self.outcomes(tenant).await.values().sum()
    }
}

#[tokio::test]
async fn unresponsive_name_servers_of_one_tenant_delay_no_delivery_of_another() {
    let scene = Scene::new().await;
    let silent: Vec<String> = (0..SILENT_AGENTS).map(|number| format!("agent-{number}")).collect();
    for agent in &silent {
        scene.configure("a", agent, &format!("{agent}.silent.test"), 10_000).await;
    }
    scene.configure("b", "agent", "answered.test", 3_000).await;
    scene.silence();

    scene.post("a", &silent, SILENT_AGENTS).await;
    let mut posted = 0;
    // Posts events one after another, so that each delivery of tenant B needs a lookup while lookups of tenant A run.
    while scene.ended("a").await < i64::try_from(SILENT_AGENTS).unwrap() {
        scene.post("b", &["agent".to_owned()], 1).await;
        posted += 1;
        within(DEADLINE, "the delivery of tenant b ends", async || scene.ended("b").await == posted).await;
    }
    assert_eq!(scene.outcomes("b").await, BTreeMap::from([("delivered".to_owned(), posted)]));
    assert_eq!(scene.outcomes("a").await.into_keys().collect::<Vec<_>>(), ["timeout"]);
    scene.service.kill();
}

#[tokio::test]
async fn unresponsive_name_servers_of_one_tenant_do_not_delay_the_check_of_another_tenants_url() {
    let scene = Scene::new().await;
    scene.silence();
    let change = async |number| {
        let (agent, host) = (format!("agent-{number}"), format!("host-{number}.silent.test"));
        scene.configure("a", &agent, &host, 10_000).await
    };
    let changes = async {
        let all = join_all((0..SILENT_CHANGES).map(change)).await;
        assert!(all.iter().all(|warnings| warnings[0]["code"] == "resolution_timeout"), "{all:?}");
    };
    let check_on = async || loop {
        assert_eq!(scene.configure("b", "agent", "answered.test", 3_000).await, json!([]));
    };
    tokio::select! {
        () = changes => {}
        () = check_on() => {}
    }
    scene.service.kill();
}
