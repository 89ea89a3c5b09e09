//! `make bench`: measures the service against its goals and its peers, on one machine, in one run.
//!
//! `QUICK=1` makes every measurement shorter. `FIGURES=noop,http` runs only the named measurements and writes no file.
//! `FIGURES=workers` measures several worker processes, `FIGURES=scale` measures many ready deliveries, and
//! `FIGURES=neighbours` measures how one tenant can affect another. `BENCH_PROFILE=1` shows the server's slowest statements.
//!
//! Nothing is mocked: the measurements use a real server with default durability, the shipped binary and real requests. This
//! program also runs `make soak` (`soak/`).
#![expect(
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, runs SQL statements, and may panic"
)]

mod drain;
mod engine;
mod http;
mod ingest;
mod latency;
mod limits;
mod load;
mod neighbours;
mod peers;
mod prepare;
mod profile;
mod push;
mod receiver;
mod report;
mod scale;
mod server;
mod service;
mod soak;
mod streams;

use std::process::ExitCode;
use std::time::Duration;

use receiver::Receiver;
use report::Goal::{AtLeast, AtMost, Shown};
use report::Report;
use server::Server;
use tikv_jemallocator::Jemalloc;

/// One measurement runs the queue in this process, so this process uses the allocator of the release build.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// How many deliveries, jobs, events and rounds the measurements use, and how long the measurements last.
struct Extent {
    deliveries: usize,
    peer_jobs: usize,
    events: usize,
    many_ready: usize,
    paced: Duration,
    snapshot: Duration,
    /// How many times each throughput is measured. Compared measurements alternate, and the report shows medians, because
    /// other load on the machine affects each single measurement.
    rounds: usize,
}

const FULL: Extent = Extent {
    deliveries: 100_000,
    peer_jobs: 20_000,
    events: 40_000,
    many_ready: 2_000_000,
    paced: Duration::from_secs(20),
    snapshot: Duration::from_mins(5),
    rounds: 3,
};
const QUICK: Extent = Extent {
    deliveries: 30_000,
    peer_jobs: 5_000,
    events: 10_000,
    many_ready: 200_000,
    paced: Duration::from_secs(5),
    snapshot: Duration::from_secs(30),
    rounds: 1,
};

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(receiver::ARGUMENT) {
        receiver::main();
        return ExitCode::SUCCESS;
    }
    // The benchmark of reqwest does not use TLS, but the client requires a cryptography provider.
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if std::env::args().any(|argument| argument == soak::ARGUMENT) {
        return runtime.block_on(soak::main());
    }
    let quick = std::env::var("QUICK").is_ok_and(|quick| !matches!(quick.as_str(), "" | "0"));
    let report = runtime.block_on(run(if quick { QUICK } else { FULL }, quick));
    ExitCode::from(u8::from(report.is_short()))
}

async fn run(extent: Extent, quick: bool) -> Report {
    let server = Server::start();
    let receiver = Receiver::start().await;
    let mut report = Report::default();
    let chosen = std::env::var("FIGURES").ok();
    let named = |figure: &str| chosen.as_ref().is_some_and(|chosen| chosen.split(',').any(|one| one == figure));
    let wanted = |figure: &str| chosen.is_none() || named(figure);
    if wanted("noop") {
        drains_without_sending(&mut report, &server, &extent).await;
    }
    if wanted("ready") {
        drain_of_many(&mut report, &server, &extent).await;
    }
    if wanted("http") {
        drains_by_http(&mut report, &server, &receiver, &extent, wanted("peers")).await;
    }
    if wanted("ingest") {
        for (name, batch, goal) in [("single events", 1, 8_000.0), ("batches of 100 events", 100, 14_000.0)] {
            let rate = ingest::to_endpoint(&server, &receiver, extent.events, batch).await;
            report.add(format!("{name}, 64 connections, until all are delivered"), rate, "events/s", AtLeast(goal));
        }
    }
    if wanted("latency") {
        let latency = latency::alone(&server, &receiver, 500, extent.paced).await;
        report.add("accepted to request at 500 events/s, p50", latency.p50, "ms", AtMost(4.0));
        report.add("accepted to request at 500 events/s, p99", latency.p99, "ms", AtMost(20.0));
    }
    if wanted("isolation") {
        let p99 = latency::isolation(&server, &receiver, 500, extent.paced / 2).await;
        report.add("healthy p99, half of 500 events/s alone", p99.half_traffic, "ms", Shown);
        report.add("healthy p99, 500 events/s to healthy endpoints", p99.all_healthy, "ms", Shown);
        report.add("healthy p99, half of 500 events/s to a dead endpoint", p99.beside_dead, "ms", Shown);
        report.add("healthy p99 with a dead endpoint, relative", p99.beside_dead / p99.all_healthy, "x", AtMost(1.2));
    }
    if wanted("memory") {
        let memory = ingest::memory(&server, &receiver).await / f64::from(1 << 20);
        report.add("resident memory with 5,000 hanging requests", memory, "MiB", AtMost(150.0));
    }
    if wanted("streams") {
        let streams = streams::held(&server).await;
        report.add("resident memory with 10,000 streams", streams.memory / f64::from(1 << 20), "MiB", AtMost(300.0));
        report.add("an event posted until 10,000 streams have its badge", streams.told_all, "ms", Shown);
    }
    if wanted("push") {
        browser_push(&mut report, &server, &receiver, &extent).await;
    }
    if wanted("snapshot") {
        let p99 = latency::claims_beside_a_snapshot(&server, &receiver, 800, extent.snapshot).await;
        report.add("claim p99 at 800/s beside an open transaction", p99, "ms", AtMost(10.0));
    }
    by_name_only(&mut report, &server, &receiver, &extent, named).await;
    report.print();
    if chosen.is_none() {
        let date = chrono::Utc::now().format("%Y-%m-%d").to_string();
        report.write(&server.version().await, &date, quick);
    }
    report
}

