//! A running service with browser push: users, their browsers, and events that notify them.

use std::time::Duration;

use flametree_notify::domain::role::Role;
use http::Method;
use serde_json::{Value, json};
use sqlx::Row as _;

use super::answer::Answer;
use super::client::Client;
use super::deployment::{Deployment, TENANT};
use super::jwt::{SECRET, Signer, claims, with};
use super::misbehaving::{Behaviour, Receiver};
use super::push::{Browser, KEY, SUBJECT};
use super::service::{Part, Service, Settings};
use super::wire::answer;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Push {
    pub(crate) deployment: Deployment,
    pub(crate) service: Service,
}

/// Starts a push service that returns this response.
pub(crate) async fn push_service(status: &str, headers: &str, body: &str) -> Receiver {
    Receiver::start(Behaviour::Answers(answer(status, headers, body.as_bytes()))).await
}

pub(crate) fn origin(receiver: &Receiver) -> String {
    format!("http://{}", receiver.address)
}

impl Push {
    /// Starts a service that allows these push services. The function `more` changes the settings.
    pub(crate) async fn start(receivers: &[&Receiver], more: impl FnOnce(Settings) -> Settings) -> Self {
        let mut deployment = Deployment::new().await;
        let hosts: Vec<_> = receivers.iter().map(|receiver| receiver.address.to_string()).collect();
        deployment.settings =
            deployment.settings.with("FLAMETREE_JWT_SECRET", SECRET).with("FLAMETREE_PUSH_HOSTS", &hosts.join(","));
        let service = more(with_key(&deployment.settings, KEY[0])).start(Part::Run).await;
        Self { deployment, service }
    }

    /// Stops the process and starts a new process with the given settings.
    pub(crate) async fn restart(self, settings: &Settings) -> Self {
        self.service.stop().await;
        let service = settings.start(Part::Run).await;
        Self { deployment: self.deployment, service }
    }

    pub(crate) fn person(&self, user: &str) -> Client {
        let claims = with(claims(Role::Operator, TENANT), "sub", json!(user));
        self.service.client(&Signer::secret(SECRET).token(&claims))
    }

    pub(crate) async fn register(&self, user: &str, browser: &Browser, receiver: &Receiver) -> Answer {
        let body = browser.subscription(&origin(receiver));
        self.person(user).request(Method::PUT, "/v1/me/push-subscriptions", Some(&body)).await.unwrap()
    }

    pub(crate) async fn browser(&self, user: &str, name: &str, receiver: &Receiver) -> Browser {
        let browser = Browser::new(name);
        let answer = self.register(user, &browser, receiver).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        browser
    }

    /// Posts an event, by default in the session `s-1`. Returns its number of deliveries.
    pub(crate) async fn post(&self, event: &Value) -> i64 {
        let mut body = json!({"tenant_id": TENANT, "agent_id": "agent-1", "session_id": "s-1"});
        body.as_object_mut().unwrap().extend(event.as_object().unwrap().clone());
        let client = self.deployment.client(&self.service);
        let answer = client.request(Method::POST, "/v1/events", Some(&body)).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()["deliveries"].as_i64().unwrap()
    }

    pub(crate) async fn assign(&self, user: &str) -> i64 {
        self.post(&json!({"type": "session_assigned", "assignee_id": user})).await
    }

    pub(crate) async fn say(&self, text: &str) -> i64 {
        self.post(&json!({"type": "user_message", "text": text})).await
    }

    /// Waits until all deliveries have ended, and returns their outcomes in order of acceptance.
    pub(crate) async fn outcomes(&self) -> Vec<String> {
        self.deployment.drained(PATIENCE).await;
        let query = "SELECT outcome::text FROM flametree.deliveries ORDER BY id";
        let rows = sqlx::raw_sql(query).fetch_all(&self.deployment.pool).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The state of each browser of a user: `active`, or the reason why the browser is disabled.
    pub(crate) async fn fates(&self, user: &str) -> Vec<String> {
        let query = format!(
            "SELECT coalesce(disabled_reason, 'active') FROM flametree.push_subscriptions
             WHERE user_id = '{user}' ORDER BY id"
        );
        let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(query)).fetch_all(&self.deployment.pool).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

pub(crate) fn with_key(settings: &Settings, key: &str) -> Settings {
    settings.clone().with("FLAMETREE_VAPID_PRIVATE_KEY", key).with("FLAMETREE_VAPID_SUBJECT", SUBJECT)
}

/// The type and body of each message that this browser got from a push service.
pub(crate) fn got(browser: &Browser, receiver: &Receiver) -> Vec<(String, String)> {
    let line = format!("POST {} ", browser.path);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let seen = receiver.seen();
    let own = seen.iter().filter(|one| one.head.starts_with(&line)).map(|one| browser.read(one));
    let mut got: Vec<_> = own.map(|read| (text(&read["kind"]), text(&read["body"]))).collect();
    got.sort();
    got
}
