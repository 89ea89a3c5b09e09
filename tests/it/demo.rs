//! Runs the demonstration as a user does, with the real binary, the embedded server and the demo receiver.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::temp_dir::TempDir;

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flametree-notify"));
    command.arg("demo").args(arguments).stdin(Stdio::null());
    command
}

fn data_directory(output: &str) -> &Path {
    let path = output.lines().find_map(|line| line.strip_prefix("Data in ")).unwrap();
    Path::new(path.split(" (").next().unwrap())
}

#[test]
fn every_expected_delivery_arrives_once_with_a_signature_and_is_stored() {
    // This test or another program occupies port 8080. The demonstration reports that the port is in use, and uses another port.
    let _taken = TcpListener::bind("127.0.0.1:8080");
    let output = demo(&["--exit"]).env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none").output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}\n{stderr}");
    for expected in [
        "Port 8080 is in use by another program: the API will be at 127.0.0.1:",
        "66 events posted, 46 deliveries expected",
        "46 arrived, 46 of them with a valid signature",
        "46 recorded: 39 delivered, 7 http_error",
        "every expected delivery arrived exactly once, with a valid signature, and is recorded",
    ] {
        assert!(stdout.contains(expected), "{expected:?} is missing in:\n{stdout}");
    }
    let rows = stdout.lines().filter(|line| line.contains("  valid  ")).count();
    assert_eq!(rows, 46, "{stdout}");
    assert!(!data_directory(&stdout).exists());
}

#[test]
fn the_demonstration_accepts_events_until_it_is_interrupted() {
    let parent = TempDir::new();
    let kept = parent.path().join("kept");
    let mut running = Running::start(&["--keep", kept.to_str().unwrap()]);
    running.read_until("Ctrl-C stops everything.");

    let curl = running.line_with("Hello from curl").to_owned();
    let between = |start: &str, end: &str| curl.split(start).nth(1).unwrap().split(end).next().unwrap();
    let (origin, token, body) = (between("http://", "/v1"), between("Bearer ", "'"), between("-d '", "'"));
    let answer = request(origin, &format!("POST /v1/events HTTP/1.1\r\nAuthorization: Bearer {token}"), body);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    running.read_until("customer: Hello from curl");
    portal_is_open(&running, &kept);
    assert!(request(origin, "GET /docs HTTP/1.1", "").starts_with("HTTP/1.1 303"));
    assert!(request(origin, "GET /v1/openapi.json HTTP/1.1", "").starts_with("HTTP/1.1 200"));

    running.interrupt();
    assert!(kept.join("cluster").exists());
}

/// The portal offers a choice of users to sign in as, and shows active conversations.
fn portal_is_open(running: &Running, kept: &Path) {
    let portal = running.line_with("Open the portal: http://localhost:");
    let port = portal.split("localhost:").nth(1).unwrap().split('/').next().unwrap();
    let origin = format!("127.0.0.1:{port}");
    assert!(request(&origin, "GET /portal/ HTTP/1.1", "").starts_with("HTTP/1.1 200"));

    strangers_get_no_tokens(&origin, port);
    let choices = json(&request(&origin, "GET /portal/sign-in.json HTTP/1.1", ""));
    let choices = choices["people"].as_array().unwrap();
    let tokens: Vec<_> = choices.iter().map(|one| one["token"].as_str().unwrap()).collect();
    let get = |path: &str, token: &str| {
        json(&request(&origin, &format!("GET {path} HTTP/1.1\r\nAuthorization: Bearer {token}"), ""))
    };
    let roles: Vec<_> = tokens.iter().map(|token| get("/v1/me", token)["role"].clone()).collect();
    assert_eq!(roles, ["admin", "agent_editor", "operator", "viewer"]);
    assert!(get("/v1/push/vapid-public-key", tokens[2])["public_key"].is_string());
    assert!(kept.join("vapid-private-key").exists());

    let deadline = Instant::now() + Duration::from_secs(30);
    while get("/v1/workspace/active-conversations", tokens[2])["count"] == 0 {
        assert!(Instant::now() < deadline, "no conversation waits");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A page of another origin gets no token from the demonstration, even if its host name resolves to this machine.
fn strangers_get_no_tokens(address: &str, port: &str) {
    let sign_in = "GET /portal/sign-in.json HTTP/1.1";
    let from = |site: &str| request(address, &format!("{sign_in}\r\nSec-Fetch-Site: {site}"), "");
    assert!(from("same-origin").starts_with("HTTP/1.1 200"));
    assert!(from("cross-site").starts_with("HTTP/1.1 404"));
    let localhost = format!("localhost:{port}");
    for path in [sign_in, "GET /v1/me HTTP/1.1", "GET /livez HTTP/1.1"] {
        let rebound = request_to(address, &format!("rebound.example:{port}"), path, "");
        assert!(rebound.starts_with("HTTP/1.1 404") && !rebound.contains("token"), "{rebound}");
        let own = request_to(address, &localhost, path, "");
        assert!(!own.starts_with("HTTP/1.1 404"), "{own}");
    }
}

fn json(answer: &str) -> serde_json::Value {
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn request(address: &str, head: &str, body: &str) -> String {
    request_to(address, address, head, body)
}

fn request_to(address: &str, host: &str, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let rest = "Connection: close\r\nContent-Type: application/json";
    write!(stream, "{head}\r\nHost: {host}\r\n{rest}\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    lines: Vec<String>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut child = demo(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout, lines: Vec::new() }
    }

    /// Reads lines until a line contains this text. Fails if the demonstration ends earlier.
    fn read_until(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            let read = self.stdout.read_line(&mut line).unwrap();
            assert!(read > 0, "ended before {text:?}:\n{}", self.lines.join(""));
            self.lines.push(line.clone());
        }
    }

    fn line_with(&self, text: &str) -> &str {
        self.lines.iter().find(|line| line.contains(text)).unwrap()
    }

    /// Interrupts the demonstration as Ctrl-C does, and waits until the process has ended.
    fn interrupt(mut self) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGINT).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After a failed test, stops the demonstration gracefully so that its PostgreSQL server stops too.
        if let (Ok(None), Ok(id)) = (self.child.try_wait(), i32::try_from(self.child.id())) {
            let asked = kill(Pid::from_raw(id), Signal::SIGINT);
            drop(asked.map(|()| self.child.wait()));
        }
    }
}
