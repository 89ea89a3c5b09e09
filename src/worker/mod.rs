//! The worker pools: apalis drives one per channel over the queue's claimed deliveries.
//!
//! apalis gives the worker, its data and the monitor. What an attempt costs, and how many there may be, the queue has
//! decided before a delivery comes here; apalis' own limits would stop a whole pool for one endpoint.

mod attempts;
mod browser_push;
mod operations;
mod webhooks;

use std::future::Future;

use apalis::prelude::{Monitor, WorkerBuilder};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use attempts::{Attempts, Ending};
pub use browser_push::{BrowserPush, count_subscriptions};
pub use operations::{Operations, Settings as OperationSettings};
pub use webhooks::Webhooks;

use crate::domain::delivery::Delivery;
use crate::domain::endpoint::Channel;
use crate::queue::ClaimedDeliveries;

/// One channel's pool: where its deliveries come from and who attempts them.
#[derive(Debug)]
pub struct Pool<F> {
    pub channel: Channel,
    pub claimed: ClaimedDeliveries,
    pub attempts: Attempts<F>,
}

/// The pools of this process, under one monitor.
#[derive(Default)]
pub struct Workers {
    monitor: Monitor,
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers").finish_non_exhaustive()
    }
}

impl Workers {
    /// Adds a pool. Its worker has the channel's name.
    #[must_use]
    pub fn with<F, Fut>(self, pool: Pool<F>) -> Self
    where
        F: Fn(Delivery) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Ending> + Send + 'static,
    {
        let Pool { channel, claimed, attempts } = pool;
        let monitor = self.monitor.register(move |_restarts| {
            WorkerBuilder::new(channel.as_str()).backend(claimed.clone()).build(attempts.clone())
        });
        Self { monitor }
    }

    /// Runs the pools on `tasks` until `stop`, which must come after the queue is drained: what is still in the pipes
    /// then is dropped, and so recorded as interrupted.
    pub fn start(self, tasks: &TaskTracker, stop: CancellationToken) {
        tasks.spawn(async move {
            let signal = async move {
                stop.cancelled().await;
                Ok(())
            };
            if let Err(error) = self.monitor.run_with_signal(signal).await {
                tracing::error!(%error, "the worker pools ended with an error");
            }
        });
    }
}
