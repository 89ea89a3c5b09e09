//! Schemathesis, as callers with different roles, checks that a real service matches its OpenAPI document.
//!
//! No valid or invalid request may cause a server error or an undocumented status, media type, header or body. The service must
//! reject all invalid data. The settings are in the folder `tests/openapi`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use flametree_notify::domain::role::Role;
use flametree_notify::http::openapi_json;
use http::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::client::Client;
use crate::support::deployment::{TENANT, agents};
use crate::support::jwt::{SECRET, Signer, claims, in_seconds, with};
use crate::support::misbehaving::Receiver;
use crate::support::push::Browser;
use crate::support::push_deployment::{PATIENCE, Push, origin, push_service};
use crate::support::temp_dir::TempDir;
use crate::support::waiting::within;

/// The time limit of a Schemathesis run, which is several times the usual duration.
const DEADLINE: Duration = Duration::from_mins(10);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A Python command with the fuzzer's packages and hooks.
fn python() -> Command {
    let installed = root().join("target/openapi");
    assert!(installed.exists(), "{} is missing: run scripts/install openapi", installed.display());
    let path = [installed, root().join("tests/openapi")].map(|path| path.display().to_string()).join(":");
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", path).env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn ran(command: &mut Command) -> Output {
    tokio::time::timeout(DEADLINE, command.output()).await.expect("the command ends in time").unwrap()
}

