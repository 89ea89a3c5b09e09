//! The service as it is shipped: the release build of the binary, in processes of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::net::{TcpStream, ToSocketAddrs};

use crate::http::{self, request};
use crate::prepare::TENANT;

const API: &str = "127.0.0.1:9902";
const METRICS: &str = "127.0.0.1:9903";
/// Where the first worker has its metrics; the others count on.
const WORKERS_METRICS_PORT: u16 = 9910;
/// Any key will do.
const ENCRYPTION_KEYS: &str = "bench:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A running service; ended when dropped.
#[derive(Debug)]
pub(crate) struct Service {
    process: Child,
    token: String,
}

impl Service {
    /// Starts `flametree-notify <part>` on a migrated database, with `settings` beside the defaults; what it serves last is there.
    pub(crate) async fn start(part: &str, database_url: &str, settings: &[(&str, &str)]) -> Self {
        let mut create = command(database_url);
        create.args(["token", "create", "--name", "bench", "--role", "admin", "--tenant", TENANT]);
        let created = create.output().unwrap();
        assert!(created.status.success(), "no token: {}", String::from_utf8_lossy(&created.stderr));
        let token = String::from_utf8(created.stdout).unwrap().trim().to_owned();
        let process = command(database_url).arg(part).envs(settings.iter().copied()).spawn().unwrap();
        let service = Self { process, token };
        listens(if part == "worker" { METRICS } else { API }).await;
        service
    }

    /// Starts so many workers at once. They serve no API: no token is theirs.
    pub(crate) async fn workers(database_url: &str, count: u16) -> Vec<Self> {
        let mut workers = Vec::new();
        let addresses = (0..count).map(|number| SocketAddr::from((Ipv4Addr::LOCALHOST, WORKERS_METRICS_PORT + number)));
        for address in addresses.clone() {
            let mut command = command(database_url);
            let process = command.arg("worker").env("FLAMETREE_METRICS_ADDR", address.to_string()).spawn().unwrap();
            workers.push(Self { process, token: String::new() });
        }
        for address in addresses {
            listens(address).await;
        }
        workers
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(API).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// The text of a request to the API.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> Vec<u8> {
        http::json(method, path, &self.token, body)
    }

    /// Sets the push config of an agent through the API: signed, for all events.
    pub(crate) async fn set_push_config(&self, agent: &str, url: &str) {
        let events = ["new_session_started", "ai_assistant_message", "user_message", "transferred_to_live_agent"];
        let body = json!({ "enabled": true, "url": url, "events": events, "timeout_ms": 10_000 }).to_string();
        let text = self.request("PUT", &format!("/v1/agents/{agent}/push-config"), &body);
        let answer = request(&mut self.connect().await, &text).await;
        assert_eq!(answer.status(), 200, "{}", String::from_utf8_lossy(&answer.body));
    }

    /// Everything that the service measures of itself.
    pub(crate) async fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(METRICS).await.unwrap();
        let answer = request(&mut stream, b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        String::from_utf8(answer.body).unwrap()
    }

    /// Resident memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process_id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Ends in order.
    pub(crate) fn stop(mut self) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), Signal::SIGTERM).unwrap();
        assert!(self.process.wait().unwrap().success(), "the service did not stop well");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            self.process.kill().unwrap();
            self.process.wait().unwrap();
        }
    }
}

async fn listens(address: impl ToSocketAddrs + Copy) {
    while TcpStream::connect(address).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn command(database_url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flametree-notify"));
    command
        .env_clear()
        .env("DATABASE_URL", database_url)
        .env("FLAMETREE_LISTEN_ADDR", API)
        .env("FLAMETREE_METRICS_ADDR", METRICS)
        .env("FLAMETREE_ENCRYPTION_KEYS", ENCRYPTION_KEYS)
        .env("FLAMETREE_ALLOWED_NETWORKS", "127.0.0.0/8")
        .env("FLAMETREE_ALLOW_HTTP", "true")
        .env("FLAMETREE_LOG", "warn")
        .stdin(Stdio::null());
    command
}
