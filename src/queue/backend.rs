//! The apalis backend for claimed deliveries and for operations. It is a stream that never returns an error.
//!
//! In apalis 1.0 any error of a backend ends the worker and drops its attempts in flight. So the claimer or the poller handles
//! database errors, and this stream only yields work. The stream need not be closed when the process stops, because the worker
//! then releases the deliveries that it receives.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::task::Task;
use apalis_core::task::task_id::RandomId;
use apalis_core::worker::context::WorkerContext;
use tokio::sync::mpsc;
use tower::layer::util::Identity;

use super::claimed::Claimed;

/// A stream of the claimed deliveries of one channel. Each item contains the deliveries of one claim.
pub type ClaimedDeliveries = ClaimStream<Vec<Claimed>>;

/// A stream of claimed deliveries or leased operations. Clones share the stream; each item goes to only one clone.
#[derive(Debug)]
pub struct ClaimStream<T>(Arc<Mutex<mpsc::UnboundedReceiver<T>>>);

impl<T> ClaimStream<T> {
    pub fn new(receiver: mpsc::UnboundedReceiver<T>) -> Self {
        Self(Arc::new(Mutex::new(receiver)))
    }
}

impl<T> Clone for ClaimStream<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Send + 'static> Backend for ClaimStream<T> {
    type Task = Task<T>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(&mut self, context: &mut Context<'_>, _: &WorkerContext) -> Poll<Option<Result<Task<T>, Infallible>>> {
        let mut receiver = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        receiver.poll_recv(context).map(|taken| taken.map(|taken| Ok(Task::new(taken))))
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

impl<T: Send + 'static> BackendConfig for ClaimStream<T> {
    type Id = RandomId;
    type Args = T;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}