fn check(what: &str, output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{what}:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// A service with one resource of each type. The fuzzer's settings contain the ids of these resources.
struct Fuzzed {
    push: Push,
    receiver: Receiver,
    settings: String,
}

/// The user or API token whose credential the fuzzer sends.
struct Speaker {
    role: &'static str,
    credential: String,
    /// The parameters that the fuzzer adds to every request.
    parameters: String,
}

impl Fuzzed {
    async fn start() -> Self {
        let receiver = push_service("201 Created", "content-type: text/plain\r\n", "taken").await;
        let push = Push::start(&[&receiver], |settings| settings).await;
        let settings = with_names(&names(&push, &receiver).await);
        Self { push, receiver, settings }
    }

    /// Runs the fuzzer on the routes that the command-line arguments select.
    async fn run(&self, speaker: &Speaker, arguments: &[&str]) {
        let directory = TempDir::new();
        let settings = format!("parameters = {{ {} }}\n{}", speaker.parameters, self.settings);
        std::fs::write(directory.path().join("schemathesis.toml"), settings).unwrap();
        let address = self.push.service.client("").address();
        let mut command = python();
        command
            .arg(root().join("target/openapi/bin/schemathesis"))
            .args(["run", &format!("http://{address}/v1/openapi.json"), "--no-color"])
            .args(["--header", &format!("Authorization: Bearer {}", speaker.credential)])
            .args(arguments)
            .current_dir(directory.path())
            .env("SCHEMATHESIS_HOOKS", "hooks")
            .env("RECEIVER", origin(&self.receiver));
        check(speaker.role, &ran(&mut command).await);
    }
}

/// The fuzzer's settings, with the ids inserted.
fn with_names(names: &[(&str, String)]) -> String {
    let text = std::fs::read_to_string(root().join("tests/openapi/schemathesis.toml")).unwrap();
    let text = names.iter().fold(text, |text, (name, value)| text.replace(&format!("${{{name}}}"), value));
    assert!(!text.contains("${"), "a name is missing in {text}");
    text
}

/// Creates one resource of each type, and enough agents that the limit on tests per agent does not stop the fuzzer.
async fn names(push: &Push, receiver: &Receiver) -> Vec<(&'static str, String)> {
    let admin = push.deployment.client(&push.service);
    let path = |path: &str| format!("{path}?tenant_id={TENANT}");
    let config = json!({"enabled": true, "url": receiver.url(), "events": ["user_message"]});
    for agent in agents(9) {
        assert_eq!(admin.put(&path(&format!("/v1/agents/{agent}/push-config")), &config).await.status, 200);
    }
    let event = json!({"type": "user_message", "agent_id": "agent-1", "session_id": "s-1", "text": "Hello?"});
    let event = id(&admin, Method::POST, &path("/v1/events"), &event).await;
    push.deployment.drained(PATIENCE).await;
    let deliveries = admin.get(&path("/v1/deliveries")).await.json();
    let token = json!({"name": "to be revoked", "role": "viewer"});
    // Creates the old subscription that the renewal example of the document contains. The hooks write the endpoint of this
    // subscription into all requests.
    let document: Value = serde_json::from_str(&openapi_json(None)).unwrap();
    let mut renewed = document["components"]["schemas"]["RenewalRequest"]["example"]["old"].clone();
    renewed["endpoint"] = format!("{}/", origin(receiver)).into();
    id(&push.person("user-8"), Method::PUT, "/v1/me/push-subscriptions", &renewed).await;
    vec![
        ("EVENT", event),
        ("DELIVERY", deliveries["data"][0]["id"].as_str().unwrap().to_owned()),
        ("OPERATION", canceled(&admin).await),
        ("TOKEN", id(&admin, Method::POST, &path("/v1/tokens"), &token).await),
        ("SUBSCRIPTION", browser(push, receiver, "user-7", "removed").await),
        ("BROWSER", browser(push, receiver, "user-7", "kept").await),
        // The fuzzer does not act as this user.
        ("ADMINISTERED", browser(push, receiver, "user-9", "administered").await),
    ]
}

async fn browser(push: &Push, receiver: &Receiver, user: &str, name: &str) -> String {
    let subscription = Browser::new(name).subscription(&origin(receiver));
    id(&push.person(user), Method::PUT, "/v1/me/push-subscriptions", &subscription).await
}

/// Creates an operation and cancels it before a worker finishes it. Further requests to cancel the operation succeed.
async fn canceled(admin: &Client) -> String {
    let replay = json!({"from": "2020-01-01T00:00:00Z", "outcomes": ["timeout"]});
    let mut operation = String::new();
    within(PATIENCE, "an operation is canceled in time", async || {
        let path = format!("/v1/agents/agent-1/replays?tenant_id={TENANT}");
        operation = id(admin, Method::POST, &path, &replay).await;
        admin.post(&format!("/v1/operations/{operation}/cancel?tenant_id={TENANT}"), &Value::Null).await.status == 200
    })
    .await;
    operation
}

async fn id(client: &Client, method: Method, path: &str, body: &Value) -> String {
    let answer = client.request(method, path, Some(body)).await.unwrap();
    assert!((200..300).contains(&answer.status), "{path}: {}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// A user whose token is valid for longer than the fuzzer runs.
fn person(role: Role) -> Speaker {
    let claims = with(claims(role, TENANT), "exp", json!(in_seconds(3_600)));
    Speaker { role: role.as_str(), credential: Signer::secret(SECRET).token(&claims), parameters: String::new() }
}

/// The number of responses with these status classes, for each route (method and path template).
async fn answers(push: &Push, classes: &[&str]) -> BTreeMap<String, f64> {
    let metrics = push.service.metrics().await;
    let label = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    };
    let mut answers = BTreeMap::new();
    for line in metrics.lines().filter(|line| line.starts_with("flametree_http_requests_total{")) {
        if classes.contains(&label(line, "status_class").as_str()) {
            let route = format!("{} {}", label(line, "method"), label(line, "route"));
            *answers.entry(route).or_default() += line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap();
        }
    }
    answers
}

#[tokio::test]
async fn the_document_is_valid_openapi_and_its_examples_match_the_schemas() {
    let directory = TempDir::new();
    let document = directory.path().join("openapi.json");
    std::fs::write(&document, openapi_json(None)).unwrap();
    let output = ran(python().arg(root().join("tests/openapi/check_document.py")).arg(&document)).await;
    check("check_document.py", &output);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_behaves_as_its_document_describes() {
    let fuzzed = Fuzzed::start().await;
    let before = answers(&fuzzed.push, &["2xx", "3xx"]).await;
    // The admin's token is valid for all tenants, so each request must name a tenant. The token may not call routes of users.
    let credential = fuzzed.push.deployment.token.clone();
    let parameters = format!(r#""query.tenant_id" = "{TENANT}""#);
    let admin = Speaker { role: "admin", credential, parameters };
    let admin = async {
        // The replay route runs first, because later requests delete the webhook.
        let replay = "/v1/deliveries/{id}/replay";
        fuzzed.run(&admin, &["--include-path", replay]).await;
        fuzzed.run(&admin, &["--exclude-path-regex", "^/v1/me/", "--exclude-path", replay]).await;
    };
    let users = async {
        fuzzed.run(&person(Role::Operator), &["--include-path-regex", "^/v1/(me|push|workspace)/"]).await;
        let few = ["--max-examples", "3", "--phases", "examples,coverage"];
        fuzzed.run(&person(Role::Viewer), &few).await;
    };
    tokio::join!(admin, users);

    let failures: f64 = answers(&fuzzed.push, &["5xx"]).await.values().sum();
    assert!(failures < 0.5, "the service has failed {failures} times");
    let after = answers(&fuzzed.push, &["2xx", "3xx"]).await;
    let times = |answers: &BTreeMap<String, f64>, route: &str| answers.get(route).copied().unwrap_or_default();
    let document: Value = serde_json::from_str(&openapi_json(None)).unwrap();
    let routes = document["paths"].as_object().unwrap().iter().flat_map(|(template, item)| {
        item.as_object().unwrap().keys().map(move |method| format!("{} {template}", method.to_uppercase()))
    });
    let missed: Vec<_> = routes.filter(|route| times(&after, route) <= times(&before, route)).collect();
    assert!(missed.is_empty(), "no request succeeded for {missed:?}");

    // The hooks replaced the host of every webhook URL by this machine.
    let strangers = "SELECT count(*) FROM flametree.push_configs WHERE url IS NOT NULL AND NOT starts_with(url, $1)";
    let strangers: i64 = sqlx::query_scalar(strangers)
        .bind(origin(&fuzzed.receiver))
        .fetch_one(&fuzzed.push.deployment.pool)
        .await
        .unwrap();
    assert_eq!(strangers, 0);
}
