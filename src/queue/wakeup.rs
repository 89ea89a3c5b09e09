//! How claimers learn of new work without asking the database.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::hint::{self, Hints};
use super::pool::ChannelQueue;
use crate::store::accept::ReadyDelivery;
use crate::store::queue::hints;
use crate::store::{Db, with_timeout};
use crate::supervision::Stage;
use crate::telemetry::metrics::TaskName;

/// Between two hints to other processes: what comes meanwhile is in the next one.
const HINT_PAUSE: Duration = Duration::from_millis(10);

/// Tells the claimers of this process and of others which lanes have ready deliveries. A claimer that does not hear of a
/// delivery finds it by the search.
#[derive(Debug, Clone, Default)]
pub struct Wakeup {
    channels: Vec<Arc<ChannelQueue>>,
    others: Option<Arc<Others>>,
}

/// What the other processes are to hear next.
#[derive(Debug, Default)]
struct Others {
    hints: Mutex<Hints>,
    wanted: Notify,
}

impl Others {
    fn hints(&self) -> MutexGuard<'_, Hints> {
        self.hints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wakeup {
    pub(super) fn new(channels: Vec<Arc<ChannelQueue>>) -> Self {
        Self { channels, others: None }
    }

    /// For a process without claimers. A task of the stage sends the hints to the others.
    pub fn of_others(db: Db, stage: &Stage) -> Self {
        let others = Arc::new(Others::default());
        stage.spawn(TaskName::HintSender, |stop| send_hints(db, Arc::clone(&others), stop));
        Self { channels: Vec::new(), others: Some(others) }
    }

    /// Deliveries are committed and ready.
    pub fn ready(&self, deliveries: &[ReadyDelivery]) {
        for queue in &self.channels {
            queue.ready(deliveries);
        }
        if let Some(others) = self.others.as_ref().filter(|_| !deliveries.is_empty()) {
            others.hints().add(deliveries);
            others.wanted.notify_one();
        }
    }

    /// Another process has sent this hint.
    pub fn heard(&self, hint: &str) {
        let (lanes, search) = hint::read(hint);
        for queue in &self.channels {
            queue.ready(&lanes);
        }
        if search {
            self.search();
        }
    }

    /// There may be work. Many calls in a short time cause one scan, which begins after the last one.
    pub fn search(&self) {
        for queue in &self.channels {
            queue.search();
        }
    }
}

async fn send_hints(db: Db, others: Arc<Others>, stop: CancellationToken) {
    while stop.run_until_cancelled(others.wanted.notified()).await.is_some() {
        let message = others.hints().message();
        if let Err(error) = with_timeout(hints::notify(&db, &message)).await {
            tracing::debug!(%error, "a hint of ready deliveries was not sent; the search finds them");
        }
        if !others.hints().is_empty() {
            others.wanted.notify_one();
        }
        tokio::time::sleep(HINT_PAUSE).await;
    }
}
