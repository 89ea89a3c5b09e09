//! Clients of the API: platform services that post events over persistent connections.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::http::request;
use crate::prepare::{Agent, TEXT};
use crate::receiver::now_us;
use crate::service::Service;

/// Concurrent connections that post.
pub(crate) const CONNECTIONS: usize = 64;

/// Posts `count` events as fast as the connections allow, `batch` per request (1: with the route for single events).
pub(crate) async fn flood(service: &Arc<Service>, agents: &Arc<[Agent]>, count: usize, batch: usize) {
    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (service, agents, next) = (Arc::clone(service), Arc::clone(agents), Arc::clone(&next));
        clients.spawn(async move {
            let mut stream = service.connect().await;
            loop {
                let first = next.fetch_add(batch, Ordering::Relaxed);
                if first >= count {
                    return;
                }
                let numbers = first..count.min(first + batch);
                let events: Vec<Value> =
                    numbers.map(|number| event(agents[number % agents.len()].id.as_str(), number)).collect();
                let text = match batch {
                    1 => service.request("POST", "/v1/events", &events[0].to_string()),
                    _ => service.request("POST", "/v1/events/batch", &json!({ "events": events }).to_string()),
                };
                let answer = request(&mut stream, &text).await;
                assert!(matches!(answer.status(), 200 | 202), "{}", String::from_utf8_lossy(&answer.body));
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
}

/// The time of each event's response, in microseconds since 1970, by event id.
pub(crate) type Accepted = HashMap<String, i64>;

/// Posts events evenly, `per_second` of them for `duration`, round-robin over the agents.
pub(crate) async fn pace(
    service: &Arc<Service>,
    agents: &Arc<[Agent]>,
    per_second: u32,
    duration: Duration,
) -> Accepted {
    let count = usize::try_from(per_second).unwrap() * usize::try_from(duration.as_secs()).unwrap();
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..CONNECTIONS {
        let (service, agents) = (Arc::clone(service), Arc::clone(agents));
        clients.spawn(async move {
            let mut accepted = Vec::new();
            let mut stream = service.connect().await;
            for number in (client..count).step_by(CONNECTIONS) {
                let body = event(agents[number % agents.len()].id.as_str(), number).to_string();
                let text = service.request("POST", "/v1/events", &body);
                tokio::time::sleep_until(
                    started + Duration::from_secs(1) * u32::try_from(number).unwrap() / per_second,
                )
                .await;
                let answer = request(&mut stream, &text).await;
                let at = now_us();
                assert_eq!(answer.status(), 202, "{}", String::from_utf8_lossy(&answer.body));
                let answer: Value = serde_json::from_slice(&answer.body).unwrap();
                accepted.push((answer["id"].as_str().unwrap().to_owned(), at));
            }
            accepted
        });
    }
    let mut accepted = Accepted::new();
    while let Some(client) = clients.join_next().await {
        accepted.extend(client.unwrap());
    }
    accepted
}

fn event(agent: &str, number: usize) -> Value {
    json!({
        "type": "user_message", "agent_id": agent, "session_id": format!("session-{:06}", number / 10),
        "customer_id": format!("customer-{:06}", number / 10), "text": TEXT,
    })
}
