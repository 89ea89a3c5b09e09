//! The release build of the service, in separate processes.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::net::TcpStream;

use crate::http::{self, request};
use crate::prepare::TENANT;

const API: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9902));
const METRICS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9903));
/// The metrics port of the first worker; the next workers use the following ports.
const WORKERS_METRICS_PORT: u16 = 9910;
/// Any key works.
const ENCRYPTION_KEYS: &str = "bench:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A running service, stopped on drop.
#[derive(Debug)]
pub(crate) struct Service {
    process: Child,
    token: String,
    api: SocketAddr,
    metrics: SocketAddr,
}

impl Service {
    /// Starts `flametree-notify <part>` on a migrated database with additional `settings`, and waits until it listens.
    pub(crate) async fn start(part: &str, database_url: &str, settings: &[(&str, &str)]) -> Self {
        let mut command = command(database_url);
        command.envs(settings.iter().copied());
        Self::launch(command, part, create_token(database_url, TENANT), API, METRICS).await
    }

    /// Like [`Self::start`], but the service logs at the default level, and its log is discarded.
    pub(crate) async fn start_unheard(part: &str, database_url: &str, settings: &[(&str, &str)]) -> Self {
        let mut command = command(database_url);
        command.envs(settings.iter().copied()).env("FLAMETREE_LOG", "info").stderr(Stdio::null());
        Self::launch(command, part, create_token(database_url, TENANT), API, METRICS).await
    }

    /// Like [`Self::start`], but on a loopback address that no other process uses, and with the log in a file.
    pub(crate) async fn start_at(address: Ipv4Addr, part: &str, database_url: &str, token: &str, log: File) -> Self {
        let (api, metrics) = (SocketAddr::from((address, 8080)), SocketAddr::from((address, 9464)));
        let mut command = command(database_url);
        command.env("DATABASE_LISTEN_URL", database_url).env("FLAMETREE_LOG", "info");
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Self::launch(command, part, token.to_owned(), api, metrics).await
    }

    /// Starts `count` workers concurrently, without an API and without a token.
    pub(crate) async fn workers(database_url: &str, count: u16) -> Vec<Self> {
        let start = |number| {
            let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, WORKERS_METRICS_PORT + number));
            Self::launch(command(database_url), "worker", String::new(), API, metrics)
        };
        futures_util::future::join_all((0..count).map(start)).await
    }

    /// Starts a worker that receives notifications of ready deliveries from other processes.
    pub(crate) async fn listening_worker(database_url: &str) -> Self {
        let mut command = command(database_url);
        command.env("DATABASE_LISTEN_URL", database_url).env("FLAMETREE_LOG", "info").stderr(Stdio::null());
        let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, WORKERS_METRICS_PORT));
        Self::launch(command, "worker", String::new(), API, metrics).await
    }

    async fn launch(mut command: Command, part: &str, token: String, api: SocketAddr, metrics: SocketAddr) -> Self {
        command.arg(part).env("FLAMETREE_LISTEN_ADDR", api.to_string());
        command.env("FLAMETREE_METRICS_ADDR", metrics.to_string());
        let mut service = Self { process: command.spawn().unwrap(), token, api, metrics };
        while TcpStream::connect(if part == "worker" { metrics } else { api }).await.is_err() {
            assert!(!service.has_ended(), "flametree-notify {part} does not start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        service
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }

    /// The token of an admin of [`TENANT`].
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) fn api(&self) -> SocketAddr {
        self.api
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.api).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Formats a request to the API with the token of this service.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> Vec<u8> {
        http::json(method, path, &self.token, body)
    }

    /// Sets an agent's push config through the API. The webhooks are signed and sent for all events.
    pub(crate) async fn set_push_config(&self, agent: &str, url: &str) {
        let events = ["new_session_started", "ai_assistant_message", "user_message", "transferred_to_live_agent"];
        let body = json!({ "enabled": true, "url": url, "events": events, "timeout_ms": 10_000 }).to_string();
        let text = self.request("PUT", &format!("/v1/agents/{agent}/push-config"), &body);
        let answer = request(&mut self.connect().await, &text).await;
        assert_eq!(answer.status(), 200, "{}", String::from_utf8_lossy(&answer.body));
    }

    /// All metrics of the service.
    pub(crate) async fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.metrics).await.unwrap();
        let answer = request(&mut stream, b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        String::from_utf8(answer.body).unwrap()
    }

    /// Resident memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process_id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Kills the process with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Stops the process gracefully, with SIGTERM.
    pub(crate) fn stop(mut self) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), Signal::SIGTERM).unwrap();
        assert!(self.process.wait().unwrap().success(), "the service failed to stop");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if !self.has_ended() {
            self.kill();
        }
    }
}

/// Creates an API token for an admin of `tenant`.
pub(crate) fn create_token(database_url: &str, tenant: &str) -> String {
    let mut create = command(database_url);
    create.args(["token", "create", "--name", "bench", "--role", "admin", "--tenant", tenant]);
    let created = create.output().unwrap();
    assert!(created.status.success(), "no token: {}", String::from_utf8_lossy(&created.stderr));
    String::from_utf8(created.stdout).unwrap().trim().to_owned()
}

fn command(database_url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flametree-notify"));
    command
        .env_clear()
        .env("DATABASE_URL", database_url)
        .env("FLAMETREE_ENCRYPTION_KEYS", ENCRYPTION_KEYS)
        .env("FLAMETREE_ALLOWED_NETWORKS", "127.0.0.0/8")
        .env("FLAMETREE_ALLOW_HTTP", "true")
        .env("FLAMETREE_LOG", "warn")
        // A single tenant posts all events, so the limit per tenant must not apply.
        .env("FLAMETREE_TENANT_EVENTS_PER_SECOND", "0")
        .stdin(Stdio::null());
    command
}
