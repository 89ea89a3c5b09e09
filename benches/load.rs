//! Clients of the API: platform services that post events over persistent connections.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::http::{self, request, try_request};
use crate::prepare::{Agent, TEXT};
use crate::receiver::now_us;
use crate::service::Service;

/// How many connections post events concurrently.
pub(crate) const CONNECTIONS: usize = 64;

/// Posts `count` events as fast as the connections allow, `batch` per request. A `batch` of 1 uses the route for single events.
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

/// The arrival time of the API's response for each event id, in microseconds since 1970.
pub(crate) type Accepted = HashMap<String, i64>;

/// Posts `per_second` events/s at even intervals for `duration`, round-robin over the agents. Panics if an event is refused.
pub(crate) async fn pace(
    service: &Arc<Service>,
    agents: &Arc<[Agent]>,
    per_second: u32,
    duration: Duration,
) -> Accepted {
    let posted = post_evenly(service, service.token(), agents, per_second, duration).await;
    posted.into_iter().map(|one| (one.id.expect("an event was refused"), one.answered_at)).collect()
}

#[derive(Debug)]
pub(crate) struct Posted {
    /// The event's id; absent if the event was refused.
    pub(crate) id: Option<String>,
    /// The time from when the event was due until its response arrived.
    pub(crate) took: Duration,
    /// When the response arrived, in microseconds since 1970.
    pub(crate) answered_at: i64,
}

/// Like [`pace`], but with any tenant's token. Returns refused events too.
pub(crate) async fn post_evenly(
    service: &Arc<Service>,
    token: &str,
    agents: &Arc<[Agent]>,
    per_second: u32,
    duration: Duration,
) -> Vec<Posted> {
    let count = usize::try_from(per_second).unwrap() * usize::try_from(duration.as_secs()).unwrap();
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..CONNECTIONS {
        let (service, agents, token) = (Arc::clone(service), Arc::clone(agents), token.to_owned());
        clients.spawn(async move {
            let mut posted = Vec::new();
            let mut stream = service.connect().await;
            for number in (client..count).step_by(CONNECTIONS) {
                let body = event(agents[number % agents.len()].id.as_str(), number).to_string();
                let text = http::json("POST", "/v1/events", &token, &body);
                let due = started + Duration::from_secs(1) * u32::try_from(number).unwrap() / per_second;
                // The timer can be up to 1 ms late. This delay does not count, but a wait for an earlier response counts.
                let late = Instant::now() > due;
                tokio::time::sleep_until(due).await;
                let from = if late { due } else { Instant::now() };
                let id = post(&mut stream, &text).await;
                if id.is_none() {
                    stream = service.connect().await;
                }
                posted.push(Posted { id, took: from.elapsed(), answered_at: now_us() });
            }
            posted
        });
    }
    clients.join_all().await.into_iter().flatten().collect()
}

/// Returns the event's id if the event was accepted.
async fn post(stream: &mut TcpStream, text: &[u8]) -> Option<String> {
    let answer =
        try_request(stream, text).await.inspect_err(|error| eprintln!("a post received no response: {error}")).ok()?;
    if answer.status() != 202 {
        eprintln!("a post was refused: {} {}", answer.status(), String::from_utf8_lossy(&answer.body));
        return None;
    }
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    Some(answer["id"].as_str().unwrap().to_owned())
}

/// A numbered message for an agent. Ten consecutive messages belong to one session.
pub(crate) fn event(agent: &str, number: usize) -> Value {
    json!({
        "type": "user_message", "agent_id": agent, "session_id": format!("session-{:06}", number / 10),
        "customer_id": format!("customer-{:06}", number / 10), "text": TEXT,
    })
}
