//! The processes of the service: two APIs and a worker that run from start to end, and a worker that is killed repeatedly.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde_json::json;

use super::findings::Findings;
use super::plan::directory;
use super::sample::ProcessUse;
use super::traffic::{self, Endpoint};
use crate::http::request;
use crate::prepare::TENANT;
use crate::receiver::now_us;
use crate::service::{Service, create_token};

/// The deadline of an attempt. This is the default, repeated here because the number of hanging endpoints depends on it.
const TIMEOUT_MS: u32 = 5_000;
/// This port of a loopback address refuses connections, because no program listens there.
const REFUSING_PORT: u16 = 1;

/// Deliveries by outcome, and the number of late outcomes.
pub(crate) type Outcomes = BTreeMap<String, u64>;

#[derive(Debug)]
pub(crate) struct Processes {
    database_url: String,
    pub(crate) token: String,
    pub(crate) apis: Vec<Service>,
    steady: Service,
    victim: Service,
    /// The outcomes in the metrics of killed workers, read just before each kill.
    counted: Outcomes,
    /// When workers were killed, in microseconds since 1970.
    pub(crate) kills: Vec<i64>,
    started: u8,
}

impl Processes {
    pub(crate) async fn start(database_url: String) -> Self {
        let token = create_token(&database_url, TENANT);
        let mut started = 0;
        let mut start = async |part: &str| start(part, &database_url, &token, &mut started).await;
        let apis = vec![start("api").await, start("api").await];
        let (steady, victim) = (start("worker").await, start("worker").await);
        Self { apis, steady, victim, database_url, token, counted: Outcomes::new(), kills: Vec::new(), started }
    }

    /// Sets every agent's push config. All endpoints that accept connections have the address `receiver` (`host:port`).
    pub(crate) async fn configure(&self, receiver: &str) {
        let mut stream = self.apis[0].connect().await;
        for (agent, kind) in traffic::agents() {
            let url = match kind {
                Endpoint::Refusing => format!("http://{}:{REFUSING_PORT}/", address(0)),
                answers => format!("http://{receiver}/{}", answers.name()),
            };
            let events = ["new_session_started", "ai_assistant_message", "user_message", "transferred_to_live_agent"];
            let body = json!({ "enabled": true, "url": url, "events": events, "timeout_ms": TIMEOUT_MS }).to_string();
            let text = self.apis[0].request("PUT", &format!("/v1/agents/{agent}/push-config"), &body);
            let answer = request(&mut stream, &text).await;
            assert_eq!(answer.status(), 200, "{}", String::from_utf8_lossy(&answer.body));
        }
    }

    /// Kills a worker with SIGKILL and starts another.
    pub(crate) async fn kill_worker(&mut self) {
        let counted = outcomes(&self.victim).await;
        self.kills.push(now_us());
        self.victim.kill();
        add(&mut self.counted, counted);
        self.victim = start("worker", &self.database_url, "", &mut self.started).await;
    }

    /// Every process that should run, with its name in the report.
    fn all(&mut self) -> Vec<(&'static str, &mut Service)> {
        let apis = ["api-1", "api-2"].into_iter().zip(&mut self.apis);
        apis.chain([("worker-1", &mut self.steady), ("worker-2", &mut self.victim)]).collect()
    }

    /// True if all processes run. Adds a finding for each process that has exited.
    pub(crate) fn all_run(&mut self, findings: &Findings) -> bool {
        let ended: Vec<&str> =
            self.all().into_iter().filter_map(|(name, process)| process.has_ended().then_some(name)).collect();
        for name in &ended {
            findings.add("a process ended unexpectedly", name);
        }
        ended.is_empty()
    }

    /// The memory and the open files of each process.
    pub(crate) fn usage(&mut self) -> Vec<ProcessUse> {
        self.all().into_iter().map(|(_, process)| ProcessUse::of(process.process_id())).collect()
    }

    /// Outcomes in the metrics of all workers, including killed workers.
    pub(crate) async fn outcomes(&self) -> Outcomes {
        let mut sum = self.counted.clone();
        for worker in [&self.steady, &self.victim] {
            add(&mut sum, outcomes(worker).await);
        }
        sum
    }

    /// Accepted events in the metrics of the APIs.
    pub(crate) async fn accepted(&self) -> u64 {
        let mut sum = 0;
        for api in &self.apis {
            sum += series(&api.metrics().await, "flametree_events_accepted_total").map(|(_, count)| count).sum::<u64>();
        }
        sum
    }

    /// How many outcomes arrived after the reaper had recorded `interrupted` for a worker that was still alive.
    pub(crate) async fn late_outcomes(&self) -> u64 {
        let metrics = [self.steady.metrics().await, self.victim.metrics().await];
        metrics.iter().flat_map(|text| series(text, "flametree_late_outcomes_total")).map(|(_, count)| count).sum()
    }

    pub(crate) fn stop(self) {
        for process in self.apis.into_iter().chain([self.steady, self.victim]) {
            process.stop();
        }
    }
}

async fn start(part: &str, database_url: &str, token: &str, started: &mut u8) -> Service {
    *started += 1;
    let log = log_file(&format!("{part}-{started}"));
    Service::start_at(address(*started), part, database_url, token, log).await
}

pub(crate) fn log_file(name: &str) -> File {
    File::create(log_path(name)).unwrap()
}

pub(crate) fn log_path(name: &str) -> PathBuf {
    directory().join(format!("{name}.log"))
}

/// A loopback address that only this run uses, so that all its ports are free.
fn address(number: u8) -> Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 32 + (high & 31), low, number)
}

async fn outcomes(worker: &Service) -> Outcomes {
    let text = worker.metrics().await;
    let outcome = |(labels, count): (&str, u64)| {
        let name = labels.split_once("outcome=\"").unwrap().1.split('"').next().unwrap();
        (name.to_owned(), count)
    };
    let mut outcomes = Outcomes::new();
    add(&mut outcomes, series(&text, "flametree_deliveries_total").map(outcome));
    outcomes
}

fn add(sum: &mut Outcomes, more: impl IntoIterator<Item = (String, u64)>) {
    for (outcome, count) in more.into_iter().filter(|(_, count)| *count > 0) {
        *sum.entry(outcome).or_default() += count;
    }
}

/// Returns the labels and the value of each series of a counter.
fn series<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
    text.lines().filter_map(move |line| {
        let (labels, count) = line.strip_prefix(name)?.rsplit_once(' ')?;
        Some((labels, count.parse().ok()?))
    })
}
