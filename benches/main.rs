//! `make bench`: measures the service against its goals and its peers, on one machine, in one run.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench may panic, and asks its own questions"
)]

mod drain;
mod engine;
mod prepare;
mod profile;
mod server;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run());
}

async fn run() {
    let server = server::Server::start();
    let n: usize = std::env::var("N").map_or(100_000, |n| n.parse().unwrap());
    for endpoints in [20, 1, 1000] {
        let rate = drain::noop(&server, endpoints, n).await;
        eprintln!("noop {endpoints}: {rate:.0}/s");
    }
}
