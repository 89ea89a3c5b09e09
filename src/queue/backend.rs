//! The claimed deliveries of a channel, for an apalis worker. They are a stream that never returns an error.
//!
//! In apalis 1.0 any error of a backend ends the worker and drops its attempts in flight. So the claimer handles database
//! errors, and this stream only yields work. The stream need not be closed when the process stops, because the worker then
//! releases the deliveries that it receives.

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::stream::{BoxStream, StreamExt as _, poll_fn};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::claimed::Claimed;

/// The claimed deliveries of one channel. Clones share the deliveries.
#[derive(Debug, Clone)]
pub struct ClaimedDeliveries(Arc<Mutex<mpsc::UnboundedReceiver<Vec<Claimed>>>>);

impl ClaimedDeliveries {
    pub(super) fn new(receiver: mpsc::UnboundedReceiver<Vec<Claimed>>) -> Self {
        Self(Arc::new(Mutex::new(receiver)))
    }

    /// The backend of an apalis worker. Each item contains the deliveries of one claim, and goes to only one stream.
    pub fn backend(&self) -> BoxStream<'static, Result<Vec<Claimed>, Infallible>> {
        let receiver = Arc::clone(&self.0);
        poll_fn(move |context| receiver.lock().poll_recv(context)).map(Ok).boxed()
    }
}
