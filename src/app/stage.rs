//! Tasks of the service that begin and end together, the steps of a stop in order.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tasks that are told to stop together.
#[derive(Default)]
pub(super) struct Stage {
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Stage {
    pub(super) async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
