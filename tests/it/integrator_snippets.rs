//! Runs the receivers of docs/integrators.md with the official libraries against a real service, and checks that the page for
//! admins explains every outcome.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::ids::EventId;
use http::Method;
use serde_json::{Value, json};
use sqlx::Row as _;
use standardwebhooks::Webhook;
use tokio::net::TcpListener;

use crate::support::client::{Client, plain_client};
use crate::support::deployment::{Deployment, TENANT};
use crate::support::service::{Part, Service};
use crate::support::temp_dir::TempDir;

#[path = "../snippets/rust/receiver.rs"]
mod rust_receiver;

/// The time limit of each step, much longer than any step takes.
const PATIENCE: Duration = Duration::from_secs(30);
const CONFIG: &str = "/v1/agents/agent-1/push-config";

struct Running {
    url: String,
    /// A line with the id and the type of each message that the receiver processes.
    lines: mpsc::Receiver<String>,
    _process: Option<Process>,
}

impl Running {
    fn next(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the receiver processes a message")
    }
}

/// A process that is killed at the end of the test, and its directory.
struct Process(Child, #[expect(dead_code, reason = "the directory that the process runs in")] TempDir);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The program in this language from docs/integrators.md.
fn snippet(language: &str) -> String {
    let page = std::fs::read_to_string(root().join("docs/integrators.md")).unwrap();
    let (_, rest) = page.split_once(&format!("```{language}\n")).expect("the page has a program in this language");
    rest.split_once("```\n").unwrap().0.to_owned()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the path of the installed library, or nothing if this machine lacks the language.
fn installed(program: &str, library: &str) -> Option<PathBuf> {
    let probe = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("{program} is not installed: its snippet is not run");
        return None;
    }
    let path = root().join("target/snippets").join(library);
    assert!(path.exists(), "{} is missing: run scripts/install snippets", path.display());
    Some(path)
}

/// Runs a program that first prints its port, and then a line for each message.
fn run(mut command: Command, directory: TempDir, secret: &str) -> Running {
    let mut child = command
        .env("SIGNING_SECRET", secret)
        .env("PORT", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let process = Some(Process(child, directory));
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let mut running = Running { url: String::new(), lines, _process: process };
    let port = running.next();
    running.url = format!("http://127.0.0.1:{}/webhook", port.strip_prefix("port ").unwrap());
    running
}

#[test]
fn the_admins_page_explains_every_outcome() {
    let page = std::fs::read_to_string(root().join("docs/admins.md")).unwrap();
    for outcome in Outcome::ALL {
        assert!(page.contains(&format!("\n| `{}` | ", outcome.as_str())), "{outcome:?}");
    }
}

/// A service with a disabled push config, and the signing secret of this config.
async fn deployed() -> (Deployment, Service, String) {
    let deployment = Deployment::new().await;
    let service = deployment.settings.start(Part::Run).await;
    let client = deployment.client(&service);
    let created = client.put(&format!("{CONFIG}?tenant_id={TENANT}"), &json!({})).await;
    let secret = created.json()["signing_secret"].as_str().unwrap().to_owned();
    (deployment, service, secret)
}

async fn outcomes(deployment: &Deployment) -> Vec<String> {
    let query = "SELECT outcome::text FROM flametree.deliveries";
    let rows = sqlx::raw_sql(query).fetch_all(&deployment.pool).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Delivers real events to the receiver before and after a rotation. Then sends messages that the receiver must reject, and a
/// message that it must recognize as repeated.
async fn receives(deployment: &Deployment, service: &Service, secret: &str, receiver: &Running) {
    let client = deployment.client(service);
    let enabled = json!({"enabled": true, "url": receiver.url, "events": ["user_message"], "timeout_ms": 10_000});
    let patched = client.request(Method::PATCH, &format!("{CONFIG}?tenant_id={TENANT}"), Some(&enabled)).await.unwrap();
    assert_eq!(patched.status, 200, "{}", patched.text());
    let mut events = post(deployment, &client, 3).await;
    let rotate = format!("{CONFIG}/signing-secret/rotate?tenant_id={TENANT}");
    assert_eq!(client.post(&rotate, &json!({"grace_seconds": 600})).await.status, 200);
    // The service now signs with both secrets, and the receiver knows only the old secret.
    events.extend(post(deployment, &client, 1).await);
    let mut expected: Vec<String> = events.iter().map(|id| format!("{id} user_message")).collect();
    let mut worked_on: Vec<String> = events.iter().map(|_| receiver.next()).collect();
    expected.sort();
    worked_on.sort();
    assert_eq!(worked_on, expected);
    assert_eq!(outcomes(deployment).await, ["delivered"; 4]);

    let stranger = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    assert_eq!(send(receiver, stranger, "evt_forged", Duration::ZERO).await, 401);
    assert_eq!(send(receiver, secret, "evt_old", Duration::from_mins(10)).await, 401);
    for _ in 0..2 {
        assert_eq!(send(receiver, secret, "evt_twice", Duration::ZERO).await, 204);
    }
    assert_eq!(send(receiver, secret, "evt_last", Duration::ZERO).await, 204);
    assert_eq!([receiver.next(), receiver.next()], ["evt_twice user_message", "evt_last user_message"]);
}

async fn post(deployment: &Deployment, client: &Client, count: usize) -> Vec<EventId> {
    let events = deployment.post(std::slice::from_ref(client), &["agent-1".to_owned()], count).await;
    deployment.drained(PATIENCE).await;
    events
}

/// Signs and sends a message of this age.
async fn send(receiver: &Running, secret: &str, id: &str, age: Duration) -> u16 {
    let body = json!({"type": "user_message", "test": false, "data": {"event_id": id}}).to_string();
    let timestamp = (SystemTime::now() - age).duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
    let signature = Webhook::new(secret).unwrap().sign(id, timestamp, body.as_bytes()).unwrap();
    let request = plain_client().post(&receiver.url).body(body).header("webhook-id", id);
    let request = request.header("webhook-timestamp", timestamp.to_string()).header("webhook-signature", signature);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rust_receiver_of_the_integrators_page_works() {
    assert_eq!(snippet("rust"), include_str!("../snippets/rust/receiver.rs"));
    let (deployment, service, secret) = deployed().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/webhook", listener.local_addr().unwrap());
    let (work, mut todo) = tokio::sync::mpsc::unbounded_channel::<Value>();
    let (sender, lines) = mpsc::channel();
    let app = rust_receiver::app(&secret, work);
    tokio::spawn(async move { axum::serve(listener, app).await });
    tokio::spawn(async move {
        while let Some(message) = todo.recv().await {
            let line =
                format!("{} {}", message["data"]["event_id"].as_str().unwrap(), message["type"].as_str().unwrap());
            drop(sender.send(line));
        }
    });
    receives(&deployment, &service, &secret, &Running { url, lines, _process: None }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_receiver_of_the_integrators_page_works() {
    let Some(modules) = installed("node", "node/node_modules") else { return };
    let (deployment, service, secret) = deployed().await;
    let directory = TempDir::new();
    std::fs::write(directory.path().join("receiver.mjs"), snippet("javascript")).unwrap();
    std::os::unix::fs::symlink(modules, directory.path().join("node_modules")).unwrap();
    let mut node = Command::new("node");
    node.arg("receiver.mjs").current_dir(directory.path());
    receives(&deployment, &service, &secret, &run(node, directory, &secret)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_receiver_of_the_integrators_page_works() {
    let Some(library) = installed("python3", "python") else { return };
    let (deployment, service, secret) = deployed().await;
    let directory = TempDir::new();
    std::fs::write(directory.path().join("receiver.py"), snippet("python")).unwrap();
    let mut python = Command::new("python3");
    python.arg("receiver.py").current_dir(directory.path()).env("PYTHONPATH", library);
    receives(&deployment, &service, &secret, &run(python, directory, &secret)).await;
}
