//! The worker pools, each with the sender of its channel.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::now;
use crate::domain::delivery::{Attempt, Delivery, Outcome};
use crate::domain::endpoint::Channel;
use crate::queue::Queue;
use crate::telemetry::traces::{AttemptStep, Tracer};
use crate::worker::{AttemptResult, Attempts, BrowserPush, Pool, Webhooks, Workers};

pub(super) struct Senders {
    pub(super) webhooks: Arc<Webhooks>,
    /// The browser push sender; `None` if browser push is not configured.
    pub(super) browser_push: Option<Arc<BrowserPush>>,
    pub(super) tracer: Tracer,
}

/// Creates a pool for each channel of the queue. Attempts run until they end, or until the token `abort` is canceled.
pub(super) fn workers(queue: &Queue, senders: &Senders, tasks: &TaskTracker, abort: &CancellationToken) -> Workers {
    let mut workers = Workers::default();
    for (channel, claimed) in queue.pools() {
        let (tasks, abort, tracer) = (tasks.clone(), abort.clone(), senders.tracer.clone());
        workers = match (channel, &senders.browser_push) {
            (Channel::Webhook, _) => {
                let webhooks = Arc::clone(&senders.webhooks);
                let attempt = move |delivery| attempt_webhook(Arc::clone(&webhooks), tracer.clone(), delivery);
                workers.with(Pool { channel, claimed, attempts: Attempts::new(attempt, tasks, abort) })
            }
            (Channel::BrowserPush, Some(browser_push)) => {
                let browser_push = Arc::clone(browser_push);
                let attempt = move |delivery| attempt_push(Arc::clone(&browser_push), tracer.clone(), delivery);
                workers.with(Pool { channel, claimed, attempts: Attempts::new(attempt, tasks, abort) })
            }
            (Channel::BrowserPush, None) => {
                workers.with(Pool { channel, claimed, attempts: Attempts::new(refuse_push, tasks, abort) })
            }
        };
    }
    workers
}

async fn attempt_webhook(webhooks: Arc<Webhooks>, tracer: Tracer, delivery: Delivery) -> AttemptResult {
    let now = now();
    let (delivery, step) = tracer.attempt(delivery, now);
    let result = webhooks.attempt(delivery, now).await;
    attempted(&tracer, step, &result);
    result
}

async fn attempt_push(browser_push: Arc<BrowserPush>, tracer: Tracer, delivery: Delivery) -> AttemptResult {
    let now = now();
    let (delivery, step) = tracer.attempt(delivery, now);
    let result = browser_push.attempt(delivery, now).await;
    attempted(&tracer, step, &result);
    result
}

/// Records the span of an attempt. A released delivery gets no span, because it was not attempted. Its later attempt uses the
/// span id.
fn attempted(tracer: &Tracer, step: Option<Box<AttemptStep>>, result: &AttemptResult) {
    if let (Some(step), AttemptResult::Outcome(attempt)) = (step, result) {
        tracer.attempted(*step, attempt);
    }
}

/// The sender for deployments without VAPID keys. Such a deployment cannot send pushes, but each delivery must get an outcome.
async fn refuse_push(_: Delivery) -> AttemptResult {
    let note = "Browser push is not configured on this deployment.".to_owned();
    AttemptResult::Outcome(Attempt::not_sent(Outcome::ConfigError, Some(note)))
}
