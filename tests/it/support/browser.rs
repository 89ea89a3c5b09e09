//! Runs the scripts in the folder `tests/browser/`. Each script drives real browsers against a separate deployment.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::deployment::{Deployment, TENANT};
use super::jwt::SECRET;
use super::push::{KEY, SUBJECT};
use super::service::{Settings, own_address};

/// A time limit that is longer than any script takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);

/// Only one browser script runs at a time, because browsers need much memory and CPU time while they start.
static BROWSERS: Semaphore = Semaphore::const_new(1);

/// A deployment with portal users and browser push, and the address of its push service.
pub(crate) struct Portal {
    pub(crate) deployment: Deployment,
    /// The address at which a script may start a push service. The push service uses port 8180 for WebSocket and port 8182 for
    /// HTTP.
    push_address: Ipv4Addr,
}

impl Portal {
    pub(crate) async fn new() -> Self {
        let mut deployment = Deployment::new().await;
        let push_address = own_address();
        deployment.settings = deployment
            .settings
            .with("FLAMETREE_JWT_SECRET", SECRET)
            .with("FLAMETREE_PUSH_HOSTS", &format!("{push_address}:8182"));
        Self { deployment, push_address }
    }

    /// Settings for processes without browser push.
    pub(crate) fn without_push(&self) -> Settings {
        self.deployment.settings.clone()
    }

    /// Settings for processes with browser push.
    pub(crate) fn with_push(&self) -> Settings {
        self.without_push().with("FLAMETREE_VAPID_PRIVATE_KEY", KEY[0]).with("FLAMETREE_VAPID_SUBJECT", SUBJECT)
    }

    /// Starts the script `tests/browser/{name}.mjs`, which opens the portal at this address.
    pub(crate) async fn script(&self, name: &str, portal: &str) -> Script {
        let permit = BROWSERS.acquire().await.unwrap();
        let script = root().join("tests/browser").join(name).with_extension("mjs");
        let node = root().join("target/browser/node/node_modules");
        assert!(node.exists() && script.exists(), "run scripts/install browsers to run {}", script.display());
        let mut child = Command::new("dbus-run-session")
            .args(["--", "node"])
            .arg(&script)
            .env("PORTAL", format!("http://{portal}"))
            .env("TENANT", TENANT)
            .env("JWT_SECRET", SECRET)
            .env("SERVICE_TOKEN", &self.deployment.token)
            .env("PUSH_ADDRESS", self.push_address.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let answers = child.stdin.take().unwrap();
        Script { name: name.to_owned(), child, lines, answers, _permit: permit }
    }

    /// Runs a script that sends no requests to the test, and expects success.
    pub(crate) async fn run(&self, name: &str, portal: &str) {
        self.script(name, portal).await.ends_well().await;
    }
}

/// A running script.
pub(crate) struct Script {
    name: String,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    answers: ChildStdin,
    _permit: SemaphorePermit<'static>,
}

impl Script {
    /// Waits for the script's next request to the test. Fails if this is not the expected request.
    pub(crate) async fn asks(&mut self, request: &str) {
        let asked = self.next().await;
        assert_eq!(asked.as_deref(), Some(request), "the request of {} (None: the script ended)", self.name);
    }

    /// Reports to the script that the test has finished the requested action.
    pub(crate) async fn answer(&mut self, answer: &str) {
        self.answers.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
    }

    pub(crate) async fn ends_well(mut self) {
        let asked = self.next().await;
        assert_eq!(asked, None, "{} has an unexpected request", self.name);
        let status = timeout(PATIENCE, self.child.wait()).await.expect("the script ends").unwrap();
        assert!(status.success(), "{} ended with {status}", self.name);
    }

    /// The script's next request, or `None` when the script's output ends. Prints all other output.
    async fn next(&mut self) -> Option<String> {
        loop {
            let line = timeout(PATIENCE, self.lines.next_line()).await;
            let line = line.unwrap_or_else(|_elapsed| panic!("{} prints nothing", self.name)).unwrap()?;
            match line.strip_prefix('@') {
                Some(request) => return Some(request.to_owned()),
                None => println!("{}: {line}", self.name),
            }
        }
    }
}

impl Drop for Script {
    /// Kills the script and its browsers. If the kill returns an error, all of these processes have already exited.
    fn drop(&mut self) {
        if let Some(id) = self.child.id() {
            killpg(Pid::from_raw(i32::try_from(id).unwrap()), Signal::SIGKILL).unwrap_or_default();
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
