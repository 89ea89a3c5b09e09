//! Runs one attempt per claimed delivery. The queue records the outcome of the attempt. Several attempts share a task, but
//! an attempt that waits or panics does not affect other attempts.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use apalis::prelude::Task;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio_util::future::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::domain::delivery::{Attempt, Delivery, Outcome};
use crate::queue::Claimed;

/// The maximum number of attempts per task. One task per attempt would cost more, because each task must be spawned and woken.
const GROUP: usize = 32;

#[derive(Debug)]
pub enum AttemptResult {
    /// The attempt ended with this outcome.
    Outcome(Attempt),
    /// The attempt did not start because of a fault in this service. The queue then releases the delivery.
    NotStarted,
}

/// The service that an apalis worker calls with the deliveries of a claim. It starts one attempt per delivery and is ready for
/// the next claim at once. The queue's permits bound the number of running attempts.
#[derive(Debug, Clone)]
pub struct Attempts<F> {
    attempt: F,
    tasks: TaskTracker,
    abort: CancellationToken,
}

impl<F> Attempts<F> {
    /// `tasks` tracks the tasks that run attempts. Canceling `abort` ends running attempts with the outcome `interrupted`.
    pub fn new(attempt: F, tasks: TaskTracker, abort: CancellationToken) -> Self {
        Self { attempt, tasks, abort }
    }
}

impl<F, Fut> Service<Task<Vec<Claimed>>> for Attempts<F>
where
    F: Fn(Delivery) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = AttemptResult> + Send + 'static,
{
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, task: Task<Vec<Claimed>>) -> Self::Future {
        fail::fail_point!("pool::call");
        let mut claimed = task.args.into_iter();
        while claimed.len() > 0 {
            // If an abort or a panic drops a claimed delivery, its `Drop` records the outcome `Interrupted`.
            let attempt = |claimed| AssertUnwindSafe(run(claimed, self.attempt.clone())).catch_unwind();
            let group: FuturesUnordered<_> = claimed.by_ref().take(GROUP).map(attempt).collect();
            self.tasks.spawn(all(group).with_cancellation_token_owned(self.abort.clone()));
        }
        ready(Ok(()))
    }
}

async fn all(mut group: FuturesUnordered<impl Future>) {
    while group.next().await.is_some() {}
}

async fn run<F, Fut>(mut claimed: Claimed, attempt: F)
where
    F: Fn(Delivery) -> Fut,
    Fut: Future<Output = AttemptResult>,
{
    if claimed.is_draining() {
        return claimed.release();
    }
    let delivery = match sendable(&claimed) {
        Ok(delivery) => delivery,
        Err(not_sent) => return claimed.record(not_sent),
    };
    claimed.start();
    match attempt(delivery).await {
        AttemptResult::Outcome(attempt) => {
            fail::fail_point!("record::before");
            claimed.record(attempt);
        }
        AttemptResult::NotStarted => claimed.release(),
    }
}

/// Returns the delivery if it must still be sent, otherwise its outcome.
fn sendable(claimed: &Claimed) -> Result<Delivery, Attempt> {
    let delivery = claimed.delivery().map_err(|why| Attempt::not_sent(Outcome::Canceled, Some(why.to_string())))?;
    if delivery.expires_at <= delivery.claimed_at {
        return Err(Attempt::not_sent(Outcome::Expired, None));
    }
    if delivery.endpoint_version.is_none() {
        return Err(Attempt::not_sent(Outcome::Canceled, None));
    }
    Ok(delivery.clone())
}
