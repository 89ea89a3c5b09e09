//! Tasks that are told to stop together: the steps of a stop in its order, here and in the composition root.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tasks with one end.
#[derive(Debug, Default)]
pub struct Stage {
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
}

impl Stage {
    /// Tells them to stop, and waits until they have.
    pub async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
