//! Due operations as an apalis backend: a stream of what this process holds, which knows no error.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::task::Task;
use apalis_core::task::task_id::RandomId;
use apalis_core::worker::context::WorkerContext;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tower::layer::util::Identity;

use crate::domain::ids::WorkerId;
use crate::domain::operation::HeldOperation;

/// An operation that this process holds, with the permit to run it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) operation: HeldOperation,
    /// Fresh for each taking, so that a process is fenced from what it held itself before.
    pub(super) holder: WorkerId,
    pub(super) _permit: OwnedSemaphorePermit,
}

/// The operations that were taken. Clones share them; each is received once.
#[derive(Debug, Clone)]
pub(super) struct DueOperations(Arc<Mutex<mpsc::UnboundedReceiver<Held>>>);

impl DueOperations {
    pub(super) fn new(receiver: mpsc::UnboundedReceiver<Held>) -> Self {
        Self(Arc::new(Mutex::new(receiver)))
    }
}

impl Backend for DueOperations {
    type Task = Task<Held>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Task<Held>, Infallible>>> {
        let mut receiver = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        receiver.poll_recv(context).map(|held| held.map(|held| Ok(Task::new(held))))
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for DueOperations {
    type Id = RandomId;
    type Args = Held;
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
