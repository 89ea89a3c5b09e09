//! Notifies claimers of ready deliveries, so that they need not poll the database.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::hint::{self, Hints};
use super::pool::ChannelQueue;
use crate::store::accept::ReadyDelivery;
use crate::store::queue::hints;
use crate::store::{Db, with_timeout};
use crate::supervision::Stage;
use crate::telemetry::metrics::TaskName;

/// Pause between two hints to other processes. The next hint names the lanes of deliveries that become ready meanwhile.
const HINT_PAUSE: Duration = Duration::from_millis(10);

/// Notifies claimers, in this process or in others, of lanes with ready deliveries. Discovery finds deliveries whose hint was
/// lost.
#[derive(Debug, Clone, Default)]
pub struct Wakeup {
    channels: Vec<Arc<ChannelQueue>>,
    others: Option<Arc<Others>>,
}

/// The next hints to other processes.
#[derive(Debug, Default)]
struct Others {
    hints: Mutex<Hints>,
    wanted: Notify,
}

impl Wakeup {
    pub(super) fn new(channels: Vec<Arc<ChannelQueue>>) -> Self {
        Self { channels, others: None }
    }

    /// Returns the notifier of a process without claimers. A task in `stage` sends the notifier's hints to other processes.
    pub fn of_others(db: Db, stage: &Stage) -> Self {
        let others = Arc::new(Others::default());
        stage.spawn(TaskName::HintSender, |stop| send_hints(db, Arc::clone(&others), stop));
        Self { channels: Vec::new(), others: Some(others) }
    }

    /// Notifies claimers that these deliveries are committed and ready.
    pub fn ready(&self, deliveries: &[ReadyDelivery]) {
        for queue in &self.channels {
            queue.ready(deliveries);
        }
        if let Some(others) = self.others.as_ref().filter(|_| !deliveries.is_empty()) {
            others.hints.lock().add(deliveries);
            others.wanted.notify_one();
        }
    }

    /// Notifies this process's claimers of a hint from another process.
    pub fn heard(&self, hint: &str) {
        let (lanes, search) = hint::read(hint);
        for queue in &self.channels {
            queue.heard(&lanes);
        }
        if search {
            self.search();
        }
    }

    /// Makes discovery scan for deliveries of another process. Many calls in a short time cause one scan, after the last call.
    pub fn search(&self) {
        for queue in &self.channels {
            queue.search();
        }
    }
}

async fn send_hints(db: Db, others: Arc<Others>, stop: CancellationToken) {
    while stop.run_until_cancelled(others.wanted.notified()).await.is_some() {
        let message = others.hints.lock().take_message();
        if let Err(error) = with_timeout(hints::notify(&db, &message)).await {
            tracing::debug!(%error, "could not send a hint; discovery will find the deliveries");
        }
        tokio::time::sleep(HINT_PAUSE).await;
    }
}
