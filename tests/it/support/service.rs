//! Runs the real binary as a separate process, which is killed with its children when the test ends.

use std::fs::{File, read_to_string};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::answer::Answer;
use super::client::Client;
use super::temp_dir::TempDir;
use super::waiting::within;

/// The shortest lease that the settings allow.
pub const LEASE_SECONDS: &str = "11";
pub const ENCRYPTION_KEYS: &str = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const API_PORT: u16 = 8080;
const METRICS_PORT: u16 = 9464;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Run,
    Api,
    Worker,
}

/// A schedule for tests that cannot wait for a minute.
pub const EACH_SECOND: &str = "* * * * * *";

/// The program and settings of a deployment's processes.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    values: Vec<(String, String)>,
    program: Option<PathBuf>,
}

impl Settings {
    /// On an existing database.
    pub fn on(database_url: &str) -> Self {
        Self::default().with("DATABASE_URL", database_url).with("FLAMETREE_ENCRYPTION_KEYS", ENCRYPTION_KEYS)
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.values.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts processes of the previous release if the test run has its binary, and otherwise of this release.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "`make compatibility` sets the path of the previous release")]
    pub fn of_previous_release(mut self) -> Self {
        self.program = std::env::var_os("PREVIOUS_RELEASE").map(PathBuf::from);
        self
    }

    pub fn command(&self) -> Command {
        let this = || PathBuf::from(env!("CARGO_BIN_EXE_flametree-notify"));
        let mut command = Command::new(self.program.clone().unwrap_or_else(this));
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("RUST_BACKTRACE", "1")
            .env("FLAMETREE_ALLOWED_NETWORKS", "127.0.0.0/8")
            .env("FLAMETREE_ALLOW_HTTP", "true")
            .env("FLAMETREE_LEASE_SECONDS", LEASE_SECONDS)
            .env("FLAMETREE_LOG_FORMAT", "text")
            // Tests post many events for one tenant, so the rate limit is high.
            .env("FLAMETREE_TENANT_EVENTS_PER_SECOND", "1000000")
            .envs(self.values.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Starts a process and waits until it is ready.
    pub async fn start(&self, part: Part) -> Service {
        let mut service = self.spawn(part);
        service.runs().await;
        service
    }

    /// Starts a process without waiting until it is ready. The process can fail at start.
    pub fn spawn(&self, part: Part) -> Service {
        let address = own_address();
        let output = TempDir::new();
        let log = output.path().join("output");
        let file = File::create(&log).unwrap();
        let argument = match part {
            Part::Run => "run",
            Part::Api => "api",
            Part::Worker => "worker",
        };
        let child = self
            .command()
            .arg(argument)
            .env("FLAMETREE_LISTEN_ADDR", SocketAddr::from((address, API_PORT)).to_string())
            .env("FLAMETREE_METRICS_ADDR", SocketAddr::from((address, METRICS_PORT)).to_string())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Service { part, child, address, log, _output: output }
    }
}

pub struct Service {
    part: Part,
    child: Child,
    address: Ipv4Addr,
    log: PathBuf,
    _output: TempDir,
}

impl Service {
    async fn runs(&mut self) {
        let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
        while !self.has_logged("the service runs") {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the process has ended with {status}:\n{}", self.output());
            }
            assert!(tokio::time::Instant::now() < deadline, "the process does not run:\n{}", self.output());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if self.part != Part::Worker {
            within(Duration::from_secs(20), "the API is ready", async || self.readiness().await == Some(200)).await;
        }
    }

    pub fn client(&self, token: &str) -> Client {
        Client::new(SocketAddr::from((self.address, API_PORT)), token)
    }

    pub fn metrics_address(&self) -> SocketAddr {
        SocketAddr::from((self.address, METRICS_PORT))
    }

    /// True if a health check with the settings of this process succeeds.
    pub fn is_healthy(&self, settings: &Settings, arguments: &[&str]) -> bool {
        let mut command = settings.command();
        command.args(arguments).env("FLAMETREE_METRICS_ADDR", self.metrics_address().to_string());
        command.env("FLAMETREE_LISTEN_ADDR", SocketAddr::from((self.address, API_PORT)).to_string());
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    /// The status of the readiness check, if a response arrives.
    pub async fn readiness(&self) -> Option<u16> {
        let answer = self.client("").request(http::Method::GET, "/readyz", None).await;
        answer.ok().map(|answer: Answer| answer.status)
    }

    /// The metrics as Prometheus scrapes them.
    pub async fn metrics(&self) -> String {
        Client::new(self.metrics_address(), "").get("/metrics").await.text().to_owned()
    }

    /// The sum of a metric's series.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.metrics().await;
        let series = text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    pub fn output(&self) -> String {
        read_to_string(&self.log).unwrap()
    }

    pub fn has_logged(&self, text: &str) -> bool {
        self.output().contains(text)
    }

    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(id), signal).unwrap();
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the process to stop, waits until it has exited, and returns its output.
    pub async fn stop(mut self) -> String {
        self.signal(Signal::SIGTERM);
        let status = self.ended().await;
        assert!(status.success(), "{status}:\n{}", self.output());
        self.output()
    }

    /// Waits until a failpoint has killed the process.
    pub async fn crashed(mut self) {
        let status = self.ended().await;
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "{status}:\n{}", self.output());
    }

    /// Waits until the process has exited with an error, and returns its output.
    pub async fn failed(mut self) -> String {
        let status = self.ended().await;
        assert_eq!(status.code(), Some(1), "{status}:\n{}", self.output());
        self.output()
    }

    async fn ended(&mut self) -> ExitStatus {
        let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(tokio::time::Instant::now() < deadline, "the process does not end:\n{}", self.output());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let output = self.output();
            let lines: Vec<_> = output.lines().collect();
            eprintln!("--- {:?}\n{}", self.part, lines[lines.len().saturating_sub(30)..].join("\n"));
        }
        // An error here means that the process has already exited.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An address of this machine that no other process of the tests uses, so that all ports are free. Every address in 127.0.0.0/8
/// is local, and outgoing connections use the source address 127.0.0.1.
pub fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let number = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let network = 64 + (high & 31) + if number[2] % 2 == 1 { 32 } else { 0 };
    Ipv4Addr::new(127, network, low, number[3])
}