/// Measurements that take long, or that show how the service scales and isolates tenants. They run only if `FIGURES` names them.
async fn by_name_only(
    report: &mut Report,
    server: &Server,
    receiver: &Receiver,
    extent: &Extent,
    named: impl Fn(&str) -> bool,
) {
    if named("neighbours") {
        neighbours::figures(report, server, receiver, extent.paced.min(Duration::from_secs(10))).await;
    }
    if named("scale") {
        scale::figures(report, server, extent.deliveries).await;
    }
    if named("workers") {
        scale::workers(report, server, receiver, extent.deliveries, extent.rounds).await;
    }
}

async fn drains_without_sending(report: &mut Report, server: &Server, extent: &Extent) {
    for endpoints in [20, 1, 1_000] {
        let mut rates = Vec::new();
        for _ in 0..extent.rounds {
            rates.push(drain::noop(server, endpoints, extent.deliveries, extent.deliveries).await);
        }
        let name = format!("drain without sending, {endpoints} endpoints");
        report.add(name, median(rates), "deliveries/s", AtLeast(50_000.0));
    }
}

async fn drain_of_many(report: &mut Report, server: &Server, extent: &Extent) {
    let (mut few, mut many) = (Vec::new(), Vec::new());
    for _ in 0..extent.rounds {
        few.push(drain::noop(server, 20, extent.deliveries, extent.deliveries).await);
        many.push(drain::noop(server, 20, extent.many_ready, extent.deliveries).await);
    }
    report.add(
        format!("drain of {} ready, relative to {}", extent.many_ready, extent.deliveries),
        median(many) / median(few),
        "x",
        AtLeast(0.9),
    );
}

async fn drains_by_http(report: &mut Report, server: &Server, receiver: &Receiver, extent: &Extent, peers: bool) {
    let (mut ours, mut alone, mut wal_bytes) = (Vec::new(), Vec::new(), 0.0);
    let mut theirs: Vec<Vec<f64>> = peers::PEERS.iter().map(|_| Vec::new()).collect();
    for _ in 0..extent.rounds {
        let drained = drain::http(server, receiver, drain::ENDPOINTS, extent.deliveries, 1).await;
        ours.push(drained.per_second);
        wal_bytes = drained.wal_bytes;
        alone.push(limits::reqwest_alone(extent.deliveries).await);
        for (peer, rates) in peers::PEERS.iter().zip(&mut theirs).filter(|_| peers) {
            rates.push(peer.drain(server, extent.peer_jobs).await);
        }
    }
    let ours = median(ours);
    report.add("drain by signed HTTP POST", ours, "deliveries/s", AtLeast(18_000.0));
    report.add("write-ahead log per event and delivery", wal_bytes, "bytes", AtMost(1_200.0));
    report.add("limit: reqwest alone", median(alone), "requests/s", Shown);
    if !peers {
        return;
    }
    let mut best = 0.0_f64;
    for (peer, rates) in peers::PEERS.iter().zip(theirs) {
        let rate = median(rates);
        best = best.max(rate);
        report.add(peer.name, rate, "deliveries/s", Shown);
    }
    report.add("drain by HTTP, relative to the best peer", ours / best, "x", AtLeast(2.0));
}

async fn browser_push(report: &mut Report, server: &Server, receiver: &Receiver, extent: &Extent) {
    let cost = push::cost(extent.peer_jobs / 2).await;
    report.add("browser push: encryption of a message", cost.encryption, "µs", Shown);
    report.add("browser push: signature of a token, kept for its push service", cost.signature, "µs", Shown);
    let rate = push::drained(server, receiver, extent.deliveries / 5).await;
    report.add("browser push: encrypted, signed and sent", rate, "messages/s", AtLeast(5_000.0));
    let fan_out = push::fan_out(server, extent.events / 100).await;
    report.add("browser push: posted until 20 browsers have it, p99", fan_out, "ms", Shown);
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
