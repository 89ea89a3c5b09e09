//! The queue as an apalis backend: a stream of claimed deliveries that knows no error.
//!
//! In apalis 1.0 any error of a backend ends the worker and drops its attempts in flight; so the database's errors stay
//! with the claimers, and here a delivery is there or is not. There is nothing to close either: what was not begun when
//! the process stops is put back by whoever receives it.

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

/// The claimed deliveries of one channel. Clones share them; each delivery is received once.
#[derive(Debug, Clone)]
pub struct ClaimedDeliveries(Arc<Mutex<mpsc::UnboundedReceiver<Claimed>>>);

impl ClaimedDeliveries {
    pub(super) fn new(receiver: mpsc::UnboundedReceiver<Claimed>) -> Self {
        Self(Arc::new(Mutex::new(receiver)))
    }
}

impl Backend for ClaimedDeliveries {
    type Task = Task<Claimed>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Task<Claimed>, Infallible>>> {
        let mut receiver = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        receiver.poll_recv(context).map(|claimed| claimed.map(|claimed| Ok(Task::new(claimed))))
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for ClaimedDeliveries {
    type Id = RandomId;
    type Args = Claimed;
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
