//! Measures the memory of ten thousand open workspace streams in one process, and the latency of a change sent to all streams.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::http::request;
use crate::server::Server;
use crate::service::Service;

const CLIENTS: usize = 10_000;
/// How many connections are opened concurrently.
const AT_ONCE: usize = 100;
/// The number of changes whose latency is measured.
const CHANGES: usize = 5;

#[derive(Debug)]
pub(crate) struct Streams {
    /// The resident memory of the process, in bytes, after changes were sent to all open streams.
    pub(crate) memory: f64,
    /// The median time, in milliseconds, from the post of an event until the last client has read the badge.
    pub(crate) told_all: f64,
}

/// Opens ten thousand streams in one process. Measures the memory of the process and the latency of changes.
pub(crate) async fn held(server: &Server) -> Streams {
    server.create_migrated("streams").await.close().await;
    let settings = [("FLAMETREE_MAX_STREAMS", "20000"), ("FLAMETREE_CALLER_MAX_STREAMS", "10000")];
    let service = Service::start("api", &server.url("streams"), &settings).await;
    let mut clients = Vec::with_capacity(CLIENTS);
    while clients.len() < CLIENTS {
        let mut opening = JoinSet::new();
        for _ in 0..AT_ONCE.min(CLIENTS - clients.len()) {
            let (mut stream, text) = (service.connect().await, service.request("GET", "/v1/workspace/stream", ""));
            opening.spawn(async move {
                stream.write_all(&text).await.unwrap();
                read_until(&mut stream, "event: snapshot").await;
                stream
            });
        }
        clients.extend(opening.join_all().await);
    }
    let mut poster = service.connect().await;
    let mut took = Vec::new();
    for change in 0..CHANGES {
        let event = json!({ "type": "session_assigned", "agent_id": "agent", "session_id": format!("s-{change}"),
            "assignee_id": "user-7" });
        let mut reading = JoinSet::new();
        for mut client in clients.drain(..) {
            let expected = format!("{{\"count\":{},", change + 1);
            reading.spawn(async move {
                read_until(&mut client, &expected).await;
                client
            });
        }
        let started = Instant::now();
        let answer = request(&mut poster, &service.request("POST", "/v1/events", &event.to_string())).await;
        assert_eq!(answer.status(), 202, "{}", String::from_utf8_lossy(&answer.body));
        clients = reading.join_all().await;
        took.push(started.elapsed());
    }
    took.sort_unstable();
    let memory = service.memory() as f64;
    let open = format!("flametree_workspace_stream_clients {CLIENTS}\n");
    assert!(service.metrics().await.contains(&open), "a stream was lost");
    service.stop();
    server.drop("streams").await;
    Streams { memory, told_all: took[CHANGES / 2].as_secs_f64() * 1_000.0 }
}

/// Reads until an event that contains `expected` has arrived completely.
async fn read_until(stream: &mut TcpStream, expected: &str) {
    let mut read = Vec::with_capacity(512);
    let reading = async {
        while !String::from_utf8_lossy(&read).split_once(expected).is_some_and(|(_, rest)| rest.contains("\n\n")) {
            assert!(stream.read_buf(&mut read).await.unwrap() > 0, "the stream was closed");
        }
    };
    tokio::time::timeout(Duration::from_mins(1), reading).await.expect("nothing came");
}
