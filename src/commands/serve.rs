//! The commands `run`, `api` and `worker` run until a signal. A second signal ends the process at once.

use anyhow::Context as _;
use flametree_notify::app::{self, Listeners, Part};
use flametree_notify::config::Config;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub(super) async fn run(config: Config, part: Part) -> anyhow::Result<()> {
    let listeners = Listeners::bind(&config, part).await?;
    let shutdown = CancellationToken::new();
    until_signals(&shutdown, Box::pin(app::run(config, part, listeners, shutdown.clone()))).await?
}

/// Runs `work` to completion. The first signal cancels `shutdown`. The second signal ends the process at once.
pub(super) async fn until_signals<T>(shutdown: &CancellationToken, work: impl Future<Output = T>) -> anyhow::Result<T> {
    let mut signals = Signals::new()?;
    let watch = async {
        signals.received().await;
        shutdown.cancel();
        signals.received().await;
        tracing::warn!("got a second signal; exiting at once");
        std::process::exit(1)
    };
    Ok(tokio::select! {
        result = work => result,
        never = watch => never,
    })
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        let terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        Ok(Self { interrupt, terminate })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
