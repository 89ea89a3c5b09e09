//! The worker pools. Each channel has an apalis worker that attempts the queue's claimed deliveries.
//!
//! apalis provides the worker and the monitor, and for operations also the limit, the handling of panics and the tracing. The
//! queue limits attempts before it passes deliveries to a pool. With the limits of apalis, one endpoint could stop a whole pool.

mod attempts;
mod browser_push;
mod operations;
mod push_pauses;
mod webhooks;

use std::future::Future;

use apalis::prelude::{Monitor, WorkerBuilder};
use tokio_util::sync::CancellationToken;

pub use attempts::{AttemptResult, Attempts};
pub use browser_push::{BrowserPush, count_subscriptions};
pub use operations::{Operations, Settings as OperationSettings};
pub use push_pauses::{PausedServices, read_push_pauses};
pub use webhooks::Webhooks;

use crate::domain::delivery::Delivery;
use crate::domain::endpoint::Channel;
use crate::queue::ClaimedDeliveries;
use crate::supervision::Stage;
use crate::telemetry::metrics::TaskName;

/// The pool of one channel: its claimed deliveries and the function that attempts them.
#[derive(Debug)]
pub struct Pool<F> {
    pub channel: Channel,
    pub claimed: ClaimedDeliveries,
    pub attempts: Attempts<F>,
}

/// The pools of this process. Each pool has its own monitor. A shared monitor would run until its last worker ends. This
/// would hide the failure of one pool.
#[derive(Default)]
pub struct Workers {
    monitors: Vec<Monitor>,
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers").finish_non_exhaustive()
    }
}

impl Workers {
    /// Adds a pool. The pool's worker has the name of its channel.
    #[must_use]
    pub fn with<F, Fut>(mut self, pool: Pool<F>) -> Self
    where
        F: Fn(Delivery) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = AttemptResult> + Send + 'static,
    {
        let Pool { channel, claimed, attempts } = pool;
        self.monitors.push(Monitor::new().register(move |_restarts| {
            WorkerBuilder::new(channel.as_str()).backend(claimed.backend()).build(attempts.clone())
        }));
        self
    }

    /// Runs the pools until `stage` ends. Stop the queue first. Deliveries that the pools have not started by then
    /// are dropped and recorded as interrupted.
    pub fn start(self, stage: &Stage) {
        for monitor in self.monitors {
            stage.spawn(TaskName::WorkerPool, |stop| run(monitor, stop));
        }
    }
}

/// Runs the worker of a monitor until `stop`. Returns earlier only if the worker failed; apalis turns a panic of the worker
/// into an error.
async fn run(monitor: Monitor, stop: CancellationToken) {
    let context = monitor.context();
    let mut running = std::pin::pin!(monitor.run());
    let ended = tokio::select! {
        ended = &mut running => ended,
        () = stop.cancelled() => {
            // `shutdown` only fails if the worker has already ended.
            drop(context.shutdown());
            running.await
        }
    };
    if let Err(error) = ended {
        tracing::error!(%error, "a worker ended with an error");
    }
}
