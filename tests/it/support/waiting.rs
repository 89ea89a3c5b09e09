//! Waits for conditions, with a deadline.

use std::future::Future;
use std::time::Duration;

/// Waits up to ten seconds for a condition.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), wait).await.is_ok(), "waited in vain until {what}");
}

/// Runs futures concurrently and returns their results in order.
pub(crate) async fn all<T: Send + 'static>(
    attempts: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let running: Vec<_> = attempts.into_iter().map(tokio::spawn).collect();
    let mut results = Vec::with_capacity(running.len());
    for attempt in running {
        results.push(attempt.await.unwrap());
    }
    results
}

/// Waits until the deadline for a condition that an async function checks.
pub(crate) async fn within(deadline: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(deadline, wait).await.is_ok(), "waited in vain until {what}");
}
