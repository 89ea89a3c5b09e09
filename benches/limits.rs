//! Measures how many POST requests per second the HTTP client can send if no database is involved.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::task::JoinSet;

use crate::drain::rate;
use crate::prepare::TEXT;
use crate::receiver::Receiver;

const CONNECTIONS: usize = 128;

/// Requests per second.
pub(crate) async fn reqwest_alone(count: usize) -> f64 {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let left = Arc::new(AtomicUsize::new(count));
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (client, left) = (client.clone(), Arc::clone(&left));
        clients.spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                let answer = client.post(Receiver::url("/hook")).body(TEXT).send().await.unwrap();
                answer.bytes().await.unwrap();
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    rate(count, started.elapsed())
}
