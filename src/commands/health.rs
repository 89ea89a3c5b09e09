//! `health`: checks the process that runs with the same settings. Containers use this command, because they have no `curl`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::body::Bytes;
use axum::http::StatusCode;
use clap::Args;
use flametree_notify::config::Config;
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Timeout of the check. The checked process waits for its database for a shorter time.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct Health {
    /// Check a `worker`, which has no API, at the address of its metrics.
    #[arg(long)]
    worker: bool,
}

impl Health {
    /// Runs the check. The error names the URL that failed.
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<()> {
        let (address, path) =
            if self.worker { (config.metrics_addr, "/livez") } else { (config.listen_addr, "/readyz") };
        let url = format!("http://{}{path}", reachable(address));
        let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let answer = client.get(url.parse().context("the address is not a URL")?);
        let answer =
            tokio::time::timeout(TIMEOUT, answer).await.with_context(|| format!("{url} did not respond in time"))?;
        let status = answer.with_context(|| format!("{url} does not respond"))?.status();
        ensure!(status == StatusCode::OK, "{url} returned {status}");
        Ok(())
    }
}

/// Returns an address that reaches the listener, even if the listener is bound to all addresses.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
