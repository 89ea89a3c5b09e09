//! How claimers learn of new work without asking the database.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::pool::ChannelQueue;
use crate::store::accept::ReadyDelivery;
use crate::store::queue::hints;
use crate::store::{Db, with_timeout};
use crate::supervision::Stage;
use crate::telemetry::metrics::TaskName;

/// Between two hints to other processes: what comes meanwhile is in the next one.
const HINT_PAUSE: Duration = Duration::from_millis(10);

/// Tells claimers that deliveries are ready: those of this process where they are, those of others that there is work.
/// Whoever is not told finds the deliveries by the search.
#[derive(Debug, Clone, Default)]
pub struct Wakeup {
    channels: Vec<Arc<ChannelQueue>>,
    others: Option<Arc<Notify>>,
}

impl Wakeup {
    pub(super) fn new(channels: Vec<Arc<ChannelQueue>>) -> Self {
        Self { channels, others: None }
    }

    /// For a process without claimers. A task of the stage sends the hints to the others.
    pub fn of_others(db: Db, stage: &Stage) -> Self {
        let others = Arc::new(Notify::new());
        stage.spawn(TaskName::HintSender, |stop| send_hints(db, Arc::clone(&others), stop));
        Self { channels: Vec::new(), others: Some(others) }
    }

    /// Deliveries are committed and ready.
    pub fn ready(&self, deliveries: &[ReadyDelivery]) {
        for queue in &self.channels {
            queue.ready(deliveries);
        }
        if let Some(others) = self.others.as_ref().filter(|_| !deliveries.is_empty()) {
            others.notify_one();
        }
    }

    /// Another process says that there is work. Many calls in a short time cause one scan, which begins after the last one.
    pub fn search(&self) {
        for queue in &self.channels {
            queue.search();
        }
    }
}

async fn send_hints(db: Db, wanted: Arc<Notify>, stop: CancellationToken) {
    while stop.run_until_cancelled(wanted.notified()).await.is_some() {
        if let Err(error) = with_timeout(hints::notify(&db)).await {
            tracing::debug!(%error, "a hint of ready deliveries was not sent; the search finds them");
        }
        tokio::time::sleep(HINT_PAUSE).await;
    }
}
